"""Scopes: one text for each set, a sentence for people, and no scope that is only similar."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridgw_daemon.core.scopes import EVERYTHING, NONE, Scopes, parse
from hybridgw_protocol.errors import BadValue

NAMES = st.from_regex(r"[a-z][a-z0-9_.-]{0,10}", fullmatch=True).filter(lambda name: not name.startswith("hgw."))
ITEMS = st.builds(lambda right, name: f"{right}:{name}", st.sampled_from(["read", "write", "send", "listen"]), NAMES)


@given(st.lists(ITEMS, min_size=1, max_size=20))
def test_text_is_canonical_and_read_back(items: list[str]) -> None:
    scopes = parse(items)
    assert parse(scopes.text()) == scopes
    assert parse(reversed(items)).text() == scopes.text()
    assert set(scopes.items()) == set(items)


@given(st.lists(ITEMS, min_size=1, max_size=20), ITEMS)
def test_what_is_not_in_it_is_not_allowed(items: list[str], other: str) -> None:
    right, _, name = other.partition(":")
    assert parse(items).allows(right, name) == (other in items)
    assert not parse(items).is_admin
    assert parse([*items, "admin"]) == EVERYTHING
    assert not NONE.allows(right, name)
    assert EVERYTHING.allows(right, name)


@pytest.mark.parametrize(
    "text",
    ["", " ", "read", "read:", ":tasks", "read:Tasks", "READ:tasks", "read:tasks ", "read:*", "*", "write:ta sks",
     "read:tasks,write:tasks", "read:tasks:x",
     "read:tasks/", "read:tasks/*", "read:tasks/a/b", "read:/a", "read:tasks/ü", "write:hgw.x/a",
     "read:tasks/" + "x" * 65, "read:hgw.collections", "write:hgw.x", "send:", "send: x", "send:/x",
     "listen:" + "x" * 129, "read:" + "x" * 65, "owner", "Admin", "admin:", "delete:tasks", "read:tasks\x00", "réad:x"],
)  # fmt: skip
def test_anything_else_is_refused_and_named(text: str) -> None:
    with pytest.raises(BadValue) as caught:
        parse(text)
    assert caught.value.detail["field"] == "scopes"


def test_a_right_for_one_document_is_for_no_other() -> None:
    scopes = parse("read:settings/theme send:settings/theme")
    assert scopes.allows("read", "settings", "theme")
    assert not scopes.allows("read", "settings")
    assert not scopes.allows("write", "settings", "theme")
    for other in ("themes", "them", "Theme", "theme/x", "", "*"):
        assert not scopes.allows("read", "settings", other)
    assert not scopes.allows("read", "setting", "theme")
    assert parse("read:settings").allows("read", "settings", "theme")


def test_they_are_bounded() -> None:
    assert len(parse([f"read:c{k}" for k in range(32)]).pairs) == 32
    with pytest.raises(BadValue):
        parse([f"read:c{k}" for k in range(33)])
    with pytest.raises(BadValue) as caught:
        parse(["x" * 4096])
    assert len(caught.value.message) < 250


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("read:tasks", "read tasks"),
        ("write:tasks read:tasks", "read and write tasks"),
        ("read:tasks write:tasks read:settings", "read settings; read and write tasks"),
        ("read:a read:b read:c", "read a, b and c"),
        ("send:timer", "send messages to timer"),
        ("listen:timer send:timer", "send messages to and listen to timer"),
        ("read:settings/a write:settings/a read:tasks", "read tasks; read and write the document a of settings"),
        ("read:settings/a read:tasks send:a/b", "read tasks and the document a of settings; send messages to a/b"),
        ("read:timer send:timer", "read timer; send messages to timer"),
        ("admin read:tasks", "read and change everything, settings and other apps' data included"),
    ],
)
def test_a_person_can_read_them(text: str, sentence: str) -> None:
    assert parse(text).sentence() == sentence


def test_none_says_nothing() -> None:
    assert (NONE.sentence(), NONE.text(), NONE.items()) == ("nothing", "", [])


def test_names_of_rights() -> None:
    scopes: Any = parse("read:a write:b send:c")
    assert scopes.names("read") == {"a"}
    assert scopes.names("read", "write") == {"a", "b"}
    assert Scopes().names("read") == frozenset()

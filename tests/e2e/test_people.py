"""Two people, each with a profile and a space, on one relay: they find each other, compare a number, write.

Only what a person types; the relay is a process, and its disk is searched for what was said.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration._cli import Cli, InProcess, Relay, profile, relay

WAIT_S = 60.0


def until(look: Callable[[], Any], what: str) -> Any:
    """What *look* returns once it is true."""
    end = time.monotonic() + WAIT_S
    while not (found := look()):
        assert time.monotonic() < end, what
        time.sleep(0.1)
    return found


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Cli, Cli, Relay]]:
    """Ada and Bob, strangers on one relay."""
    with (
        relay(tmp_path / "relay") as server,
        profile(tmp_path / "ada", InProcess) as ada,
        profile(tmp_path / "bob", InProcess) as bob,
    ):
        for person in (ada, bob):
            person.up()
            person("relay", "add", server.invite())
        yield ada, bob, server


def inbox(person: Cli) -> list[dict[str, Any]]:
    """What arrived, oldest first."""
    items: list[dict[str, Any]] = person("messages", "--box", "in", "--json").json["items"]
    return items[::-1]


def number(person: Cli, who: str) -> str:
    """The safety number, as shown."""
    found: str = person("contacts", "verify", who, "--json").json["number"]
    return found


def test_spec_R6_two_people_compare_a_number_and_write_both_ways(two: tuple[Cli, Cli, Relay]) -> None:
    ada, bob, server = two
    address = bob("contacts", "address", "--name", "Bob", "--json").json["address"]
    ada("contacts", "address", "--name", "Ada Example")
    until(lambda: ada("contacts", "add", address, "--name", "bob", "--note", "It is Ada", code=None).code == 0, "add")
    early = ada("send", "an early secret word", "--to", "person:bob", "--type", "secret.kind", "--json").json
    assert early["state"] == "queued"

    asked = until(lambda: bob("contacts", "requests", "--json").json["items"], "a request")
    assert [(r["name"], r["note"]) for r in asked] == [("Ada Example", "It is Ada")]
    assert inbox(bob) == []
    her = "ada; echo"  # what a person, or a stranger, may call themselves
    agreed = bob("contacts", "accept", "Ada Example", "--name", her)
    assert f"contacts verify '{her}'" in agreed.talk + agreed.out  # as one word, whatever it says

    assert number(ada, "bob") == number(bob, her)
    assert "verified" in ada("contacts", "verify", "bob", number(bob, her)).out
    wrong = number(bob, her)[:-1] + ("1" if number(bob, her)[-1] == "0" else "0")
    assert "not the number" in bob("contacts", "verify", her, wrong, code=4).talk
    bob("contacts", "verify", her, number(ada, "bob"))
    assert f"{her} is called Ada, of the choir now" in bob("contacts", "rename", her, "Ada, of the choir").out
    assert bob("contacts", "rename", "Ada, of the choir", her, "--json").json["name"] == her

    got = until(lambda: inbox(bob), "the early message")
    assert [(m["body"], m["type"], m["person"]) for m in got] == [("an early secret word", "secret.kind", her)]
    bob("send", json.dumps({"answer": "a later secret word"}), "--to", f"person:{her}", "--type", "note")
    back = until(lambda: inbox(ada), "the answer")
    assert (back[0]["body"], back[0]["person"]) == ({"answer": "a later secret word"}, "bob")
    assert len(bob("messages", "--peer", f"person:{her}", "--json").json["items"]) == 2
    assert bob("messages", "--peer", "person:nobody", code=1).talk
    bob("messages", "ack", got[0]["id"])
    until(lambda: ada("messages", "show", early["id"], "--json").json["state"] == "handled", "a receipt")

    server.stop()
    on_disk = b"".join(path.read_bytes() for path in sorted(server.folder.rglob("*")) if path.is_file())
    for secret in (b"secret word", b"secret.kind", b"Ada Example", b"It is Ada"):
        assert secret not in on_disk

"""Documents for local callers: what each write does, what is refused, and that a refusal writes nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridgw_daemon.core.uuid7 import document_time_ms
from hybridgw_daemon.services.documents import NotModified, without_nulls
from hybridgw_protocol import localapi as api
from hybridgw_protocol.errors import (
    AlreadyExists,
    BadValue,
    Deleted,
    HybridGWError,
    InvalidDocument,
    NeedsPerson,
    NotFound,
    PreconditionFailed,
    ReadOnly,
    SecretsLocked,
    TooBig,
)
from hybridgw_protocol.ids import parse_document_id
from tests.unit.daemon._services import NOW_MS, OWNER, House, data_of


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path)
    yield made
    await made.database.close()


async def refused(kind: type[HybridGWError], house: House, call: Any) -> HybridGWError:
    """The call raises, and nothing was written."""
    before = house.database.peek(lambda c: c.execute("SELECT max(seq), count(*) FROM document").fetchone())
    with pytest.raises(kind) as caught:
        await call
    assert type(caught.value) is kind
    assert house.database.peek(lambda c: c.execute("SELECT max(seq), count(*) FROM document").fetchone()) == before
    return caught.value


# ---- create, put, patch, delete --------------------------------------------------------------------------------------
async def test_a_new_document_gets_an_id_that_sorts_by_time(house: House) -> None:
    made = await house.create("notes", {"text": "hello", "gone": None})
    assert document_time_ms(parse_document_id(made.id)) == NOW_MS
    assert data_of(made) == {"text": "hello"}
    assert await house.get("notes", made.id) == {"text": "hello"}
    assert (made.version, made.conflicts, house.writes) == (1, 0, 1)


async def test_create_never_writes_over_what_is_there(house: House) -> None:
    await house.create("notes", {"a": 1}, "x")
    await refused(AlreadyExists, house, house.create("notes", {"a": 2}, "x"))
    await house.delete("notes", "x")
    assert data_of(await house.create("notes", {"a": 3}, "x")) == {"a": 3}


async def test_put_makes_replaces_and_restores(house: House) -> None:
    first = await house.put("notes", "x", {"a": 1, "b": {"c": [1, None]}})
    second = await house.put("notes", "x", {"b": {"c": [2]}, "d": 1.0})
    assert data_of(second) == {"b": {"c": [2]}, "d": 1}
    assert second.version > first.version
    await house.delete("notes", "x")
    assert data_of(await house.put("notes", "x", {"e": 1})) == {"e": 1}


async def test_a_write_that_changes_nothing_is_not_made(house: House) -> None:
    made = await house.put("tasks", "x", {"title": "t", "tags": ["b", "a", "a"], "n": 1, "o": {"k": [1.0]}})
    for same in (
        await house.put("tasks", "x", {"title": "t", "tags": ["a", "b"], "n": 1.0, "o": {"k": [1]}}),
        await house.patch(
            "tasks", "x", {"n": 1, "tags": {"$add": ["a"], "$remove": ["z"]}, "missing": None, "o": {"k": [1]}}
        ),
        await house.patch("tasks", "x", {}),
    ):
        assert (same.version, data_of(same)) == (made.version, data_of(made))
    assert house.database.peek(lambda c: c.execute("SELECT count(*) FROM pending").fetchone())[0] == 1


async def test_patch_is_a_merge_patch(house: House) -> None:
    await house.put("notes", "x", {"a": 1, "o": {"k": 1, "l": {"m": 2}}, "gone": 1, "list": [1]})
    made = await house.patch(
        "notes", "x", {"a": 2, "o": {"l": {"m": None, "n": 3}}, "gone": None, "list": [None, {"a": None}]}
    )
    assert data_of(made) == {"a": 2, "o": {"k": 1, "l": {"n": 3}}, "list": [None, {"a": None}]}


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2, as printed there."""
    if not isinstance(patch, dict):
        return patch
    if not isinstance(target, dict):
        target = {}
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = merge_patch(target.get(name), value)
    return target


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text("ab", max_size=2)),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), JSON, max_size=3)


@given(before=OBJECTS, patch=OBJECTS)
def test_patch_agrees_with_the_rfc(tmp_path_factory: pytest.TempPathFactory, before: Any, patch: Any) -> None:
    async def run() -> None:
        house = House(tmp_path_factory.mktemp("patch"))
        await house.put("notes", "x", before)
        made = data_of(await house.patch("notes", "x", patch))
        expected = merge_patch(json.loads(json.dumps({k: v for k, v in before.items() if v is not None})), patch)
        assert made == {name: value for name, value in expected.items() if value is not None}
        await house.database.close()

    asyncio.run(run())


async def test_a_deleted_document_is_gone_and_says_so(house: House) -> None:
    made = await house.put("notes", "x", {"a": 1})
    gone = await house.delete("notes", "x", version=made.version)
    assert gone.deleted is True
    assert "data" not in json.loads(api.encode(gone))
    for call in (house.get("notes", "x"), house.patch("notes", "x", {"a": 2}), house.delete("notes", "x")):
        await refused(Deleted, house, call)
    listed = await house.documents.find(OWNER, api.ListDocuments(collection="notes"))
    assert listed.items == []
    listed = await house.documents.find(OWNER, api.ListDocuments(collection="notes", deleted=True))
    assert [(d.id, d.deleted) for d in listed.items] == [("x", True)]


async def test_restore_needs_the_content_and_a_deleted_document(house: House) -> None:
    def restore(**more: Any) -> Any:
        return house.documents.restore(OWNER, api.RestoreDocument(collection="notes", id="x", **more))

    await refused(NotFound, house, restore(data={"a": 1}))
    await house.put("notes", "x", {"a": 1})
    await refused(AlreadyExists, house, restore(data={"a": 1}))
    gone = await house.delete("notes", "x")
    await refused(PreconditionFailed, house, restore(data={"a": 1}, version=gone.version - 1))
    assert data_of(await restore(data={"a": 2}, version=gone.version)) == {"a": 2}


async def test_what_never_was_is_not_found(house: House) -> None:
    for call in (house.get("notes", "x"), house.patch("notes", "x", {}), house.delete("notes", "x")):
        await refused(NotFound, house, call)
    assert house.database.peek(lambda c: c.execute("SELECT count(*) FROM collection").fetchone())[0] == 0


async def test_preconditions_are_checked_with_the_write(house: House) -> None:
    made = await house.put("notes", "x", {"a": 1}, exists=False)
    await refused(PreconditionFailed, house, house.put("notes", "x", {"a": 2}, exists=False))
    error = await refused(PreconditionFailed, house, house.put("notes", "x", {"a": 2}, version=made.version + 1))
    assert error.detail["version"] == made.version
    await refused(PreconditionFailed, house, house.patch("notes", "x", {"a": 2}, version=made.version + 1))
    await refused(PreconditionFailed, house, house.delete("notes", "x", version=made.version + 1))
    await refused(PreconditionFailed, house, house.put("notes", "y", {"a": 2}, exists=True))
    await refused(PreconditionFailed, house, house.put("notes", "y", {"a": 2}, version=1))
    await house.patch("notes", "x", {"a": 2}, version=made.version)
    await refused(PreconditionFailed, house, house.patch("notes", "x", {"a": 3}, version=made.version))


async def test_of_writers_with_the_same_version_one_wins(house: House) -> None:
    made = await house.put("notes", "x", {"n": 0})
    tries = [house.patch("notes", "x", {"n": k}, version=made.version) for k in range(1, 6)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(r, api.Document) for r in results) == 1
    assert sum(isinstance(r, PreconditionFailed) for r in results) == 4


async def test_the_same_version_is_not_sent_again(house: House) -> None:
    made = await house.put("notes", "x", {"n": 0})
    with pytest.raises(NotModified):
        await house.documents.get(OWNER, api.GetDocument(collection="notes", id="x", known=made.version))
    assert await house.documents.get(OWNER, api.GetDocument(collection="notes", id="x", known=made.version + 1))


@pytest.mark.parametrize("collection", ["", "Notes", "a b", "1a", "a/b", "x" * 65, "ä"])
async def test_bad_collection_names(house: House, collection: str) -> None:
    for call in (
        house.put(collection, "x", {}), house.get(collection, "x"), house.create(collection, {}),
        house.documents.find(OWNER, api.ListDocuments(collection=collection)),
        house.batch({"op": "delete", "collection": collection, "id": "x"}),
    ):  # fmt: skip
        await refused(BadValue, house, call)


@pytest.mark.parametrize("id", ["", "x" * 65, "a\nb", "\x7f", "\ud800"])
async def test_bad_ids(house: House, id: str) -> None:
    await refused(BadValue, house, house.put("notes", id, {}))
    await refused(BadValue, house, house.get("notes", id))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"n": 2**53}, BadValue), ({"n": float("nan")}, BadValue), ({"": 1}, BadValue), ({"a\nb": 1}, BadValue),
        ({"$add": 1}, BadValue), ({"x" * 129: 1}, BadValue), ({"t": "\ud800"}, BadValue), ({"n": {"k": 2**60}},
        BadValue),
        ({"t": "x" * 70_000}, TooBig), ({f"f{k}": "x" * 50_000 for k in range(4)}, TooBig),
        ({"deep": json.loads("[" * 40 + "]" * 40)}, BadValue),
    ],
)  # fmt: skip
async def test_values_outside_the_domain_are_refused_whole(house: House, data: dict[str, Any], kind: Any) -> None:
    await house.put("notes", "x", {"a": 1})
    for call in (house.put("notes", "y", data), house.patch("notes", "x", data), house.create("notes", data)):
        await refused(kind, house, call)


def test_null_fields_are_not_shown_and_nested_ones_are() -> None:
    body = b'{"a":null,"b":{"c":null},"d":[null],"e":"null"}'
    assert json.loads(bytes(without_nulls(body))) == {"b": {"c": None}, "d": [None], "e": "null"}
    assert bytes(without_nulls(b'{"e":"null"}')) == b'{"e":"null"}'


# ---- built-in collections --------------------------------------------------------------------------------------------
async def test_spec_S1_tasks_complete_themselves(house: House) -> None:
    made = await house.put("tasks", "t", {"title": "write"})
    assert data_of(made) == {"title": "write", "status": "open", "created_at": "2027-01-15T08:00:00.000Z"}
    house.now_ms += 60_000
    done = await house.patch("tasks", "t", {"status": "done"})
    assert data_of(done)["done_at"] == "2027-01-15T08:01:00.000Z"
    again = await house.patch("tasks", "t", {"status": "done"})
    assert again.version == done.version
    opened = await house.patch("tasks", "t", {"status": "open"})
    assert "done_at" not in data_of(opened)
    mine = await house.patch("tasks", "t", {"status": "done", "done_at": "2026-01-01T00:00:00Z"})
    assert data_of(mine)["done_at"] == "2026-01-01T00:00:00Z"


async def test_the_same_put_of_a_task_twice_changes_nothing(house: House) -> None:
    for data in ({"title": "write"}, {"title": "write", "status": "done"}):
        made = await house.put("tasks", "t", data)
        house.now_ms += 60_000
        assert (await house.put("tasks", "t", data)).version == made.version
    opened = data_of(await house.put("tasks", "t", {"title": "write"}))
    assert opened == {"title": "write", "status": "open", "created_at": "2027-01-15T08:00:00.000Z"}


@pytest.mark.parametrize(
    ("collection", "data", "field"),
    [
        ("tasks", {}, "title"), ("tasks", {"title": ""}, "title"), ("tasks", {"title": 1}, "title"),
        ("tasks", {"title": "t", "status": "later"}, "status"), ("tasks", {"title": "t", "due": "tomorrow"}, "due"),
        ("tasks", {"title": "t", "due": "2027-02-30"}, "due"), ("tasks", {"title": "t", "tags": [1]}, "tags[0]"),
        ("tasks", {"title": "t", "tags": ["x" * 65]}, "tags[0]"), ("tasks", {"title": "t" * 1001}, "title"),
        ("activities", {}, "title"), ("activities", {"title": "t", "duration_s": -1}, "duration_s"),
        ("activities", {"title": "t", "started_at": "2027-01-02T00:00:00Z", "ended_at": "2027-01-01T00:00:00Z"},
        "ended_at"),
        ("activities", {"title": "t", "started_at": "2027-01-01T12:00:00+02:00", "ended_at": "2027-01-01T09:59:59Z"},
        "ended_at"),
        ("settings", {}, "value"), ("settings", {"value": 1, "app": ""}, "app"),
    ],
)  # fmt: skip
async def test_spec_S1_schemas_name_the_field(house: House, collection: str, data: dict[str, Any], field: str) -> None:
    error = await refused(InvalidDocument, house, house.put(collection, "x", data))
    errors = error.detail["errors"]
    assert isinstance(errors, list)
    assert any(str(fault).startswith(f"{field}:") for fault in errors), errors


async def test_an_activity_may_end_where_it_began(house: House) -> None:
    made = await house.put("activities", "x", {"title": "t", "started_at": "2027-01-01T12:00:00+02:00",
                                               "ended_at": "2027-01-01T10:00:00.5Z", "duration_s": 0.5})  # fmt: skip
    assert data_of(made)["duration_s"] == 0.5
    assert data_of(await house.put("activities", "y", {"title": "t"}))["started_at"] == "2027-01-15T08:00:00.000Z"


async def test_a_patch_answers_only_for_the_fields_it_touches(house: House) -> None:
    house.apply_unseen("tasks", "t", "create", puts={"due": "tomorrow", "n": 1})
    assert data_of(await house.patch("tasks", "t", {"n": 2}))["n"] == 2
    await refused(InvalidDocument, house, house.patch("tasks", "t", {"due": "soon"}))
    assert data_of(await house.patch("tasks", "t", {"title": "t"}))["title"] == "t"
    await refused(InvalidDocument, house, house.patch("tasks", "t", {"title": None}))


async def test_sets_take_lists_and_words(house: House) -> None:
    await house.put("tasks", "t", {"title": "t", "tags": ["b", "a"]})
    assert data_of(await house.patch("tasks", "t", {"tags": {"$add": ["c"], "$remove": ["a"]}}))["tags"] == ["b", "c"]
    assert data_of(await house.patch("tasks", "t", {"tags": ["d"]}))["tags"] == ["d"]
    assert "tags" not in data_of(await house.patch("tasks", "t", {"tags": {"$remove": ["d"]}}))
    assert data_of(await house.patch("tasks", "t", {"tags": {"$add": ["e", "e"]}}))["tags"] == ["e"]
    assert "tags" not in data_of(await house.patch("tasks", "t", {"tags": None}))
    for wrong in ("text", 1, {"$add": "x"}, {"$add": [["x"]]}, {"$add": [None]}, {"$toggle": ["x"]}, {"other": 1}):
        with pytest.raises((BadValue, InvalidDocument)):
            await house.patch("tasks", "t", {"tags": wrong})
    await refused(TooBig, house, house.put("tasks", "u", {"title": "u", "tags": [f"{k}" for k in range(1_001)]}))


async def test_spec_S2_concurrent_adds_to_a_set_both_stay(house: House) -> None:
    await house.put("tasks", "t", {"title": "t", "tags": ["a"]})
    house.apply_unseen("tasks", "t", "edit", adds={"tags": ["z"]})
    made = await house.documents.get(OWNER, api.GetDocument(collection="tasks", id="t"))
    assert (data_of(made)["tags"], made.conflicts) == (["a", "z"], 0)


async def test_words_for_sets_need_a_set(house: House) -> None:
    await house.put("notes", "x", {"list": [1]})
    error = await refused(BadValue, house, house.patch("notes", "x", {"list": {"$add": [2]}}))
    assert error.detail["field"] == "list"
    await refused(BadValue, house, house.patch("notes", "x", {"$set": {"a": 1}}))


# ---- settings are sealed ---------------------------------------------------------------------------------------------
async def test_spec_S8_settings_are_sealed_at_rest(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.put("settings", "theme", {"value": "planted-secret"})
    await house.put("notes", "x", {"a": 1})
    await house.database.close()
    held = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"planted-secret" not in held
    again = House(tmp_path)
    assert await again.get("settings", "theme") == {"value": "planted-secret"}
    await again.database.close()


async def test_spec_A7_locked_settings_say_so_and_the_rest_works(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.put("settings", "theme", {"value": 1})
    await house.database.close()
    house = House(tmp_path, locked=True)
    for call in (
        house.get("settings", "theme"), house.put("settings", "theme", {"value": 2}), house.delete("settings", "theme"),
        house.put("settings", "other", {"value": 2}), house.patch("settings", "theme", {"value": 2}),
        house.documents.find(OWNER, api.ListDocuments(collection="settings")),
    ):  # fmt: skip
        await refused(SecretsLocked, house, call)
    await house.put("notes", "x", {"a": 1})
    house.unlock()
    assert await house.get("settings", "theme") == {"value": 1}
    await house.database.close()


# ---- collections of applications -------------------------------------------------------------------------------------
RECIPE = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "rating": {"type": "integer", "minimum": 1, "maximum": 5, "default": 3},
        "labels": {"type": "array", "items": {"type": "string"}, "x-hybridgw-set": True},
        "steps": {"type": "array", "items": {"type": "object", "required": ["text"]}},
    },
    "required": ["name"],
    "additionalProperties": False,
}


async def test_spec_S1_a_defined_collection_is_checked(house: House) -> None:
    made = await house.define("recipes", RECIPE, title="Recipes")
    assert (made.name, made.title, made.schema, made.builtin) == ("recipes", "Recipes", RECIPE, False)
    assert data_of(await house.put("recipes", "x", {"name": "soup", "labels": ["b", "a"]})) == {
        "name": "soup", "rating": 3, "labels": ["a", "b"]
    }  # fmt: skip
    for data in ({}, {"name": "x", "rating": 6}, {"name": "x", "other": 1}, {"name": "x", "steps": [{}]}):
        await refused(InvalidDocument, house, house.put("recipes", "y", data))
    listed = await house.collections.list(OWNER, api.ListCollections())
    by_name = {c.name: c for c in listed.items}
    assert by_name["recipes"].documents == 1
    assert by_name["hgw.collections"].read_only
    assert by_name["settings"].secret
    assert [c.name for c in listed.items] == sorted(by_name)


async def test_a_definition_is_an_ordinary_document_that_merges(house: House) -> None:
    await house.define("recipes", RECIPE)
    first = await house.documents.get(OWNER, api.GetDocument(collection="hgw.collections", id="recipes"))
    await house.define("recipes", RECIPE)
    assert (
        await house.documents.get(OWNER, api.GetDocument(collection="hgw.collections", id="recipes"))
    ).version == first.version
    await house.define("recipes", {"type": "object"})
    assert data_of(await house.put("recipes", "y", {"other": 1})) == {"other": 1}


async def test_documents_of_the_system_are_not_written_through_the_data_calls(house: House) -> None:
    for call in (
        house.put("hgw.collections", "recipes", {"min_reader": 1}), house.create("hgw.other", {}),
        house.batch({"op": "put", "collection": "hgw.collections", "id": "x", "data": {}}), house.define("hgw.x", {}),
    ):  # fmt: skip
        await refused(ReadOnly, house, call)


async def test_a_newer_schema_makes_its_collection_read_only(house: House) -> None:
    await house.put("recipes", "x", {"name": "soup"})
    house.apply_unseen("hgw.collections", "recipes", "create", puts={"min_reader": 2, "schema": {"type": "object"}})
    for call in (
        house.put("recipes", "y", {"a": 1}),
        house.patch("recipes", "x", {"a": 1}),
        house.delete("recipes", "x"),
    ):
        error = await refused(ReadOnly, house, call)
        assert "update" in error.message
    assert await house.get("recipes", "x") == {"name": "soup"}
    assert (await house.collections.get(OWNER, api.GetCollection(name="recipes"))).read_only


@pytest.mark.parametrize(
    "puts", [{"schema": {"type": "object", "oneOf": []}}, {"schema": "nonsense"}, {"min_reader": "x"}]
)
async def test_a_descriptor_that_is_not_understood_makes_read_only_not_broken(house: House, puts: Any) -> None:
    house.apply_unseen("hgw.collections", "recipes", "create", puts=puts)
    await refused(ReadOnly, house, house.put("recipes", "y", {"a": 1}))
    assert (await house.collections.get(OWNER, api.GetCollection(name="recipes"))).read_only


async def test_a_descriptor_adds_fields_to_a_built_in_collection(house: House) -> None:
    await house.define("tasks", {"properties": {"effort": {"type": "integer"}}, "required": ["effort"]})
    await refused(InvalidDocument, house, house.put("tasks", "t", {"title": "t"}))
    await refused(InvalidDocument, house, house.put("tasks", "t", {"title": "t", "effort": "x"}))
    assert data_of(await house.put("tasks", "t", {"title": "t", "effort": 1}))["status"] == "open"
    await refused(BadValue, house, house.define("tasks", {"properties": {"title": {"type": "integer"}}}))
    shown = await house.collections.get(OWNER, api.GetCollection(name="tasks"))
    assert shown.schema is not None
    assert {"title", "effort"} <= shown.schema["properties"].keys()


async def test_a_field_in_use_stays_a_register_or_a_set(house: House) -> None:
    await house.put("recipes", "x", {"labels": ["a"]})
    error = await refused(BadValue, house, house.define("recipes", RECIPE))
    assert error.detail["field"] == "labels"
    await house.define("other", RECIPE)
    await house.put("other", "x", {"name": "n", "labels": ["a"]})
    plain = {"properties": {"labels": {"type": "array"}}}
    await refused(BadValue, house, house.define("other", plain))


async def test_unknown_collections_are_not_found(house: House) -> None:
    await refused(NotFound, house, house.collections.get(OWNER, api.GetCollection(name="nothing")))


async def test_min_reader_of_this_version_is_the_highest(house: House) -> None:
    await refused(BadValue, house, house.define("recipes", {}, min_reader=2))


# ---- batches ---------------------------------------------------------------------------------------------------------
async def test_a_batch_is_one_transaction(house: House) -> None:
    made = await house.batch(
        {"op": "create", "collection": "notes", "data": {"a": 1}},
        {"op": "put", "collection": "notes", "id": "x", "data": {"a": 1}},
        {"op": "patch", "collection": "notes", "id": "x", "patch": {"b": 2}},
        {"op": "put", "collection": "tasks", "id": "t", "data": {"title": "t", "tags": ["a"]}},
        {"op": "patch", "collection": "tasks", "id": "t", "patch": {"tags": {"$add": ["b"]}}},
        {"op": "put", "collection": "notes", "id": "y", "data": {"a": 1}},
        {"op": "delete", "collection": "notes", "id": "y"},
        {"op": "restore", "collection": "notes", "id": "y", "data": {"c": 3}},
    )
    assert made.transactions == 1
    assert len({c.version for c in made.items if c.id == "x"}) == 1
    assert await house.get("notes", "x") == {"a": 1, "b": 2}
    assert (await house.get("tasks", "t"))["tags"] == ["a", "b"]
    assert await house.get("notes", "y") == {"c": 3}
    assert house.writes == 1


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        ({"op": "patch", "collection": "notes", "id": "nothing", "patch": {}}, NotFound),
        ({"op": "create", "collection": "notes", "id": "x", "data": {}}, AlreadyExists),
        ({"op": "put", "collection": "tasks", "id": "t", "data": {}}, InvalidDocument),
        ({"op": "put", "collection": "notes", "id": "x", "data": {"n": 2**60}}, BadValue),
        ({"op": "put", "collection": "notes", "id": "x"}, BadValue),
        ({"op": "patch", "collection": "notes", "id": "x", "data": {}}, BadValue),
        ({"op": "delete", "collection": "notes"}, BadValue),
        ({"op": "put", "collection": "notes", "id": "x", "data": {}, "version": 99}, PreconditionFailed),
        ({"op": "put", "collection": "Bad", "id": "x", "data": {}}, BadValue),
        ({"op": "put", "collection": "hgw.collections", "id": "x", "data": {}}, ReadOnly),
        ({"op": "put", "collection": "notes", "id": "x", "data": {"t": "x" * 70_000}}, TooBig),
    ],
)  # fmt: skip
async def test_one_bad_write_undoes_the_batch_and_is_named(house: House, bad: Any, kind: Any) -> None:
    await house.put("notes", "x", {"a": 0})
    good = [{"op": "put", "collection": "notes", "id": f"n{k}", "data": {"a": k}} for k in range(3)]
    error = await refused(kind, house, house.batch(*good, bad, *good))
    if kind is not TooBig and bad.get("data") != {"n": 2**60}:
        assert error.detail["index"] == 3
    assert error.detail["written"] == 0


async def test_a_big_batch_is_refused_whole_or_split(house: House) -> None:
    many = [{"op": "put", "collection": "notes", "id": f"{k:05}", "data": {"t": "x" * 200}} for k in range(3_000)]
    await refused(TooBig, house, house.batch(*many))
    made = await house.batch(*many, atomic=False)
    assert len(made.items) == 3_000
    assert made.transactions > 3
    assert len({c.version for c in made.items}) == 3_000
    assert house.database.peek(lambda c: c.execute("SELECT count(*) FROM document").fetchone())[0] == 3_000


async def test_parts_that_prove_too_big_are_halved(house: House) -> None:
    many = [{"op": "put", "collection": "notes", "id": f"{k}", "data": {"n": [k + 0.5] * 3_000}} for k in range(8)]
    made = await house.batch(*many, atomic=False)  # floats: 4 bytes of JSON, 9 of msgpack
    assert len(made.items) == 8
    assert made.transactions >= 2


async def test_a_split_batch_tells_how_far_it_came(house: House) -> None:
    many = [{"op": "put", "collection": "notes", "id": f"{k:05}", "data": {"t": "x" * 200}} for k in range(1_500)]
    with pytest.raises(NotFound) as caught:
        await house.batch(*many, {"op": "delete", "collection": "notes", "id": "nothing"}, atomic=False)
    written = caught.value.detail["written"]
    assert caught.value.detail["index"] == 1_500
    assert isinstance(written, int)
    assert 0 < written < 1_500
    assert house.database.peek(lambda c: c.execute("SELECT count(*) FROM document").fetchone())[0] == written
    assert house.writes == 1


# ---- mass deletes ----------------------------------------------------------------------------------------------------
async def fill(house: House, count: int, collection: str = "notes") -> None:
    operations = [{"op": "put", "collection": collection, "id": f"{k:04}", "data": {"k": k}} for k in range(count)]
    await house.batch(*operations, atomic=False)


def deletes(first: int, last: int, collection: str = "notes") -> list[dict[str, Any]]:
    return [{"op": "delete", "collection": collection, "id": f"{k:04}"} for k in range(first, last)]


async def test_spec_S9_over_a_fifth_or_a_hundred_asks_first(house: House) -> None:
    await fill(house, 20)
    error = await refused(NeedsPerson, house, house.batch(*deletes(0, 5)))
    assert (error.detail["documents"], error.detail["collection"]) == (5, "notes")
    assert len((await house.batch(*deletes(0, 4))).items) == 4
    house.now_ms += 10_001
    assert len((await house.batch(*deletes(4, 12), confirm=True)).items) == 8
    await fill(house, 1_000, "many")
    await refused(NeedsPerson, house, house.batch(*deletes(0, 101, "many")))
    await house.batch(*deletes(0, 100, "many"))


async def test_spec_S9_one_by_one_counts_within_ten_seconds(house: House) -> None:
    await fill(house, 20)
    for k in range(4):
        await house.delete("notes", f"{k:04}")
        house.now_ms += 1_000
    await refused(NeedsPerson, house, house.delete("notes", "0004"))
    await house.delete("notes", "0004", confirm=True)
    house.now_ms += 20_000
    await house.delete("notes", "0005")


async def test_spec_S9_counts_per_collection(house: House) -> None:
    await fill(house, 20, "one")
    await fill(house, 20, "two")
    await house.batch(*deletes(0, 4, "one"), *deletes(0, 4, "two"))
    await refused(NeedsPerson, house, house.batch(*deletes(4, 5, "one")))


async def test_a_few_of_a_few_never_ask(house: House) -> None:
    await fill(house, 4)
    await house.batch(*deletes(0, 4))


# ---- lists -----------------------------------------------------------------------------------------------------------
async def test_pages_lead_through_all_documents(house: House) -> None:
    await fill(house, 250)
    seen: list[str] = []
    cursor = None
    while True:
        page = await house.documents.find(
            OWNER, api.ListDocuments(collection="notes", limit=100, cursor=cursor, sort="-k")
        )
        seen += [d.id for d in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [f"{k:04}" for k in reversed(range(250))]
    assert page.since == f"{house.hub.epoch}-250"


async def test_an_unknown_collection_is_an_empty_list(house: House) -> None:
    page = await house.documents.find(OWNER, api.ListDocuments(collection="nothing"))
    assert (page.items, page.next_cursor, page.since) == ([], None, f"{house.hub.epoch}-0")

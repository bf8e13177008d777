"""The conflict inbox: what is shown of concurrent writes, and that every way of resolving settles them for good."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hybridgw_protocol import localapi as api
from hybridgw_protocol.errors import BadValue, NotFound, PreconditionFailed, SecretsLocked
from tests.unit.daemon._services import NOW_MS, OWNER, House, data_of


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path)
    yield made
    await made.database.close()


async def look(house: House, collection: str = "notes", id: str = "x") -> api.Conflict:
    return await house.conflicts.get(OWNER, api.GetConflict(collection=collection, id=id))


async def resolve(house: House, id: str = "x", **more: Any) -> api.Document:
    found = await look(house, id=id)
    choices = {name: api.Choice(**choice) for name, choice in more.pop("choices", {}).items()}
    command = api.ResolveConflict(
        collection="notes", id=id, version=more.pop("version", found.version), choices=choices, **more
    )
    return await house.conflicts.resolve(OWNER, command)


async def conflicting(house: House, id: str = "x") -> api.Conflict:
    """A title and a text that two devices wrote at the same time; the other device's are shown."""
    await house.put("notes", id, {"title": "mine", "text": "my text", "n": 1})
    house.apply_unseen("notes", id, "edit", puts={"title": "theirs", "text": "their text"})
    return await look(house, id=id)


async def test_spec_S2_both_values_are_there(house: House) -> None:
    found = await conflicting(house)
    assert (found.count, found.deleted) == (2, False)
    by_field = {f.field: f for f in found.fields}
    assert by_field.keys() == {"title", "text"}
    title = by_field["title"]
    assert (title.kind, title.shown, title.buried) == ("value", "theirs", False)
    (other,) = title.others
    assert (other.value, other.at_ms, other.device) == ("mine", NOW_MS, None)
    page = await house.conflicts.find(OWNER, api.ListConflicts())
    assert (page.total, page.next_cursor, len(page.items)) == (1, None, 1)
    assert (await house.documents.get(OWNER, api.GetDocument(collection="notes", id="x"))).conflicts == 2


@pytest.mark.parametrize(
    ("how", "title", "text"),
    [
        ({"keep": "shown"}, "theirs", "their text"),
        ({"keep": "other"}, "mine", "my text"),
        ({"keep": "shown", "choices": {"title": {"value": "both"}}}, "both", "their text"),
        ({"choices": {"title": {"keep": "other"}, "text": {"value": None}}}, "mine", None),
    ],
)
async def test_spec_S2_resolving_settles_all_that_was_chosen(
    house: House, how: Any, title: str, text: str | None
) -> None:
    await conflicting(house)
    made = await resolve(house, **how)
    assert made.conflicts == 0
    assert (data_of(made)["title"], data_of(made).get("text"), data_of(made)["n"]) == (title, text, 1)
    with pytest.raises(NotFound):
        await look(house)
    assert (await house.conflicts.find(OWNER, api.ListConflicts())).items == []


async def test_an_alternative_is_chosen_by_its_key(house: House) -> None:
    found = await conflicting(house)
    key = next(f for f in found.fields if f.field == "title").others[0].key
    made = await resolve(house, choices={"title": {"key": key}})
    assert (data_of(made)["title"], made.conflicts) == ("mine", 1)
    assert [f.field for f in (await look(house)).fields] == ["text"]


@pytest.mark.parametrize(
    "how",
    [
        {}, {"choices": {"title": {}}}, {"choices": {"title": {"key": "nonsense"}}},
        {"choices": {"n": {"keep": "shown"}}},
        {"choices": {"title": {"keep": "shown", "value": 1}}}, {"choices": {"title": {"keys": ["x"]}}},
        {"choices": {"title": {"value": 2**60}}},
    ],
)  # fmt: skip
async def test_a_choice_that_is_none_changes_nothing(house: House, how: Any) -> None:
    found = await conflicting(house)
    with pytest.raises(BadValue):
        await resolve(house, **how)
    assert await look(house) == found


async def test_what_changed_meanwhile_is_looked_at_again(house: House) -> None:
    found = await conflicting(house)
    await house.patch("notes", "x", {"n": 2})
    with pytest.raises(PreconditionFailed):
        await resolve(house, keep="shown", version=found.version)
    assert (await look(house)).count == 2


async def test_no_conflict_is_not_found(house: House) -> None:
    await house.put("notes", "x", {"a": 1})
    for call in (look(house), look(house, id="nothing"), look(house, "nothing")):
        with pytest.raises(NotFound):
            await call


async def test_an_edit_that_met_a_delete_waits_buried(house: House) -> None:
    await house.put("notes", "x", {"title": "mine"})
    await house.delete("notes", "x")
    house.apply_unseen("notes", "x", "edit", puts={"title": "edited", "text": "new"})
    found = await look(house)
    assert (found.deleted, found.count) == (True, 2)
    assert all(f.buried and f.shown is api.UNSET for f in found.fields)
    with pytest.raises(BadValue, match="all at once"):
        await resolve(house, choices={"title": {"keep": "shown"}})
    made = await resolve(house, keep="other")
    assert (data_of(made), made.conflicts) == ({"title": "edited", "text": "new"}, 0)


async def test_a_delete_can_be_kept(house: House) -> None:
    await house.put("notes", "x", {"title": "mine"})
    await house.delete("notes", "x")
    house.apply_unseen("notes", "x", "edit", puts={"title": "edited"})
    made = await resolve(house, keep="shown")
    assert (made.deleted, made.conflicts) == (True, 0)


async def test_buried_elements_of_a_set(house: House) -> None:
    await house.define("notes", {"properties": {"tags": {"type": "array", "x-hybridgw-set": True}}})
    await house.put("notes", "x", {"tags": ["a"]})
    await house.delete("notes", "x")
    await house.put("notes", "x", {"tags": ["b"]})
    house.apply_unseen("notes", "x", "edit", adds={"tags": ["c", "d"]})
    found = await look(house)
    (field,) = found.fields
    assert (field.kind, field.buried, [o.value for o in field.others]) == ("element", True, ["c", "d"])
    made = await resolve(house, choices={"tags": {"keys": [field.others[0].key]}})
    assert (data_of(made), made.conflicts) == ({"tags": ["b", "c"]}, 0)


async def test_pages_and_collections(house: House) -> None:
    for k in range(5):
        await conflicting(house, f"x{k}")
    await house.put("tasks", "t", {"title": "mine"})
    house.apply_unseen("tasks", "t", "edit", puts={"title": "theirs"})
    seen: list[str] = []
    cursor = None
    while True:
        page = await house.conflicts.find(OWNER, api.ListConflicts(limit=2, cursor=cursor))
        assert page.total == 6
        seen += [c.id for c in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == ["x0", "x1", "x2", "x3", "x4", "t"]
    assert [await house.conflicts.count(name) for name in ("notes", "tasks", "nothing")] == [5, 1, 0]
    only = await house.conflicts.find(OWNER, api.ListConflicts(collection="tasks"))
    assert [c.id for c in only.items] == ["t"]
    for cursor in ("x", "-1", "9" * 30, "١"):
        with pytest.raises(BadValue):
            await house.conflicts.find(OWNER, api.ListConflicts(cursor=cursor))


async def test_a_locked_collection_is_counted_and_not_shown(house: House) -> None:
    await house.put("settings", "s", {"value": 1})
    house.apply_unseen("settings", "s", "edit", puts={"value": 2})
    await conflicting(house)
    assert len((await house.conflicts.find(OWNER, api.ListConflicts())).items) == 2
    house.replica.vault = None
    page = await house.conflicts.find(OWNER, api.ListConflicts())
    assert ([c.id for c in page.items], page.total) == (["x"], 2)
    with pytest.raises(SecretsLocked):
        await look(house, "settings", "s")

"""Commands and answers of the local API as types: what is refused, and how a refusal names the field."""

from __future__ import annotations

import inspect
import json
from typing import Any

import msgspec
import pytest

from hybridgw_protocol import localapi as api
from hybridgw_protocol import localapi_devices as own
from hybridgw_protocol.errors import BadValue

KINDS = [
    k for part in (api, own) for _, k in inspect.getmembers(part, inspect.isclass)
    if issubclass(k, api.Command | api.Result)
]  # fmt: skip


def test_fields_are_typed_and_every_type_can_be_built() -> None:
    assert len(KINDS) > 60
    for kind in KINDS:
        msgspec.json.schema(kind)


@pytest.mark.parametrize(
    ("kind", "fields", "field"),
    [
        (api.ListDocuments, {"collection": "a", "limit": 0}, "limit"),
        (api.ListDocuments, {"collection": "a", "limit": "10"}, "limit"),
        (api.ListDocuments, {}, "collection"),
        (api.PutDocument, {"collection": "a", "id": "b", "data": []}, "data"),
        (api.PutDocument, {"collection": "a", "id": "b", "data": {}, "more": 1}, "more"),
        (api.WriteBatch, {"operations": []}, "operations"),
        (api.WriteBatch, {"operations": [{"op": "put", "collection": "a"}, {"op": "x", "collection": "a"}]},
        "operations[1].op"),
        (api.TriggerSync, {"timeout_s": -1}, "timeout_s"),
        (own.JoinPairing, {"code": ""}, "code"),
        (api.ResolveConflict, {"collection": "a", "id": "b", "version": 1, "keep": "mine"}, "keep"),
    ],
)  # fmt: skip
def test_refusals_name_the_field(kind: type[api.Command], fields: dict[str, Any], field: str) -> None:
    with pytest.raises(BadValue) as caught:
        api.build(kind, fields)
    assert caught.value.detail["field"] == field
    assert caught.value.message.endswith(".")


def test_text_of_a_query_becomes_numbers_and_booleans() -> None:
    found = api.build(api.ListDocuments, {"collection": "a", "limit": "10", "deleted": "true"}, from_text=True)
    assert found == api.ListDocuments(collection="a", limit=10, deleted=True)


@pytest.mark.parametrize(
    "raw", [b"", b"{", b'{"a":NaN}', b"[" * 4_000 + b"]" * 4_000, b'"\xff"', b'"\\ud800"', b"1e999"]
)
def test_json_that_is_none(raw: bytes) -> None:
    with pytest.raises(BadValue):
        api.decode_json(raw)


def test_absent_is_absent_and_null_is_null() -> None:
    deleted = json.loads(api.encode(api.Document(id="a", collection="c", version=1, conflicts=0, deleted=True)))
    assert deleted == {"id": "a", "collection": "c", "version": 1, "conflicts": 0, "deleted": True}
    page = json.loads(api.encode(api.DocumentPage(items=[], since="e-0")))
    assert page == {"items": [], "since": "e-0", "next_cursor": None}
    assert api.encode(api.Health()) == b'{"status":"ok"}'

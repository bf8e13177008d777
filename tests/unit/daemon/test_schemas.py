"""The supported part of JSON Schema: what it refuses to promise, and that it agrees with a full implementation."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridgw_daemon.services.builtin import BUILTIN, iso_time
from hybridgw_daemon.services.schemas import MAX_FAULTS, check, compile_schema, defaults, set_fields
from hybridgw_protocol.errors import BadValue


@pytest.mark.parametrize(
    "schema",
    [
        {"oneOf": []}, {"$ref": "#"}, {"pattern": "a"}, {"properties": {"a": {"not": {}}}}, {"type": "array"},
        {"properties": {"a": {"type": "text"}}}, {"properties": {"a": {"type": []}}}, {"properties": []},
        {"properties": {"a": True}}, {"required": "a"}, {"required": [1]}, {"additionalProperties": {}},
        {"properties": {"a": {"minLength": -1}}}, {"properties": {"a": {"minLength": 1.5}}},
        {"properties": {"a": {"minimum": "1"}}}, {"properties": {"a": {"enum": []}}},
        {"properties": {"a": {"enum": [2**60]}}},
        {"properties": {"a": {"format": "email"}}}, {"properties": {"a": {"x-hybridgw-set": True}}},
        {"properties": {"a": {"type": "array", "x-hybridgw-set": "yes"}}},
        {"properties": {"a": {"properties": {"b": {"type": "array", "x-hybridgw-set": True}}}}},
        {"properties": {"a": {"type": "array", "uniqueItems": True}}}, {"properties": {"": {}}},
        {"properties": {f"f{k}": {} for k in range(501)}}, {"properties": {"a": {"default": 2**60}}},
    ],
)  # fmt: skip
def test_what_is_not_supported_is_refused_when_defined(schema: Any) -> None:
    with pytest.raises(BadValue):
        compile_schema(schema)


def test_nesting_is_bounded() -> None:
    schema: Any = {"type": "string"}
    for _ in range(20):
        schema = {"type": "array", "items": schema}
    with pytest.raises(BadValue, match="deep"):
        compile_schema({"properties": {"a": schema}})


def test_annotations_are_kept_and_ignored() -> None:
    compile_schema({"$schema": "x", "title": "t", "description": "d", "examples": [1], "x-mine": 1, "deprecated": True})


SCALARS = st.one_of(st.booleans(), st.integers(-5, 5), st.floats(-5, 5), st.text("ab", max_size=4))
VALUES = st.recursive(
    SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.sampled_from("pq"), v, max_size=2)
)
TYPES = st.sampled_from(["boolean", "integer", "number", "string", "array", "object", "null"])
SCHEMAS = st.recursive(
    st.fixed_dictionaries(
        {},
        optional={
            "type": TYPES | st.lists(TYPES, min_size=1, max_size=2, unique=True),
            "enum": st.lists(SCALARS, min_size=1, max_size=3),
            "minLength": st.integers(0, 3), "maxLength": st.integers(0, 3),
            "minimum": st.integers(-3, 3), "maximum": st.integers(-3, 3),
        },
    ),
    lambda s: st.fixed_dictionaries(
        {},
        optional={
            "items": s, "minItems": st.integers(0, 2), "maxItems": st.integers(0, 3),
            "properties": st.dictionaries(st.sampled_from("pq"), s, max_size=2),
            "required": st.lists(st.sampled_from("pq"), min_size=1, max_size=2, unique=True),
            "additionalProperties": st.booleans(), "type": TYPES,
        },
    ),
    max_leaves=4,
)  # fmt: skip


@given(
    fields=st.dictionaries(st.sampled_from("ab"), SCHEMAS, max_size=2),
    data=st.dictionaries(st.sampled_from("abc"), VALUES),
)
def test_it_agrees_with_json_schema(fields: Any, data: Any) -> None:
    """Equality in `enum` is by canonical value here and in JSON Schema alike: 1.0 is 1, true is not."""
    schema = {"type": "object", "properties": fields}
    ours = check(compile_schema(schema), data)
    theirs = list(jsonschema.Draft202012Validator(schema).iter_errors(data))
    assert bool(ours) == bool(theirs), (ours, theirs)


def test_faults_name_places_and_no_values() -> None:
    rule = compile_schema({"properties": {"a": {"items": {"properties": {"b": {"type": "integer"}}}}}})
    assert check(rule, {"a": [{}, {"b": "planted"}]}) == ["a[1].b: must be integer"]


def test_faults_are_bounded() -> None:
    rule = compile_schema({"properties": {"a": {"items": {"type": "integer"}}}})
    assert len(check(rule, {"a": ["x"] * 1_000})) == MAX_FAULTS


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        ("date-time", ["2027-01-15T08:00:00Z", "2027-01-15t08:00:00.123456789+14:00"], ["2027-01-15",
        "2027-13-01T00:00:00Z",
         "2027-01-15T24:00:00Z", "2027-01-15T08:00:00", "2027-01-15T08:00:00Z\n"]),
        ("date", ["2027-01-15"], ["2027-1-15", "2027-01-32"]),
        ("uuid", ["01a20dc6-2082-7756-8e5c-12079a1b2c76"], ["01a20dc620827756-8e5c-12079a1b2c76"]),
        ("uri", ["https://a.example/x", "mailto:a@b.example"], ["a.example", "https://a b"]),
    ],
)  # fmt: skip
def test_formats(form: str, good: list[str], bad: list[str]) -> None:
    rule = compile_schema({"properties": {"a": {"type": "string", "format": form}}})
    assert [text for text in good if check(rule, {"a": text})] == []
    assert [text for text in bad if not check(rule, {"a": text})] == []


@pytest.mark.parametrize("name", BUILTIN)
def test_built_in_schemas_are_within_the_supported_part_and_valid(name: str) -> None:
    schema = dict(BUILTIN[name].schema)
    jsonschema.Draft202012Validator.check_schema(schema)
    rule = compile_schema(schema)
    assert set_fields(rule) == ({"tags"} if name != "settings" else set())
    assert defaults(rule) == ({"status": "open"} if name == "tasks" else {})


def test_times_sort_as_text() -> None:
    assert iso_time(0) == "1970-01-01T00:00:00.000Z"
    assert iso_time(1_800_000_000_001) == "2027-01-15T08:00:00.001Z"

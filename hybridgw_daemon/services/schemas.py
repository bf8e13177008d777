"""The part of JSON Schema that collections may use; checked where somebody writes, never where a batch is applied.

Keywords: `type` (one or a list), `enum`, `const`, `properties`, `required`, `additionalProperties` (true or false),
`items`, `minItems`, `maxItems`, `minLength`, `maxLength`, `minimum`, `maximum`, `format` (date-time, date, uuid, uri),
`default` of a field, and `x-hybridgw-set`: the field is an add-wins set of scalars. Annotations (`title`,
`description`, `examples`, `deprecated`, `$schema`, `$id`, `$comment`, other `x-…`) are kept and ignored. Anything else
is refused when the schema is defined: a rule that is not enforced is a promise that is not kept.
Source: JSON Schema 2020-12.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from hybridgw_protocol.codec import canonical
from hybridgw_protocol.errors import BadValue
from hybridgw_protocol.ids import check_field

MAX_DEPTH: Final = 16
MAX_FIELDS: Final = 500
MAX_FAULTS: Final = 20
MAX_CHOICES_SHOWN: Final = 12
SET_KEYWORD: Final = "x-hybridgw-set"

_ANNOTATIONS: Final = frozenset({"title", "description", "examples", "deprecated", "$schema", "$id", "$comment"})
_TYPES: Final[Mapping[str, Callable[[Any], bool]]] = {
    "null": lambda v: v is None,
    "boolean": lambda v: isinstance(v, bool),
    "integer": lambda v: not isinstance(v, bool) and (isinstance(v, int) or (isinstance(v, float) and v.is_integer())),
    "number": lambda v: not isinstance(v, bool) and isinstance(v, int | float),
    "string": lambda v: isinstance(v, str),
    "array": lambda v: isinstance(v, list),
    "object": lambda v: isinstance(v, dict),
}
_DATE: Final = r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
_FORMATS: Final[Mapping[str, re.Pattern[str]]] = {
    "date": re.compile(_DATE),
    "date-time": re.compile(
        _DATE + r"[Tt]([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d{1,9})?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)"
    ),
    "uuid": re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"),
    "uri": re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s]*"),
}


@dataclass(frozen=True, slots=True)
class Rule:
    """A compiled schema of one value."""

    types: tuple[str, ...] = ()
    choices: dict[bytes, str] | None = None  # canonical bytes of `enum` or `const`, and how a person reads them
    properties: Mapping[str, Rule] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    additional: bool = True
    items: Rule | None = None
    lengths: tuple[int, int | None] = (0, None)  # of text
    counts: tuple[int, int | None] = (0, None)  # of items
    range: tuple[float | None, float | None] = (None, None)
    format: str | None = None
    is_set: bool = False
    default: Any = None  # null is no default: it would not be shown


# ---- compiling ---------------------------------------------------------------------------------------------------
def compile_schema(schema: Mapping[str, Any]) -> Rule:
    """The rule of a collection's documents. Raises: BadValue: names the place and what is not supported there."""
    rule = _compile(schema, "schema", 0)
    if rule.types not in ((), ("object",)):
        raise BadValue("schema: the type of a document is `object`.")
    if len(rule.properties) > MAX_FIELDS:
        raise BadValue(f"schema: at most {MAX_FIELDS} fields.")
    for name in rule.properties:
        check_field(name)
    return rule


def _compile(schema: Any, place: str, depth: int) -> Rule:
    if not isinstance(schema, dict):
        raise BadValue(f"{place}: a schema is an object.")
    if depth > MAX_DEPTH:
        raise BadValue(f"{place}: schemas nest at most {MAX_DEPTH} deep.")
    made: dict[str, Any] = {}
    for keyword, value in schema.items():
        where = f"{place}.{keyword}"
        match keyword:
            case "type":
                made["types"] = _types(value, where)
            case "enum":
                made["choices"] = {canonical(item): _readable(item) for item in _list(value, where)}
            case "const":
                made["choices"] = {canonical(value): _readable(value)}
            case "properties":
                if not isinstance(value, dict):
                    raise BadValue(f"{where}: an object of schemas.")
                made["properties"] = {
                    name: _compile(part, f"{where}.{name}", depth + 1) for name, part in value.items()
                }
            case "required":
                made["required"] = tuple(_list(value, where))
                if not all(isinstance(name, str) for name in made["required"]):
                    raise BadValue(f"{where}: names of fields.")
            case "additionalProperties":
                if not isinstance(value, bool):
                    raise BadValue(f"{where}: true or false.")
                made["additional"] = value
            case "items":
                made["items"] = _compile(value, where, depth + 1)
            case "format":
                if value not in _FORMATS:
                    raise BadValue(f"{where}: one of {', '.join(_FORMATS)}.")
                made["format"] = value
            case "default":
                canonical(value)
                made["default"] = value
            case "x-hybridgw-set":
                if not isinstance(value, bool):
                    raise BadValue(f"{where}: true or false.")
                made["is_set"] = value
            case "minLength" | "maxLength" | "minItems" | "maxItems" | "minimum" | "maximum" | "uniqueItems":
                pass
            case _ if keyword in _ANNOTATIONS or keyword.startswith("x-"):
                pass
            case _:
                raise BadValue(f"{where}: this keyword is not supported.")
    made["lengths"] = (_count(schema, "minLength", place) or 0, _count(schema, "maxLength", place))
    made["counts"] = (_count(schema, "minItems", place) or 0, _count(schema, "maxItems", place))
    made["range"] = (_number(schema, "minimum", place), _number(schema, "maximum", place))
    if made.get("is_set") and (depth != 1 or made.get("types") != ("array",)):
        raise BadValue(f"{place}: only a field of the document itself, of type array, can be a set.")
    if schema.get("uniqueItems") not in (None, False) and not made.get("is_set"):
        raise BadValue(f"{place}.uniqueItems: only sets (`{SET_KEYWORD}`) have unique items.")
    return Rule(**made)


def _types(value: Any, where: str) -> tuple[str, ...]:
    types = tuple(value) if isinstance(value, list) else (value,)
    if not types or not all(isinstance(t, str) and t in _TYPES for t in types):
        raise BadValue(f"{where}: one or some of {', '.join(_TYPES)}.")
    return types


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise BadValue(f"{where}: a list that is not empty.")
    return value


def _count(schema: Mapping[str, Any], keyword: str, place: str) -> int | None:
    value = schema.get(keyword)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise BadValue(f"{place}.{keyword}: a whole number from 0.")
    return value


def _number(schema: Mapping[str, Any], keyword: str, place: str) -> float | None:
    value = schema.get(keyword)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise BadValue(f"{place}.{keyword}: a number.")
    return value


# ---- checking ----------------------------------------------------------------------------------------------------
def check(rule: Rule, data: Mapping[str, Any], changed: Iterable[str] | None = None) -> list[str]:
    """What is wrong, `field: reason` each, without any value; at most MAX_FAULTS.

    Args: data: the whole document as it would be, null for no field; changed: look only at these fields and at what is
    required; None: at all of them.
    """
    faults: list[str] = []
    shown = {name: value for name, value in data.items() if value is not None}
    for name in rule.required:
        if name not in shown and (changed is None or name in changed):
            faults.append(f"{name}: is required")
    for name in shown if changed is None else changed:
        if name not in shown:
            continue
        part = rule.properties.get(name)
        if part is not None:
            _check(part, shown[name], name, faults)
        elif not rule.additional:
            faults.append(f"{name}: is not a field of this collection")
    return faults[:MAX_FAULTS]


def _readable(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= 40 else f"{text[:39]}…"


def _check(rule: Rule, value: Any, place: str, faults: list[str]) -> None:
    if len(faults) >= MAX_FAULTS:
        return
    if rule.types and not any(_TYPES[t](value) for t in rule.types):
        faults.append(f"{place}: must be {' or '.join(rule.types)}")
        return
    if rule.choices is not None and canonical(value) not in rule.choices:
        shown = [*rule.choices.values()]
        more = ", …" if len(shown) > MAX_CHOICES_SHOWN else ""
        faults.append(f"{place}: is not one of {', '.join(shown[:MAX_CHOICES_SHOWN])}{more}")
        return
    if isinstance(value, str):
        least, most = rule.lengths
        if len(value) < least:
            faults.append(f"{place}: must have at least {least} characters")
        elif most is not None and len(value) > most:
            faults.append(f"{place}: must have at most {most} characters")
        elif rule.format and not _FORMATS[rule.format].fullmatch(value):
            faults.append(f"{place}: must be a {rule.format}")
    elif isinstance(value, list):
        least, most = rule.counts
        if len(value) < least or (most is not None and len(value) > most):
            faults.append(
                f"{place}: must have {f'{least} to {most}' if most is not None else f'at least {least}'} items"
            )
        if rule.items is not None:
            for index, item in enumerate(value):
                _check(rule.items, item, f"{place}[{index}]", faults)
    elif isinstance(value, dict):
        for name in rule.required:
            if name not in value:
                faults.append(f"{place}.{name}: is required")
        for name, item in value.items():
            if name in rule.properties:
                _check(rule.properties[name], item, f"{place}.{name}", faults)
            elif not rule.additional:
                faults.append(f"{place}.{name}: is not a known field")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        low, high = rule.range
        if (low is not None and value < low) or (high is not None and value > high):
            faults.append(f"{place}: must be {_span(low, high)}")


def _span(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return f"at least {low:g}" if low is not None else f"at most {high:g}"
    return f"from {low:g} to {high:g}"


def set_fields(rule: Rule) -> frozenset[str]:
    """The fields that are sets."""
    return frozenset(name for name, part in rule.properties.items() if part.is_set)


def defaults(rule: Rule) -> dict[str, Any]:
    """Values of fields that a new document does not name."""
    return {name: part.default for name, part in rule.properties.items() if part.default is not None}

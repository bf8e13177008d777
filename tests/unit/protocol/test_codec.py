"""Canonical values: a table of bytes, an encoder written from the page, and what is outside the domain."""

from __future__ import annotations

import contextlib
import json
import math
import struct
from enum import IntEnum
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hybridgw_protocol.codec import canonical, decode, encode_canonical, normalise
from hybridgw_protocol.errors import BadFrame, BadValue
from hybridgw_protocol.limits import MAX_DEPTH, MAX_INT


def reference(value: Any) -> bytes:
    """Canonical bytes, written from protocol/SPEC.md, "Values", without msgspec."""
    match value:
        case None:
            return b"\xc0"
        case bool():
            return b"\xc3" if value else b"\xc2"
        case float() if value.is_integer() and abs(value) <= MAX_INT:
            return reference(int(value))
        case float():
            return b"\xcb" + struct.pack(">d", value)
        case int() if value >= 0:
            for top, code, form in (
                (0x7F, b"", "B"),
                (0xFF, b"\xcc", "B"),
                (0xFFFF, b"\xcd", "H"),
                (2**32 - 1, b"\xce", "I"),
            ):
                if value <= top:
                    return code + struct.pack(">" + form, value)
            return b"\xcf" + struct.pack(">Q", value)
        case int():
            for low, code, form in (
                (-32, b"", "b"),
                (-(2**7), b"\xd0", "b"),
                (-(2**15), b"\xd1", "h"),
                (-(2**31), b"\xd2", "i"),
            ):
                if value >= low:
                    return code + struct.pack(">" + form, value)
            return b"\xd3" + struct.pack(">q", value)
        case str():
            raw = value.encode()
            return head(len(raw), 31, 0xA0, (b"\xd9", b"\xda", b"\xdb")) + raw
        case list() | tuple():
            return head(len(value), 15, 0x90, (None, b"\xdc", b"\xdd")) + b"".join(map(reference, value))
        case dict():
            pairs = sorted((key.encode(), key) for key in value)
            body = b"".join(reference(key) + reference(value[key]) for _, key in pairs)
            return head(len(value), 15, 0x80, (None, b"\xde", b"\xdf")) + body
    raise AssertionError(value)


def head(size: int, small: int, fix: int, codes: tuple[bytes | None, bytes, bytes]) -> bytes:
    """The shortest head for so many bytes or entries."""
    if size <= small:
        return bytes([fix | size])
    if size <= 0xFF and codes[0]:
        return codes[0] + bytes([size])
    return codes[1] + struct.pack(">H", size) if size <= 0xFFFF else codes[2] + struct.pack(">I", size)


texts = st.text(st.characters(codec="utf-8"), max_size=34)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-MAX_INT, MAX_INT)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-MAX_INT, MAX_INT).map(float)
    | texts
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=17) | st.dictionaries(texts, inner, max_size=17), max_leaves=12
)

TABLE: list[tuple[Any, str]] = [
    (None, "c0"), (False, "c2"), (True, "c3"),
    (0, "00"), (1, "01"), (127, "7f"), (128, "cc80"), (255, "ccff"), (256, "cd0100"), (65535, "cdffff"),
    (65536, "ce00010000"), (2**32 - 1, "ceffffffff"), (2**32, "cf0000000100000000"), (MAX_INT, "cf001fffffffffffff"),
    (-1, "ff"), (-32, "e0"), (-33, "d0df"), (-128, "d080"), (-129, "d1ff7f"), (-32768, "d18000"),
    (-32769, "d2ffff7fff"), (-(2**31), "d280000000"), (-(2**31) - 1, "d3ffffffff7fffffff"),
    (-MAX_INT, "d3ffe0000000000001"),
    (1.0, "01"), (-0.0, "00"), (0.0, "00"), (-1.0, "ff"), (1e15, "cf00038d7ea4c68000"),
    (2.0**53 - 1, "cf001fffffffffffff"),
    (2.0**53, "cb4340000000000000"), (-(2.0**53), "cbc340000000000000"), (1e300, "cb7e37e43c8800759c"),
    (1.5, "cb3ff8000000000000"), (0.1, "cb3fb999999999999a"), (5e-324, "cb0000000000000001"),
    ("", "a0"), ("a", "a161"), ("x" * 31, "bf" + "78" * 31), ("x" * 32, "d920" + "78" * 32),
    ("x" * 256, "da0100" + "78" * 256), ("\x00", "a100"), ("é", "a2c3a9"), ("e\u0301", "a365cc81"),
    ("😀", "a4f09f9880"),
    ([], "90"), ((), "90"), ([1, [2]], "92019102"), ([0] * 16, "dc0010" + "00" * 16),
    ({}, "80"), ({"b": 1, "a": 2}, "82a16102a16201"), ({"aa": 1, "b": 2, "": 3}, "83a003a2616101a16202"),
    # By UTF-8 bytes: U+FFFD before an emoji, where UTF-16 units would say the opposite.
    ({"😀": 1, "\ufffd": 2}, "82a3efbfbd02a4f09f988001"),
    ({"a": {"z": 1.0, "y": [2.0]}}, "81a16182a1799102a17a01"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "raw"), TABLE, ids=[str(i) for i in range(len(TABLE))])
def test_canonical_bytes(value: Any, raw: str) -> None:
    assert canonical(value).hex() == raw
    assert reference(value).hex() == raw


@given(values)
@example([2**53 * 1.0, 2.0**53 - 1])
def test_canonical_is_what_the_page_says(value: Any) -> None:
    assert canonical(value) == reference(value)


@given(values)
def test_decoded_canonical_bytes_are_the_normal_form(value: Any) -> None:
    raw = canonical(value)
    back = msgspec.msgpack.decode(raw)
    assert same(back, normalise(value))
    assert canonical(back) == raw


@given(values, values)
@example(1, 1.0)
@example(1, True)
@example(0, -0.0)
@example("é", "e\u0301")
@example({"a": 1, "b": 2}, {"b": 2.0, "a": 1})
@example([1, 2], [2, 1])
@example({}, [])
def test_equal_values_have_equal_bytes_and_only_they(one: Any, other: Any) -> None:
    assert (canonical(one) == canonical(other)) == same(normalise(one), normalise(other))


@given(values)
def test_the_order_of_map_keys_does_not_matter(value: Any) -> None:
    def turned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(list(value))}
        return [turned(item) for item in value] if isinstance(value, list) else value

    assert canonical(turned(value)) == canonical(value)


@given(values)
def test_a_value_comes_back_from_json_as_itself(value: Any) -> None:
    """Through this language's JSON, and through a reader that knows only doubles, like JavaScript's."""
    normal = normalise(value)
    text = msgspec.json.encode(normal)
    assert canonical(json.loads(text)) == canonical(value)
    assert canonical(json.loads(text, parse_int=float)) == canonical(value)


def same(one: Any, other: Any) -> bool:
    """Equality of normal forms with types: Python itself takes 1, 1.0 and True for equal."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


# ---- outside the domain ------------------------------------------------------------------------------------------
class Colour(IntEnum):
    RED = 1


class Named(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (MAX_INT + 1, "53 bits"), (-MAX_INT - 1, "53 bits"), (2**64, "53 bits"), (2**200, "53 bits"),
        (math.nan, "NaN"), (math.inf, "infinity"), (-math.inf, "infinity"),
        ("\ud800", "surrogate"), ("ok \udfff", "surrogate"), ("\ud83d\ude00", "surrogate"),
        (b"bytes", "bytes"), (bytearray(b"x"), "bytearray"), ({1, 2}, "set"), (1j, "complex"), (object(), "object"),
        (Colour.RED, "Colour"), (Named("x"), "Named"),
        ({1: 2}, "keys are text"), ({b"a": 1}, "keys are text"), ({None: 1}, "keys are text"),
        ({True: 1}, "keys are text"),
        ({"\ud800": 1}, "surrogate"), ({Named("x"): 1}, "keys are text"),
    ],
)  # fmt: skip
def test_values_outside_the_domain_are_refused_at_any_depth(value: Any, says: str) -> None:
    for nested in (value, [value], {"a": value}, [[{"a": [value]}]]):
        with pytest.raises(BadValue, match=says):
            canonical(nested)


def nest(depth: int, kind: str) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = {"list": [value], "tuple": (value,), "dict": {"k": value}}[kind]
    return value


@pytest.mark.parametrize("kind", ["list", "tuple", "dict"])
def test_nesting(kind: str) -> None:
    assert canonical(nest(MAX_DEPTH, kind)) == reference(nest(MAX_DEPTH, kind))
    for depth in (MAX_DEPTH + 1, 500):
        with pytest.raises(BadValue, match=f"{MAX_DEPTH} deep"):
            canonical(nest(depth, kind))
    empty = {"list": [], "tuple": (), "dict": {}}[kind]
    value: Any = empty
    for _ in range(MAX_DEPTH - 1):
        value = [value]
    canonical(value)  # an empty one has a depth of its own
    with pytest.raises(BadValue):
        canonical([value])


def test_normalise_does_not_touch_its_argument() -> None:
    value = {"a": [1.0, (2.0,)], "b": "x"}
    normal = normalise(value)
    assert value == {"a": [1.0, (2.0,)], "b": "x"}
    assert type(value["a"][0]) is float
    assert type(normal["a"][0]) is int
    assert normal["a"][1] == [2]


# ---- decoding ----------------------------------------------------------------------------------------------------
DAMAGED = {
    "nothing": b"", "reserved byte": b"\xc1", "trailing byte": b"\xc0\xc0",
    "array of 2^32-1": b"\xdd\xff\xff\xff\xff\x01", "map of 2^32-1": b"\xdf\xff\xff\xff\xff\xa1a\x01",
    "text of 2^32-1": b"\xdb\xff\xff\xff\xffab", "bytes of 2^32-1": b"\xc6\xff\xff\xff\xffab",
    "extension of 2^32-1": b"\xc9\xff\xff\xff\xff\x05", "deep array": b"\x91" * 200_000 + b"\xc0",
    "deep map": b"\x81\xa0" * 200_000 + b"\xc0", "not UTF-8": b"\xa2\xff\xfe", "a surrogate": b"\xa3\xed\xa0\x80",
    "overlong UTF-8": b"\xa2\xc0\x80", "impossible time": b"\xc7\x0c\xff" + b"\xff" * 12, "map as key": b"\x81\x80\x01",
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGED)
@pytest.mark.parametrize("kind", [Any, list[Any], dict[str, Any], msgspec.Raw, tuple[int, bytes]])
def test_damaged_bytes_are_a_bad_frame(what: str, kind: type[Any]) -> None:
    if kind is msgspec.Raw:  # what is only passed over is not looked into
        with contextlib.suppress(BadFrame):
            decode(DAMAGED[what], kind, "thing")
    else:
        with pytest.raises(BadFrame, match="The thing cannot be read"):
            decode(DAMAGED[what], kind, "thing")


@given(st.binary(max_size=60))
def test_random_bytes_are_a_value_or_a_bad_frame(raw: bytes) -> None:
    for kind in (Any, list[Any], dict[str, Any], dict[int, tuple[int, bytes]]):
        with contextlib.suppress(BadFrame):
            decode(raw, kind, "thing")  # type: ignore[arg-type]


@given(values, st.data())
def test_every_prefix_of_a_value_is_refused(value: Any, data: st.DataObject) -> None:
    raw = canonical(value)
    cut = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(BadFrame):
        decode(raw[:cut], Any, "thing")  # type: ignore[arg-type]


def test_structures_may_hold_bytes() -> None:
    assert encode_canonical(["x", b"\x01", {"b": 1, "a": b""}]).hex() == "93a178c4010182a161c400a16201"

"""Identifiers: how they are derived (against hashlib), how people see them, what is refused."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridgw_protocol import ids
from hybridgw_protocol.errors import BadValue
from hybridgw_protocol.ids import DeviceId, LogId

UUID = "0190f3a4-7b2c-7def-8123-456789abcdef"


def b2(data: bytes, size: int, person: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=size, person=person).digest()


def test_derivations() -> None:
    sign, exchange, key, salt = (bytes([i]) * 32 for i in range(1, 5))
    assert ids.space_id(sign) == b2(sign, 16, b"hgw-uid")
    device = ids.device_id(sign, exchange)
    assert device == b2(sign + exchange, 16, b"hgw-dev")
    assert ids.log_to_bytes(ids.log_id(device, salt)) == b2(device + salt, 8, b"hgw-log")
    assert ids.key_id(key) == b2(key, 8, b"hgw-kid")
    assert ids.blake2b(b"x", 32, "hgw-auth") == b2(b"x", 32, b"hgw-auth")
    keyed = hashlib.blake2b(b"x", digest_size=32, person=b"p", key=b"k" * 64).digest()
    assert ids.blake2b(b"x", 32, "p", key=b"k" * 64) == keyed


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=32, max_size=32))
def test_a_log_id_is_a_signed_64_bit_integer(device: bytes, salt: bytes) -> None:
    log = ids.log_id(DeviceId(device), salt)
    assert -(2**63) <= log < 2**63
    assert ids.log_from_bytes(ids.log_to_bytes(log)) == log


@pytest.mark.parametrize(
    ("log", "raw"), [(0, "00" * 8), (-1, "ff" * 8), (2**63 - 1, "7f" + "ff" * 7), (-(2**63), "80" + "00" * 7)]
)
def test_log_bytes(log: int, raw: str) -> None:
    assert ids.log_to_bytes(LogId(log)).hex() == raw
    assert ids.log_from_bytes(bytes.fromhex(raw)) == log


# ---- document ids ------------------------------------------------------------------------------------------------
def test_a_uuid_is_16_bytes_and_comes_back_as_it_was() -> None:
    document = ids.parse_document_id(UUID)
    assert document == bytes.fromhex(UUID.replace("-", ""))
    assert ids.format_document_id(document) == UUID


@pytest.mark.parametrize(
    "text", ["x", "a b", UUID.upper(), UUID[:-1], "{" + UUID + "}", UUID.replace("-", ""), "é" * 32, "😀" * 16]
)
def test_all_else_stays_text(text: str) -> None:
    assert ids.parse_document_id(text) == text
    assert ids.format_document_id(text) == text
    ids.check_document_id(text)


@given(st.text(max_size=70) | st.uuids().map(str))
def test_every_text_has_one_id_or_none(text: str) -> None:
    try:
        document = ids.parse_document_id(text)
    except BadValue:
        return
    assert ids.format_document_id(document) == text
    ids.check_document_id(document)


BAD_TEXT = ["", "é" * 33, "x" * 65, "a\nb", "a\x00", "\x7f", "a\x1f", "\ud800"]


@pytest.mark.parametrize("text", BAD_TEXT)
def test_bad_document_ids(text: str) -> None:
    with pytest.raises(BadValue):
        ids.parse_document_id(text)


@pytest.mark.parametrize("document", [UUID, b"", b"x" * 15, b"x" * 17, 7, None, ["x"], bytearray(16), *BAD_TEXT])
def test_what_is_no_document_id_in_its_one_form(document: object) -> None:
    with pytest.raises(BadValue):
        ids.check_document_id(document)


# ---- names -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["a", "tasks", "a0_.-", "z" * 64])
def test_collection_names(name: str) -> None:
    ids.check_collection(name)


@pytest.mark.parametrize(
    "name", ["", "A", "0a", "_a", ".a", "a b", "a/b", "é", "a\n", "tasks\x00", "z" * 65, b"tasks", 5, None, "a" + "é"]
)
def test_bad_collection_names(name: object) -> None:
    with pytest.raises(BadValue):
        ids.check_collection(name)


@pytest.mark.parametrize("name", ["a", "A b", "é" * 64, "x" * 128, "$x", "a.b"])
def test_field_names(name: str) -> None:
    ids.check_field(name)


@pytest.mark.parametrize("name", ["", "é" * 65, "x" * 129, "a\tb", "\ud800", b"a", 5, None])
def test_bad_field_names(name: object) -> None:
    with pytest.raises(BadValue):
        ids.check_field(name)


def test_no_person_string_is_longer_than_blake2b_takes() -> None:
    """Those of this package; a longer one raises, but only when its function runs."""
    source = "".join(p.read_text() for p in __import__("pathlib").Path(ids.__file__).parent.glob("*.py"))
    persons = set(re.findall(r'"(hgw-[a-z0-9-]+)"', source))
    assert {"hgw-uid", "hgw-dev", "hgw-log", "hgw-kid"} <= persons
    assert {p for p in persons if len(p) > 16} <= {p for p in persons if p.startswith("hgw-invite")}

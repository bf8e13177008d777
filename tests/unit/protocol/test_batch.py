"""The clear part of a batch: layout by bytes, and every damage refused, by size, by rule or by signature."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridgw_protocol.batch import MAX_N, Head, batch_hash, encode_header, parse_batch, verify_batch
from hybridgw_protocol.errors import BadFrame, BadSignature, RemoteError
from hybridgw_protocol.ids import DeviceId, KeyId, LogId, SpaceId, blake2b, log_id
from hybridgw_protocol.limits import BATCH_MIN_BYTES, MAX_BATCH_BYTES
from tests.unit.protocol.samples import Author

AUTHOR = Author(7)
FIRST, SECOND = AUTHOR.seal(), AUTHOR.seal(777, flags=3)


def judge(blob: bytes, author: Author = AUTHOR) -> None:
    """What a receiver does with bytes that claim to be a batch of this author."""
    verify_batch(parse_batch(blob), author.sign_public)


def test_the_layout_is_that_of_the_page() -> None:
    batch = parse_batch(SECOND)
    assert SECOND[0] == 1
    assert SECOND[1] == batch.flags == 3
    assert SECOND[2:18] == batch.space == AUTHOR.space
    assert SECOND[18:34] == batch.device == AUTHOR.device
    assert SECOND[34:42] == struct.pack(">q", batch.log)
    assert batch.log == AUTHOR.log
    assert SECOND[42:50] == struct.pack(">Q", 2)
    assert batch.n == 2
    assert SECOND[50:58] == batch.kid
    assert SECOND[58:90] == batch.prev == parse_batch(FIRST).hash
    assert SECOND[90:114] == batch.nonce
    assert batch.header == SECOND[:114]
    assert batch.ciphertext == SECOND[114:-64]
    assert batch.signature == SECOND[-64:]
    assert batch.hash == blake2b(SECOND[:-64], 32, "hgw-batch1") == batch_hash(SECOND[:-64])
    assert batch.blob == SECOND
    judge(FIRST)
    judge(SECOND)


def test_the_first_batch_carries_the_salt_that_binds_the_log_to_its_device() -> None:
    batch = parse_batch(FIRST)
    assert batch.prev == AUTHOR.salt
    assert batch.log == log_id(batch.device, batch.prev)
    thief = Author(8)
    thief.log = AUTHOR.log  # signs as itself, in a log that is not its own
    with pytest.raises(BadFrame, match="does not prove"):
        judge(thief.seal(), thief)
    thief = Author(8)
    thief.log, thief.salt, thief.prev = AUTHOR.log, AUTHOR.salt, AUTHOR.salt
    with pytest.raises(BadFrame, match="does not prove"):
        judge(thief.seal(), thief)


# ---- damage ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("blob", [FIRST, SECOND], ids=["first", "second"])
@pytest.mark.parametrize("bit", [0x01, 0x80])
def test_every_byte_is_under_the_signature(blob: bytes, bit: int) -> None:
    """Any byte of the header, the ciphertext and the signature, flipped."""
    for at in range(len(blob)):
        damaged = bytearray(blob)
        damaged[at] ^= bit
        with pytest.raises((BadFrame, BadSignature)):
            judge(bytes(damaged))


@pytest.mark.parametrize("at", range(114))
def test_a_header_byte_that_still_parses_is_refused_by_the_signature(at: int) -> None:
    """Flags 7 are allowed bits, a log's number may be any: the rules alone would let those pass."""
    for bit in (1, 2, 4, 8, 16, 32, 64, 128):
        damaged = bytearray(SECOND)
        damaged[at] ^= bit
        try:
            batch = parse_batch(bytes(damaged))
        except BadFrame:
            assert at <= 1 or 42 <= at < 50  # version, flags, n
            continue
        with pytest.raises(BadSignature):
            verify_batch(batch, AUTHOR.sign_public)


def test_every_prefix_is_refused() -> None:
    for size in range(len(SECOND)):
        with pytest.raises((BadFrame, BadSignature)):
            judge(SECOND[:size])
    for more in (b"\0", SECOND[-64:], SECOND):
        with pytest.raises((BadFrame, BadSignature)):
            judge(SECOND + more)


def test_parts_of_two_batches_do_not_make_one() -> None:
    for at in (114, len(FIRST) - 64):
        with pytest.raises((BadFrame, BadSignature)):
            judge(FIRST[:at] + SECOND[at:])


def test_another_key_does_not_verify() -> None:
    with pytest.raises(BadSignature):
        verify_batch(parse_batch(FIRST), Author(9).sign_public)


@pytest.mark.parametrize("key", [b"", b"x" * 31, bytes(32), b"\x01" + bytes(31), b"\xff" * 32])
def test_a_key_that_is_none_is_a_bad_signature(key: bytes) -> None:
    """Also the points of small order, with which a signature can be made to fit several messages."""
    with pytest.raises(BadSignature):
        verify_batch(parse_batch(FIRST), key)


@given(st.binary(max_size=700))
def test_random_bytes(raw: bytes) -> None:
    with pytest.raises(RemoteError):
        judge(raw)


@given(st.binary(min_size=BATCH_MIN_BYTES, max_size=600), st.integers(0, 7), st.integers(1, MAX_N))
def test_random_bytes_behind_a_good_start(raw: bytes, flags: int, n: int) -> None:
    raw = bytes([1, flags]) + raw[2:42] + struct.pack(">Q", n) + raw[50:]
    with pytest.raises(RemoteError):
        judge(raw)


# ---- limits ------------------------------------------------------------------------------------------------------
def test_sizes() -> None:
    author = Author(3)
    for size in (BATCH_MIN_BYTES, MAX_BATCH_BYTES):
        judge(author.seal(size), author)
    for size in (BATCH_MIN_BYTES - 1, MAX_BATCH_BYTES + 1):
        with pytest.raises(BadFrame, match="this one"):
            parse_batch(author.seal(size))


def header(**changes: int) -> bytes:
    fields = {"flags": 0, "n": 2} | changes
    return encode_header(
        space=SpaceId(bytes(16)), device=DeviceId(bytes(16)), log=LogId(-5), kid=KeyId(bytes(8)), prev=bytes(32),
        nonce=bytes(24), **fields,
    )  # fmt: skip


@pytest.mark.parametrize("n", [0, MAX_N + 1, 2**63, 2**64 - 1])
def test_numbers_out_of_range(n: int) -> None:
    with pytest.raises(BadFrame, match="out of range"):
        parse_batch(header(n=n) + bytes(336))


def test_the_highest_number() -> None:
    assert parse_batch(header(n=MAX_N) + bytes(336)).n == MAX_N


@pytest.mark.parametrize("flags", [8, 16, 32, 64, 128, 255])
def test_flags_that_are_not_known(flags: int) -> None:
    with pytest.raises(BadFrame, match="not known"):
        parse_batch(header(flags=flags) + bytes(336))


@pytest.mark.parametrize("version", [0, 2, 255])
def test_versions_that_are_not_known(version: int) -> None:
    with pytest.raises(BadFrame, match="newer"):
        parse_batch(bytes([version]) + SECOND[1:])


def test_a_head_is_ordered_by_number_and_short_on_the_wire() -> None:
    assert Head(2, b"a" * 32) > Head(1, b"z" * 32)
    assert Head(1, bytes(range(32))).short == bytes(range(16))

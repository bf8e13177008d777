"""Envelopes: what goes in comes out, and nothing that was changed anywhere does."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_sign_seed_keypair

from hybridgw_daemon.core.envelopes import (
    Content,
    Receipt,
    content_digest,
    message_key,
    open_message,
    open_receipts,
    seal_message,
)
from hybridgw_protocol.envelope import (
    FLAG_RECEIPT,
    Envelope,
    EnvelopeHeader,
    parse_envelope,
    parse_tombstone,
    verify_envelope,
)
from hybridgw_protocol.errors import BadFrame, BadSignature, CannotOpen
from hybridgw_protocol.ids import DeviceId, LogId, SpaceId, device_id, key_id
from hybridgw_protocol.limits import (
    ENVELOPE_MIN_BYTES,
    MAX_ENVELOPE_BYTES,
    MAX_MESSAGE_BODY_BYTES,
    MAX_MESSAGE_TTL_MS,
    MAX_RECEIPTS,
    TOMBSTONE_BYTES,
)
from hybridgw_protocol.messages import MessageState, Priority

KEY, OTHER_KEY = bytes(range(32)), bytes(32)
PUBLIC, SECRET = crypto_sign_seed_keypair(b"\x07" * 32)
OTHER_PUBLIC, OTHER_SECRET = crypto_sign_seed_keypair(b"\x08" * 32)
SENDER, RECIPIENT = device_id(PUBLIC, b"\x22" * 32), DeviceId(b"\x33" * 16)
NOTE = Content(kind="all", type="note", body=b'"buy milk"')


def header(**changes: object) -> EnvelopeHeader:
    plain = EnvelopeHeader(
        0, SpaceId(b"\x11" * 16), b"\x44" * 16, SENDER, RECIPIENT, LogId(-5), 1, Priority.NORMAL, 1_000, 2_000,
        key_id(KEY), b"\x55" * 24,
    )  # fmt: skip
    return msgspec.structs.replace(plain, **changes)


def seal(content: Content | list[Receipt] = NOTE, secret: bytes = SECRET, **changes: object) -> Envelope:
    return seal_message(header(**changes), content, space_key=KEY, sign_secret=secret)


def read(blob: bytes) -> Content:
    envelope = parse_envelope(blob)
    verify_envelope(envelope, PUBLIC)
    return open_message(envelope, KEY)


@given(
    st.builds(
        Content, kind=st.sampled_from(["all", "client"]), type=st.text(max_size=40), body=st.binary(max_size=2_000),
        name=st.text(max_size=20), client=st.text(max_size=20), reply=st.sampled_from([b"", bytes(16)]),
    ),
    st.sampled_from(list(Priority)), st.integers(1, 2**53 - 1), st.integers(-(2**63), 2**63 - 1),
)  # fmt: skip
def test_what_goes_in_comes_out(content: Content, priority: Priority, seq: int, stream: int) -> None:
    sealed = seal(content, priority=priority, seq=seq, stream=stream)
    assert read(sealed.blob) == content
    assert parse_envelope(sealed.blob) == sealed
    assert len(sealed.blob) >= ENVELOPE_MIN_BYTES


def test_the_greatest_message_fits() -> None:
    names = "\U0001f4a7" * 128
    body = b'"' + b"x" * (MAX_MESSAGE_BODY_BYTES - 2) + b'"'
    greatest = Content(kind="k" * 16, type=names, body=body, name=names, client=names, reply=bytes(16))
    blob = seal(greatest).blob
    assert len(blob) <= MAX_ENVELOPE_BYTES
    assert read(blob) == greatest
    with pytest.raises(CannotOpen):
        read(seal(changed(greatest, body=body + b" ")).blob)


def changed(content: Content, **changes: object) -> Content:
    return msgspec.structs.replace(content, **changes)


def test_sec_A13_any_changed_byte_is_refused() -> None:
    blob = seal().blob
    for at in range(len(blob)):
        with pytest.raises((BadFrame, BadSignature)):
            read(blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :])


def test_sec_A13_a_member_cannot_speak_for_another_device() -> None:
    """Every member has the space key, so only the signature tells who wrote."""
    forged = seal(secret=OTHER_SECRET)
    assert open_message(forged, KEY) == NOTE
    with pytest.raises(BadSignature):
        verify_envelope(forged, PUBLIC)


def test_sec_A13_a_message_cannot_be_turned_to_another_recipient_or_space() -> None:
    good = seal()
    for changes in ({"recipient": DeviceId(b"\x34" * 16)}, {"space": SpaceId(b"\x12" * 16)}, {"id": bytes(16)}):
        other = seal(**changes)
        moved = Envelope(other.header, other.raw, good.ciphertext, good.ciphertext_hash, other.signature)
        with pytest.raises(BadSignature):
            verify_envelope(moved, PUBLIC)
        with pytest.raises(CannotOpen):
            open_message(moved, KEY)


def test_another_key_opens_nothing() -> None:
    with pytest.raises(CannotOpen):
        open_message(seal(), OTHER_KEY)
    assert message_key(KEY, SENDER, RECIPIENT) != message_key(KEY, RECIPIENT, SENDER)


def test_a_tombstone_is_checked_like_its_envelope() -> None:
    sealed = seal()
    assert len(sealed.tombstone) == TOMBSTONE_BYTES
    dead = parse_tombstone(sealed.tombstone)
    verify_envelope(dead, PUBLIC)
    assert (dead.header, dead.ciphertext, dead.blob) == (sealed.header, None, sealed.tombstone)
    with pytest.raises(BadSignature):
        verify_envelope(parse_tombstone(seal(secret=OTHER_SECRET).tombstone), PUBLIC)
    with pytest.raises(BadFrame):
        parse_tombstone(sealed.blob)


def test_receipts_come_back() -> None:
    told = [Receipt(bytes([k % 256] * 16), MessageState.HANDLED, k) for k in range(MAX_RECEIPTS)]
    sealed = seal(told, flags=FLAG_RECEIPT, seq=0, stream=0)
    assert parse_envelope(sealed.blob).header.is_receipt
    assert open_receipts(sealed, KEY) == told
    with pytest.raises(CannotOpen):
        open_receipts(seal([*told, told[0]], flags=FLAG_RECEIPT, seq=0, stream=0), KEY)
    with pytest.raises(CannotOpen):
        open_message(sealed, KEY)
    with pytest.raises(CannotOpen):
        open_receipts(seal(), KEY)


@pytest.mark.parametrize(
    "changes",
    [
        {"seq": 0}, {"seq": 2**53}, {"flags": FLAG_RECEIPT}, {"flags": 2}, {"recipient": SENDER}, {"expires_ms": 1_000},
        {"expires_ms": 999}, {"expires_ms": 1_001 + MAX_MESSAGE_TTL_MS},
    ],
)  # fmt: skip
def test_headers_that_are_none(changes: dict[str, object]) -> None:
    with pytest.raises(BadFrame):
        parse_envelope(seal(**changes).blob)


def test_the_same_content_has_the_same_digest_however_it_was_sealed() -> None:
    again = Content(kind="all", type="note", body=b'"buy milk"')
    assert content_digest(NOTE) == content_digest(again)
    assert content_digest(NOTE) != content_digest(Content(kind="all", type="note", body=b'"buy bread"'))


@given(st.binary(max_size=1_000))
def test_no_bytes_crash_the_reader(blob: bytes) -> None:
    for reader in (parse_envelope, parse_tombstone):
        with pytest.raises(BadFrame):
            reader(blob)

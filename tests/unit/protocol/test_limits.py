"""The shared constants: each is named with its unit, and those that must fit into each other do."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from hybridgw_protocol import limits as m
from hybridgw_protocol.batch import encode_header
from hybridgw_protocol.frames import Batches, CtlPut, PairMsg, Want, encode_frame
from hybridgw_protocol.ids import DeviceId, KeyId, LogId, SpaceId
from hybridgw_protocol.vectors import Entry


def test_every_constant_is_a_number_and_final() -> None:
    source = Path(m.__file__).read_text()
    names = re.findall(r"^([A-Z_]+): Final = ", source, re.MULTILINE)
    assert len(names) > 40
    for name in names:
        assert isinstance(getattr(m, name), int | float), name
    assert set(names) == {name for name in vars(m) if name.isupper()}


def test_the_header_has_its_size() -> None:
    header = encode_header(
        flags=0, space=SpaceId(bytes(16)), device=DeviceId(bytes(16)), log=LogId(0), n=1, kid=KeyId(bytes(8)),
        prev=bytes(32), nonce=bytes(24),
    )  # fmt: skip
    assert len(header) == m.BATCH_HEADER_BYTES
    assert m.BATCH_MIN_BYTES == m.BATCH_HEADER_BYTES + m.PAD_FLOOR_BYTES + 16 + m.SIGNATURE_BYTES


def test_what_is_allowed_fits_into_a_frame() -> None:
    """The largest batch, the longest vector, a record, a pairing message; a whole control log takes several frames."""
    entry = Entry(-(2**63), 2**53 - 1, bytes(m.SHORT_HASH_BYTES))
    for frame in (
        Batches(b=[bytes(m.MAX_BATCH_BYTES)], more=True),
        Want(vv=[entry] * 2 * m.LOGS_PER_SPACE),
        CtlPut(recs=[bytes(m.MAX_RECORD_BYTES)] * 100),
        PairMsg(m=bytes(m.MAX_PAIRING_BYTES)),
    ):
        assert len(encode_frame(frame)) <= m.MAX_FRAME_BYTES
    assert m.FRAME_TARGET_BYTES + m.MAX_BATCH_BYTES < m.MAX_FRAME_BYTES  # packed up to the target, then one more


def test_a_transaction_fits_into_a_batch_even_if_it_does_not_compress() -> None:
    overhead = m.BATCH_HEADER_BYTES + 16 + m.SIGNATURE_BYTES + 4
    padded = m.MAX_TX_BYTES * 112 // 100  # padding adds at most 12 %
    assert padded + overhead + 16 * 1024 <= m.MAX_BATCH_BYTES  # and room for deps of many logs
    assert m.MAX_FIELD_BYTES <= m.MAX_DOCUMENT_BYTES <= m.MAX_TX_BYTES <= m.MAX_BODY_BYTES
    assert m.MAX_SET_ELEMENTS * m.MAX_ELEMENT_BYTES >= m.MAX_FIELD_BYTES  # the field's bound is the one that bites


def test_credit_lets_the_largest_frame_through_and_bounds_what_waits() -> None:
    assert m.CREDIT_START_BYTES >= 2 * m.MAX_FRAME_BYTES
    assert m.UNAPPLIED_BYTES_PER_LOG >= m.CREDIT_START_BYTES
    assert m.LOGS_PER_SPACE == m.MAX_DEVICES * m.LOGS_PER_DEVICE


def test_stamps_fit() -> None:
    year_2500_ms = 16_725_225_600_000
    assert (year_2500_ms << m.STAMP_BITS) < m.MAX_STAMP
    assert len(msgspec.msgpack.encode(m.MAX_STAMP)) == 9
    assert m.MAX_INT == 2**53 - 1
    assert m.GENERATION_END % 2 == 0  # the last valid generation is alive
    assert m.CLOCK_WARN_MS < m.CLOCK_BOUND_MS < m.FLOOR_MARGIN_MS
    assert m.SEAL_WINDOW_MS == 20
    assert m.EARLY_SEAL_BYTES < m.BATCH_TARGET_BYTES < m.MAX_TX_BYTES

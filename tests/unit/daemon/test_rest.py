"""Sealing at rest: bound to key, purpose and row."""

from __future__ import annotations

import itertools

import pytest

from hybridgw_daemon.core.rest import Purpose, RestSealer, is_key_of, key_check
from hybridgw_protocol.errors import CannotOpen

KEK = bytes(range(32))
NONCE = b"\x09" * 24
ROW = (7, b"\x01" * 16, "name")


def test_spec_S8_a_row_opens_again_under_its_key() -> None:
    sealer = RestSealer(KEK)
    for plaintext in (b"", b"seed", bytes(100_000)):
        sealed = sealer.seal(Purpose.SECRET_BODY, ROW, plaintext, NONCE)
        assert len(sealed) == len(plaintext) + 41
        assert plaintext not in sealed or not plaintext
        assert RestSealer(KEK).open(Purpose.SECRET_BODY, ROW, sealed) == plaintext


def test_every_byte_is_bound() -> None:
    sealer = RestSealer(KEK)
    sealed = sealer.seal(Purpose.SPACE_KEY, ROW, b"k" * 32, NONCE)
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 1
        with pytest.raises(CannotOpen):
            sealer.open(Purpose.SPACE_KEY, ROW, bytes(changed))
    for size in range(len(sealed)):
        with pytest.raises(CannotOpen):
            sealer.open(Purpose.SPACE_KEY, ROW, sealed[:size])


def test_rows_and_purposes_cannot_be_swapped() -> None:
    sealer = RestSealer(KEK)
    # Rows that are equal once their parts are run together, or once numbers and text are confused.
    rows = [(1, b"ab"), (1, b"a", b"b"), (1, "ab"), ("1", b"ab"), (b"ab", 1), (b"ab",), (), (True, b"ab")]
    for (purpose, row), (other_purpose, other_row) in itertools.permutations(itertools.product(Purpose, rows), 2):
        sealed = sealer.seal(purpose, row, b"x", NONCE)
        if (purpose, list(map(repr, row))) != (other_purpose, list(map(repr, other_row))):
            with pytest.raises(CannotOpen):
                sealer.open(other_purpose, other_row, sealed)


def test_another_key_opens_nothing_and_is_known_as_another() -> None:
    sealed = RestSealer(KEK).seal(Purpose.DEVICE_SEED, (), b"seed", NONCE)
    with pytest.raises(CannotOpen):
        RestSealer(b"\x01" * 32).open(Purpose.DEVICE_SEED, (), sealed)
    assert is_key_of(KEK, key_check(KEK))
    assert not is_key_of(b"\x01" * 32, key_check(KEK))
    assert not is_key_of(KEK, b"")
    assert key_check(KEK) not in KEK


def test_sec_L33_a_sealer_does_not_show_its_key() -> None:
    assert KEK.hex() not in repr(RestSealer(KEK))
    assert repr(KEK) not in repr(RestSealer(KEK))
    with pytest.raises(ValueError, match="32 bytes"):
        RestSealer(KEK[:31])

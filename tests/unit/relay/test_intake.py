"""Reading a push: up to the first bad batch."""

from __future__ import annotations

from hybridgw_protocol.errors import BadFrame, BadSignature, Gap
from hybridgw_relay.core.intake import read_batches
from tests.relay_client import Family, Keys, Writer


def test_good_batches_come_before_the_bad_one_which_is_named() -> None:
    family = Family(1)
    keys = {family.first.id: family.first.public}
    writer = Writer(family, family.first)
    blobs = writer.make_many(3)
    good, error = read_batches(blobs, family.space, keys)
    assert ([batch.n for batch in good], error) == ([1, 2, 3], None)
    forged = blobs[1][:200] + bytes([blobs[1][200] ^ 1]) + blobs[1][201:]
    good, error = read_batches([blobs[0], forged, blobs[2]], family.space, keys)
    assert [batch.n for batch in good] == [1]
    assert isinstance(error, BadSignature)
    assert error.detail == {"index": 1, "log": writer.log}


def test_what_is_wrong_is_told_apart() -> None:
    family, other = Family(1), Family(2)
    keys = {family.first.id: family.first.public}
    stranger = Keys(family.rng)
    assert isinstance(read_batches([b""], family.space, keys)[1], BadFrame)
    assert isinstance(read_batches([Writer(other, other.first).make()], family.space, keys)[1], BadFrame)
    assert isinstance(read_batches([Writer(family, stranger).make()], family.space, keys)[1], Gap)
    assert read_batches([], family.space, keys) == ([], None)

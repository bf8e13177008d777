"""Where a batch stands towards its log."""

from __future__ import annotations

from hybridgw_protocol.batch import EMPTY_HEAD, parse_batch
from hybridgw_relay.core.chain import Place, place
from tests.relay_client import Family, Writer


def test_every_place() -> None:
    family = Family(1)
    writer = Writer(family, family.first)
    writer.make_many(3)
    other = writer.fork(1)
    other.make_many(2)
    batch = {n: parse_batch(writer.batch(n)) for n in (1, 2, 3)}
    assert place(EMPTY_HEAD, batch[1]) is Place.NEXT
    assert place(EMPTY_HEAD, batch[2]) is Place.GAP
    assert place(writer.head_at(1), batch[2]) is Place.NEXT
    assert place(writer.head_at(1), batch[3]) is Place.GAP
    assert place(writer.head_at(2), batch[2]) is Place.HELD
    assert place(writer.head_at(3), batch[1]) is Place.HELD
    assert place(writer.head_at(2), parse_batch(other.batch(3))) is Place.FORK
    assert place(other.head_at(2), batch[3]) is Place.FORK

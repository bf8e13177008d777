"""The control records of a space as a relay sees them."""

from __future__ import annotations

from hybridgw_protocol.batch import Head
from hybridgw_protocol.errors import BadRecord, BadSignature, Gap
from hybridgw_relay.core.control import ControlView
from tests.relay_client import Family, Writer


def test_who_belongs_and_in_which_order() -> None:
    family = Family(1)
    second, third = family.add(), family.add()
    family.remove(second)
    view = ControlView(family.space)
    added, error = view.add(family.records)
    assert error is None
    assert [raw for _, raw in added] == family.records
    assert view.devices() == [
        (family.first.id, family.first.public, True),
        (second.id, second.public, False),
        (third.id, third.public, True),
    ]
    assert view.heads() == family.control.heads
    assert (view.is_active(third.id), view.is_active(second.id)) == (True, False)
    assert view.missing_from(family.control.short_heads) == []
    assert view.missing_from([]) == family.records
    assert view.add(family.records) == ([], None)
    assert ControlView(family.space, family.records).records() == added


def test_records_without_their_past_wait_and_say_so() -> None:
    family = Family(1)
    family.add()
    family.add()
    view = ControlView(family.space)
    added, error = view.add([family.records[0], family.records[2]])
    assert [raw for _, raw in added] == family.records[:1]
    assert isinstance(error, Gap)
    added, error = view.add([family.records[1]])  # what waited comes with it
    assert [raw for _, raw in added] == family.records[1:]
    assert error is None


def test_bad_records_are_named_and_the_others_kept() -> None:
    family, other = Family(1), Family(2)
    family.add()
    view = ControlView(family.space)
    added, error = view.add([other.records[0], *family.records])
    assert len(added) == 2
    assert isinstance(error, BadRecord)
    family.add()
    forged = family.records[-1][:-1] + bytes([family.records[-1][-1] ^ 1])
    added, error = view.add([forged])
    assert added == []
    assert isinstance(error, BadSignature)


def test_where_logs_end() -> None:
    family = Family(1)
    second = family.add()
    writer, victim = Writer(family, family.first), Writer(family, second)
    family.close_log(family.first, writer.log, Head(4, bytes(range(32))), fork=2)
    family.expel(second)
    view = ControlView(family.space, family.records)
    ends = view.ends({writer.log: family.first.id, victim.log: second.id})
    assert (ends[writer.log].n, ends[writer.log].hash, ends[writer.log].fork) == (4, bytes(range(32)), 2)
    assert ends[victim.log].n == 0
    assert view.ends({Writer(family, family.first, seed=1).log: family.first.id}) == {}

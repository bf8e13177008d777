"""The real control log and the reference model say the same of the same random histories."""

from __future__ import annotations

import random

import pytest

from hybridgw_protocol.errors import BadRecord, BadSignature
from hybridgw_protocol.ids import Digest, LogId
from hybridgw_protocol.membership import ControlLog, Inserted, Status
from tests.models import membership_checks as checks
from tests.models import membership_model as mm
from tests.models.membership_records import Keys, Translator

KEYS = Keys()


def compare(model: mm.ControlLog, real: ControlLog, translator: Translator) -> None:
    """Everything both can be asked."""
    status = model.status
    assert {h.hex() for h in real.records} == set(model.records)
    assert [h.hex() for h in real.heads] == sorted(model.heads)
    assert {info.seat.hex() for info in real.devices()} == set(model.seats)
    assert {s.hex() for s in real.active_seats()} == status.active
    used = {e for e in model.epochs if int(e[0], 16) % 2}  # some keys are in use, some are not
    in_use = {real.epochs[Digest(bytes.fromhex(e))].kid for e in used}
    for info in real.devices():
        seat, name = info.seat.hex(), model.device_of(info.seat.hex())
        assert info.device == translator.device(name)
        assert (info.status is Status.ACTIVE) == (seat in status.active)
        assert (info.status in (Status.REMOVED, Status.LEFT)) == (seat in status.inactive)
        assert (info.status in (Status.VOID, Status.EXPELLED)) == (seat not in status.members)
        assert real.is_active(info.device) == any(s in status.active for s in model.seats_of[name])
        assert real.is_kept(info.device) == model.is_kept(name)
        sealing = real.sealing_epoch(info.seat)
        assert (sealing.hex() if sealing else None) == model.sealing_epoch(seat)
        assert real.needs_rotation(info.seat) == (seat in status.active and sealing is None)
        assert {e.hex() for e in real.known_epochs(info.seat)} == model.knows[seat]
        end = real.end_of(LogId(1), info.device)
        assert (end.n if end else None) == model.cut(name, "1")
        givable = {e for e in model.knows[seat] if e in used or model.counts(e, model.everything)}
        assert {e.hex() for e in real.givable(info.seat, in_use)} == givable
        lacking = {m: model.tops(lacks) for m in status.active if (lacks := givable - model.knows[m])}
        assert {s.hex(): {e.hex() for e in es} for s, es in real.lacking(info.seat, in_use).items()} == lacking
        removes = {r.hex() for r in real.standing_removes(info.device)}
        assert removes == {
            x
            for x in status.standing
            if model.records[x].type == "remove" and model.device_of(model.records[x].target) == name
        }


PART = 170  # histories of one kind in one test


def differ(check, seed: int) -> int:
    """One history, delivered to both in the same shuffled order, asked now and then. Returns: records both refuse."""
    worlds: list[checks.World] = []
    check(seed, worlds)
    world = worlds[0]
    ordered = mm.ControlLog(world.genesis)
    ordered.update({**world.evil_log.records, **world.everything()}.values())
    translator = Translator(KEYS)
    pairs = [translator.translate(r) for r in ordered.records.values()]

    rng = random.Random(seed)
    delivery = [*pairs[1:], *rng.sample(pairs, min(5, len(pairs)))]
    rng.shuffle(delivery)
    model, real = mm.ControlLog(pairs[0][1]), ControlLog(translator.space)
    real.insert(pairs[0][0])
    for i, (raw, record) in enumerate(delivery):
        known = record.hash in model.records
        assert model.insert(record)
        outcome = real.insert(raw)
        assert (outcome is Inserted.KNOWN) == known
        assert (outcome is Inserted.WAITING) == (record.hash not in model.records)
        if i % 10 == 0:
            compare(model, real, translator)
    compare(model, real, translator)

    for record in world.refused:
        raw, twin = translator.translate(record)
        before = len(real)
        assert not model.insert(twin)
        with pytest.raises((BadRecord, BadSignature)):
            real.insert(raw)
        assert len(real) == before
    at_once = ControlLog(translator.space)
    added, error = at_once.update([raw for raw, _ in delivery] + [pairs[0][0]])
    assert error is None
    assert len(added) == len(real)
    compare(model, at_once, translator)
    return len(world.refused)


@pytest.mark.parametrize("part", range(2))
@pytest.mark.parametrize("check", checks.HISTORIES, ids=lambda check: check.__name__)
def test_spec_D4_same_as_the_model(check, part):
    """1,020 histories in all, and 4,080 more in `make soak`."""
    assert sum(differ(check, seed) for seed in range(part * PART, (part + 1) * PART)) > 0


@pytest.mark.soak
@pytest.mark.parametrize("part", range(2, 10))
@pytest.mark.parametrize("check", checks.HISTORIES, ids=lambda check: check.__name__)
def test_spec_D4_same_as_the_model_soak(check, part):
    assert sum(differ(check, seed) for seed in range(part * PART, (part + 1) * PART)) > 0


def test_a_long_log_same_as_the_model():
    """Hundreds of views are asked for, so that what is remembered of them is dropped again."""
    logs: list[mm.ControlLog] = []

    class Kept(mm.ControlLog):
        def __init__(self, genesis):
            logs.append(self)
            super().__init__(genesis)

    original, checks.LOG = checks.LOG, Kept
    try:
        checks.cost(1_500)
    finally:
        checks.LOG = original
    translator = Translator(KEYS)
    pairs = [translator.translate(r) for r in logs[0].records.values()]
    model, real = mm.ControlLog(pairs[0][1]), ControlLog(translator.space)
    for i, (raw, twin) in enumerate(pairs):
        assert real.insert(raw) is Inserted.ADDED
        assert model.insert(twin)
        assert {s.hex() for s in real.active_seats()} == model.status.active
        if i % 300 == 0:
            compare(model, real, translator)
    compare(model, real, translator)


@pytest.mark.parametrize("case", [checks.case_5706, checks.two_seats, checks.mutual_removes], ids=lambda c: c.__name__)
def test_fixed_cases_same_as_the_model(case, monkeypatch):
    """The fixed cases of the model, with every log that they make compared at its end."""
    logs: list[mm.ControlLog] = []
    real_log = mm.ControlLog

    class Kept(real_log):
        def __init__(self, genesis):
            logs.append(self)
            super().__init__(genesis)

    monkeypatch.setattr(checks, "LOG", Kept)  # the seam that the mutants use
    case()
    assert logs
    for log in logs:
        translator = Translator(KEYS)
        pairs = [translator.translate(r) for r in log.records.values()]
        model, real = real_log(pairs[0][1]), ControlLog(translator.space)
        model.update(twin for _, twin in pairs)
        real.update(raw for raw, _ in pairs)
        compare(model, real, translator)

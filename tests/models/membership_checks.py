"""Random histories and fixed cases for membership_model.py: honest devices, a thief, and what must hold at the end.

Run by tests/simulation/test_membership_model.py. Every check takes a seed and raises AssertionError.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from tests.models import membership_model as mm
from tests.models.membership_model import NONE, ROOT, Record

LOG, DEVICE = mm.ControlLog, mm.Device  # membership_mutants.py swaps these
COUNT: dict[str, int] = {}  # how often the interesting things happened: a check that never applies shows nothing


def count(name: str) -> None:
    COUNT[name] = COUNT.get(name, 0) + 1


@dataclass
class Batch:
    """One sealed batch: under which epoch, by whom, and, if the sealer saw the whole coalition out, for which
    removes: evil seat -> removes that stood (ROOT for what an expel or its own past settled for ever)."""

    epoch: str
    sealer: str
    closed: bool
    why: dict[str, list[str]]


class World:
    """Honest devices with own logs, one thief that sees every record (a colluding relay) and can sign in the past."""

    def __init__(self, seed: int, size: int | None = None) -> None:
        self.rng = random.Random(seed)
        self.genesis = Record("genesis", ROOT, device="d0")
        self.g = self.genesis.hash
        self.devices = {self.g: DEVICE(LOG(self.genesis), self.g)}
        self.signed = {("d0", ROOT, NONE)}  # what new devices have signed when they were paired
        self.evil: set[str] = set()
        self.evil_log = LOG(self.genesis)
        self.refused: list[Record] = []  # hostile records that every honest log refuses
        self.thief = ""
        self.batches: list[Batch] = []
        self.born = 1
        self.devices[self.g].tend()
        for _ in range(size - 1 if size else self.rng.randint(2, 4)):
            self.add(self.rng.choice(sorted(self.devices)))
            self.exchange_all()

    def add(self, adder: str) -> str:
        dev = self.devices[adder]
        r = dev.add(f"d{self.born}")
        self.born += 1
        self.signed.add(r.joiner_sig)
        log = LOG(self.genesis)
        log.update(dev.log.records.values())
        self.devices[r.hash] = DEVICE(log, r.hash)
        self.devices[r.hash].batches |= dev.batches
        return r.hash

    def seal(self, seat: str) -> str | None:
        device = self.devices[seat]
        epoch = device.seal()
        if epoch:
            log = device.log
            closed = self.thief in log.records and not self.evil & log.status.active
            why = {e: self.reasons(log, e) for e in sorted(self.evil) if e in log.records} if closed else {}
            self.batches.append(Batch(epoch, seat, closed, why))
            device.batches.add((epoch, seat))
        return epoch

    @staticmethod
    def reasons(log: mm.ControlLog, seat: str) -> list[str]:
        view = log.everything
        if not log.is_member(seat, view):
            return [ROOT]
        return [x for x in log.hitting(seat, view) if log.stands(x, view)]

    def exchange(self, a: str, b: str) -> None:
        """b pulls from a, in random order, then tends."""
        source, sink = self.devices[a], self.devices[b]
        new = [r for h, r in source.log.records.items() if h not in sink.log.records]
        self.rng.shuffle(new)
        sink.log.update(new)
        sink.batches |= source.batches
        sink.tend()

    def everything(self) -> dict[str, Record]:
        return {h: r for d in self.devices.values() for h, r in d.log.records.items()}

    def exchange_all(self) -> None:
        batches = set().union(*(d.batches for d in self.devices.values()))
        for _ in range(40):
            union = self.everything()
            before = len(union)
            for seat in self.rng.sample(sorted(self.devices), len(self.devices)):
                device = self.devices[seat]
                new = [r for h, r in union.items() if h not in device.log.records]
                self.rng.shuffle(new)
                device.log.update(new)
                device.batches |= batches
                device.tend()
            if len(self.everything()) == before:
                return
        raise AssertionError("records never come to rest")

    def any_log(self) -> mm.ControlLog:
        return next(iter(self.devices.values())).log

    def outcome(self) -> tuple[frozenset[str], frozenset[str]]:
        status = self.any_log().status
        return frozenset(status.members), frozenset(status.inactive)

    # ---- the thief ---------------------------------------------------------------------------------------------------
    def turn_evil(self, seat: str) -> None:
        self.thief = seat
        self.evil = {seat}
        self.devices.pop(seat)

    def evil_sign(self) -> Record | None:
        """One hostile record: any prevs that the thief knows, any body. None if honest devices refuse it."""
        rng, log = self.rng, self.evil_log
        for d in self.devices.values():
            log.update(d.log.records.values())
        by = rng.choice(sorted(s for s in self.evil if s in log.records))
        prevs = frozenset(log.heads if rng.random() < 0.2 else rng.sample(sorted(log.records), rng.randint(1, 2))) | {
            by
        }
        seen = self.seen(log, prevs)
        seats = [h for h in seen if h in log.seats]
        epochs = [h for h in seen if h in log.epochs]

        def some(xs: list[str]) -> frozenset[str]:
            return frozenset(rng.sample(xs, rng.randint(0, min(4, len(xs)))))

        kind = rng.choice("add add re-add twin remove remove remove expel epoch wrap restore leave close".split())
        body: dict[str, object] = {}
        if kind == "leave" and rng.random() < 0.7:
            kind = "remove"
        match kind:
            case "add":
                name = f"e{rng.random()}"
                body = {"device": name, "joiner_sig": (name, by, prevs), "wraps": some(epochs)}
            case "re-add":  # an existing honest device: the thief has no signature of it to show
                victim = log.records[rng.choice(log.seats)]
                kind, body = "add", {"device": victim.device, "joiner_sig": victim.joiner_sig}
            case "twin":  # a second record from the one signature that a device gave when this device added it
                added = [s for s in log.seats if log.records[s].by in self.evil]
                if not added:
                    return None
                victim = log.records[rng.choice(added)]
                kind, by, prevs = "add", victim.by, victim.prevs
                body = {"device": victim.device, "joiner_sig": victim.joiner_sig, "salt": str(rng.random())}
            case "remove":
                body = {"target": rng.choice(seats)}
            case "expel":
                body = {"target": rng.choice(seats), "keep": some(seen)}
            case "epoch":
                recipients = some(seats) | some(sorted(self.evil & set(seats)))
                body = {"recipients": recipients, "prev_wraps": some(epochs), "salt": str(rng.random())}
            case "wrap":
                body = {"target": rng.choice(sorted(self.evil & set(seats))), "wraps": frozenset(epochs)}
            case "restore":
                removes = [h for h in seen if log.records[h].type == "remove"]
                body = {"ends": some([h for h in removes if log.records[h].by == by] or removes)}
            case "close":
                kind, body = "log_close", {"device": log.device_of(rng.choice(seats)), "log": "1", "n": 0}
        r = Record(kind, by, prevs, **body)  # type: ignore[arg-type]
        if not log.insert(r):
            self.refused.append(r)
            return None
        count("hostile " + kind)
        if kind == "add" and (r.device.startswith("e") or r.device in {log.device_of(e) for e in self.evil}):
            self.evil.add(r.hash)  # a second seat of an honest device is that device's, not the thief's
        return r

    def evil_act(self, times: int, to: list[str] | None = None) -> None:
        for _ in range(times):
            if r := self.evil_sign():
                for seat in to or [self.rng.choice(sorted(self.devices))]:
                    d = self.devices[seat]
                    if self.rng.random() < 0.5:
                        d.log.update(self.evil_log.records.values())
                    else:
                        d.log.update([self.evil_log.records[h] for h in self.seen(self.evil_log, [r.hash])])
                    d.tend()

    @staticmethod
    def seen(log: mm.ControlLog, heads) -> list[str]:
        below = log.below(heads)
        return [h for h in log.index if log.within(h, below)]

    # ---- honest people -----------------------------------------------------------------------------------------------
    def honest_act(self) -> None:
        rng = self.rng
        seat = rng.choice(sorted(self.devices))
        d = self.devices[seat]
        log, st = d.log, d.log.status
        others = sorted(s for s in st.members if log.device_of(s) != log.device_of(seat))
        act = rng.random()
        if act < 0.40:
            self.exchange(rng.choice(sorted(self.devices)), seat)
        elif act < 0.65:
            self.seal(seat)
        elif not d.active or not others:
            return
        elif act < 0.75 and len(self.devices) < 8:
            self.add(seat)
        elif act < 0.86:
            d.remove(rng.choice(others))
        elif act < 0.94:
            mine = sorted({log.records[x].target for x in st.standing if log.records[x].by == seat} - self.evil)
            if mine and d.restore(rng.choice(mine)):
                count("restores")
        elif act < 0.96 and len(st.active) > 3:
            d.expel(rng.choice(others))
        elif act < 0.97 and len(st.active) > 3:
            d.leave()
        else:
            out = sorted({log.records[x].target for x in st.standing} - self.evil - {""})
            if out and d.restore(rng.choice(out), by=ROOT):
                count("root restores")


# ---- what must hold --------------------------------------------------------------------------------------------------
def same_everywhere(w: World) -> None:
    """Any order, incremental (asked after every record) or from scratch: equal outcome and equal key choice."""
    union = {**w.everything(), **w.evil_log.records}
    records = list(union.values())

    def answer(order: list[Record], ask: bool) -> tuple:
        log = LOG(w.genesis)
        for r in order:
            log.insert(r)
            if ask:
                _ = log.status
        assert not log.waiting
        st = log.status
        sealing = {s: log.sealing_epoch(s) for s in log.seats}
        cuts = {s: log.cut(log.device_of(s), "1") for s in log.seats}
        known = {s: log.knows[s] for s in log.seats if log.knows[s]}
        return st.members, st.inactive, sealing, st.must_cover.bit_count(), cuts, known

    first = answer(records, True)
    for ask in (True, False):
        w.rng.shuffle(records)
        assert answer(records, ask) == first, "outcome depends on the order of delivery"


def no_stall(w: World) -> None:
    """After full exchange each active honest device opens each honest batch that counts, if any active honest device
    can (else the key waits with inactive ones, and with root, that every epoch is wrapped to)."""
    for seat, d in w.devices.items():
        if seat in d.log.status.active:
            assert d.log.sealing_epoch(seat), "an active device has no key to seal under"
            for b in w.batches:
                if b.sealer in d.log.status.members and b.sealer in w.devices:
                    if not d.log.holders[b.epoch] & d.log.status.active & w.devices.keys():
                        count("key only with inactive devices")
                        continue
                    count("opens")
                    assert b.epoch in d.log.knows[seat], ("stall", seat[:4], "cannot read", b.sealer[:4])


def no_leak(w: World) -> None:
    """No thief or puppet gets a key that an honest device sealed under while it saw all of them out.

    Excused, batch by batch: a person brought one of them back. That is a restore that an honest device or root signed,
    or an expel by root that voids the removes that had put it out, directly or through the add of their signer: what
    is void has never been, and who is active reads what active devices write. Not excused even then: the key of an
    epoch that the same expel voids, if no batch that counts is sealed under it."""
    log = w.any_log()
    asked = {x for r in log.records.values() if r.type == "restore" and r.by not in w.evil for x in r.ends}
    readers = {s for d in w.devices.values() for b in w.batches for s in w.evil & d.log.holders[b.epoch]}
    for b in w.batches:
        if not b.closed:
            continue
        if all(any(x == ROOT or _lasts(log, x, asked) for x in why) for why in b.why.values()):
            count("closed batches")
        elif _void_and_unused(w, log, b, asked):
            count("void keys kept back")
        else:
            count("excused: a person brought one back")
            continue
        for d in w.devices.values():
            assert not (readers and w.evil & d.log.holders[b.epoch]), "a removed device can open a later batch"


def _lasts(log: mm.ControlLog, remove: str, asked: set[str]) -> bool:
    return log.counts(remove, log.everything) and remove not in asked


def _void_and_unused(w: World, log: mm.ControlLog, b: Batch, asked: set[str]) -> bool:
    """Is there for each evil seat a remove such that any expel that voids it voids the key and all its batches?"""

    def killers(h: str) -> set[str]:
        found: set[str] = set()
        while h != ROOT:
            by = log.records[h].by
            if by != ROOT:
                found |= {x for x in log.expels_of.get(log.device_of(by), ()) if not log.within(h, log.kept[x])}
            h = by
        return found

    def gone_by(seat: str) -> set[str]:
        return killers(seat) | set(log.expels_of.get(log.device_of(seat), ()))

    opens = {b.epoch}  # it and every epoch that unlocks it
    while more := {e for e, r in log.epochs.items() if e not in opens and r.prev_wraps & opens}:
        opens |= more

    def covered(remove: str) -> bool:
        by = killers(remove) if remove != ROOT else set()
        return (
            bool(by)
            and remove not in asked
            and all(by <= killers(e) for e in opens)
            and all(by <= gone_by(o.sealer) for o in w.batches if o.epoch in opens)
        )

    return all(any(x == ROOT or _lasts(log, x, asked) or covered(x) for x in why) for why in b.why.values())


def seats_are_honest(w: World) -> None:
    """Nobody is seated without its own signature, and the seats of one device are in and out together."""
    log = w.any_log()
    standing: dict[str, set[bool]] = {}
    for s in log.seats:
        r = log.records[s]
        if r.device.startswith("d"):
            assert (r.device, r.by, r.prevs) in w.signed, "seated without its signature"
        if s in log.status.members:
            standing.setdefault(r.device, set()).add(s in log.status.active)
            if len(log.seats_of[r.device]) > 1:
                count("two seats of one device")
    if not w.evil:
        assert all(len(log.seats_of[log.device_of(s)]) == 1 for s in log.seats), "a device sits twice"


# ---- random histories ------------------------------------------------------------------------------------------------
def history(seed: int, keep: list[World] | None = None) -> None:
    """Anything goes: honest acts, exchange by pairs, from some moment on a thief."""
    w = World(seed)
    if keep is not None:
        keep.append(w)
    thief_at = w.rng.randint(5, 40)
    for i in range(w.rng.randint(10, 45)):
        if i == thief_at and len(w.devices) > 2:
            w.turn_evil(w.rng.choice(sorted(w.devices)))
        if w.evil and w.rng.random() < 0.3:
            w.evil_act(1)
        w.honest_act()
    w.exchange_all()
    for seat in sorted(w.devices):
        w.seal(seat)
    w.exchange_all()
    seats_are_honest(w)
    no_leak(w)
    no_stall(w)
    if seed % 4 == 0:
        same_everywhere(w)


def finality(seed: int, keep: list[World] | None = None) -> None:
    """A device is expelled, all honest devices know; then it and its puppets sign in the past."""
    w = World(seed)
    if keep is not None:
        keep.append(w)
    rng = w.rng
    for _ in range(rng.randint(0, 12)):
        w.honest_act()
    w.exchange_all()
    log = w.any_log()
    able = sorted(s for s in log.status.members if s in w.devices)
    if len(able) < 2:
        return
    helper, target = rng.sample(able, 2)
    before = w.outcome()
    heads = frozenset(log.heads)
    w.turn_evil(target)
    mode = rng.choice(["blind", "helper has seen", "all have seen"])
    if mode != "blind":
        w.evil_act(rng.randint(1, 4), to=[helper])
    if mode == "all have seen":
        w.exchange_all()
    w.devices[helper].expel(target, keep=heads)
    w.exchange_all()
    count("expel: " + mode)
    after = w.outcome()
    assert after == (before[0] - {target}, before[1] - {target}), (mode, "wrong outcome of an expel")
    keys = {s: d.log.sealing_epoch(s) for s, d in w.devices.items()}
    for _ in range(2):
        w.evil_act(rng.randint(1, 5), to=sorted(w.devices))
        w.exchange_all()
        assert w.outcome() == after, (mode, "an expelled device changed membership")
        assert {s: d.log.sealing_epoch(s) for s, d in w.devices.items()} == keys, (mode, "it spoiled a key")
    if seed % 4 == 0:
        same_everywhere(w)


def stolen_first_device(seed: int, keep: list[World] | None = None) -> None:
    """The first device is stolen. One removes it; it removes everybody in the past; root expels it."""
    rng = random.Random(seed)
    w = World(seed, size=rng.randint(2, 5))
    if keep is not None:
        keep.append(w)
    before = w.outcome()[0]
    heads = frozenset(w.any_log().heads)
    w.turn_evil(w.g)
    if rng.random() < 0.5:
        w.evil_act(rng.randint(1, 3))
    first = next((w.devices[s] for s in sorted(w.devices) if w.devices[s].active), None)
    if first:
        first.remove(w.g)
        for e in sorted(w.evil & first.log.status.active):
            first.remove(e)  # the screen offers what the stolen device has added
        w.seal(first.seat)
    everybody = rng.random() < 0.5
    for _ in range(rng.randint(4, 16)):
        a, b = rng.choice(sorted(w.devices)), rng.choice(sorted(w.devices))
        x = rng.random()
        if x < 0.2 and everybody:
            for d in sorted(w.devices):
                r = Record("remove", w.g, heads, target=d)
                w.evil_log.update(w.devices[a].log.records.values())
                w.evil_log.insert(r)
                w.devices[a].log.insert(r)
        elif x < 0.3:
            w.evil_act(1)
        elif x < 0.6:
            w.exchange(a, b)
        else:
            w.seal(a)
    w.exchange_all()
    for seat in sorted(w.devices):
        w.seal(seat)
    no_leak(w)
    if first:
        count("some active" if w.devices.keys() & first.log.status.active else "all out")
    w.devices[rng.choice(sorted(w.devices))].expel(w.g, keep=heads)
    w.exchange_all()
    assert w.outcome() == (before - {w.g}, frozenset()), "the words did not restore everybody"
    w.evil_act(4, to=sorted(w.devices))
    w.exchange_all()
    assert w.outcome() == (before - {w.g}, frozenset()), "stolen device came back"
    for seat in sorted(w.devices):
        w.seal(seat)
    w.exchange_all()
    no_leak(w)
    no_stall(w)
    assert all({b.epoch for b in w.batches if b.sealer in w.devices} <= d.log.knows[s] for s, d in w.devices.items())
    if seed % 4 == 0:
        same_everywhere(w)


# ---- fixed cases -----------------------------------------------------------------------------------------------------
def concurrent_removes(_: int = 0) -> None:
    """a removes x while b removes y: neither key is used again, nobody who stays lacks either."""
    w = World(1, size=5)
    a, b, c, x, y = list(w.devices)
    w.devices[a].remove(x)
    w.devices[b].remove(y)
    w.seal(a)
    w.seal(b)
    ka, kb = w.batches[0].epoch, w.batches[1].epoch
    gone = {x: w.devices.pop(x), y: w.devices.pop(y)}
    w.exchange_all()
    w.seal(c)
    k = w.batches[-1].epoch
    assert k not in (ka, kb), "a key that a removed device holds"
    assert not {x, y} & w.devices[c].log.holders[k], "concurrent removes"
    assert all({k, ka, kb} <= w.devices[s].log.knows[s] for s in (a, b, c))
    w.devices.update(gone)
    w.devices[a].restore(x)
    w.devices[c].restore(y, by=ROOT)
    w.exchange_all()
    assert w.outcome()[1] == set()
    assert not w.devices[c].restore(x)
    no_stall(w)


def adds_and_rotations(_: int = 0) -> None:
    """An add concurrent with a rotation, and with a remove of the adder: out with it, and back with it. Two epoch
    heads reach a new device. A device comes back after 30 epochs."""
    w = World(2, size=3)
    a, b, c = list(w.devices)
    n = w.add(a)
    w.devices[b].rotate()
    w.seal(b)
    w.exchange_all()
    no_stall(w)
    assert w.batches[0].epoch in w.devices[n].log.knows[n], "added device lacks the concurrent key"
    m = w.add(a)
    w.devices[b].remove(a)
    w.exchange_all()
    assert w.outcome()[1] == {a, m}, "what the remover had not seen goes out, what it had seen stays"
    w.devices[b].restore(a)
    w.exchange_all()
    assert w.outcome()[1] == set()

    w = World(3, size=3)
    a, b, c = list(w.devices)
    w.devices[a].rotate()
    w.devices[b].rotate()
    w.seal(a)
    w.seal(b)
    w.exchange_all()
    n = w.add(c)
    assert {x.epoch for x in w.batches} <= w.devices[n].log.knows[n], "new device misses a branch"

    w = World(4, size=4)
    a, b, c, away = list(w.devices)
    gone = w.devices.pop(away)
    for i in range(30):
        w.devices[(a, b)[i % 2]].rotate()
        w.seal((a, b)[i % 2])
        if i % 10 == 5:
            w.add(a)
        w.exchange_all()
    w.devices[away] = gone
    w.seal(away)
    w.exchange_all()
    no_stall(w)


def leaving(_: int = 0) -> None:
    """leave: out at once, new key, nothing brings it back, its earlier devices stay."""
    w = World(5, size=3)
    a, b, c = list(w.devices)
    n = w.add(b)
    w.exchange_all()
    w.devices[b].leave()
    prevs = frozenset(w.devices[b].log.records[n].prevs)
    late = Record("add", b, prevs, device="late", joiner_sig=("late", b, prevs))
    w.devices[a].log.insert(late)
    w.exchange_all()
    w.seal(c)
    assert w.outcome()[1] == {b, late.hash}
    assert b not in w.devices[c].log.holders[w.batches[-1].epoch]
    assert w.devices[a].restore(b, by=ROOT) is None


def mutual_removes(_: int = 0) -> None:
    """They stand until root speaks; a remove signed after one's own removal never counts; a restore whose signer is
    removed later, by one who had seen it, stays."""
    w = World(6, size=4)
    a, b, c, _d = list(w.devices)
    w.devices[a].remove(b)
    w.devices[b].remove(a)
    w.exchange_all()
    assert w.outcome()[1] == {a, b}
    assert w.devices[c].active
    log = w.devices[c].log
    mine = frozenset(x for x in log.status.standing if log.records[x].by == a)
    late = Record("remove", a, frozenset(log.heads), target=c)
    undo = Record("restore", a, frozenset(log.heads), ends=mine)
    log.update([late, undo])
    w.exchange_all()
    assert w.outcome()[1] == {a, b}, "a device that saw its own removal still removes or restores"
    w.devices[c].restore(a, by=ROOT)
    w.exchange_all()
    assert w.outcome()[1] == {b}
    w.devices[a].restore(b)
    w.exchange_all()
    assert w.outcome()[1] == set()
    w.devices[a].remove(b)
    w.devices[a].restore(b)
    w.exchange_all()
    w.devices[c].remove(a)
    w.exchange_all()
    assert w.outcome()[1] == {a}


def restore_in_the_past(_: int = 0) -> None:
    """A thief's own puppet, removed by the thief, is not brought back in the past once the thief is removed."""
    w = World(7, size=3)
    a, b, c = list(w.devices)
    p = w.add(a)
    x = w.devices[a].remove(p)
    w.exchange_all()
    w.turn_evil(a)
    w.evil.add(p)
    w.devices.pop(p)
    heads = frozenset(w.devices[b].log.heads)
    w.devices[b].remove(a)
    w.exchange_all()
    w.seal(c)
    w.devices[c].log.insert(Record("restore", a, heads, ends=frozenset([x.hash])))
    w.devices[c].tend()
    w.exchange_all()
    assert w.outcome()[1] == {a, p}
    no_leak(w)


def past_must_cover(_: int = 0) -> None:
    """A key that the removed device lacks may still be given to it by somebody who has not heard."""
    for act in ("remove", "expel"):
        w = World(9, size=3)
        a, b, c = list(w.devices)
        w.devices[a].rotate()
        x = w.add(c)
        w.turn_evil(x)
        w.devices[a].log.update(w.devices[c].log.records.values())
        w.devices[b].log.update(w.devices[a].log.records.values())
        getattr(w.devices[a], act)(x)
        w.seal(a)
        w.devices[b].tend()
        w.exchange_all()
        no_leak(w)


def who_may(_: int = 0) -> None:
    """Only the signer or root restores; a key that an active device gave to a removed one seals no more; one key, one
    seat, as far as the adder sees; the 33rd active device is refused; nobody removes itself."""
    w = World(10, size=3)
    a, b, c = list(w.devices)
    x = w.devices[a].remove(b)
    w.exchange_all()
    log = w.devices[a].log
    heads = frozenset(log.heads)
    assert not log.insert(Record("restore", c, heads, ends=frozenset([x.hash]))), "anybody restores"
    k = log.sealing_epoch(a)
    assert k
    log.insert(Record("wrap", c, heads, target=b, wraps=frozenset([k])))
    assert c in log.holders[k]
    assert log.sealing_epoch(a) != k, "a removed device holds the sealing key"
    heads = frozenset(log.heads)
    old = log.device_of(c)
    assert not log.insert(Record("add", a, heads, device=old, joiner_sig=(old, a, heads))), "admitted twice"
    assert not log.insert(Record("remove", a, heads, target=a)), "removed itself"
    log.max_active = 2
    assert not log.insert(Record("add", a, heads, device="new", joiner_sig=("new", a, heads))), "no room"
    log.max_active = 3
    assert log.insert(Record("add", a, heads, device="new", joiner_sig=("new", a, heads))), "a removed one took room"


def two_seats(_: int = 0) -> None:
    """One signature of a new device, two adds made from it: a remove or expel of either seat puts out the device."""
    for act in ("remove", "expel", "leave"):
        w = World(12, size=3)
        a, b, c = list(w.devices)
        n = w.add(a)
        first = w.devices[a].log.records[n]
        twin = Record("add", a, first.prevs, device=first.device, joiner_sig=first.joiner_sig, salt="again")
        if act == "leave":
            w.devices[n].leave()
        else:
            w.devices[b].log.update(w.devices[a].log.records.values())
            getattr(w.devices[b], act)(n)
        w.devices[c].log.insert(twin)
        w.exchange_all()
        status = w.any_log().status
        assert not {n, twin.hash} & status.active, (act, "a second seat keeps a device in")
        assert ({n, twin.hash} <= status.members) == (act != "expel")
        assert w.any_log().sealing_epoch(c)


def closing_logs(_: int = 0) -> None:
    """The owner or root closes; of an expelled device, and of one that an expelled one added unseen, root's stay."""
    w = World(8, size=3)
    a, b, c = list(w.devices)
    name = w.any_log().device_of
    w.devices[b].sign("log_close", device=name(b), log="1", n=7)
    log = w.devices[b].log
    assert (log.cut(name(b), "1"), log.cut(name(b), "2")) == (7, None)
    assert not log.insert(Record("log_close", c, frozenset(log.heads), device=name(b), log="1", n=1)), "not its own"
    w.exchange_all()
    w.devices[a].sign("log_close", ROOT, device=name(b), log="1", n=5)
    keep = frozenset(w.devices[a].log.heads)
    puppet = Record("add", b, frozenset(log.heads), device="p", joiner_sig=("p", b, frozenset(log.heads)))
    w.devices[a].log.insert(puppet)
    assert w.devices[a].log.cut("p", "1") is None
    w.devices[a].expel(b, keep=keep)
    log = w.devices[a].log
    assert (log.cut(name(b), "1"), log.cut(name(b), "2"), log.cut(name(c), "1")) == (5, 0, None)
    assert log.cut("p", "1") == 0, "the log of a void device has no end"


def case_5706(_: int = 0) -> None:
    """History seed 5706 of the first membership model, cut down to its bones.

    A device n, added by b, removes the thief, makes a new key and seals. Root, on a, expels b without having seen any
    of that: n, its remove and its key are void, the thief is in again. Nobody may pass the void key to the thief."""
    w = World(11, size=4)
    a, b, c, t = list(w.devices)
    keep = frozenset(w.devices[a].log.heads)
    n = w.add(b)
    w.turn_evil(t)
    w.devices[n].remove(t)
    w.seal(n)
    secret = w.batches[-1]
    assert secret.closed
    w.devices[c].log.update(w.devices[n].log.records.values())
    w.devices[c].batches |= w.devices[n].batches
    w.devices[c].tend()
    assert secret.epoch in w.devices[c].log.knows[c]
    w.devices[a].expel(b, keep=keep)
    w.exchange_all()
    log = w.any_log()
    assert t in log.status.active, "what is void has never been: the thief is in again"
    assert n not in log.status.members
    for seat in (a, c):
        w.seal(seat)
        w.exchange_all()
        assert t in log.holders[w.batches[-1].epoch], "who is active reads what active devices write now"
    assert t not in log.holders[secret.epoch], "a removed device can open a later batch"
    no_leak(w)
    no_stall(w)


def void_key_in_use(_: int = 0) -> None:
    """As case_5706, but c, which stays, has sealed under the void key too: its batch counts, so all must read it."""
    w = World(11, size=4)
    a, b, c, t = list(w.devices)
    keep = frozenset(w.devices[a].log.heads)
    n = w.add(b)
    w.devices[n].remove(t)
    w.devices[c].log.update(w.devices[n].log.records.values())
    w.seal(n)
    w.devices[c].log.update(w.devices[n].log.records.values())
    assert w.seal(c) == w.batches[0].epoch, "c seals under the key of n"
    w.devices[a].expel(b, keep=keep)
    w.exchange_all()
    log = w.any_log()
    assert {a, c, t} == log.status.active
    assert all(w.batches[0].epoch in log.knows[s] for s in (a, c, t)), "a batch that counts cannot be read"
    no_stall(w)


CASES = [
    concurrent_removes,
    adds_and_rotations,
    leaving,
    mutual_removes,
    restore_in_the_past,
    past_must_cover,
    who_may,
    two_seats,
    closing_logs,
    case_5706,
    void_key_in_use,
]
HISTORIES = [history, finality, stolen_first_device]


def cost(n: int = 4000) -> float:
    """Seconds for n records with the outcome asked after each, and one key choice."""
    genesis = Record("genesis", ROOT, device="d0")
    dev = DEVICE(LOG(genesis), genesis.hash)
    dev.tend()
    log, rng = dev.log, random.Random(1)
    while len(log.records) < n:
        i = len(log.records)
        others = sorted(log.status.active - {genesis.hash})
        dev = DEVICE(log, rng.choice(others) if others else genesis.hash)
        if i % 25 == 1 and len(others) < 30:
            dev.add(f"d{i}")
        elif i % 50 == 10 and len(others) > 3:
            dev.expel(rng.choice(others))
        elif i % 60 == 20 and len(others) > 3:
            dev.remove(rng.choice([o for o in others if o != dev.seat]))
        elif i % 60 == 40 and log.status.standing:
            dev.restore(log.records[log.status.standing[0]].target, by=ROOT)
        elif i % 60 == 30:
            dev.rotate()
        else:
            dev.sign("log_close", device=log.device_of(dev.seat), log=str(i), n=i)
    records = list(log.records.values())
    start = time.perf_counter()
    fresh = LOG(genesis)
    for r in records:
        fresh.insert(r)
        _ = fresh.status
    fresh.sealing_epoch(dev.seat)
    return time.perf_counter() - start

"""Seeded bugs in the rules of membership_model.py: each must be caught by membership_checks.py."""

from __future__ import annotations

from tests.models import membership_checks as checks
from tests.models import membership_model as mm
from tests.models.membership_model import ROOT

LOG = mm.ControlLog
Mutant = tuple[type[mm.ControlLog], type[mm.Device]]


def log_mutant(**methods) -> Mutant:
    return type("MutantLog", (LOG,), methods), mm.Device


def device_mutant(**methods) -> Mutant:
    return LOG, type("MutantDevice", (mm.Device,), methods)


def no_wraps(self):
    if self.active and not self.log.sealing_epoch(self.seat):
        self.rotate()


def claims_count(self, r):
    LOG._store_keys(self, r)
    if r.type in ("add", "wrap"):
        for e in r.wraps:
            self._learn(r.hash if r.type == "add" else r.target, e)


def newest_known_key(self, seat):
    return max(self.knows[seat], key=self.preference, default=None) if seat in self.status.active else None


def no_cascade(self, h, view):
    return h not in self.dead and not self.struck(h, view)


def keep_ignored(self, h, view):
    by = self.records[h].by
    return by != ROOT and any(
        self.within(x, view) and not self.sees(x, h) for x in self.expels_of.get(self.device_of(by), ())
    )


def first_remove_wins(self, x, view):  # of mutual removes the one that arrived first
    r = self.records[x]
    return LOG.stands(self, x, view) and not any(
        self.records[y].by == r.target and self.index[y] < self.index[x] and not self.sees(x, y)
        for y in self.removes_of.get(self.device_of(r.by), ())
    )


def leave_ignored(self, x, view):
    return self.records[x].type != "leave" and LOG.stands(self, x, view)


def covers_no_expel(self, epoch):
    need = sum(1 << self.index[x] for x in self.status.standing)
    return not need & ~self.past[epoch]


def only_the_target(self, x, seat):
    return self.device_of(seat) == self.device_of(self.records[x].target or self.records[x].by)


def all_it_ever_added(self, x, seat):
    return LOG.hits(self, x, seat) or (seat != ROOT and self.hits(x, self.records[seat].by))


def one_seat_only(self, x, seat):
    target = self.records[x].target or self.records[x].by
    return LOG.hits(self, x, seat) and (seat == target or self.device_of(seat) != self.device_of(target))


def member_if_itself_not_expelled(self, device):
    return not self.expels_of.get(device)


MUTANTS: dict[str, Mutant] = {
    "keep ignored: what root saw stays": log_mutant(struck=keep_ignored),
    "an expel voids nothing": log_mutant(struck=lambda self, h, view: False),
    "a void add does not void what its device signed": log_mutant(counts=no_cascade),
    "own past ignored: a removed device still acts": log_mutant(signer_was_out=lambda self, r, past: False),
    "add without the joiner's signature": log_mutant(joiner_agrees=lambda self, r: True),
    "a key is admitted twice": log_mutant(key_is_new=lambda self, r, past: True),
    "any number of active devices": log_mutant(has_room=lambda self, past: True),
    "a remove puts out one seat, not the device": log_mutant(hits=one_seat_only),
    "anybody may restore": log_mutant(may_end=lambda self, signer, remove: True),
    "restore by a device removed concurrently counts": log_mutant(restore_counts=LOG.counts),
    "of mutual removes the first to arrive wins": log_mutant(stands=first_remove_wins),
    "unseen puppets of a removed device stay active": log_mutant(hits=only_the_target),
    "all that the target ever added goes out": log_mutant(hits=all_it_ever_added),
    "leave does nothing": log_mutant(stands=leave_ignored),
    "the log of a void device has no end": log_mutant(is_kept=member_if_itself_not_expelled),
    "key choice by order of arrival": log_mutant(preference=lambda self, e: (self.index[e], e)),
    "newest known key seals": log_mutant(sealing_epoch=newest_known_key),
    "holders of the key not compared with the active": log_mutant(holders_active=lambda self, e: True),
    "past need not cover removes and expels": log_mutant(covers_all=lambda self, e: True),
    "past need not cover expels": log_mutant(covers_all=covers_no_expel),
    "empty claims of a gift count": log_mutant(_store_keys=claims_count),
    "void keys are passed on": log_mutant(givable=lambda self, seat, batches: set(self.knows[seat])),
    "void keys are never passed on": log_mutant(givable=lambda self, seat, batches: LOG.givable(self, seat, ())),
    "no wrap for devices without the key": device_mutant(tend=no_wraps),
    "one older epoch in an epoch only": log_mutant(
        tops=lambda self, es: {max(es, key=lambda e: (self.depth[e], e))} if es else set()
    ),
}


def caught(mutant: Mutant, runs: int) -> str | None:
    """Which check fails with this bug, and how; None if none of the fixed cases and the first *runs* seeds does."""
    checks.LOG, checks.DEVICE = mutant
    try:
        for check, seeds in [(case, 1) for case in checks.CASES] + [(check, runs) for check in checks.HISTORIES]:
            for seed in range(seeds):
                try:
                    check(seed)
                except (AssertionError, KeyError, IndexError, RecursionError) as error:
                    return f"{check.__name__} #{seed}: {type(error).__name__} {str(error)[:70]}"
    finally:
        checks.LOG, checks.DEVICE = LOG, mm.Device
    return None

"""Seeded faults of the merge model: each is a small edit of its text, undoes one rule, and must be caught.

A text that no longer occurs exactly once in the model is an error, so that no fault rots away unseen.
usage: python -m tests.models.merge_mutants [seeds per mode]
"""

from __future__ import annotations

import itertools
import sys
import types
from pathlib import Path

from tests.models import merge_faults, merge_model

SOURCE = Path(merge_model.__file__).read_text()
_numbers = itertools.count(1)

MUTANTS: dict[str, list[tuple[str, str]]] = {
    # causality
    "no_causal_wait": [("return deps is not None and all(self.head(log).n >= n for log, n in deps.items())", "return True"),
                       ("deps = self.clamped(batch)\n                    for", "deps = self.clamped(batch) or {log: h.n for log, h in batch.deps.items()}\n                    for")],
    "no_seal_before_apply": [("                    self.seal_before_apply()\n", "")],
    "not_idempotent": [("if batch.hash not in self.batches and batch.n > self.trimmed(batch.log):",
                        "if self.chain.get((batch.log, batch.n)) == batch.hash:\n"
                        "            for op in batch.ops:\n"
                        "                self.apply_op(op, Dot(op.stamp, batch.log, batch.n), self.clamped(batch) or {})\n"
                        "        if batch.hash not in self.batches and batch.n > self.trimmed(batch.log):")],
    "own_earlier_writes_not_seen": [(" or (other.log == dot.log and other.stamp < dot.stamp)", "")],
    "everything_counts_as_seen": [("return other.n <= vv_seen.get(other.log, 0) or", "return other.stamp < dot.stamp or")],
    # state merge of snapshots
    "snapshot_by_union": [("self.state.merge(other.state, self.vv(), {log: head.n for log, head in other.heads.items()})",
                           "self.state.merge(other.state, {}, {})")],
    "snapshot_forgets_lower_generations": [("            a.cells = {key: cell for key, cell in a.cells.items() if not cell.is_empty()}\n        for collection, floor_ms",
                                            "            a.cells = {key: cell for key, cell in a.cells.items() if key[0] == a.cl}\n        for collection, floor_ms")],
    "floor_not_applied_after_a_snapshot": [("            self.raise_floor(collection, floor_ms)\n        for collection in self.floors:\n            self.raise_floor(collection, 0)\n",
                                            "            self.floors[collection] = max(self.floors.get(collection, 0), floor_ms)\n")],
    # ends of logs
    "no_deps_clamp": [("        result = {}\n        for log, (n, digest) in batch.deps.items():", "        return {log: h.n for log, h in batch.deps.items()}\n        for log, (n, digest) in batch.deps.items():")],
    "dependency_without_its_hash": [("                if self.chain.get((log, n)) != digest:", "                if (log, n) not in self.chain:"),
                                    ("                if n <= end.tip.n and valid is None:\n                    return None  # the chain from the tip down to n is not held yet\n", ""),
                                    ("n if digest == valid else min(n, end.fork)", "min(n, end.tip.n)")],
    "off_chain_counts_to_the_tip": [("n if digest == valid else min(n, end.fork)", "n if digest == valid else min(n, end.tip.n)")],
    "cut_ignores_trims": [("fixed = max((dict(t.heads).get(log, EMPTY) for t in self.trims), default=EMPTY)", "fixed = EMPTY")],
    "snapshot_beyond_the_cut_is_loaded": [("if end and (head.n > end.tip.n or", "if False and (head.n > end.tip.n or"),
                                          ("fixed = max((dict(t.heads).get(log, EMPTY) for t in self.trims), default=EMPTY)", "fixed = EMPTY")],
    "close_at_the_last_common_batch": [("        return Close(self.log, tip, fork)", "        return Close(self.log, Head(fork, mine.get(fork, b\"\")), fork)")],
    "latest_close_counts": [("end = min(closes, key=lambda c: (c.tip.n, c.tip.hash))", "end = closes[-1]")],
    # numbers and stamps of writes
    "number_is_always_head_plus_one": [("        return self.head(self.log).n + len(self.open)", "        return self.head(self.log).n + 1"),
                                       ("            self.open[n - self.head(self.log).n - 1][1].append(op)", "            self.open[-1][1].append(op)")],
    "one_stamp_per_transaction": [("stamp=stamp + i,", "stamp=stamp,")],
    "stamps_may_fall": [("if any(a >= b for a, b in zip(stamps, stamps[1:])):", "if False:")],
    "unsigned_tie": [("    stamp: int\n    log: int\n    n: int\n\n\nclass Change", "    stamp: int\n    log: int\n    n: int\n\n"
                      "    def __lt__(self, other):\n        return (self[0], self[1] % 2**64, self[2]) < (other[0], other[1] % 2**64, other[2])\n\n"
                      "    def __gt__(self, other):\n        return (self[0], self[1] % 2**64, self[2]) > (other[0], other[1] % 2**64, other[2])\n\n\nclass Change")],
    "ahead_of_the_clock_is_applied": [("        if (stamps[-1] >> STAMP_BITS) > self.now + CLOCK_BOUND_MS:\n            return False\n", "")],
    # repair
    "repair_with_all_that_is_known_now": [("deps = batch.deps | ({old: base} if base.n else {})", "deps = {log: h for log, h in self.heads.items() if log != new_log}")],
    "repair_with_new_stamps": [("                    last_stamp = op.stamp\n", "                    self.stamp += 1\n                    op = replace(op, stamp=self.stamp)\n                    last_stamp = op.stamp\n")],
    "repair_without_the_old_log": [("batch.deps | ({old: base} if base.n else {})", "batch.deps")],
    "clock_disaster_goes_on": [("        self.stamp = max([0, *self.last_stamp.values()])  # a clock disaster of ours does not go on in the new log\n", "")],
    "copy_sealed_twice": [("and same_bytes(op) not in won:", "and op is not None:")],
    # generations, buried entries, conflicts
    "only_registers_are_buried": [("        doc.cells = {key: cell for key, cell in doc.cells.items() if not cell.is_empty()}\n\n    def apply_change",
                                   "        for (cl, _), cell in doc.cells.items():\n            if cl < doc.cl:\n                cell.elements = {}\n"
                                   "        doc.cells = {key: cell for key, cell in doc.cells.items() if not cell.is_empty()}\n\n    def apply_change")],
    "delete_again_refused": [("        elif name == \"delete\":", "        elif name == \"delete\" and not alive:\n            raise ApiError(\"deleted\")\n        elif name == \"delete\":")],
    "delete_again_is_a_new_generation": [("draft.cl + 1 if alive else draft.cl), []", "draft.cl + 1 if alive else draft.cl + 2), []")],
    "write_covers_its_own_generation_only": [("if f == change.field and c <= cl]", "if f == change.field and c == cl]")],
    "write_covers_every_generation": [("if f == change.field and c <= cl]", "if f == change.field]")],
    "dismissed_by_any_later_write": [("        own = doc.cells.setdefault((cl, change.field), Cell())\n", "        for (c, _), cell in doc.cells.items():\n            if c < cl:\n                cell.forget_all(seen)\n        own = doc.cells.setdefault((cl, change.field), Cell())\n")],
    "delete_forgets_what_nobody_saw": [("                    cell.forget_all(seen)\n", "                    cell.forget_all(lambda other: True)\n")],
    "equal_siblings_shown": [("raw not in told:", "True:")],
    "generation_unlimited": [("CL_LIMIT = 2**31 ", "CL_LIMIT = 2**63 ")],
    "entry_in_a_deleted_generation": [("return op.cl % 2 == 1 or bool(op.changes)", "return op.cl % 2 == 1")],
    "edit_of_a_deleted_generation": [("        if op.cl % 2 == 0:\n            return True\n", "")],
    # values and the floor
    "values_not_checked_on_open": [("            or any(is_void_change(change) for change in op.changes)\n", ""),
                                   ("subjects = [subject(change) for change in op.changes]", "subjects = []")],
    "equality_of_the_language": [("        value = int(value)  # 1.0 is 1, -0.0 is 0", "        return repr(value).encode()")],
    "depth_not_checked": [("    if depth >= MAX_DEPTH:\n        raise ValueError(\"too deep\")\n", "")],
    "floor_unbounded": [("return not 0 <= op.floor_ms <= (op.stamp >> STAMP_BITS) - DAY_MS", "return False")],
    "floor_may_fall": [("self.floors[collection] = max(self.floors.get(collection, 0), floor_ms)", "self.floors[collection] = floor_ms")],
    # the wire
    "asked_for_by_what_is_applied": [("        result = dict(self.heads)\n        for log in sorted(", "        return dict(self.heads)\n        for log in sorted(")],
    "credit_after_applying": [("return 1 if batch.hash in self.batches else 0", "return int(self.chain.get((batch.log, batch.n)) == batch.hash)")],
}  # fmt: skip


def mutant(name: str) -> types.ModuleType:
    """The model with the fault in it. Raises: ValueError: its text is not in the model once."""
    text = SOURCE
    for old, new in MUTANTS[name]:
        if text.count(old) != 1:
            raise ValueError(f"{name}: {text.count(old)} times in the model: {old!r}")
        text = text.replace(old, new)
    module = types.ModuleType(f"merge_model_{next(_numbers)}_{name}")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    exec(compile(text, f"merge_model.py with {name}", "exec"), module.__dict__)  # noqa: S102
    return module


def caught_by(name: str, seeds: int) -> str | None:
    """What catches the fault first, or None."""
    return merge_faults.caught_by(seeds, mutant(name))


if __name__ == "__main__":
    sys.exit(merge_faults.count_missed(MUTANTS, caught_by))

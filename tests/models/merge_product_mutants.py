"""Seeded faults of the product's merge: small edits of its text, which the differential histories must catch.

A text that no longer occurs exactly once in the product is an error, so that no fault rots away unseen.
usage: python -m tests.models.merge_product_mutants [seeds per mode]
"""

from __future__ import annotations

import itertools
import sys
import types
from pathlib import Path

from hybridgw_daemon.core import conflicts, document_state, merge
from tests.models import merge_faults, merge_product

SOURCES = {name: Path(module.__file__).read_text() for name, module in (
    ("document_state", document_state), ("merge", merge), ("conflicts", conflicts))}  # fmt: skip
_numbers = itertools.count(1)

# name of the fault -> edits of (module, text, text with the fault)
MUTANTS: dict[str, list[tuple[str, str, str]]] = {
    # what the author had seen
    "seen_is_ignored": [("merge", "return n <= seen.get(LogId(log), 0) or (log", "return n <= 0 or (log")],
    "all_counts_as_seen": [("merge", "return n <= seen.get(LogId(log), 0) or (log", "return True or (log")],
    "seen_up_to_one_less": [("merge", "return n <= seen.get(LogId(log), 0) or", "return n < seen.get(LogId(log), 0) or")],
    "own_earlier_writes_not_seen": [("merge", " or (log == dot[1] and stamp < dot[0])", "")],
    "short_cut_ignores_seen": [("merge", "            if n > seen.get(log, 0) and not (log == dot[1] and stamp < dot[0]):\n                return None\n", "")],
    "short_cut_ignores_own_writes": [("merge", "if n > seen.get(log, 0) and not (log == dot[1] and stamp < dot[0]):", "if n > seen.get(log, 0) and stamp >= dot[0]:")],
    # siblings and what is buried
    "short_cut_drops_siblings": [("merge", "    if len(parts) > 5:\n        return None\n", "")],
    "siblings_dropped_on_delete": [("merge", "if len(parts) > 5 or not _has_seen(parts[:3], dot, seen):", "if not _has_seen(parts[:3], dot, seen):")],
    "unseen_dropped_on_delete": [("merge", "operation.kind != EDIT and _has_seen_all(clk, dot, seen):", "operation.kind != EDIT:")],
    "unseen_overwrite_dropped_on_delete": [("merge", "if len(parts) > 3 and not all(", "if len(parts) > 3 and not any(")],
    "unseen_element_dropped_on_delete": [("merge", "return len(parts) <= 4 or all(", "return True or all(")],
    "edit_of_a_new_generation_starts_afresh": [("merge", "operation.cl > cl and operation.kind != EDIT and", "operation.cl > cl and")],
    "delete_covers_nothing": [("merge", "if operation.kind in (CREATE, DELETE):", "if operation.kind == CREATE:")],
    "restore_covers_nothing": [("merge", "if operation.kind in (CREATE, DELETE):", "if operation.kind == DELETE:")],
    "create_covers_its_own_generation": [("merge", "            if cl < operation.cl:\n", "            if cl <= operation.cl:\n")],
    "late_write_revives_a_deleted_document": [("merge", "        if operation.cl >= cl:\n            return", "        if True:\n            return")],
    "generation_may_fall": [("merge", "return pack(max(cl, operation.cl), cells)", "return pack(operation.cl, cells)")],
    "write_covers_its_own_generation_only": [("merge", "        if cl <= operation.cl:\n            covered", "        if cl == operation.cl:\n            covered")],
    "write_covers_every_generation": [("merge", "        if cl <= operation.cl:\n            covered", "        if True:\n            covered")],
    "buried_elements_forgotten": [("merge", "                for raw in list(cell.elements):\n                    _forget_element(cell, raw, dot, seen)\n", "                cell.elements.clear()\n")],
    # sets
    "remove_covers_nothing": [("merge", "        for element in (*change.adds, *change.removes):", "        for element in change.adds:")],
    "add_keeps_what_it_replaces": [("merge", "        for element in (*change.adds, *change.removes):", "        for element in change.removes:")],
    "remove_wins": [("merge", "        if left := [other for other in dots if not _has_seen(other, dot, seen)]:\n            cell.elements[raw] = (element, left)\n", "")],
    "fresh_set_in_the_order_of_writing": [("merge", "sorted(change.adds, key=canonical)", "list(change.adds)")],
    "fresh_set_is_a_register": [("merge", "clk = (*dot, {}, dict.fromkeys(sets))", "clk = dot")],
    "short_cut_makes_a_set_a_register": [("merge", "            if name in sets:\n                return None\n", "")],
    "sets_lost_beside_an_edit": [("merge", "    if sets:\n        return cl, encode_shown(shown), encode_clk((*base, others, sets)), 0\n", "")],
    # dots
    "overwritten_field_keeps_its_dot": [("merge", "        others[name] = dot\n", "")],
    "untouched_fields_get_the_new_dot": [("merge", "others.get(name, base) for name in shown", "dot for name in shown")],
    "new_base_for_what_a_set_refers_to": [("merge", " > len(shown) and not sets:", " > len(shown):")],
    "unsigned_log": [("document_state", "return max(cell.values) if cell.values else None", "return max(cell.values, key=lambda dot: (dot[0], dot[1] % 2**64, dot[2])) if cell.values else None")],
    "log_before_stamp": [("document_state", "return max(cell.values) if cell.values else None", "return max(cell.values, key=lambda dot: (dot[1], dot[0])) if cell.values else None")],
    "one_dot_per_element": [("document_state", "packed = [None if dots == [base] else dots for dots in elements]", "packed = [None if dots == [base] else dots[:1] for dots in elements]")],
    "element_dots_are_the_base": [("document_state", "return packed if any(packed) else None", "return None")],
    "winner_dots_are_the_base": [("document_state", "others = {name: dot for name, dot in winners.items() if dot != base}", "others = {}")],
    # what is kept and shown
    "equal_siblings_dropped": [("document_state", "for dot, value in cell.values.items() if dot != winner]", "for dot, value in cell.values.items() if dot != winner and value != cell.values.get(winner)]")],
    "equal_siblings_shown": [("document_state", "if dot != winner and (raw := canonical(cell.values[dot])) not in told:", "if dot != winner and (raw := canonical(cell.values[dot])):")],
    "buried_elements_not_listed": [("document_state", "        if at != cl:\n            for raw in sorted", "        if False:\n            for raw in sorted")],
    "buried_values_not_listed_beside_an_equal_one": [("document_state", "winner = winner_of(cell) if at == cl else None\n        told", "winner = winner_of(cell)\n        told")],
    "buried_elements_not_kept": [("document_state", "        elif cell.elements:\n            hidden +=", "        elif False:\n            hidden +=")],
    "conflicts_counted_with_hidden_ones": [("document_state", "sum(1 for _ in conflict_entries(cl, cells)) if hidden else 0", "len(hidden)")],
    "equality_of_the_language": [("document_state", "cell.elements.setdefault(canonical(value), (value, []))", "cell.elements.setdefault(canonical(1 if value is True else value), (value, []))")],
    "live_conflicts_called_buried": [("conflicts", "entry.cl != row[0],", "True,")],
}  # fmt: skip


def mutant(name: str) -> merge_product.Product:
    """The product's modules with the fault in them. Raises: ValueError: its text is not there once."""
    texts = dict(SOURCES)
    for module, old, new in MUTANTS[name]:
        if texts[module].count(old) != 1:
            raise ValueError(f"{name}: {texts[module].count(old)} times in {module}: {old!r}")
        texts[module] = texts[module].replace(old, new)
    number = next(_numbers)
    state = f"document_state_{number}"
    made = {}
    for module, text in texts.items():
        made[module] = types.ModuleType(f"hybridgw_daemon.core.{module}_{number}")
        made[module].__package__ = "hybridgw_daemon.core"
        sys.modules[made[module].__name__] = made[module]
        text = text.replace("from .document_state import", f"from .{state} import")
        exec(compile(text, f"{module}.py with {name}", "exec"), made[module].__dict__)  # noqa: S102
    return merge_product.Product(made["merge"], made["document_state"], made["conflicts"])


def faulty_replica(name: str) -> type[merge_product.ProductReplica]:
    """A replica that carries the product with the fault along."""
    return type("Faulty", (merge_product.ProductReplica,), {"product": mutant(name)})


def caught_by(name: str, seeds: int) -> str | None:
    """What catches the fault first, or None."""
    return merge_faults.caught_by(seeds, replica=faulty_replica(name))


if __name__ == "__main__":
    sys.exit(merge_faults.count_missed(MUTANTS, caught_by))

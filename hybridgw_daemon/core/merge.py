"""Merge: what one operation does to one stored document. The whole rule of the replica is here.

An operation takes away the entries that it covers *and* whose writes its author had seen, and puts its own in. What it
had not seen stays: as the shown value, if its dot is greater, or as a sibling. So the state is a function of the set of
operations applied and of what each of them had seen, not of the order in which they came.

Most operations are plain: a new document, or registers written by somebody who had seen what they replace. Those never
unpack the state. Source: protocol/SPEC.md, "Merge".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hybridgw_protocol.codec import Value, canonical
from hybridgw_protocol.ids import LogId

from .document_state import (
    Cell,
    Cells,
    Dot,
    Row,
    decode_clk,
    decode_shown,
    encode_clk,
    encode_shown,
    pack,
    unpack,
)
from .operations import CREATE, DELETE, EDIT, Operation


def apply(row: Row | None, operation: Operation, dot: Dot, seen: Mapping[LogId, int]) -> Row:
    """The document after a valid operation (any kind but FLOOR, on a document not below the floor). Never fails.

    Args: row: as stored, None if there is none; dot: (the operation's stamp, its log, its batch number); seen: the
    highest batch of each other log that its author had applied (what it wrote itself before counts as seen).
    """
    if row is None:
        return _fresh(operation, dot)
    cl, body, clk, _ = row
    if not clk:
        if operation.cl >= cl:
            return _fresh(operation, dot)
    elif operation.cl == cl and not operation.sets and body is not None:
        changed = _edited(cl, body, clk, operation, dot, seen)
        if changed is not None:
            return changed
    elif operation.cl > cl and operation.kind != EDIT and _has_seen_all(clk, dot, seen):
        return _fresh(operation, dot)
    cells = unpack(row)
    _apply(cells, operation, dot, seen)
    return pack(max(cl, operation.cl), cells)


# ---- the rule --------------------------------------------------------------------------------------------------------
def _has_seen(other: Dot | list[int], dot: Dot, seen: Mapping[LogId, int]) -> bool:
    """Whether the author of *dot* knew the write *other*: from what it had applied, or because it wrote it earlier."""
    stamp, log, n = other
    return n <= seen.get(LogId(log), 0) or (log == dot[1] and stamp < dot[0])


def _apply(cells: Cells, operation: Operation, dot: Dot, seen: Mapping[LogId, int]) -> None:
    """The full rule, on unpacked cells; leaves empty cells behind."""
    if operation.kind in (CREATE, DELETE):  # writes the whole document: covers every lower generation
        for (cl, _), cell in cells.items():
            if cl < operation.cl:
                _forget_values(cell, dot, seen)
                for raw in list(cell.elements):
                    _forget_element(cell, raw, dot, seen)
    # A write covers its field in its own and every lower generation: a register its values, a set the element.
    covered: dict[str, list[Cell]] = {}
    for (cl, name), cell in cells.items():
        if cl <= operation.cl:
            covered.setdefault(name, []).append(cell)
    for name, value in operation.puts.items():
        for cell in covered.get(name, ()):
            _forget_values(cell, dot, seen)
        cells.setdefault((operation.cl, name), Cell()).values[dot] = value
    for change in operation.sets:
        for element in (*change.adds, *change.removes):
            for cell in covered.get(change.field, ()):
                _forget_element(cell, canonical(element), dot, seen)
        own = cells.setdefault((operation.cl, change.field), Cell())
        for element in change.adds:
            own.elements.setdefault(canonical(element), (element, []))[1].append(dot)


def _forget_values(cell: Cell, dot: Dot, seen: Mapping[LogId, int]) -> None:
    cell.values = {other: value for other, value in cell.values.items() if not _has_seen(other, dot, seen)}


def _forget_element(cell: Cell, raw: bytes, dot: Dot, seen: Mapping[LogId, int]) -> None:
    if raw in cell.elements:
        element, dots = cell.elements.pop(raw)
        if left := [other for other in dots if not _has_seen(other, dot, seen)]:
            cell.elements[raw] = (element, left)


# ---- short cuts: the same outcome without unpacking ------------------------------------------------------------------
def _fresh(operation: Operation, dot: Dot) -> Row:
    """A document of which nothing is left but what the operation writes."""
    cl = operation.cl
    shown: dict[str, Value] = operation.puts
    clk: tuple[Any, ...] = dot
    if operation.sets:
        sets = {change.field: sorted(change.adds, key=canonical) for change in operation.sets if change.adds}
        if sets:
            shown = {**shown, **sets}
            clk = (*dot, {}, dict.fromkeys(sets))
    if not shown:
        return cl, b"{}" if cl % 2 else None, b"", 0
    return cl, encode_shown(shown), encode_clk(clk), 0


def _edited(cl: int, body: bytes, clk: bytes, operation: Operation, dot: Dot, seen: Mapping[LogId, int]) -> Row | None:
    """Registers written where nothing is hidden and every replaced value was seen; None if it is not that simple."""
    parts: list[Any] = decode_clk(clk)
    if len(parts) > 5:
        return None
    others: dict[str, Any] = parts[3] if len(parts) > 3 else {}
    sets: dict[str, Any] = parts[4] if len(parts) > 4 else {}
    shown = decode_shown(body)
    for name, value in operation.puts.items():
        if name in shown:
            if name in sets:
                return None
            stamp, log, n = others.get(name) or parts[:3]
            if n > seen.get(log, 0) and not (log == dot[1] and stamp < dot[0]):
                return None
        shown[name] = value
        others[name] = dot
    base: Dot = (parts[0], parts[1], parts[2])
    if 2 * len(operation.puts) > len(shown) and not sets:  # most fields are this write's now: let it be the base
        others = {name: others.get(name, base) for name in shown if name not in operation.puts}
        base = dot
    if sets:
        return cl, encode_shown(shown), encode_clk((*base, others, sets)), 0
    return cl, encode_shown(shown), encode_clk((*base, others) if others else base), 0


def _has_seen_all(clk: bytes, dot: Dot, seen: Mapping[LogId, int]) -> bool:
    """Whether every entry of a state without hidden ones was seen."""
    parts: list[Any] = decode_clk(clk)
    if len(parts) > 5 or not _has_seen(parts[:3], dot, seen):
        return False
    if len(parts) > 3 and not all(_has_seen(other, dot, seen) for other in parts[3].values()):
        return False
    return len(parts) <= 4 or all(
        _has_seen(other, dot, seen) for elements in parts[4].values() for dots in elements or () for other in dots or ()
    )

"""The whole mergeable state of one document, and the row that it is stored as.

In memory: cells by (generation, field), each with the values of a register and the elements of a set that nobody has
replaced with knowledge of them, under the dots that wrote them. A cell below the document's generation is buried.

Stored: `(cl, body, clk, conflicts)`.

* cl: the generation, odd alive, even deleted
* body: JSON of what is shown, keys sorted; a set is an array in the order of its canonical bytes; None when deleted
* clk: everything else of the state, b"" if there is nothing else, or a msgpack array of which the tail may be absent:
  `[stamp, log, n, {field: dot}, {field: None | [dots of each element]}, [hidden...]]`. The first three are the dot of
  every shown register without an entry of its own in the map that follows, and of every shown element whose list of
  dots is None. A hidden entry is `[cl, field, kind, stamp, log, n, value]`: a sibling, or something buried.
* conflicts: how many of the hidden entries a person is shown

Source: protocol/SPEC.md, "Merge".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, NamedTuple

import msgspec

from hybridgw_protocol.codec import Value, canonical, encode_canonical
from hybridgw_protocol.ids import DocumentId

Row = tuple[int, bytes | None, bytes, int]
Dot = tuple[int, int, int]  # stamp, log, n: identity and order of one write; the log compared as a signed integer

VALUE: Final = 0
ELEMENT: Final = 1

encode_shown: Final = msgspec.json.Encoder(order="deterministic").encode
decode_shown: Final = msgspec.json.Decoder(dict[str, Any]).decode
encode_clk: Final = msgspec.msgpack.Encoder().encode
decode_clk: Final = msgspec.msgpack.Decoder(list[Any]).decode


class Cell:
    """One field of one generation."""

    __slots__ = ("elements", "values")

    def __init__(self) -> None:
        self.values: dict[Dot, Value] = {}  # shown: the greatest dot's; the others are siblings
        self.elements: dict[bytes, tuple[Value, list[Dot]]] = {}  # by canonical bytes; there while a dot is left


Cells = dict[tuple[int, str], Cell]


class Entry(NamedTuple):
    """Something a person is shown as a conflict. kind: "value" or "element"."""

    cl: int
    field: str
    kind: Literal["value", "element"]
    dot: Dot
    value: Value


def winner_of(cell: Cell) -> Dot | None:
    """The dot of the value that is shown while the cell is the document's generation."""
    return max(cell.values) if cell.values else None


def conflict_entries(cl: int, cells: Cells) -> Iterator[Entry]:
    """Siblings and buried entries in order of (generation, field), values before elements, the latest first.

    Values equal to one already told, or to the shown one, are no conflict: two devices that write the same agree.
    """
    for (at, name), cell in sorted(cells.items(), key=lambda item: item[0]):
        winner = winner_of(cell) if at == cl else None
        told = {canonical(cell.values[winner])} if winner else set()
        for dot in sorted(cell.values, reverse=True):
            if dot != winner and (raw := canonical(cell.values[dot])) not in told:
                told.add(raw)
                yield Entry(at, name, "value", dot, cell.values[dot])
        if at != cl:
            for raw in sorted(cell.elements):
                element, dots = cell.elements[raw]
                yield Entry(at, name, "element", max(dots), element)


# ---- rows ------------------------------------------------------------------------------------------------------------
def unpack(row: Row) -> Cells:
    """The cells of a stored document."""
    cl, body, clk, _ = row
    cells: Cells = {}
    if not clk:
        return cells
    parts = decode_clk(clk)
    base: Dot = (parts[0], parts[1], parts[2])
    others = parts[3] if len(parts) > 3 else {}
    sets = parts[4] if len(parts) > 4 else {}
    for name, value in decode_shown(body).items() if body is not None else ():
        cell = cells[cl, name] = Cell()
        if name in sets:
            dots = sets[name] or [None] * len(value)
            for element, found in zip(value, dots, strict=True):
                cell.elements[canonical(element)] = (element, [base] if found is None else _dots(found))
        else:
            cell.values[tuple(others[name]) if name in others else base] = value
    for at, name, kind, stamp, log, n, value in parts[5] if len(parts) > 5 else ():
        cell = cells.setdefault((at, name), Cell())
        if kind == VALUE:
            cell.values[stamp, log, n] = value
        else:
            cell.elements.setdefault(canonical(value), (value, []))[1].append((stamp, log, n))
    return cells


def pack(cl: int, cells: Cells) -> Row:
    """The row of a document; cells without entries are allowed."""
    shown: dict[str, Value] = {}
    winners: dict[str, Dot] = {}
    elements: dict[str, list[list[Dot]]] = {}
    hidden: list[tuple[Any, ...]] = []
    tally: dict[Dot, int] = {}
    for (at, name), cell in cells.items():
        alive = at == cl
        winner = winner_of(cell) if alive and not cell.elements else None
        if winner:
            shown[name] = cell.values[winner]
            winners[name] = winner
            tally[winner] = tally.get(winner, 0) + 1
        hidden += [(at, name, VALUE, *dot, value) for dot, value in cell.values.items() if dot != winner]
        if alive and cell.elements:
            order = sorted(cell.elements)
            shown[name] = [cell.elements[raw][0] for raw in order]
            elements[name] = [cell.elements[raw][1] for raw in order]
            for dots in elements[name]:
                if len(dots) == 1:
                    tally[dots[0]] = tally.get(dots[0], 0) + 1
        elif cell.elements:
            hidden += [(at, name, ELEMENT, *dot, element) for element, dots in cell.elements.values() for dot in dots]
    body = encode_shown(shown) if cl % 2 else None
    if not (shown or hidden):
        return cl, body, b"", 0
    base = max(tally, key=lambda dot: (tally[dot], dot)) if tally else (0, 0, 0)
    others = {name: dot for name, dot in winners.items() if dot != base}
    sets = {name: _packed_dots(dots, base) for name, dots in elements.items()}
    tail: list[Any] = [others, sets, hidden]
    while tail and not tail[-1]:
        tail.pop()
    conflicts = sum(1 for _ in conflict_entries(cl, cells)) if hidden else 0
    return cl, body, encode_clk((*base, *tail)), conflicts


def _dots(raw: list[list[int]]) -> list[Dot]:
    return [(stamp, log, n) for stamp, log, n in raw]


def _packed_dots(elements: list[list[Dot]], base: Dot) -> list[list[Dot] | None] | None:
    packed = [None if dots == [base] else dots for dots in elements]
    return packed if any(packed) else None


def set_fields(row: Row) -> frozenset[str]:
    """Shown fields that are sets: whoever replaces a whole document writes these as changes of elements."""
    parts = decode_clk(row[2]) if row[2] else []
    return frozenset(parts[4]) if len(parts) > 4 else frozenset()


# ---- digests ---------------------------------------------------------------------------------------------------------
def row_digest(collection: str, document: DocumentId, row: Row) -> int:
    """128 bits of the whole state of one document, however its row happens to be packed."""
    state = [
        [
            at,
            name,
            sorted([list(dot), value] for dot, value in cell.values.items()),
            sorted([raw, sorted(map(list, dots))] for raw, (_, dots) in cell.elements.items()),
        ]
        for (at, name), cell in sorted(unpack(row).items(), key=lambda item: item[0])
    ]
    raw = encode_canonical([collection, document, row[0], state])
    return int.from_bytes(hashlib.blake2b(raw, digest_size=16, person=b"hgw-doc").digest(), "big")


def digest(rows: Iterable[tuple[str, DocumentId, Row]]) -> bytes:
    """16 bytes over a whole replica in any order: equal exactly if the states are (but for 128-bit collisions)."""
    total = sum(row_digest(collection, document, row) for collection, document, row in rows)
    return (total % 2**128).to_bytes(16, "big")

"""Planning of local writes: what a caller asked for, held against the document, becomes requests of the replica.

Everything happens inside one transaction, so preconditions, schema and merge see the same state; later writes of a
batch see what earlier ones make. A field that is null is no field. A write that changes nothing becomes no request.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hybridgw_protocol.codec import Value, canonical
from hybridgw_protocol.errors import AlreadyExists, BadValue, Deleted, InvalidDocument, NotFound, PreconditionFailed
from hybridgw_protocol.ids import DocumentId
from hybridgw_storage.database import Tx

from ..core.document_state import decode_shown, set_fields
from ..core.operations import Create, Delete, Edit, Request
from .collections import CollectionService, Rules, check_writable
from .ports import DocumentReplica
from .schemas import check

Data = dict[str, Any]


@dataclass(slots=True)
class Write:
    """One write as asked for, whatever the command. exists: what the document must be before."""

    op: str
    collection: str
    id: DocumentId
    data: Data = field(default_factory=dict)
    version: int | None = None
    exists: bool | None = None


@dataclass(slots=True)
class _View:
    """A document as a write of the transaction sees it: earlier writes of the same transaction included."""

    version: int
    is_known: bool
    alive: bool
    data: Data
    sets: frozenset[str]  # fields that are sets in the stored row


class Plan:
    """The requests of one transaction, planned one after the other."""

    def __init__(self, tx: Tx, replica: DocumentReplica, collections: CollectionService, now_ms: int) -> None:
        self._tx, self._replica, self._collections, self._now_ms = tx, replica, collections, now_ms
        self._views: dict[tuple[str, DocumentId], _View] = {}
        self._rules: dict[str, Rules] = {}
        self.requests: list[Request] = []

    def add(self, write: Write) -> None:
        """Plan one more write. Raises: LocalError kinds."""
        rules = self._rules.get(write.collection)
        if rules is None:
            rules = self._rules[write.collection] = self._collections.rules(self._tx, write.collection)
            check_writable(write.collection, rules)
        key = (write.collection, write.id)
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = self._view(write)
        _check_before(write, view)
        match write.op:
            case "delete":
                self._delete(write, view)
            case "patch":
                self._edit(write, view, rules, _patched(view, write.data, rules))
            case "put" if view.alive:
                self._edit(write, view, rules, _replaced(view, self._whole(write.data, view, rules), rules))
            case _:
                self._create(write, view, rules)

    def _whole(self, data: Data, view: _View, rules: Rules) -> Data:
        """What a replaced document has in each field: as written, else its default, else nothing (null).

        A field that a built-in collection fills in by itself keeps what it has, so the same PUT twice changes nothing.
        """
        wanted: Data = {**dict.fromkeys(view.data), **rules.defaults, **data}
        if rules.builtin:
            for name, value in rules.builtin.complete({**rules.defaults, **data}, self._now_ms).items():
                if name not in data:
                    wanted[name] = view.data.get(name, value)
        return wanted

    def _view(self, write: Write) -> _View:
        row = self._replica.current(self._tx, write.collection, write.id)
        if row is None:
            return _View(0, False, False, {}, frozenset())
        version = self._replica.version(self._tx, write.collection, write.id)
        data = {} if row[1] is None else {k: v for k, v in decode_shown(row[1]).items() if v is not None}
        return _View(version, True, row[0] % 2 == 1, data, set_fields(row) if row[1] is not None else frozenset())

    def _create(self, write: Write, view: _View, rules: Rules) -> None:
        data = {name: value for name, value in write.data.items() if value is not None}
        for name, value in rules.defaults.items():
            data.setdefault(name, value)
        if rules.builtin:
            data |= {k: v for k, v in rules.builtin.complete(data, self._now_ms).items() if k not in data}
        _check_names(data)
        _check_schema(write.collection, rules, data, None)
        sets = {name: _elements(name, data[name]) for name in rules.sets if name in data}
        puts = {name: value for name, value in data.items() if name not in sets}
        self.requests.append(Create(write.collection, write.id, puts, sets))
        view.is_known = view.alive = True
        view.data, view.sets = data, frozenset(sets)

    def _edit(self, write: Write, view: _View, rules: Rules, edit: _Edit) -> None:
        if rules.builtin:
            for name, value in rules.builtin.follow(view.data, edit.after_changes(), self._now_ms).items():
                edit.puts.setdefault(name, value)
                edit.after[name] = value
        changed = edit.changed()
        if not changed:
            return
        _check_names(changed)
        _check_schema(write.collection, rules, edit.after, changed)
        self.requests.append(Edit(write.collection, write.id, edit.puts, edit.adds, edit.removes))
        view.data = {name: value for name, value in edit.after.items() if value is not None}
        view.sets = frozenset(view.sets | set(edit.adds))

    def _delete(self, write: Write, view: _View) -> None:
        self.requests.append(Delete(write.collection, write.id))
        view.alive, view.data, view.sets = False, {}, frozenset()


@dataclass(slots=True)
class _Edit:
    """What an edit writes: registers, elements; `after`: the document it leads to, null for a field that goes."""

    after: Data
    puts: Data = field(default_factory=dict)
    adds: dict[str, list[Value]] = field(default_factory=dict)
    removes: dict[str, list[Value]] = field(default_factory=dict)

    def changed(self) -> list[str]:
        """Names of the fields that it writes."""
        return list({**self.puts, **self.adds, **self.removes})

    def after_changes(self) -> Data:
        """The changed fields as they will be."""
        return {name: self.after.get(name) for name in self.changed()}


def _check_before(write: Write, view: _View) -> None:
    """Preconditions, and that the document is what the write needs."""
    if write.exists is False and view.alive:
        raise PreconditionFailed("The document exists already.", version=view.version)
    if write.exists is True and not view.alive:
        raise PreconditionFailed("There is no such document.", version=view.version)
    if write.version is not None and write.version != view.version:
        raise PreconditionFailed(
            f"The document has version {view.version}, not {write.version}: read it again, then write.",
            version=view.version,
        )
    match write.op:
        case "patch" | "delete" if not view.is_known:
            raise NotFound(
                f"There is no document {write.id!r} in {write.collection}; 'hybridgw data list {write.collection}' "
                "shows what there is."
            )
        case "patch" if not view.alive:
            raise Deleted("The document is deleted; restore it first (POST …/restore, or PUT all of it).")
        case "delete" if not view.alive:
            raise Deleted("The document is deleted already.", version=view.version)
        case "create" if view.alive:
            raise AlreadyExists("The document exists already; change it instead.", version=view.version)
        case "restore" if not view.is_known:
            raise NotFound(f"There is no document {write.id!r} in {write.collection} to restore; create it.")
        case "restore" if view.alive:
            raise AlreadyExists("The document is not deleted.", version=view.version)


def _check_names(names: Iterable[str]) -> None:
    for name in names:
        if name.startswith("$"):
            raise BadValue(
                f'Field names do not start with `$` ({name!r}); in a set field write {{"$add": […]}}.', field=name
            )


def _check_schema(collection: str, rules: Rules, data: Data, changed: Sequence[str] | None) -> None:
    faults = check(rules.rule, data, changed)
    if rules.builtin:
        faults += rules.builtin.faults(data)
    if faults:
        raise InvalidDocument(
            f"The document does not fit the schema of {collection}: {'; '.join(faults[:3])}"
            f"{f' and {len(faults) - 3} more' if len(faults) > 3 else ''}.",
            errors=faults,
        )


# ---- fields ------------------------------------------------------------------------------------------------------
def _elements(name: str, value: Any) -> list[Value]:
    if not isinstance(value, list):
        raise BadValue(
            f'{name} is a set: write a list of its elements, or {{"$add": […], "$remove": […]}}.', field=name
        )
    for element in value:
        if element is None or isinstance(element, list | dict):
            raise BadValue(f"The elements of {name} are text, numbers, true or false.", field=name)
    return list({canonical(element): element for element in value}.values())


def _replaced(view: _View, wanted: Data, rules: Rules) -> _Edit:
    """The edit that makes the named fields what is wanted; null removes."""
    edit = _Edit(dict(view.data))
    for name, value in wanted.items():
        if name in rules.sets or name in view.sets:
            _change_set(edit, view, name, [] if value is None else _elements(name, value))
        else:
            _put(edit, view, name, value)
    return edit


def _patched(view: _View, patch: Data, rules: Rules) -> _Edit:
    """The edit of a merge patch (RFC 7396), with `$add` and `$remove` for sets."""
    edit = _Edit(dict(view.data))
    for name, value in patch.items():
        is_set = name in rules.sets or name in view.sets
        words = isinstance(value, dict) and bool(value) and all(key in ("$add", "$remove") for key in value)
        if words and not is_set:
            raise BadValue(
                f'{name} is not a set field of this collection. Define it as one ({{"type": "array", '
                '"x-hybridgw-set": true}), or write the whole list.',
                field=name,
            )
        if is_set:
            held = view.data.get(name, [])
            if words:
                removed = {canonical(e) for e in _elements(name, value.get("$remove", []))}
                kept = [e for e in held if canonical(e) not in removed] if isinstance(held, list) else []
                _change_set(edit, view, name, _elements(name, [*kept, *_elements(name, value.get("$add", []))]))
            else:
                _change_set(edit, view, name, [] if value is None else _elements(name, value))
        else:
            _put(edit, view, name, _merged(view.data.get(name), value))
    return edit


def _merged(before: Any, patch: Any) -> Any:
    """RFC 7396 below the top level: objects merge, null removes, all else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(before) if isinstance(before, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merged(merged.get(name), value)
    return merged


def _put(edit: _Edit, view: _View, name: str, value: Any) -> None:
    before = view.data.get(name)
    if type(before) is type(value) and (before is None or isinstance(value, str | bool)):
        changed = before != value
    else:  # numbers: 1.0 is 1; maps and lists: equal exactly if their canonical bytes are; null stands for no field
        changed = canonical(value) != canonical(before)
    if changed:
        edit.puts[name] = edit.after[name] = value


def _change_set(edit: _Edit, view: _View, name: str, wanted: list[Value]) -> None:
    """Turn the elements held into those wanted."""
    held = view.data.get(name)
    if name not in view.sets:  # a register until now: its list becomes the elements
        if not wanted:
            _put(edit, view, name, None)
            return
        edit.adds[name] = wanted
    else:
        before = {canonical(e): e for e in held} if isinstance(held, list) else {}
        after = {canonical(e): e for e in wanted}
        adds = [e for raw, e in after.items() if raw not in before]
        removes = [e for raw, e in before.items() if raw not in after]
        if adds:
            edit.adds[name] = adds
        if removes:
            edit.removes[name] = removes
    edit.after[name] = wanted or None

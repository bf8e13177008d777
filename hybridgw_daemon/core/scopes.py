"""What a credential may do, in words that a person can read: `read:tasks`, `write:tasks`, `send:timer`, `admin`.

A scope is a right and what it is for: for `read` and `write` a collection, or one document of it as in
`read:settings/theme`; for `send` and `listen` a topic; `admin` stands alone and gives all of these everywhere. There
are no wildcards, so nobody approves more than the sentence says. What only the owner may do (approve others, pair, stop
the daemon) no scope gives.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple, get_args

from hybridgw_protocol.errors import BadValue
from hybridgw_protocol.ids import check_collection, check_topic

Right = Literal["read", "write", "send", "listen"]
ADMIN: Final = "admin"
MAX_SCOPES: Final = 32  # of one credential: a person reads all of them
RESERVED: Final = "hgw."  # collections of HybridGW itself; only `admin` reaches them

_DOCUMENT: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")  # an id that a person can read in a sentence
_RIGHTS: Final[tuple[str, ...]] = get_args(Right)
_VERBS: Final = {"read": "read", "write": "write", "send": "send messages to", "listen": "listen to"}


class Scopes(NamedTuple):
    """A set of scopes. pairs: (right, name), sorted; is_admin: has `admin`, which makes the pairs empty."""

    pairs: tuple[tuple[str, str], ...] = ()
    is_admin: bool = False

    def allows(self, right: str, name: str, document: str | None = None) -> bool:
        """May this be done to this collection or topic, or to this document. What is only similar never counts."""
        if self.is_admin or (right, name) in self.pairs:
            return True
        return document is not None and (right, f"{name}/{document}") in self.pairs

    def names(self, *rights: Right) -> frozenset[str]:
        """Everything that one of these rights is given for by name; `admin` names nothing."""
        return frozenset(name for right, name in self.pairs if right in rights)

    def items(self) -> list[str]:
        """One by one, in canonical order."""
        return [ADMIN] if self.is_admin else [f"{right}:{name}" for right, name in self.pairs]

    def text(self) -> str:
        """Canonical: the same set always gives the same text, which `parse` reads back."""
        return " ".join(self.items())

    def sentence(self) -> str:
        """For a person: `read and write tasks; send messages to timer`."""
        if self.is_admin:
            return "read and change everything, settings and other apps' data included"
        rights_by_name: dict[tuple[str, bool], list[str]] = {}
        for right in _RIGHTS:
            for given, name in self.pairs:
                if given == right:
                    rights_by_name.setdefault((name, right in ("read", "write")), []).append(_VERBS[right])
        names_by_verb: dict[str, list[str]] = {}
        data_first = sorted(rights_by_name.items(), key=lambda item: (not item[0][1], "/" in item[0][0], item[0][0]))
        for (name, is_data), verbs in data_first:
            names_by_verb.setdefault(" and ".join(verbs), []).append(_document(name) if is_data else name)
        parts = [f"{verb} {_listed(names)}" for verb, names in names_by_verb.items()]
        return "; ".join(parts) if parts else "nothing"


NONE: Final = Scopes()
EVERYTHING: Final = Scopes(is_admin=True)


def parse(scopes: str | Iterable[str]) -> Scopes:
    """Scopes out of text with spaces, or one by one. Nothing in it is skipped: what is not known is refused.

    Raises: BadValue: names the scope that is unknown, malformed or reserved; none at all; more than MAX_SCOPES.
    """
    items = scopes.split(" ") if isinstance(scopes, str) else list(scopes)
    found: set[tuple[str, str]] = set()
    is_admin = False
    for item in items:
        if item == ADMIN:
            is_admin = True
            continue
        right, _, name = item.partition(":")
        if right not in _RIGHTS or not name:
            raise BadValue(
                f"The scope {_shown(item)} is not known. There are read:COLLECTION, write:COLLECTION, both also "
                "with /ID for one document, send:TOPIC, listen:TOPIC and admin.",
                field="scopes",
            )
        if right in ("read", "write"):
            collection, slash, document = name.partition("/")
            try:
                check_collection(collection)
            except BadValue as error:
                raise BadValue(
                    f"The scope {_shown(item)} names no collection: {error.message}", field="scopes"
                ) from None
            if slash and not _DOCUMENT.fullmatch(document):
                raise BadValue(
                    f"The scope {_shown(item)} names no document: 1 to 64 of A-Z a-z 0-9 . _ - after the slash.",
                    field="scopes",
                )
            if name.startswith(RESERVED):
                raise BadValue(f"Collections whose names start with {RESERVED} belong to HybridGW.", field="scopes")
        else:
            try:
                check_topic(name)
            except BadValue as error:
                raise BadValue(f"The scope {_shown(item)} names no topic: {error.message}", field="scopes") from None
        found.add((right, name))
    if not found and not is_admin:
        raise BadValue("Say what for: at least one scope, like read:tasks.", field="scopes")
    if len(found) > MAX_SCOPES:
        raise BadValue(f"At most {MAX_SCOPES} scopes: a person has to read them.", field="scopes")
    return EVERYTHING if is_admin else Scopes(tuple(sorted(found, key=_order)))


def _order(pair: tuple[str, str]) -> tuple[int, str]:
    return _RIGHTS.index(pair[0]), pair[1]


def _shown(item: str) -> str:
    text = ascii(item)
    return text if len(text) <= 60 else f"{text[:57]}...'"


def _document(name: str) -> str:
    collection, slash, document = name.partition("/")
    return f"the document {document} of {collection}" if slash else name


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

"""Whom a message is for, as programs write it, and which rule decides when they do not say. Pure.

A target is `client:ID`, `app:NAME`, `mode:MODE`, `topic:TOPIC` or `all`, with `@DEVICE` or `@here` behind it for one
device; `device:NAME` is short for `all@NAME`; `person:NAME` is a contact. Source: protocol/SPEC.md, "Messages".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from hybridgw_protocol.errors import BadValue
from hybridgw_protocol.ids import check_topic
from hybridgw_protocol.localapi_frames import MODES

HERE: Final = "here"
MAX_NAME: Final = 64
KINDS: Final = ("client", "app", "mode", "topic", "person", "all")
PERSON: Final = "person"
PEOPLE: Final = "people"  # the topic that a program listens for to be shown messages of other people

_KINDS: Final = (*KINDS, "device")
_CLIENT: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,126}\*?|\*")


class Target(NamedTuple):
    """kind and name of the programs, place of the device: empty is every one, `here` this one, else name or
    fingerprint."""

    kind: str
    name: str = ""
    place: str = ""

    @property
    def text(self) -> str:
        """As it is written."""
        programs = f"{self.kind}:{self.name}" if self.name else self.kind
        return f"{programs}@{self.place}" if self.place else programs


def heard_as(kind: str, name: str, type: str) -> str:
    """What a program needs the right to listen for, to be told of a message: of one to a topic the topic, of one from
    or to another person PEOPLE, whatever that person is called; else its type."""
    match kind:
        case "topic":
            return name
        case "person":
            return PEOPLE
        case _:
            return type


def parse_target(text: str) -> Target:
    """Raises: BadValue: says what is wrong with it."""
    programs, at, place = text.rpartition("@")
    if not at:
        programs, place = text, ""
    elif not place:
        raise _wrong(text, "behind @ stands a device's name or `here`")
    kind, colon, name = programs.partition(":")
    if kind == "device" and colon and not at:
        kind, name, place = "all", "", name
        if not place:
            raise _wrong(text, "behind `device:` stands its name")
    if len(place) > MAX_NAME or not place.isprintable():
        raise _wrong(text, f"a device's name has at most {MAX_NAME} characters")
    match kind:
        case "all" if not name and not (colon and place == ""):
            pass
        case "client" if _CLIENT.fullmatch(name):
            pass
        case "app" if 0 < len(name) <= MAX_NAME and name.isprintable():
            pass
        case "mode" if name in MODES:
            pass
        case "person" if at:
            raise _wrong(text, "a message to a person goes to all their devices, so no @ stands behind it")
        case "person" if 0 < len(name) <= MAX_NAME and name.isprintable():
            pass
        case "topic":
            check_topic(name)
        case "mode":
            raise _wrong(text, f"the modes are {', '.join(MODES)}")
        case _:
            raise _wrong(text, "it is client:ID, app:NAME, mode:MODE, topic:TOPIC, person:NAME, device:NAME or all")
    return Target(kind, name, place)


def _wrong(text: str, why: str) -> BadValue:
    return BadValue(f"{ascii(text)[:80]} is no target: {why}.", field="to")


class Listener(NamedTuple):
    """A program that listens for messages here. nr: of its row; topics: that it wants; app: what it is called by."""

    nr: int
    principal: str
    mode: str
    client_id: str
    app: str
    topics: frozenset[str]

    @property
    def client(self) -> str:
        """What it is shown as, and named as a sender."""
        return f"{self.mode}/{self.client_id}"

    def is_meant(self, kind: str, name: str) -> bool:
        """Is it among the programs that such a target names."""
        match kind:
            case "all":
                return True
            case "client":
                return self.client_id == name
            case "mode":
                return self.mode == name
            case "app":
                return self.app == name
            case _:
                return name in self.topics


class Rule(NamedTuple):
    """Messages of this type, sent without a target, go to these. pattern: a type, with `*` as its end any rest; go_on:
    later rules are asked too."""

    name: str
    pattern: str
    to: tuple[str, ...]
    go_on: bool = False

    def holds(self, type: str) -> bool:
        """Is it for this type."""
        return type.startswith(self.pattern[:-1]) if self.pattern.endswith("*") else type == self.pattern


def check_rule(rule: Rule) -> None:
    """Raises: BadValue."""
    if not 0 < len(rule.name) <= MAX_NAME or not rule.name.isprintable():
        raise BadValue(f"A rule has a name of at most {MAX_NAME} characters.", field="rules")
    if not _PATTERN.fullmatch(rule.pattern):
        raise BadValue(f"{ascii(rule.pattern)[:80]} is no type of messages, and none with * at its end.", field="rules")
    if not rule.to:
        raise BadValue(f"The rule {rule.name!r} leads nowhere: name at least one target.", field="rules")
    for target in rule.to:
        parse_target(target)


def parse_rule(name: str, text: str) -> Rule:
    """A rule as people write it: TYPE=TARGET[,TARGET...], with + at its end if later ones are asked too; a target that
    is a bare word is a device's name. Raises: BadValue."""
    pattern, equals, rest = text.partition("=")
    if not equals or not rest.strip().rstrip("+"):
        raise BadValue(f"A rule is TYPE=TARGET, not {ascii(text)[:80]}.", field="rules")
    targets = [part.strip() for part in rest.strip().removesuffix("+").split(",")]
    whole = tuple(part if part.partition(":")[0].partition("@")[0] in _KINDS else f"device:{part}" for part in targets)
    rule = Rule(name, pattern.strip(), whole, go_on=rest.rstrip().endswith("+"))
    check_rule(rule)
    return rule


def decide(rules: Iterable[Rule], type: str) -> list[Rule]:
    """The rules that are for a type, in their order: up to the first that does not go on."""
    found: list[Rule] = []
    for rule in rules:
        if rule.holds(type):
            found.append(rule)
            if not rule.go_on:
                break
    return found


def targets_of(rules: Sequence[Rule]) -> list[Target]:
    """Where they lead, each once."""
    return list(dict.fromkeys(parse_target(text) for rule in rules for text in rule.to))

"""Commands of the local API about messages: send, list, acknowledge, where they would go. Form: see localapi.py.

A target is `client:ID`, `app:NAME`, `mode:MODE`, `topic:TOPIC`, `all`, each with `@DEVICE` or `@here` for one device,
or `device:NAME`. Source: protocol/SPEC.md, "Messages".
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from .limits import MAX_MESSAGE_TTL_MS
from .localapi import Command, Limit, Result

PriorityName = Literal["bulk", "normal", "high", "urgent"]
StateName = Literal["queued", "stored", "handed", "delivered", "handled", "expired", "failed"]
Box = Literal["all", "in", "out", "dead"]
TargetText = Annotated[str, Meta(min_length=1, max_length=256)]
Targets = Annotated[list[TargetText], Meta(min_length=1, max_length=16)]
TypeText = Annotated[str, Meta(min_length=1, max_length=128)]
Ttl = Annotated[float, Meta(gt=0, le=MAX_MESSAGE_TTL_MS / 1000)]
Wait = Annotated[float, Meta(ge=0, le=60)]


class Delivery(Result):
    """What became of a message at one device. here: it is this one; tries: how often it was put; error: of the last
    try."""

    device: str
    here: bool
    state: StateName
    at_ms: int
    tries: int = 0
    error: str | None = None


class Message(Result):
    """A message that was sent or has arrived here. state: of all deliveries the least far; changes: rises with each
    change.

    incoming: another device sent it; client: the program that sent it; gap: something before it is missing; person,
    person_id: the contact who sent it or whom it is for, null: it is between devices of one's own; also: ids of further
    messages that the same call made, one per target.
    """

    id: str
    incoming: bool
    device: str
    client: str
    to: str
    type: str
    body: Any
    priority: PriorityName
    created_ms: int
    expires_ms: int
    state: StateName
    deliveries: list[Delivery]
    changes: int
    reply_to: str | None = None
    gap: bool = False
    person: str | None = None
    person_id: str | None = None
    also: list[str] = msgspec.field(default_factory=list)


class MessagePage(Result):
    """Newest first. next_cursor: null on the last page."""

    items: list[Message]
    next_cursor: str | None = None


class SendMessage(Command):
    """Send content to programs, here and on other devices; durable when it is answered.

    to: without it the rules decide;
    id: a UUID of the caller's making, for a call that may be repeated; ttl_s: seconds until it is given up, 7 days if
    not said; reply_to: the message that this one answers.
    """

    type: TypeText
    body: Any = None
    to: TargetText | Targets | None = None
    priority: PriorityName = "normal"
    ttl_s: Ttl | None = None
    id: str | None = None
    reply_to: str | None = None


class BroadcastMessage(Command):
    """Send content to every program of the person on every device, or to those of one deployment mode."""

    type: TypeText
    body: Any = None
    mode: Literal["web_app", "browser_extension", "local_install"] | None = None
    priority: PriorityName = "normal"
    ttl_s: Ttl | None = None
    id: str | None = None


class ListMessages(Command):
    """What was sent and what arrived, newest first. box: `in`, `out`, or `dead`: those that expired or failed.

    type: exact, or with * at its end; peer: a device, the program that sent it, or person:NAME; state: of at least one
    delivery.
    """

    box: Box = "all"
    type: str | None = None
    peer: str | None = None
    state: StateName | None = None
    limit: Limit = 50
    cursor: str | None = None


class GetMessage(Command):
    """One message. wait_s: answer later, up to so many seconds, if nothing has changed since `known` changes."""

    id: str
    known: int | None = None
    wait_s: Wait = 0


class AckMessages(Command):
    """These messages are dealt with: they are not shown again. Over a WebSocket for the program that asks."""

    ids: Annotated[list[str], Meta(min_length=1, max_length=1_000)]


class AckMessage(Command):
    """This message is dealt with, for all programs here: a person, or a program without a connection, has done it."""

    id: str


class Acknowledged(Result):
    """count: of them, those that were waiting."""

    count: int


class RetryMessage(Command):
    """Send a message that expired or failed once more, as a new one; the old one goes."""

    id: str


class DeleteMessage(Command):
    """Forget a message that needs no further work: it is dead, or was handled, or came from elsewhere."""

    id: str


class Deleted(Result):
    """id: of what is gone."""

    id: str


class ListenMessages(Command):
    """Be shown messages from now on, those that wait included, until each is acknowledged. Only over a WebSocket.

    app: by what name `app:NAME` finds this program; topics: that it wants; receive: false: only news of what it sent.
    """

    app: Annotated[str, Meta(max_length=64)] = ""
    topics: Annotated[list[str], Meta(max_length=50)] = msgspec.field(default_factory=list)
    receive: bool = True


class Listening(Result):
    """sub: stands in every event; waiting: messages that are there already."""

    sub: int
    waiting: int


class Program(Result):
    """A program that listens for messages here. online: it is connected now; waiting: not acknowledged."""

    client: str
    app: str
    topics: list[str]
    online: bool
    last_seen_ms: int
    waiting: int


class ProgramList(Result):
    """All that listened within 30 days."""

    items: list[Program]
    next_cursor: str | None = None


class ListPrograms(Command):
    """Which programs listen for messages on this device, and which of them are here now."""


class Addressee(Result):
    """A device that messages may be sent to, as `@NAME` behind a target. fingerprint: names it too, if a name is not
    the only one."""

    name: str
    fingerprint: str


class AddresseeList(Result):
    """The other devices of the space, by name; none while the keys are locked."""

    items: list[Addressee]
    next_cursor: str | None = None


class ListAddressees(Command):
    """Which devices messages may be sent to."""


class ProgramPresence(Result):
    """A program that listens for messages on a device. last_seen_ms: by that device's clock."""

    client: str
    app: str
    online: bool
    last_seen_ms: int


class DevicePresence(Result):
    """A device. online: it was heard of within five minutes; last_seen_ms: when it told last, null: never; programs:
    as it told then."""

    device: str
    here: bool
    online: bool
    last_seen_ms: int | None
    programs: list[ProgramPresence]


class PresenceList(Result):
    """This device first."""

    items: list[DevicePresence]
    next_cursor: str | None = None


class ListPresence(Command):
    """Which devices and which programs on them are here now, and when those that are not were."""


class RouteRule(Result):
    """One rule for messages without a target. type: exact, or with * at its end; go_on: later rules are asked too;
    fixed: it stands in the configuration, and no call changes it."""

    name: str
    type: str
    to: list[str]
    go_on: bool = False
    fixed: bool = False


class RuleList(Result):
    """In the order in which they are asked."""

    items: list[RouteRule]
    next_cursor: str | None = None


class ListRules(Command):
    """The rules for messages without a target."""


class PutRules(Command):
    """Replace all rules but those of the configuration, which come first; such ones in the list are passed over."""

    rules: Annotated[list[RouteRule], Meta(max_length=100)]


class ExplainMessage(Command):
    """Where a message would go and why; nothing is sent."""

    type: TypeText
    to: TargetText | Targets | None = None


class RouteDevice(Result):
    """A device that would get it. programs: those that would be shown it, on another device as it told last; online: is
    it here, null: it never told."""

    device: str
    here: bool
    programs: list[str]
    online: bool | None = None


class RouteStep(Result):
    """One target. why: it was named by the caller, or by a rule; problem: why nothing would be sent."""

    to: str
    why: str
    devices: list[RouteDevice]
    problem: str | None = None


class RouteReport(Result):
    """steps: one per target; empty: no rule is for this type, so it would be refused."""

    type: str
    steps: list[RouteStep]


class Notification(Result):
    """Something that a program or person sent and nobody here has dealt with. person: the contact who did."""

    id: str
    device: str
    client: str
    type: str
    priority: PriorityName
    at_ms: int
    person: str | None = None


class NotificationList(Result):
    """The most urgent and newest first. waiting: how many there are in all."""

    items: list[Notification]
    waiting: int
    next_cursor: str | None = None


class ListNotifications(Command):
    """What waits here for somebody."""

    limit: Limit = 50

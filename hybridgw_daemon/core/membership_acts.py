"""Records by which a person changes who belongs: remove, restore, leave; and, with the recovery words, expel.

What they mean is decided by everybody alike (protocol/hybridgw_protocol/membership.py); here they are made, on top of
what the signer has seen. Keys that are due after them: `tend` in keys.py. Source: protocol/SPEC.md, "Control log".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from hybridgw_protocol.ids import DeviceId, Digest, LogId
from hybridgw_protocol.membership import Close, ControlLog
from hybridgw_protocol.records import (
    ROOT,
    Add,
    AnyPayload,
    Expel,
    Leave,
    LogClose,
    Record,
    Remove,
    Restore,
    read_record,
    sign_record,
)

from .keys import Hand

ACTS: Final = (Add, Remove, Restore)  # what a thief could do to the other devices


class LogEnd(NamedTuple):
    """Where a log of a device that is expelled shall end."""

    device: DeviceId
    log: LogId
    end: Close


def remove(hand: Hand, target: Digest) -> bytes:
    """Raw `remove` of the device on a seat."""
    return _sign(
        hand,
        Remove(space=hand.log.space, prevs=tuple(hand.log.signing_heads), by=hand.by, ts=hand.now_ms, target=target),
    )


def restore(hand: Hand, ends: Iterable[Digest]) -> bytes:
    """Raw `restore`. Args: ends: the removes it ends: own ones, or any if root signs."""
    prevs = tuple(hand.log.signing_heads)
    return _sign(hand, Restore(space=hand.log.space, prevs=prevs, by=hand.by, ts=hand.now_ms, ends=tuple(ends)))


def leave(hand: Hand) -> bytes:
    """Raw `leave` of the signer."""
    prevs = tuple(hand.log.signing_heads)
    return _sign(hand, Leave(space=hand.log.space, prevs=prevs, by=hand.by, ts=hand.now_ms))


def expel(hand: Hand, target: Digest, void: Collection[Digest], logs: Sequence[LogEnd]) -> list[bytes]:
    """Raw records by which root puts a device out for ever.

    The ends of its logs come first and the expel rests on them: nobody who has the expel lacks them, for without them
    nothing that the device ever wrote would count. Args: hand: root's; void: records of the device that shall not
    count, with all that rests on them; logs: its own and those of devices that go with it, each with what is kept.
    """
    keep = tuple(hand.log.heads_without(void))
    made = close_logs(hand, logs)
    prevs = (read_record(made[-1], hand.log.space).hash,) if made else tuple(hand.log.signing_heads)
    made.append(
        _sign(hand, Expel(space=hand.log.space, prevs=prevs, by=ROOT, ts=hand.now_ms, target=target, keep=keep))
    )
    return made


def close_logs(hand: Hand, logs: Sequence[LogEnd]) -> list[bytes]:
    """Raw records by which root ends logs, each on top of the one before."""
    log, made = hand.log, list[bytes]()
    prevs = tuple(log.signing_heads)
    for device, name, end in logs:
        close = LogClose(
            space=log.space, prevs=prevs, by=ROOT, ts=hand.now_ms, device=device, log=name, n=end.n, hash=end.hash,
            fork=end.fork,
        )  # fmt: skip
        made.append(_sign(hand, close))
        prevs = (read_record(made[-1], log.space).hash,)
    return made


def acts_of(log: ControlLog, device: DeviceId) -> list[Record]:
    """The records by which a device has changed who else belongs, oldest first."""
    seats = {info.seat for info in log.devices() if info.device == device}
    return [r for r in log.since(0) if r.payload.by in seats and isinstance(r.payload, ACTS)]


def _sign(hand: Hand, payload: AnyPayload) -> bytes:
    return sign_record(payload, hand.sign_secret)

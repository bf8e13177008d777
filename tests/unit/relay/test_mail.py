"""Mail of a relay: whose it is to put, what waits is sent the most urgent first and in a window."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hybridgw_protocol.envelope import FLAG_PRESENCE, EnvelopeHeader, encode_envelope_header
from hybridgw_protocol.errors import BadFrame
from hybridgw_protocol.frames import Msg, MsgPut
from hybridgw_protocol.ids import DeviceId, KeyId, LogId, SpaceId
from hybridgw_protocol.messages import Priority
from hybridgw_relay.fanout.local import LocalFanout
from hybridgw_relay.services.host import Host
from hybridgw_relay.services.mail import RESERVED, WINDOW, MailService, MailStream
from hybridgw_relay.stores.base import MailRow

A, B, GONE = (DeviceId(name * 16) for name in (b"a", b"b", b"g"))
SPACE = SpaceId(b"s" * 16)


class Store:
    """Only what mail needs, in memory."""

    def __init__(self) -> None:
        self.rows: list[MailRow] = []
        self.gone: list[bytes] = []

    async def put_mail(self, _sid: int, rows: list[MailRow], _now_ms: int) -> list[bool]:
        self.rows += rows[:1]
        return [True, *([False] * (len(rows) - 1))]

    def mail_waits(self, _sid: int, _dest: DeviceId, after: dict[Priority, int]) -> list[Priority]:
        return [p for p in Priority if any(row.priority == p for row in self.rows[after[p] :])]

    async def done_mail(self, _sid: int, _dest: DeviceId, keys: list[bytes]) -> None:
        self.gone += keys

    def mail(self, _sid: int, _dest: DeviceId, priority: int, after: int, _most: int) -> list[tuple[int, MailRow]]:
        found = [(k, row) for k, row in enumerate(self.rows, 1) if row.priority == priority and k > after]
        return found[:16]


class Member:
    """A connection of a device."""

    def __init__(self, device: DeviceId) -> None:
        self.device = device
        self.passed: list[Msg] = []

    def pass_on(self, frame: Msg) -> None:
        self.passed.append(frame)


class Space:
    """Of which A and B are active."""

    sid, id = 1, SPACE

    def __init__(self) -> None:
        self.members: list[Member] = []

    def is_active(self, device: DeviceId) -> bool:
        return device != GONE


def envelope(**changes: Any) -> bytes:
    said: dict[str, Any] = {
        "flags": 0, "space": SPACE, "id": bytes(16), "sender": A, "recipient": B, "stream": LogId(1), "seq": 1,
        "priority": Priority.NORMAL, "created_ms": 0, "expires_ms": 1_000, "kid": KeyId(bytes(8)), "nonce": bytes(24),
    }  # fmt: skip
    return encode_envelope_header(EnvelopeHeader(**said | changes)) + bytes(336)


@pytest.fixture
def service() -> MailService:
    async def work(fn: Any) -> Any:
        return fn()

    return MailService(Store(), LocalFanout(), Host(lambda: 500, lambda: 0, bytes, work))  # type: ignore[arg-type]


async def test_sec_R4_only_its_own_messages_may_a_device_put(service: MailService) -> None:
    for blob in (envelope(sender=GONE), envelope(space=SpaceId(bytes(16))), envelope()[:-1], envelope(seq=0)):
        with pytest.raises(BadFrame):
            await service.put(Space(), A, MsgPut(m=[blob]))  # type: ignore[arg-type]


async def test_spec_R4_each_refusal_has_its_reason(service: MailService) -> None:
    frame = MsgPut(m=[envelope(), envelope(recipient=GONE), envelope(id=b"2" * 16)])
    answer = await service.put(Space(), A, frame)  # type: ignore[arg-type]
    assert answer.ids == [B + bytes(16)]
    assert dict(zip(answer.no, answer.why, strict=True)) == {GONE + bytes(16): "revoked", B + b"2" * 16: "quota"}


async def test_spec_R4_what_is_over_when_it_comes_is_kept_as_a_tombstone(service: MailService) -> None:
    await service.put(Space(), A, MsgPut(m=[envelope(expires_ms=500)]))  # type: ignore[arg-type]
    assert service._store.rows[0].body is None  # type: ignore[attr-defined]


async def test_spec_R3_the_most_urgent_first_in_a_window() -> None:
    store, sent = Store(), list[Msg]()
    for k in range(2 * WINDOW):
        store.rows.append(MailRow(B, A, k.to_bytes(16, "big"), 0, 0, bytes(227), b"x"))
    stream = MailStream(store, Space(), B, sent.append)  # type: ignore[arg-type]
    running = [asyncio.create_task(work) for work in (stream.run(), stream.forget())]

    async def settle() -> None:
        """Turns of the loop, whatever time they take: more than it has frames to send."""
        for _ in range(2 * WINDOW):
            await asyncio.sleep(0)

    await settle()
    assert sum(len(frame.m) for frame in sent) == WINDOW - RESERVED
    store.rows.append(MailRow(B, A, b"u" * 16, 3, 0, bytes(227), b"y"))
    stream.wake()
    await settle()
    assert [len(frame.m) for frame in sent[-1:]] == [1]  # there was room for it alone
    stream.done([A + k.to_bytes(16, "big") for k in range(10)])
    await settle()
    assert sum(len(frame.m) for frame in sent) == WINDOW - RESERVED + 10
    assert store.gone == [A + k.to_bytes(16, "big") for k in range(10)]
    stream.done([A + k.to_bytes(16, "big") for k in range(10)])  # said twice, it makes no more room
    await settle()
    assert sum(len(frame.m) for frame in sent) == WINDOW - RESERVED + 10
    for task in running:
        task.cancel()


async def test_presence_is_passed_on_to_who_is_connected_and_kept_for_nobody(service: MailService) -> None:
    space, store = Space(), service._store
    space.members = [Member(A), Member(B), Member(B)]
    here = envelope(flags=FLAG_PRESENCE, stream=LogId(0), seq=0)
    answer = await service.put(space, A, MsgPut(m=[here], x=[]))  # type: ignore[arg-type]
    assert (answer.ids, answer.no, service.stored) == ([B + bytes(16)], [], 0)
    assert [member.passed for member in space.members] == [[], [Msg(m=[here], x=[])], [Msg(m=[here], x=[])]]
    dead = here[:131] + bytes(32 + 64)
    assert (await service.put(space, A, MsgPut(m=[], x=[dead]))).ids == answer.ids  # type: ignore[arg-type]
    gone = envelope(flags=FLAG_PRESENCE, stream=LogId(0), seq=0, recipient=GONE)
    assert (await service.put(space, A, MsgPut(m=[gone], x=[]))).why == ["revoked"]  # type: ignore[arg-type]
    assert [len(member.passed) for member in space.members] == [0, 1, 1]
    assert store.rows == []  # type: ignore[attr-defined]

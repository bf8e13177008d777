"""Pairing mailboxes: who may open, who may join, how much passes, when it ends."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from hybridgw_protocol.errors import Busy, PairingFailed, RateLimited
from hybridgw_protocol.frames import Frame, PairClose, PairJoined, PairMsg
from hybridgw_protocol.ids import SpaceId
from hybridgw_protocol.limits import PAIRING_TTL_MS
from hybridgw_relay.services.host import Host
from hybridgw_relay.services.mailboxes import MESSAGES, MOST_OPEN, OPEN_PER_SPACE, Mailboxes

SPACE = SpaceId(b"s" * 16)


@dataclass(eq=False)
class Side:
    """A connection that notes what it is sent."""

    got: list[Frame] = field(default_factory=list)

    def deliver(self, frame: Frame) -> None:
        self.got.append(frame)


class World:
    """Mailboxes with a clock that is set by hand."""

    def __init__(self, **options: Any) -> None:
        self.now_ms = 1_000_000
        rng = random.Random(1)
        host = Host(lambda: 0, lambda: self.now_ms, rng.randbytes, lambda fn: fn())  # type: ignore[arg-type,return-value]
        self.boxes = Mailboxes(host, **options)


def paired(world: World) -> tuple[Side, Side, int]:
    existing, new = Side(), Side()
    nameplate = world.boxes.open_(existing, SPACE).np
    world.boxes.join(new, nameplate, "192.0.2.1")
    return existing, new, nameplate


def test_messages_go_to_the_other_side() -> None:
    world = World()
    existing, new, _ = paired(world)
    world.boxes.message(new, PairMsg(m=b"1"))
    world.boxes.message(existing, PairMsg(m=b"2"))
    assert existing.got == [PairJoined(), PairMsg(m=b"1")]
    assert new.got == [PairJoined(), PairMsg(m=b"2")]


def test_nobody_is_there_yet() -> None:
    world = World()
    existing = Side()
    nameplate = world.boxes.open_(existing, SPACE).np
    world.boxes.message(existing, PairMsg(m=b"x"))
    assert existing.got == [PairClose(why="gone")]
    with pytest.raises(PairingFailed):
        world.boxes.join(Side(), nameplate, "192.0.2.1")
    stranger = Side()
    world.boxes.message(stranger, PairMsg(m=b"x"))
    assert stranger.got == [PairClose(why="gone")]


def test_a_second_join_ends_it_for_all() -> None:
    world = World()
    existing, new, nameplate = paired(world)
    with pytest.raises(PairingFailed):
        world.boxes.join(Side(), nameplate, "198.51.100.1")
    assert existing.got[-1] == new.got[-1] == PairClose(why="joined")
    assert len(world.boxes) == 0


def test_a_code_lives_ten_minutes() -> None:
    world = World()
    existing, new, _ = paired(world)
    waiting = Side()
    unused = world.boxes.open_(waiting, SPACE).np
    world.now_ms += PAIRING_TTL_MS - 1
    world.boxes.expire()
    assert len(world.boxes) == 2
    world.now_ms += 1
    with pytest.raises(PairingFailed):
        world.boxes.join(Side(), unused, "192.0.2.9")  # also before the janitor came by
    world.boxes.expire()
    assert existing.got[-1] == new.got[-1] == waiting.got[-1] == PairClose(why="expired")
    assert len(world.boxes) == 0
    assert not world.boxes.has(existing)


def test_leaving_tells_the_other_only() -> None:
    world = World()
    existing, new, _ = paired(world)
    world.boxes.leave(new, "done")
    assert existing.got[-1] == PairClose(why="done")
    assert new.got == [PairJoined()]
    world.boxes.leave(existing, "gone")  # again: nothing
    assert existing.got[-1] == PairClose(why="done")


def test_opening_again_gives_up_the_first() -> None:
    world = World()
    existing, new, _ = paired(world)
    world.boxes.open_(existing, SPACE)
    assert new.got[-1] == PairClose(why="abort")
    assert len(world.boxes) == 1


def test_joins_are_limited_per_network_and_in_all() -> None:
    world = World(joins_per_minute=5)
    for _ in range(5):
        with pytest.raises(PairingFailed):
            world.boxes.join(Side(), 7, "192.0.2.1")
    with pytest.raises(RateLimited) as caught:
        world.boxes.join(Side(), 7, "192.0.2.99")
    assert int(str(caught.value.detail["retry_ms"])) > 0
    refused = 0
    for number in range(200):
        try:
            world.boxes.join(Side(), 7, f"10.0.{number}.1")
        except RateLimited:
            refused += 1
        except PairingFailed:
            pass
    assert refused > 80  # of 200 networks within no time, together
    world.now_ms += 60_000
    with pytest.raises(PairingFailed, match="first three digits"):
        world.boxes.join(Side(), 7, "192.0.2.1")


def test_opens_are_limited_per_space_and_in_all() -> None:
    world = World()
    sides = [Side() for _ in range(OPEN_PER_SPACE + 1)]
    for side in sides[:-1]:
        world.boxes.open_(side, SPACE)
    with pytest.raises(RateLimited):
        world.boxes.open_(sides[-1], SPACE)
    world.boxes.leave(sides[0], "done")
    world.boxes.open_(sides[-1], SPACE)
    with pytest.raises(RateLimited):
        for _ in range(100):  # open and give up, again and again
            world.boxes.open_(sides[0], SPACE)
            world.boxes.leave(sides[0], "done")
    with pytest.raises(Busy):
        for number in range(MOST_OPEN + 1):
            world.boxes.open_(Side(), SpaceId(number.to_bytes(16, "big")))
    assert len(world.boxes) == MOST_OPEN


def test_messages_are_bounded_in_number_and_bytes() -> None:
    world = World()
    existing, new, _ = paired(world)
    for _ in range(MESSAGES):
        world.boxes.message(new, PairMsg(m=b"x"))
    assert len(existing.got) == MESSAGES + 1
    world.boxes.message(new, PairMsg(m=b"x"))
    assert existing.got[-1] == new.got[-1] == PairClose(why="abort")
    existing, new, _ = paired(World())
    world = World()
    existing, new, _ = paired(world)
    for _ in range(11):
        world.boxes.message(existing, PairMsg(m=bytes(500_000)))
    assert new.got[-1] == PairClose(why="abort")


def test_nameplates_are_not_guessable_in_a_row() -> None:
    world = World()
    plates = []
    for number in range(20):
        plates.append(world.boxes.open_(Side(), SpaceId(number.to_bytes(16, "big"))).np)
    assert len(set(plates)) == 20
    assert all(0 <= plate <= 999 for plate in plates)
    assert plates != sorted(plates)

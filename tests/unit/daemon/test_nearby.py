"""What may be tried, in which order, and what is remembered: with a real database."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hybridgw_daemon.core.addresses import Address
from hybridgw_daemon.services.nearby import KEPT_PER_DEVICE, MAX_CANDIDATES, MAX_MANUAL, MAX_SOURCES, Nearby
from hybridgw_daemon.stores.schema import MIGRATIONS
from hybridgw_protocol.errors import BadValue, NotFound, TooMany
from hybridgw_protocol.ids import DeviceId
from hybridgw_storage.database import SqliteDatabase
from hybridgw_storage.migrations import prepare_file

PHONE, DESK = DeviceId(b"p" * 16), DeviceId(b"d" * 16)
HOME = [ipaddress.ip_interface("192.168.1.5/24"), ipaddress.ip_interface("fe80::5/64")]


class Clock:
    now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    prepare_file(tmp_path / "replica.db", MIGRATIONS, stamp="test")
    database = SqliteDatabase(tmp_path / "replica.db")
    yield database
    await database.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def nearby(database: SqliteDatabase, clock: Clock) -> Nearby:
    return Nearby(database, clock=clock)


def at(number: int, port: int = 47801) -> Address:
    return Address(f"192.168.1.{number}", port)


async def test_the_order_is_manual_then_last_good_then_found(nearby: Nearby, clock: Clock) -> None:
    nearby.here(HOME, 47801)
    await nearby.worked(PHONE, Address("10.5.0.1", 1))  # of another network
    clock.now_ms += 1
    await nearby.worked(DESK, at(30))
    clock.now_ms += 1
    await nearby.worked(DESK, Address("10.5.0.2", 1))
    clock.now_ms += 1
    await nearby.worked(PHONE, at(31))
    nearby.found("eth0/a", [at(30), at(40)])
    await nearby.add("192.168.1.50:5000")
    assert nearby.candidates() == [
        at(50, 5000),  # a person said so
        at(30),  # good, and there now
        at(31),  # good, on this network
        Address("10.5.0.2", 1),  # the latest of the others
        Address("10.5.0.1", 1),
        at(40),
    ]


async def test_never_an_address_of_ours(nearby: Nearby) -> None:
    nearby.found("a", [at(5), at(5, 5000), Address("127.0.0.1", 47801), Address("fe80::5%eth0", 47801),
                       Address("::ffff:192.168.1.5", 47801), Address("localhost", 47801)])  # fmt: skip
    assert len(nearby.candidates()) == 6
    nearby.here(HOME, 47801)
    assert nearby.candidates() == [at(5, 5000)]  # another daemon of this machine
    for own in ("192.168.1.5:47801", "localhost", "[::1]", "[fe80::5%eth0]"):
        with pytest.raises(BadValue, match="this device itself"):
            await nearby.add(own)


async def test_what_was_typed_and_what_worked_outlives_the_daemon(
    database: SqliteDatabase, nearby: Nearby, clock: Clock
) -> None:
    await nearby.add("nas.home")
    await nearby.add("192.168.1.9")
    await nearby.add("nas.home:47801")  # known already
    await nearby.worked(PHONE, at(31))
    later = Nearby(database, clock=clock)
    assert later.candidates() == [Address("nas.home", 47801), at(9), at(31)]
    await later.remove("NAS.home")
    await later.forget(PHONE)
    assert later.candidates() == [at(9)]
    with pytest.raises(NotFound, match="hybridgw lan list"):
        await later.remove("nas.home")


async def test_everything_has_a_bound(nearby: Nearby, clock: Clock) -> None:
    for number in range(MAX_MANUAL):
        await nearby.add(f"10.1.0.{number + 1}")
    with pytest.raises(TooMany):
        await nearby.add("10.1.1.1")
    await nearby.add("10.1.0.1")  # no new one
    for number in range(KEPT_PER_DEVICE + 5):
        clock.now_ms += 1
        await nearby.worked(PHONE, Address("10.2.0.1", number + 1))
    assert [row.address.port for row in nearby.last_good()] == list(range(KEPT_PER_DEVICE + 5, 5, -1))
    for number in range(MAX_SOURCES * 3):
        nearby.found(f"eth0/{number}", [Address(f"10.3.{number}.{k}", 1) for k in range(100)])
    assert len(nearby.candidates()) == MAX_CANDIDATES
    assert all(int(a.host.split(".")[2]) >= MAX_SOURCES * 2 for a in nearby.found_now())


async def test_those_who_wait_are_told_of_changes_only(nearby: Nearby) -> None:
    told: list[int] = []
    nearby.on_change(lambda: told.append(len(nearby.candidates())))
    nearby.here(HOME, 47801)
    nearby.here(HOME, 47801)
    nearby.found("a", [at(30)])
    nearby.found("a", [at(30)])
    nearby.lost("b")
    nearby.found("a", [at(31)])
    nearby.lost("a")
    nearby.woken()
    await nearby.add("192.168.1.9")
    await nearby.remove("192.168.1.9")
    assert told == [0, 1, 1, 0, 0, 1, 0]


async def test_a_device_that_stays_where_it_is_is_not_written_down_again(nearby: Nearby, clock: Clock) -> None:
    await nearby.worked(PHONE, at(31))
    first = nearby.last_good()
    clock.now_ms += 60_000
    await nearby.worked(PHONE, at(31))
    assert nearby.last_good() == first
    clock.now_ms += 3_600_000
    await nearby.worked(PHONE, at(31))
    assert nearby.last_good()[0].last_ms == clock.now_ms
    clock.now_ms = 5  # a clock that was set back
    await nearby.worked(PHONE, at(31))
    assert nearby.last_good()[0].last_ms == 5

"""A lost device has begun a log that the device which put it out never saw: nobody waits for it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from hybridgw_daemon.core.body import decode_body
from hybridgw_daemon.core.operations import Create, Edit
from hybridgw_daemon.core.owners import encode_owners, owners
from hybridgw_daemon.core.words import seed_to_words
from hybridgw_daemon.stores import oplog
from hybridgw_protocol.batch import Head, parse_batch
from hybridgw_protocol.ids import LogId
from hybridgw_protocol.localapi_devices import ExpelDevice

from .devices import Device, pair, until
from .test_direct import Direct, household
from .test_who_belongs import id_of, state_of


@contextlib.asynccontextmanager
async def linked(one: Direct, *others: Direct) -> AsyncIterator[None]:
    """A device that calls others, all of them listening, while the block runs."""
    async with contextlib.AsyncExitStack() as stack:
        for links in (one, *others):
            await stack.enter_async_context(links.running())
        one.nearby.tell(*(links.address for links in others))
        yield


async def test_spec_D4_a_log_that_nobody_can_place_stalls_no_newcomer(tmp_path: Path) -> None:
    newcomer = Device(tmp_path / "newcomer", "newcomer")
    async with household(tmp_path, 3) as (laptop, desk, phone), newcomer.running():
        seed = laptop.membership.root_seed()
        assert seed is not None
        for device in (laptop, desk, phone):
            device.gateway.use([])
        await until(lambda: not any(d.sync.peers.conversations for d in (laptop, desk, phone)))
        # The phone goes on in a new log, as after a restore, and the desk writes on top of what it says there.
        own = phone.space.identity.device
        await phone.database.write(lambda tx: phone.replica.switch_log(tx, own, os.urandom(32), phone.clock()))
        phone.space.own_log = await phone.database.write(phone.replica.own_log)
        async with linked(Direct(phone, tmp_path), Direct(desk, tmp_path)):
            await phone.write(Create("tasks", "one", {"title": "by the phone"}))
            await until(lambda: len(desk.shown()) == 1)
            await desk.write(Create("tasks", "two", {"title": "by the desk"}))
            await until(lambda: len(phone.shown()) == 2)
        # The laptop, which has none of it, puts the phone out.
        words = " ".join(seed_to_words(seed))
        await laptop.expelling.expel(ExpelDevice(id=id_of(phone), words=words))
        at_laptop, at_desk = Direct(laptop, tmp_path), Direct(desk, tmp_path)
        async with linked(at_laptop, at_desk):
            await until(lambda: state_of(desk, phone) == "expelled")
            await until(lambda: laptop.shown() == desk.shown() != [])
            assert [row[1] for row in laptop.shown()] == ["two"]
            assert phone.space.own_log not in {log for log, row in laptop.logs().items() if row.stored.n}
        # And somebody who has never met the phone gets all of it from a relay, which has seen no batch of that log.
        laptop.relays.start()
        await pair(laptop, newcomer)
        await until(lambda: newcomer.shown() == laptop.shown())
        await laptop.write(Edit("tasks", "two", {"title": "and goes on"}))
        await until(lambda: "goes on" in str(newcomer.shown()))
        assert not [row for row in newcomer.logs().values() if row.waiting]
        # It was told once, by the only one who had it; who was told does not tell it again.
        for device, times in ((laptop, 1), (newcomer, 1)):
            blobs = device.database.peek(lambda c: list(oplog.all_blobs(c)))
            bodies = [body for blob in blobs if (body := device.replica.open(parse_batch(blob))[0]) is not None]
            assert sum(len(list(owners(body))) for body in bodies) == times


def test_whose_a_log_is_is_read_back_and_other_forms_say_nothing() -> None:
    proofs = [bytes(range(48)), bytes(48)]
    body = decode_body(encode_owners(proofs, 5 << 16, {LogId(7): Head(2, bytes(16))}, [bytes(16)]), LogId(1))
    assert [device + salt for device, salt in owners(body)] == proofs
    assert (body.deps, body.control) == ({LogId(7): Head(2, bytes(16))}, (bytes(16),))
    assert (body.first_stamp, body.last_stamp) == (5 << 16, (5 << 16) + 1)
    for proof in (b"", bytes(47), bytes(49), "text", 7, [bytes(48)]):
        raw = msgspec.msgpack.encode({"t": 5 << 16, "x": [[6, 0, proof]]})
        assert list(owners(decode_body(raw, LogId(1)))) == []
    raw = msgspec.msgpack.encode({"t": 5 << 16, "x": [[6, 0], [7, 1, bytes(48)]]})
    assert list(owners(decode_body(raw, LogId(1)))) == []

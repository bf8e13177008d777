"""Control records and pairing mailboxes through a real relay."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterator

import pytest

from hybridgw_protocol.frames import (
    Ctl,
    CtlAck,
    CtlGet,
    CtlPut,
    Err,
    PairClose,
    PairJoin,
    PairJoined,
    PairMsg,
    PairOpen,
    PairOpened,
    Ping,
    Push,
    encode_frame,
)
from hybridgw_protocol.limits import MAX_PAIRING_BYTES, PAIRING_TTL_MS
from tests.relay_client import MANY_TRIES, Client, Closed, Family, RelayProcess, Writer

seeds = itertools.count(2_000)


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    folder = tmp_path_factory.mktemp("relay")
    with RelayProcess(folder / "data", environment=MANY_TRIES) as running:
        yield running


@pytest.fixture
def family() -> Family:
    return Family(next(seeds))


async def put(client: Client, records: list[bytes]) -> CtlAck:
    return await client.expect(CtlAck, await client.ask(CtlPut(recs=records)))


# ---- control records -------------------------------------------------------------------------------------------------
async def test_records_are_kept_and_told_to_the_others(relay: RelayProcess, family: Family) -> None:
    second = family.add()
    async with (
        Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as a,
        Client.admitted(relay.url, family, second) as b,
    ):
        before = family.control.short_heads
        family.add()
        assert (await put(a, family.records[-1:])).heads == family.control.short_heads
        assert (await b.expect(Ctl, 0)).recs == family.records[-1:]
        assert (await put(b, family.records)).heads == family.control.short_heads  # again: nothing new, nobody is told
        request = await b.ask(CtlGet(heads=before))
        assert (await b.expect(Ctl, request)).recs == family.records[-1:]
        request = await b.ask(CtlGet(heads=family.control.short_heads))
        assert (await b.expect(Ctl, request)).recs == []
        request = await a.ask(CtlGet(heads=[]))
        assert (await a.expect(Ctl, request)).recs == family.records
        assert not [frame for frame, _ in a.inbox if isinstance(frame, Ctl)]


async def test_a_bad_record_is_named_and_the_good_ones_are_kept(relay: RelayProcess, family: Family) -> None:
    other = Family(next(seeds))
    async with Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as a:
        family.add()
        for bad in (other.records[0], b"", b"\x92\xc4\x00\xc4\x00", family.records[-1] + b"\x00", bytes(9_000)):
            request = await a.ask(CtlPut(recs=[family.records[-1], bad]))
            assert (await a.expect(CtlAck, request)).heads == family.control.short_heads
            assert (await a.expect(Err, request)).code in ("bad_record", "too_big")
        family.add()
        forged = family.records[-1][:-1] + bytes([family.records[-1][-1] ^ 1])
        request = await a.ask(CtlPut(recs=[forged]))
        assert (await a.expect(Err, request)).code == "bad_signature"
        await put(a, family.records[-1:])


async def test_records_whose_past_is_missing_are_asked_for(relay: RelayProcess, family: Family) -> None:
    async with Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as a:
        family.add()
        family.add()
        request = await a.ask(CtlPut(recs=family.records[-1:]))
        error = await a.expect(Err, request)
        assert (error.code, error.retry > 0) == ("gap", True)
        assert (await put(a, family.records[-2:])).heads == family.control.short_heads


async def test_sec_R9_a_removed_device_is_cut_off_at_once(relay: RelayProcess, family: Family) -> None:
    second = family.add()
    async with (
        Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as a,
        Client.admitted(relay.url, family, second) as b,
        Client.admitted(relay.url, family, second) as c,
    ):
        await put(a, [family.remove(second)])
        assert (await b.refused()).code == "revoked"
        assert (await c.refused()).code == "revoked"
        writer = Writer(family, family.first)
        await a.push([writer.make()])


async def test_sec_R9_what_a_removed_device_had_under_way_is_not_taken(relay: RelayProcess, family: Family) -> None:
    """It pushes in the same moment: either before the removal, and then it is stored, or refused."""
    second = family.add()
    async with (
        Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as a,
        Client.admitted(relay.url, family, second) as b,
    ):
        await put(a, [family.remove(second)])
        with contextlib.suppress(Exception):
            await b.ask(Push(b=[Writer(family, second).make()]))
        assert (await b.refused()).code == "revoked"
        await a.caught_up()
        assert a.received == []


async def test_a_restored_device_shows_its_own_restore(relay: RelayProcess, family: Family) -> None:
    """Removed here, restored where the relay did not see it: the device brings the record along."""
    from hybridgw_protocol.records import Restore

    second = family.add()
    async with Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as a:
        remove = family.remove(second)
        await put(a, [remove])
        ends = tuple(family.control.standing_removes(second.id))
        prevs = tuple(family.control.signing_heads)
        payload = Restore(space=family.space, prevs=prevs, by=family.seat(family.first), ts=9, ends=ends)
        restore = family._put(payload, family.first.secret)
        async with Client.admitted(relay.url, family, second):
            assert (await a.expect(Ctl, 0)).recs == [restore]


async def test_the_account_limits_devices_and_keeps_records(relay: RelayProcess, family: Family) -> None:
    second, third = family.add(), family.add()
    secret = relay.invite(f"two-{family.space.hex()}", max_devices=2)
    async with Client.admitted(relay.url, family, family.first, enrol=secret) as a:
        codes = []
        for keys in (second, third):
            try:
                async with Client.admitted(relay.url, family, keys):
                    codes.append("ok")
            except Closed as closed:
                codes.append(closed.code)
        assert codes == ["ok", "quota"]
        request = await a.ask(CtlGet(heads=[]))
        assert (await a.expect(Ctl, request)).recs == family.records


async def test_too_many_connections_of_one_device_end_the_oldest(relay: RelayProcess, family: Family) -> None:
    async with contextlib.AsyncExitStack() as stack:
        secret = relay.invite()
        clients = [
            await stack.enter_async_context(Client.admitted(relay.url, family, family.first, enrol=secret))
            for _ in range(6)
        ]
        assert [(await client.refused()).code for client in clients[:2]] == ["closed", "closed"]
        await clients[5].ask(Ping(t=5))


# ---- pairing ---------------------------------------------------------------------------------------------------------
async def opened(client: Client) -> PairOpened:
    return await client.expect(PairOpened, await client.ask(PairOpen()))


async def test_spec_D2_a_mailbox_carries_messages_both_ways(relay: RelayProcess, family: Family) -> None:
    async with (
        Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as existing,
        Client.connect(relay.url) as new,
    ):
        box = await opened(existing)
        assert 0 <= box.np <= 999
        assert box.ttl == PAIRING_TTL_MS
        await new.send(PairJoin(np=box.np))
        await new.expect(PairJoined)
        await existing.expect(PairJoined)
        for number in range(10):
            await new.send(PairMsg(m=b"n%d" % number))
            await existing.send(PairMsg(m=b"e%d" % number + bytes(100_000)))
        for number in range(10):
            assert (await existing.expect(PairMsg)).m == b"n%d" % number
            assert (await new.expect(PairMsg)).m.startswith(b"e%d" % number)
        # Sync goes on beside it.
        await existing.push([Writer(family, family.first).make()])
        await new.send(PairClose(why="done"))
        assert (await existing.expect(PairClose)).why == "done"


async def test_sec_R22_mailboxes_are_opened_by_members_only(relay: RelayProcess) -> None:
    async with Client.connect(relay.url) as stranger:
        await stranger.send_raw(encode_frame(PairOpen()))
        assert (await stranger.refused()).code == "bad_frame"


async def test_spec_D2_a_code_is_joined_once(relay: RelayProcess, family: Family) -> None:
    async with (
        Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as existing,
        Client.connect(relay.url) as new,
        Client.connect(relay.url) as guesser,
        Client.connect(relay.url) as late,
    ):
        box = await opened(existing)
        await new.send(PairJoin(np=box.np))
        await new.expect(PairJoined)
        await guesser.send(PairJoin(np=box.np))
        assert (await guesser.refused()).code == "pairing_failed"
        assert (await new.expect(PairClose)).why == "joined"
        assert (await existing.expect(PairClose)).why == "joined"
        await late.send(PairJoin(np=box.np))
        assert (await late.refused()).code == "pairing_failed"
        await existing.send(PairMsg(m=b"nobody"))
        assert (await existing.expect(PairClose)).why == "gone"
        assert (await opened(existing)).np >= 0  # the connection is as good as before


@pytest.mark.parametrize("who", ["new", "existing"])
async def test_a_side_that_goes_ends_the_mailbox(relay: RelayProcess, family: Family, who: str) -> None:
    async with (
        Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as existing,
        Client.connect(relay.url) as new,
    ):
        box = await opened(existing)
        await new.send(PairJoin(np=box.np))
        await new.expect(PairJoined)
        gone, left = (new, existing) if who == "new" else (existing, new)
        await gone.socket.close()
        assert (await left.expect(PairClose)).why == "gone"
        async with Client.connect(relay.url) as late:
            await late.send(PairJoin(np=box.np))
            assert (await late.refused()).code == "pairing_failed"


async def test_a_new_code_replaces_the_one_before(relay: RelayProcess, family: Family) -> None:
    async with (
        Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as existing,
        Client.connect(relay.url) as new,
    ):
        first = await opened(existing)
        second = await opened(existing)
        assert first.np != second.np or second.ttl
        await new.send(PairJoin(np=second.np))
        await new.expect(PairJoined)


async def test_sec_R16_what_goes_through_a_mailbox_is_bounded(relay: RelayProcess, family: Family) -> None:
    async with (
        Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as existing,
        Client.connect(relay.url) as new,
    ):
        box = await opened(existing)
        await new.send(PairJoin(np=box.np))
        await new.expect(PairJoined)
        with contextlib.suppress(ConnectionError, Closed):
            for _ in range(12):
                await new.send(PairMsg(m=bytes(MAX_PAIRING_BYTES)))
        while True:
            frame, _ = await existing.receive()
            if isinstance(frame, PairClose):
                assert frame.why == "abort"
                break
        async with Client.connect(relay.url) as other:
            await other.send_raw(encode_frame(PairJoin(np=0))[:-1] + b"\xcd\x27\x10")  # nameplate 10000
            assert (await other.refused()).code == "bad_frame"


async def test_sec_R16_joins_are_limited_per_network(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A guesser gets a handful of numbers to try, however many connections it opens."""
    with RelayProcess(tmp_path_factory.mktemp("guess") / "data") as strict:

        async def guess(number: int) -> str:
            async with Client.connect(strict.url) as client:
                await client.send(PairJoin(np=number))
                return (await client.refused()).code

        codes = [await guess(number) for number in range(12)]
        assert codes == ["pairing_failed"] * 10 + ["rate"] * 2


async def test_a_space_opens_few_mailboxes(relay: RelayProcess, family: Family) -> None:
    async with contextlib.AsyncExitStack() as stack:
        secret = relay.invite()
        keys = [family.first, family.add()]
        clients = [
            await stack.enter_async_context(Client.admitted(relay.url, family, keys[k % 2], enrol=secret))
            for k in range(5)
        ]
        for client in clients[:4]:
            await opened(client)
        request = await clients[4].ask(PairOpen())
        assert (await clients[4].expect(Err, request)).code == "rate"
        await clients[4].send(PairOpen())  # without an id the answer closes the mailbox, not the connection
        assert (await clients[4].expect(PairClose)).why == "rate"
        await asyncio.sleep(0)
        await clients[0].send(PairClose(why="done"))
        await clients[0].expect(Ctl, await clients[0].ask(CtlGet()))
        await opened(clients[4])

"""The promises of RelayStore, the same for every backend."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from hybridgw_protocol.batch import BATCH_HEADER_BYTES, parse_batch
from hybridgw_protocol.errors import BadFrame, BadSignature, Fork, Gap, HybridGWError, NotAdmitted, QuotaExceeded
from hybridgw_protocol.ids import DeviceId, LogId, SpaceId
from hybridgw_protocol.limits import (
    ACQUAINTED_MS,
    LOGS_PER_DEVICE,
    MAX_ACQUAINTED,
    MAX_LETTER_ROW_BYTES,
    MAX_LETTER_ROWS,
    MAX_MAIL_BYTES,
    MAX_MAIL_ROWS,
    MAX_MESSAGE_TTL_MS,
    MAX_STRANGER_BYTES,
    MAX_STRANGER_LETTERS,
    STRANGER_PART,
)
from hybridgw_protocol.membership import Close
from hybridgw_relay.core.control import ControlView
from hybridgw_relay.core.intake import read_batches
from hybridgw_relay.stores import admin
from hybridgw_relay.stores.base import (
    Append,
    Appended,
    DeviceRow,
    LetterRow,
    MailRow,
    Page,
    RelayStore,
    SpaceRow,
    Stored,
)
from hybridgw_relay.stores.sqlite import SqliteRelayStore
from hybridgw_storage.database import InlineDatabase
from tests.relay_client import Family, Keys, Writer

INVITE = bytes(31) + b"i"
GIB = 2**30
DAY_MS = 86_400_000


class Bench:
    """A store under test, with what an administrator does to it."""

    def __init__(self, store: RelayStore, path: Path) -> None:
        self.store, self.path = store, path

    def invite(
        self, digest: bytes = INVITE, *, account: str = "family", expires_ms: int = 10_000, **limits: int
    ) -> None:
        given = {"max_bytes": GIB, "max_devices": 32, **limits}
        with admin.opened(self.path, stamp="x") as database:
            database.write_now(
                lambda tx: admin.create_invite(
                    tx,
                    account,
                    digest,
                    now_ms=0,
                    expires_ms=expires_ms,
                    default_bytes=GIB,
                    default_devices=32,
                    max_bytes=given["max_bytes"],
                    max_devices=given["max_devices"],
                )
            )

    async def register(self, family: Family, digest: bytes = INVITE, *, invite: bool = True) -> SpaceRow:
        if invite:
            self.invite(digest)
        view = ControlView(family.space)
        added, error = view.add(family.records)
        assert error is None
        return await self.store.register(family.space, digest, added, view.heads(), devices_of(view), now_ms=5)

    async def append(
        self, family: Family, row: SpaceRow, *pushes: Sequence[bytes], by: Keys | None = None,
        closes: dict[LogId, Close] | None = None,
    ) -> list[Appended]:  # fmt: skip
        keys = {keys.id: keys.public for keys in family.devices}
        device = (by or family.first).id
        return await self.store.append(
            [
                Append(row.sid, row.aid, device, partial(read_batches, blobs, family.space, keys), closes or {})
                for blobs in pushes
            ],
            now_ms=7,
        )

    async def all(self, row: SpaceRow, have: dict[LogId, int] | None = None) -> list[Stored]:
        found: list[Stored] = []
        held = dict(have or {})
        while True:
            page = await self.store.page(row.sid, held, 2_000, 3)
            found += page.batches
            held |= {item.log: item.n for item in page.batches}
            if not page.more:
                return found


def devices_of(view: ControlView) -> dict[DeviceId, DeviceRow]:
    return {device: DeviceRow(sign, active) for device, sign, active in view.devices()}


def threaded(path: Path) -> SqliteRelayStore:
    return SqliteRelayStore.open(path, stamp="x")


def inline(path: Path) -> SqliteRelayStore:
    with admin.opened(path, stamp="x", must_exist=False):
        pass
    return SqliteRelayStore(InlineDatabase(path))


@pytest.fixture(params=[threaded, inline], ids=lambda make: make.__name__)
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    make: Callable[[Path], RelayStore] = request.param
    store = make(tmp_path / "relay.db")
    yield Bench(store, tmp_path / "relay.db")
    await store.close()


def rids(items: Sequence[Stored]) -> list[int]:
    return [item.rid for item in items]


# ---- admission -------------------------------------------------------------------------------------------------------
async def test_spec_Y7_an_invite_admits_one_space_once(bench: Bench) -> None:
    first, second = Family(1), Family(2)
    assert bench.store.space(first.space) is None
    assert not await bench.store.is_invited(INVITE, 1)
    bench.invite()
    assert await bench.store.is_invited(INVITE, 9_999)
    row = await bench.register(first, invite=False)
    assert bench.store.space(first.space) == row
    assert row.devices[first.first.id] == DeviceRow(first.first.public, True)
    assert not await bench.store.is_invited(INVITE, 1)
    with pytest.raises(NotAdmitted):
        await bench.register(second, invite=False)
    assert bench.store.space(second.space) is None


async def test_an_expired_invite_admits_nobody(bench: Bench) -> None:
    bench.invite(expires_ms=5)
    assert not await bench.store.is_invited(INVITE, 5)
    with pytest.raises(NotAdmitted):
        await bench.register(Family(1), invite=False)


async def test_registering_again_changes_nothing_and_uses_no_invite(bench: Bench) -> None:
    family = Family(1)
    row = await bench.register(family)
    bench.invite(b"j" * 32)
    assert await bench.register(family, b"j" * 32, invite=False) == row
    assert await bench.store.is_invited(b"j" * 32, 1)


async def test_control_records_are_kept_once_in_order(bench: Bench) -> None:
    family = Family(1)
    row = await bench.register(family)
    other = family.add()
    family.remove(other)
    view = ControlView(family.space)
    added, _ = view.add(family.records)
    for _ in range(2):
        await bench.store.add_control(row.sid, added, view.heads(), devices_of(view), now_ms=6)
    assert await bench.store.control(row.sid) == family.records
    found = bench.store.space(family.space)
    assert found is not None
    assert list(found.control_heads) == family.control.heads
    assert found.devices[other.id].active is False
    heads = family.control.short_heads
    assert bench.store.unknown_control(row.sid, [*heads, b"?" * 16]) == [b"?" * 16]
    assert bench.store.unknown_control(row.sid, [digest[:16] for digest, _ in added]) == []


async def test_the_first_devices_of_an_account_come_in(bench: Bench) -> None:
    family = Family(1)
    bench.invite(max_devices=2)
    row = await bench.register(family, invite=False)
    view = ControlView(family.space)
    view.add(family.records)
    for number in range(2, 4):
        keys = family.add()
        added, _ = view.add(family.records)
        await bench.store.add_control(row.sid, added, view.heads(), devices_of(view), now_ms=10)
        assert bench.store.is_within_devices(row.aid, row.sid, keys.id) is (number <= 2)
    account = await bench.store.account(row.aid)
    assert account is not None
    assert (account.active_devices, account.max_devices) == (3, 2)
    added, _ = view.add([family.remove(family.devices[1])])
    await bench.store.add_control(row.sid, added, view.heads(), devices_of(view), now_ms=50)
    assert bench.store.is_within_devices(row.aid, row.sid, family.devices[2].id)


# ---- batches ---------------------------------------------------------------------------------------------------------
async def test_spec_Y1_batches_come_back_byte_for_byte_in_the_order_of_commit(bench: Bench) -> None:
    family = Family(1)
    row = await bench.register(family)
    a, b = Writer(family, family.first), Writer(family, family.first, seed=1)
    order = [a.make(), b.make(700), a.make(450), a.make(900), b.make(), a.make()]
    results = await bench.append(family, row, order[:2], order[2:3], order[3:])
    assert [len(result.stored) for result in results] == [2, 1, 3]
    assert all(result.error is None for result in results)
    assert results[2].heads == {a.log: a.head, b.log: b.head}
    found = await bench.all(row)
    assert [item.blob for item in found] == order
    assert rids(found) == sorted(set(rids(found)))
    assert await bench.store.heads(row.sid) == {a.log: a.head, b.log: b.head}
    assert await bench.store.owners(row.sid) == {a.log: family.first.id, b.log: family.first.id}
    account = await bench.store.account(row.aid)
    assert account is not None
    assert account.used_bytes == sum(map(len, order))


async def test_a_vector_leaves_out_what_is_held(bench: Bench) -> None:
    family = Family(1)
    row = await bench.register(family)
    a, b = Writer(family, family.first), Writer(family, family.first, seed=1)
    await bench.append(family, row, [a.make(), b.make(), a.make(), b.make(), a.make()])
    found = await bench.all(row, {a.log: 2, b.log: 1})
    assert [item.blob for item in found] == [b.batch(2), a.batch(3)]
    assert await bench.all(row, {a.log: 3, b.log: 10**6}) == []


async def test_pages_obey_their_bounds_and_say_when_there_is_more(bench: Bench) -> None:
    family = Family(1)
    row = await bench.register(family)
    writer = Writer(family, family.first)
    blobs = writer.make_many(5, 1_000)
    await bench.append(family, row, blobs)
    by_bytes = await bench.store.page(row.sid, {}, 2_500, 100)
    assert (len(by_bytes.batches), by_bytes.more) == (2, True)
    assert by_bytes.rid == by_bytes.batches[-1].rid
    one_at_least = await bench.store.page(row.sid, {}, 10, 100)
    assert (len(one_at_least.batches), one_at_least.more) == (1, True)
    by_count = await bench.store.page(row.sid, {}, 10**6, 4)
    assert (len(by_count.batches), by_count.more) == (4, True)
    whole = await bench.store.page(row.sid, {}, 10**6, 100)
    assert (len(whole.batches), whole.more) == (5, False)
    assert await bench.store.page(row.sid, {writer.log: 5}, 10**6, 100) == Page([], whole.rid, False)


async def test_what_comes_again_changes_nothing(bench: Bench) -> None:
    family = Family(1)
    row = await bench.register(family)
    writer = Writer(family, family.first)
    blobs = writer.make_many(3)
    await bench.append(family, row, blobs)
    first, second = await bench.append(family, row, blobs, [blobs[1], writer.make()])
    assert (first.stored, first.error, first.heads) == ([], None, {writer.log: writer.head_at(3)})
    assert [item.n for item in second.stored] == [4]
    assert [item.blob for item in await bench.all(row)] == writer.blobs


async def test_sec_R2_a_gap_is_refused_and_tells_what_is_held(bench: Bench) -> None:
    family = Family(1)
    row = await bench.register(family)
    writer = Writer(family, family.first)
    blobs = writer.make_many(4)
    (result,) = await bench.append(family, row, [blobs[0], blobs[2], blobs[3]])
    assert isinstance(result.error, Gap)
    assert [item.n for item in result.stored] == [1]
    assert result.heads == {writer.log: writer.head_at(1)}
    (result,) = await bench.append(family, row, [blobs[3]])
    assert isinstance(result.error, Gap)
    assert result.heads == {writer.log: writer.head_at(1)}


@pytest.mark.parametrize("at", ["head", "below", "above"])
async def test_sec_R2_a_fork_is_refused_with_the_evidence_kept(bench: Bench, at: str) -> None:
    family = Family(1)
    row = await bench.register(family)
    writer = Writer(family, family.first)
    blobs = writer.make_many(3)
    await bench.append(family, row, blobs)
    if at == "above":
        clone = writer.fork(2)
        clone.make()
        second = clone.make()
    else:
        second = writer.fork({"head": 2, "below": 0}[at]).make()
    (result,) = await bench.append(family, row, [second])
    assert isinstance(result.error, Fork)
    assert (result.stored, result.heads) == ([], {writer.log: writer.head})
    assert [item.blob for item in await bench.all(row)] == blobs
    with admin.opened(bench.path, stamp="x") as database:
        rows = database.peek(lambda c: c.execute("SELECT log, n, blob, pushed_by FROM evidence").fetchall())
    assert rows == [(writer.log, parse_batch(second).n, second, family.first.id)]


async def test_a_closed_log_gives_way_to_the_branch_that_the_record_names(bench: Bench) -> None:
    family = Family(1)
    row = await bench.register(family)
    kept = Writer(family, family.first)
    kept.make_many(2)
    lost = kept.fork(2)
    kept.make_many(3)
    await bench.append(family, row, [*kept.blobs[:2], *lost.make_many(2, 700)])
    close = {kept.log: Close(4, kept.head_at(4).hash, 2)}
    (refused,) = await bench.append(family, row, kept.blobs[2:4])
    assert isinstance(refused.error, Fork)
    (result,) = await bench.append(family, row, kept.blobs[2:4], closes=close)
    assert result.error is None
    assert [item.blob for item in await bench.all(row)] == kept.blobs[:4]
    account = await bench.store.account(row.aid)
    assert account is not None
    assert account.used_bytes == sum(map(len, kept.blobs[:4]))
    # From here the log is what the record says: the other branch does not come back, and nothing follows its end.
    (result,) = await bench.append(family, row, lost.blobs[2:], closes=close)
    assert isinstance(result.error, Fork)
    (result,) = await bench.append(family, row, kept.blobs[4:], closes=close)
    assert isinstance(result.error, Gap)
    assert await bench.store.heads(row.sid) == {kept.log: kept.head_at(4)}


async def test_sec_R16_a_full_account_refuses_and_goes_on_serving(bench: Bench) -> None:
    family = Family(1)
    bench.invite(max_bytes=1_500)
    row = await bench.register(family, invite=False)
    writer = Writer(family, family.first)
    blobs = writer.make_many(4)
    (result,) = await bench.append(family, row, blobs)
    assert isinstance(result.error, QuotaExceeded)
    assert [item.n for item in result.stored] == [1, 2, 3]
    assert len(await bench.all(row)) == 3
    with admin.opened(bench.path, stamp="x") as database:
        database.write_now(lambda tx: admin.set_quota(tx, "family", max_bytes=5_000, max_devices=None))
    (result,) = await bench.append(family, row, blobs[3:])
    assert result.error is None


async def test_the_seventeenth_open_log_of_a_device_is_a_named_error(bench: Bench) -> None:
    family = Family(1)
    row = await bench.register(family)
    writers = [Writer(family, family.first, seed=seed) for seed in range(LOGS_PER_DEVICE + 1)]
    results = await bench.append(family, row, *([writer.make()] for writer in writers))
    assert [type(result.error) for result in results] == [type(None)] * LOGS_PER_DEVICE + [QuotaExceeded]
    closes = {writers[0].log: Close(1, writers[0].head.hash, 1)}
    (result,) = await bench.append(family, row, writers[-1].blobs, closes=closes)
    assert result.error is None


@pytest.mark.parametrize(
    ("harm", "error"),
    [
        ("space", BadFrame), ("stranger", Gap), ("signature", BadSignature), ("header", BadSignature),
        ("ciphertext", BadSignature), ("short", BadFrame), ("long", BadFrame), ("version", BadFrame),
        ("flags", BadFrame), ("log", BadFrame), ("empty", BadFrame),
    ],
)  # fmt: skip
async def test_spec_S2_a_bad_batch_stores_nothing_of_itself(
    bench: Bench, harm: str, error: type[HybridGWError]
) -> None:
    family, stranger = Family(1), Family(2)
    row = await bench.register(family)
    writer = Writer(family, family.first)
    good, after = writer.make(), writer.make()
    rng = random.Random(3)

    def flipped(first: int, last: int) -> bytes:
        place = rng.randrange(first, last)
        return after[:place] + bytes([after[place] ^ (1 << rng.randrange(8))]) + after[place + 1 :]

    bad = {
        "space": Writer(stranger, stranger.first).make(),
        "stranger": Writer(family, Keys(rng)).make(),
        "signature": flipped(len(after) - 64, len(after)),
        "header": flipped(50, BATCH_HEADER_BYTES),
        "ciphertext": flipped(BATCH_HEADER_BYTES, len(after) - 64),
        "short": after[:449],
        "long": after + bytes(256 * 1024),
        "version": b"\2" + after[1:],
        "flags": after[:1] + b"\x80" + after[2:],
        "log": good[:34] + bytes([good[34] ^ 1]) + good[35:],  # batch 1 proves its log by the salt
        "empty": b"",
    }[harm]
    (result,) = await bench.append(family, row, [good, bad, after])
    assert type(result.error) is error
    assert [item.blob for item in result.stored] == [good]
    assert [item.blob for item in await bench.all(row)] == [good]


async def test_sec_R11_another_devices_log_cannot_be_continued(bench: Bench) -> None:
    family = Family(1)
    thief = family.add()
    row = await bench.register(family)
    writer = Writer(family, family.first)
    await bench.append(family, row, [writer.make()])
    squatter = writer.fork(1)
    squatter.keys = thief
    (result,) = await bench.append(family, row, [squatter.make()], by=thief)
    assert isinstance(result.error, BadFrame)
    assert await bench.store.heads(row.sid) == {writer.log: writer.head}


async def test_tenants_do_not_touch_each_other(bench: Bench) -> None:
    first, second = Family(1), Family(2)
    row1 = await bench.register(first)
    bench.invite(b"j" * 32, account="other")
    row2 = await bench.register(second, b"j" * 32, invite=False)
    a, b = Writer(first, first.first), Writer(second, second.first)
    for _ in range(3):
        await bench.append(first, row1, [a.make()])
        await bench.append(second, row2, [b.make()])
    assert [item.blob for item in await bench.all(row1)] == a.blobs
    assert [item.blob for item in await bench.all(row2)] == b.blobs
    with admin.opened(bench.path, stamp="x") as database:
        database.write_now(lambda tx: admin.remove_account(tx, "family"))
    assert bench.store.changed_elsewhere()
    assert not bench.store.changed_elsewhere()
    assert bench.store.space(first.space) is None
    assert await bench.store.account(row1.aid) is None
    (result,) = await bench.append(first, row1, [a.make()])
    assert isinstance(result.error, NotAdmitted)
    (result,) = await bench.append(second, row2, [b.make()])
    assert result.error is None
    assert [item.blob for item in await bench.all(row2)] == b.blobs
    assert await bench.all(row1) == []


async def test_last_contacts_and_readiness(bench: Bench) -> None:
    family = Family(1)
    row = await bench.register(family)
    await bench.store.seen({(row.sid, family.first.id): 70})
    await bench.store.seen({(row.sid, family.first.id): 60})
    with admin.opened(bench.path, stamp="x") as database:
        audit = database.peek(admin.audit)
    assert audit["spaces"][0]["devices"][0]["seen_ms"] == 70
    assert await bench.store.is_writable()


async def test_order_holds_on_random_histories(bench: Bench) -> None:
    """Pages of any size, from any vector, are exactly what is missing, in the order of commit."""
    rng = random.Random(5)
    family = Family(1)
    row = await bench.register(family)
    writers = [Writer(family, family.first, seed=seed) for seed in range(6)]
    order: list[tuple[LogId, int, bytes]] = []
    for _ in range(25):
        push = []
        for _ in range(rng.randrange(1, 6)):
            writer = rng.choice(writers)
            push.append(writer.make(rng.choice((450, 700, 1_500))))
            order.append((writer.log, writer.head.n, push[-1]))
        (result,) = await bench.append(family, row, push)
        assert result.error is None
    for _ in range(20):
        have = {writer.log: rng.randrange(0, writer.head.n + 2) for writer in writers if rng.random() < 0.8}
        wanted = [blob for log, n, blob in order if n > have.get(log, 0)]
        assert [item.blob for item in await bench.all(row, have)] == wanted


# ---- mail ------------------------------------------------------------------------------------------------------------
A, B = DeviceId(b"a" * 16), DeviceId(b"b" * 16)


def mail(k: int, *, dest: DeviceId = B, sender: DeviceId = A, priority: int = 1, body: bytes = b"c" * 300) -> MailRow:
    return MailRow(dest, sender, k.to_bytes(16, "big"), priority, 1_000 + k, b"h" * 131 + b"x" * 32 + b"s" * 64, body)


async def test_spec_R4_mail_comes_back_byte_for_byte_in_order_until_it_is_done(bench: Bench) -> None:
    row, store = await bench.register(Family(1)), bench.store
    rows = [mail(k, priority=k % 2) for k in range(6)]
    assert await store.put_mail(row.sid, rows, 0) == [True] * 6
    found = store.mail(row.sid, B, 1, 0, 10**6)
    assert [message for _, message in found] == [rows[1], rows[3], rows[5]]
    assert found[0][1].envelope == b"h" * 131 + b"c" * 300 + b"s" * 64
    assert [message for _, message in store.mail(row.sid, B, 1, found[0][0], 1)] == [rows[3]]  # one at least
    assert store.mail(row.sid, A, 1, 0, 10**6) == store.mail(row.sid + 1, B, 1, 0, 10**6) == []
    await store.done_mail(row.sid, B, [A + rows[3].id, A + b"?" * 16])
    assert [message for _, message in store.mail(row.sid, B, 1, 0, 10**6)] == [rows[1], rows[5]]


async def test_spec_R4_mail_that_comes_again_is_kept_once_and_the_first_counts(bench: Bench) -> None:
    row, store = await bench.register(Family(1)), bench.store
    assert (
        await store.put_mail(row.sid, [mail(1), mail(1, body=b"other" * 60), mail(1, sender=B, dest=A)], 0)
        == [True] * 3
    )
    assert [message for _, message in store.mail(row.sid, B, 1, 0, 10**6)] == [mail(1)]


async def test_a_place_in_the_mail_is_never_used_again(bench: Bench) -> None:
    """Whoever has looked up to a place must not miss what comes after."""
    row, store = await bench.register(Family(1)), bench.store
    await store.put_mail(row.sid, [mail(1)], 0)
    ((rid, _),) = store.mail(row.sid, B, 1, 0, 10**6)
    await store.done_mail(row.sid, B, [A + mail(1).id])
    await store.put_mail(row.sid, [mail(2)], 0)
    assert [message for _, message in store.mail(row.sid, B, 1, rid, 10**6)] == [mail(2)]


async def test_spec_R4_a_full_mailbox_refuses_each_by_itself(bench: Bench) -> None:
    row, store = await bench.register(Family(1)), bench.store
    part = 500
    for start in range(0, MAX_MAIL_ROWS, part):
        await store.put_mail(row.sid, [mail(start + k, body=b"c") for k in range(part)], 0)
    over = [mail(MAX_MAIL_ROWS), mail(7, body=b"c"), mail(1, dest=A, sender=B)]
    assert await store.put_mail(row.sid, over, 0) == [False, True, True]
    await store.done_mail(row.sid, B, [A + mail(3).id])
    assert await store.put_mail(row.sid, over[:1], 0) == [True]


async def test_spec_R4_a_mailbox_is_full_by_bytes_too(bench: Bench) -> None:
    row, store = await bench.register(Family(1)), bench.store
    big = [mail(k, body=bytes(2**20)) for k in range(MAX_MAIL_BYTES // 2**20 + 1)]
    assert (await store.put_mail(row.sid, big, 0)).count(False) == 2


async def test_spec_R4_what_is_over_becomes_a_tombstone_and_goes_long_after(bench: Bench) -> None:
    row, store = await bench.register(Family(1)), bench.store
    await store.put_mail(row.sid, [mail(1), mail(500)], 0)
    assert await store.expire_mail(1_000) == 0
    assert await store.expire_mail(1_001) == 1
    first, second = (message for _, message in store.mail(row.sid, B, 1, 0, 10**6))
    assert (first.body, first.head, second) == (None, mail(1).head, mail(500))
    assert await store.expire_mail(1_001 + MAX_MESSAGE_TTL_MS) > 0
    assert [message.id for _, message in store.mail(row.sid, B, 1, 0, 10**6)] == [mail(500).id]


# ---- letters ---------------------------------------------------------------------------------------------------------
ADA, EVE = SpaceId(b"A" * 16), SpaceId(b"E" * 16)


def letter(k: int, *, person: SpaceId = ADA, priority: int = 1, blob: bytes = b"sealed" * 100) -> LetterRow:
    return LetterRow(B, person, A, k.to_bytes(16, "big"), priority, 1_000 + k, blob)


async def test_spec_R6_letters_come_back_the_most_urgent_first_until_they_are_done_or_over(bench: Bench) -> None:
    row, store = await bench.register(Family(1)), bench.store
    rows = [letter(k, priority=k % 2 * 3) for k in range(4)]
    assert await store.put_letters(row.sid, [*rows, letter(1, blob=b"another")]) == [True] * 5
    assert [found for _, found in store.letters(row.sid, B, 10)] == [rows[1], rows[3], rows[0], rows[2]]
    (place, _), *_ = store.letters(row.sid, B, 10)
    assert [found for _, found in store.letters(row.sid, B, 2, but=[place])] == [rows[3], rows[0]]
    assert store.letters(row.sid, B, 10, without=[EVE, ADA]) == []
    assert len(store.letters(row.sid, B, 10, without=[EVE])) == 4
    assert store.letters(row.sid, A, 10) == store.letters(row.sid + 1, B, 10) == []
    await store.done_letters(row.sid, B, [A + rows[3].id, A + b"?" * 16])
    assert await store.expire_letters(1_000) == 1  # the first one's time is over
    assert await store.expire_letters(1_000) == 0
    assert [found for _, found in store.letters(row.sid, B, 10)] == [rows[1], rows[2]]


async def test_spec_R6_one_person_cannot_fill_the_room_of_others(bench: Bench) -> None:
    row, store = await bench.register(Family(1)), bench.store
    for person in (ADA, EVE):
        await store.wrote(row.sid, person, 5)
    flood = [letter(k, person=EVE, blob=b"x") for k in range(MAX_LETTER_ROWS + 2)]
    assert (await store.put_letters(row.sid, flood)).count(False) == 2
    assert await store.put_letters(row.sid, [letter(9_999)]) == [True]
    big = [letter(20_000 + k, blob=bytes(2**20)) for k in range(MAX_LETTER_ROW_BYTES // 2**20 + 1)]
    assert (await store.put_letters(row.sid, big)).count(False) == 2  # the small one is there too
    await store.done_letters(row.sid, B, [A + flood[0].id])
    assert await store.put_letters(row.sid, flood[-1:]) == [True]


def letters_of(k: int, size: int, count: int) -> list[LetterRow]:
    person = SpaceId(k.to_bytes(16, "big"))
    return [letter(k * 1_000 + n, person=person, blob=bytes(size)) for n in range(count)]


async def test_spec_R6_strangers_do_not_take_the_room_of_whom_the_person_wrote_to(bench: Bench) -> None:
    """As many as there may be: a letter of a contact finds room, and the first letter of one more stranger too."""
    row, store = await bench.register(Family(1)), bench.store
    await store.wrote(row.sid, ADA, 5)
    for k in range(1, 51):
        for size, count in ((70_000, 240 if k < 5 else 8), (512, 50)):  # four would fill all that there is
            await store.put_letters(row.sid, letters_of(k, size, count))
    kept = [found for _, found in store.letters(row.sid, B, 10**6)]
    assert sum(len(found.blob) for found in kept) <= MAX_STRANGER_BYTES
    assert len(kept) <= MAX_STRANGER_LETTERS
    assert await store.put_letters(row.sid, letters_of(51, 1_024, 1)) == [True]
    contact = [letter(10**6 + n, blob=bytes(70_000)) for n in range(200)]
    assert (await store.put_letters(row.sid, contact)).count(True) == 200


async def test_spec_R6_contacts_do_not_take_the_room_of_other_contacts(bench: Bench) -> None:
    row, store = await bench.register(Family(1)), bench.store
    for k in range(1, 7):
        await store.wrote(row.sid, SpaceId(k.to_bytes(16, "big")), 5)
        await store.put_letters(row.sid, letters_of(k, 2**20, 20))
    await store.wrote(row.sid, ADA, 5)
    assert await store.put_letters(row.sid, [letter(n, blob=bytes(70_000)) for n in range(30)]) == [True] * 30


async def test_spec_R6_who_was_not_written_to_for_long_is_a_stranger_again(bench: Bench) -> None:
    row, store = await bench.register(Family(1)), bench.store
    many = letters_of(1, 600, MAX_STRANGER_LETTERS // STRANGER_PART + 1)
    person = many[0].person
    assert (await store.put_letters(row.sid, many)).count(False) == 1
    await store.wrote(row.sid, person, 5)
    await store.wrote(row.sid, person, 2 * DAY_MS)
    assert await store.put_letters(row.sid, many) == [True] * len(many)
    await store.done_letters(row.sid, B, [A + found.id for found in many])
    assert await store.expire_letters(2 * DAY_MS + ACQUAINTED_MS - 1) == 0
    assert await store.expire_letters(2 * DAY_MS + ACQUAINTED_MS) == 1
    assert (await store.put_letters(row.sid, many)).count(False) == 1


async def test_a_relay_knows_of_so_many_acquaintances_and_not_more(bench: Bench) -> None:
    row, store = await bench.register(Family(1)), bench.store
    with admin.opened(bench.path, stamp="x") as database:
        rows = [(row.sid, k.to_bytes(16, "big"), 5 + k) for k in range(MAX_ACQUAINTED)]
        database.write_now(lambda tx: tx.executemany("INSERT INTO acquaintance VALUES(?, ?, ?)", rows))
        await store.wrote(row.sid, ADA, 10**6)
        found = database.peek(lambda c: c.execute("SELECT count(*), min(at_ms) FROM acquaintance").fetchone())
    assert found == (MAX_ACQUAINTED, 6)

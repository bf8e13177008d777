"""Random lives of devices that send each other messages; seeded faults that must be caught; intake and its model."""

from __future__ import annotations

import logging
import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from hybridgw_daemon.core.envelopes import Content, Receipt
from hybridgw_daemon.services.mail import MailService, Parcel, _Came
from hybridgw_daemon.services.messages import MessageService
from hybridgw_daemon.services.space import Space
from hybridgw_protocol.envelope import EnvelopeHeader
from hybridgw_protocol.frames import MsgStored
from hybridgw_protocol.ids import DeviceId, KeyId, LogId, SpaceId
from hybridgw_protocol.messages import MessageState, Priority
from hybridgw_storage.database import Tx
from tests.models.delivery_model import Mail, Receiver, Shown, Truth, Wrong, judge
from tests.simulation.sim_mail import play
from tests.simulation.sim_replicas import open_database, scratch

PARTS, PART, SOAK = 5, 12, 10
CUTS = ("connection cut", "half-open connection", "device killed", "relay killed", "killed between two callbacks")
SOMETIMES = (
    "connection cut", "half-open connection", "device killed", "relay killed", "killed between two callbacks",
    "crash before a commit", "crash after a commit, before its answer", "relay put back", "clock jumped",
    "disk full refused a write", "key rotated", "ends delivered", "ends handled", "ends expired", "shown after a gap",
)  # fmt: skip


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What the product logs in thousands of faults is kept by nobody."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("part", range(PARTS))
def test_spec_R4_delivered_is_sent_minus_expired_each_once_in_order(part: int) -> None:
    """Over all parts at least 200 connections break or end with a process that is killed."""
    counts: Counter[str] = Counter()
    for seed in range(part * PART, (part + 1) * PART):
        counts += play(seed)
    assert counts["shown"] > 300
    assert sum(counts[what] for what in CUTS) >= 200 / PARTS
    rare = ("relay put back", "shown after a gap", "key rotated", "disk full refused a write", "relay killed")
    assert [what for what in SOMETIMES if what not in rare and not counts[what]] == []


LIES = tuple(
    f"relay {what}"
    for what in (
        "lost what it had stored",
        "kept messages back",
        "mixed messages up",
        "emptied messages",
        "repeats messages",
    )
)


def test_sec_R4_a_relay_that_lies_cannot_make_a_shown_state_wrong() -> None:
    """It drops, repeats, mixes up, keeps back and empties messages; what it only delays arrives once it stops."""
    counts: Counter[str] = Counter()
    for seed in range(PART):
        counts += play(seed, hostile=True)
    assert [what for what in LIES if not counts[what]] == []
    assert counts["shown"] > 300


@pytest.mark.soak
@pytest.mark.parametrize("part", range(PARTS))
def test_many_lives_with_a_relay_that_lies(part: int) -> None:
    for seed in range(part * SOAK * PART, (part + 1) * SOAK * PART):
        play(seed, hostile=True)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(PARTS))
def test_many_lives(part: int) -> None:
    counts: Counter[str] = Counter()
    for seed in range(part * SOAK * PART, (part + 1) * SOAK * PART):
        counts += play(seed)
    assert [what for what in SOMETIMES if not counts[what]] == []


# ---- seeded faults -----------------------------------------------------------------------------------------------
class PutsOnce(MailService):
    """Forgets to put again what a relay has stored."""

    async def put(self, parcel: Parcel, answer: MsgStored, told: MessageState) -> None:
        await super().put(parcel, answer, told)
        await self._database.write(
            lambda tx: tx.execute("UPDATE delivery SET next_ms = NULL WHERE state = 'stored'").rowcount
        )


class PraisesTheDay(MailService):
    """Says that a message is delivered when a relay has it."""

    async def put(self, parcel: Parcel, answer: MsgStored, told: MessageState) -> None:
        await super().put(parcel, answer, MessageState.DELIVERED)


class HearsNoReceipts(MailService):
    """Takes receipts for noise."""

    def _take_receipts(self, tx: Tx, header: EnvelopeHeader, receipts: Sequence[Receipt], came: _Came) -> None:
        return


class KeepsNoOrder(MailService):
    """Shows what comes as it comes."""

    def _take_message(self, tx: Tx, header: EnvelopeHeader, content: Content | None, now_ms: int, came: _Came) -> None:
        came.passed((header.sender, int(header.stream), int(header.priority)), header.seq - 1)
        super()._take_message(tx, header, content, now_ms, came)


@pytest.mark.parametrize("mutant", [PutsOnce, PraisesTheDay, HearsNoReceipts, KeepsNoOrder])
def test_a_seeded_bug_is_caught(mutant: type[MailService]) -> None:
    for seed in range(60):
        try:
            play(seed, mail=mutant, quiet_s=700.0)
        except Exception:  # whichever check sees it first
            return
    raise AssertionError("nothing noticed it")


# ---- the reference itself ----------------------------------------------------------------------------------------
A = ("a", 1, 1)


def truth(id: str, seq: int, expires_ms: int = 10**9) -> Truth:
    return Truth(id, "b", A, seq, expires_ms)


@pytest.mark.parametrize(
    ("shown", "states"),
    [
        ([Shown("1", False), Shown("2", False), Shown("1", False)], "delivered delivered"),
        ([Shown("2", False), Shown("1", False)], "delivered delivered"),
        ([Shown("1", False)], "delivered stored"),
        ([Shown("1", False)], "delivered delivered"),
        ([Shown("1", False), Shown("2", False), Shown("3", False)], "delivered delivered"),
        ([Shown("1", False), Shown("2", False)], "stored delivered"),
    ],
)
def test_the_judge_refuses(shown: list[Shown], states: str) -> None:
    first, second = states.split()
    sent = [truth("1", 1), truth("2", 2)]
    told = {("1", "b"): first, ("2", "b"): second}
    judge(sent, {"b": [Shown("1", False), Shown("2", False)]}, dict.fromkeys(told, "delivered"), 0)
    with pytest.raises(Wrong):
        judge(sent, {"b": shown}, told, 0)


# ---- intake against the model ------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(40))
def test_intake_does_what_the_model_does(seed: int) -> None:
    rng = random.Random(seed)
    with scratch() as folder:
        database = open_database(Path(folder) / "intake.db")
        messages = MessageService(database, clock=lambda: 0, entropy=os.urandom)
        space = Space(name="x", platform="test", entropy=os.urandom)
        mail, model, now_ms = (
            MailService(database, space, messages, clock=lambda: now_ms, entropy=os.urandom),
            Receiver(),
            1,
        )
        wanted: list[Shown] = []
        mails = [
            Mail(f"{sender}{stream}{priority}{seq:02}", sender, stream, priority, seq, rng.random() < 0.1)
            for sender in "ab" for stream in (1, 2) for priority in (0, 3) for seq in range(1, 9)
        ]  # fmt: skip
        todo = sorted(mails, key=lambda m: m.seq + rng.random() * rng.choice((0, 2, 6)))
        for mail_now in todo:
            for one in (mail_now, *rng.sample(todo, rng.choice((0, 0, 1)))):
                header = EnvelopeHeader(
                    0, SpaceId(bytes(16)), one.id.encode().ljust(16), DeviceId(one.sender.encode() * 16),
                    DeviceId(bytes(16)), LogId(one.stream), one.seq, Priority(one.priority), 0, 10**9, KeyId(bytes(8)),
                    bytes(24),
                )  # fmt: skip
                content = None if one.is_dead else Content(kind="all", type="t", body=b"1")
                database.write_now(partial(_take, mail, header, content, now_ms))
                wanted += model.arrive(one, now_ms)
            if rng.random() < 0.1:
                now_ms += rng.choice((1_000, 31_000))
                _pass_time(mail)
                wanted += model.pass_time(now_ms)
        rows = database.peek(lambda c: c.execute("SELECT id, gap FROM message ORDER BY rid").fetchall())
        found = [Shown(id.decode().strip(), bool(gap)) for id, gap in rows]
        assert sorted(found, key=lambda s: s.id) == sorted(wanted, key=lambda s: s.id)
        for place in {m.place for m in mails}:
            ids = {m.id for m in mails if m.place == place}
            assert [s for s in found if s.id in ids] == [s for s in wanted if s.id in ids]
        database._connection.close()


def _take(mail: MailService, header: EnvelopeHeader, content: Content | None, now_ms: int, tx: Tx) -> None:
    came = _Came(tx)
    mail._take_message(tx, header, content, now_ms, came)
    came.write()


def _pass_time(mail: MailService) -> None:
    """As its task does, without a loop."""
    work = mail.tend()
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("a database without threads never waits")

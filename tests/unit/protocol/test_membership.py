"""The real control log, record by record. Random histories: test_membership_same.py."""

from __future__ import annotations

import contextlib
import random

import msgspec
import pytest
from nacl.bindings import crypto_sign

from hybridgw_protocol.errors import BadRecord, BadSignature, HybridGWError, TooBig
from hybridgw_protocol.ids import Digest, KeyId, LogId, device_id, space_id
from hybridgw_protocol.limits import (
    MAX_DEVICES,
    MAX_HEADS,
    MAX_RECORD_BYTES,
    MAX_RECORDS,
    MAX_WAITING_BYTES,
    MAX_WAITING_RECORDS,
    ROOT_RESERVE,
)
from hybridgw_protocol.membership import NOTHING_COUNTS, Close, ControlLog, Inserted, Status, joiner_digest
from hybridgw_protocol.records import (
    MAX_PREVS,
    ROOT,
    Add,
    Endorse,
    Epoch,
    Expel,
    Genesis,
    Leave,
    LogClose,
    Remove,
    Restore,
    Trim,
    Wrap,
    XKey,
    read_record,
    sign_record,
)
from tests.models.membership_records import Keys, force_sign, noise

KEYS = Keys()
SPACE = space_id(KEYS.public("root"))


# ---- a small space, by hand ------------------------------------------------------------------------------------------
class Home:
    """A space whose records are made one by one. Names of devices are keys of KEYS."""

    def __init__(self) -> None:
        self.log = ControlLog(SPACE)
        self.seats: dict[str, Digest] = {"root": ROOT}
        self.seats["a"] = self.put(self.genesis())

    def genesis(self, **changes) -> bytes:
        fields = {
            "root_public": KEYS.public("root"),
            "root_exchange": noise(32, "rx"),
            "sign_public": KEYS.public("a"),
            "exchange_public": noise(32, "a"),
            **changes,
        }
        return force_sign(Genesis(space=SPACE, prevs=(), by=ROOT, ts=1, **fields), KEYS.secret("root"))

    def make(
        self, kind, by: str, *, prevs=None, secret: str = "", space=SPACE, ts: int = 1, v: int = 1, **fields
    ) -> bytes:
        prevs = tuple(self.log.signing_heads if prevs is None else prevs)
        payload = kind(space=space, prevs=prevs, by=self.seats.get(by, by), ts=ts, v=v, **fields)
        return force_sign(payload, KEYS.secret(secret or by))

    def put(self, raw: bytes) -> Digest:
        assert self.log.insert(raw) is Inserted.ADDED
        return read_record(raw, SPACE).hash

    def do(self, kind, by: str, **fields) -> Digest:
        return self.put(self.make(kind, by, **fields))

    def make_add(self, by: str, joiner: str, *, prevs=None, joiner_sig: bytes | None = None, **fields) -> bytes:
        prevs = tuple(self.log.signing_heads if prevs is None else prevs)
        exchange = noise(32, joiner)
        digest = joiner_digest(SPACE, self.seats[by], prevs, device_id(KEYS.public(joiner), exchange))
        signature = crypto_sign(digest, KEYS.secret(joiner))[:64] if joiner_sig is None else joiner_sig
        return self.make(
            Add,
            by,
            prevs=prevs,
            sign_public=KEYS.public(joiner),
            exchange_public=exchange,
            joiner_sig=signature,
            **fields,
        )

    def add(self, by: str, joiner: str, **fields) -> Digest:
        self.seats[joiner] = self.put(self.make_add(by, joiner, **fields))
        return self.seats[joiner]

    def make_epoch(self, by: str, *, to: list[str], carries=(), **fields) -> bytes:
        wraps = tuple(sorted((self.seats[s], noise(80, s)) for s in to))
        prev_wraps = tuple(sorted((e, noise(72, e)) for e in carries))
        salt = (by, *to, len(self.log))
        body = {"kid": KeyId(noise(8, *salt)), "commitment": noise(32, *salt), "root_wrap": noise(80), **fields}
        return self.make(Epoch, by, wraps=wraps, prev_wraps=prev_wraps, **body)

    def status(self, name: str) -> Status:
        info = self.log.seat(self.seats[name])
        assert info
        return info.status


@pytest.fixture
def home() -> Home:
    home = Home()
    for name in "bcd":
        home.add("a", name)
    return home


def test_a_space_from_genesis_to_the_last_close(home):
    log, a, b = home.log, home.seats["a"], home.seats["b"]
    assert log.root_public == KEYS.public("root")
    assert log.root_exchange == noise(32, "rx")
    assert [info.added_by for info in log.devices()] == [ROOT, a, a, a]
    assert all(info.status is Status.ACTIVE for info in log.devices())
    device = device_id(KEYS.public("b"), noise(32, "b"))
    info = log.device(device)
    assert info
    assert (info.seat, info.added_ms, info.name) == (b, 1, b"")
    assert log.verify_key(device) == KEYS.public("b")
    assert log.needs_rotation(a)
    epoch = home.put(home.make_epoch("a", to=["a", "b", "c"]))
    assert log.sealing_epoch(a) == epoch
    assert log.sealing_epoch(home.seats["d"]) is None
    assert log.sealing_epoch(a, held=set()) is None
    assert log.lacking(a) == {home.seats["d"]: [epoch]}
    assert log.epoch_of(log.epochs[epoch].kid) == [epoch]
    home.do(Wrap, "a", target=home.seats["d"], wraps=((epoch, noise(80)),))
    assert log.lacking(a) == {}
    assert log.sealing_epoch(home.seats["d"]) == epoch

    remove = home.do(Remove, "b", target=home.seats["c"])
    assert home.status("c") is Status.REMOVED
    assert log.standing_removes(log.devices()[2].device, by=a) == []
    assert log.standing_removes(log.devices()[2].device, by=b) == [remove]
    assert log.needs_rotation(a)
    home.do(Restore, "b", ends=(remove,))
    assert home.status("c") is Status.ACTIVE
    home.do(Leave, "d")
    assert home.status("d") is Status.LEFT
    assert not log.is_active(log.devices()[3].device)
    assert log.verify_key(log.devices()[3].device) == KEYS.public("d")

    number = LogId(-5)
    close = home.make(LogClose, "b", device=device, log=number, n=9, hash=noise(32, 9), fork=7)
    home.put(close)
    home.do(LogClose, "root", device=device, log=number, n=4, hash=noise(32, 4), fork=4)
    assert log.closes(number, device) == [Close(4, noise(32, 4), 4), Close(9, noise(32, 9), 7)]
    assert log.end_of(number, device) == Close(4, noise(32, 4), 4)
    assert log.ends({number: device, LogId(6): device}) == {number: Close(4, noise(32, 4), 4)}
    home.do(Expel, "root", target=b, keep=(a,))
    assert home.status("b") is Status.EXPELLED
    assert log.closes(number, device) == [Close(4, noise(32, 4), 4)]
    assert log.end_of(LogId(6), device) == NOTHING_COUNTS
    assert log.end_of(number, b"\0" * 16) == NOTHING_COUNTS
    assert not log.is_kept(device)


def test_an_expelled_device_voids_what_it_admitted_unseen(home):
    keep = tuple(home.log.heads)
    home.add("b", "puppet")
    home.do(Remove, "puppet", target=home.seats["a"])
    assert home.status("a") is Status.REMOVED
    home.do(Expel, "root", target=home.seats["b"], keep=keep)
    assert home.status("a") is Status.ACTIVE
    assert home.status("puppet") is Status.VOID
    assert home.log.device(device_id(KEYS.public("puppet"), noise(32, "puppet"))).status is Status.VOID


def test_sec_R10_a_removed_device_does_not_come_back_by_an_old_record(home):
    before = tuple(home.log.heads)
    home.do(Remove, "a", target=home.seats["b"])
    home.add("b", "late", prevs=before)  # dated before the removal, never seen by a: out with its adder
    assert home.status("late") is Status.REMOVED
    home.do(Remove, "b", target=home.seats["c"])  # after it has seen its removal: dead
    assert home.status("c") is Status.ACTIVE


# ---- the graph -------------------------------------------------------------------------------------------------------
def test_missing_from_gives_what_is_lacking_prevs_first(home):
    log = home.log
    old = log.heads
    short = [h[:16] for h in old]
    home.do(Remove, "a", target=home.seats["b"])
    side = home.do(Leave, "c", prevs=old)
    assert len(log.heads) == 2
    for heads in (old, short, [*short, b"unknown head 16b"]):
        assert [read_record(r, SPACE).payload.__class__ for r in log.missing_from(heads)] == [Remove, Leave]
    assert [read_record(r, SPACE).hash for r in log.missing_from([h for h in log.heads if h != side])] == [side]
    assert log.missing_from(log.heads) == []
    everything = log.missing_from([])
    assert len(everything) == len(log) == 6
    other = ControlLog(SPACE)
    assert [other.insert(raw) for raw in everything] == [Inserted.ADDED] * 6
    assert other.heads == log.heads
    assert other.short_heads == [h[:16] for h in log.heads]
    assert not other.lacks(log.short_heads)
    assert other.lacks([b"unknown head 16b"])
    assert [r.hash for r in log.since(4)] == [r.hash for r in log.since(0)[4:]]


def test_records_wait_for_their_prevs_in_any_order(home):
    raws = [r.raw for r in home.log.since(0)]
    late = ControlLog(SPACE)
    assert [late.insert(raw) for raw in reversed(raws[1:])] == [Inserted.WAITING] * 3
    assert late.insert(raws[2]) is Inserted.WAITING
    assert late.insert(raws[0]) is Inserted.ADDED
    assert len(late) == 4
    assert [late.insert(raw) for raw in raws] == [Inserted.KNOWN] * 4
    assert late.heads == home.log.heads


def test_waiting_is_bounded_and_never_an_error(home):
    big = b"x" * 7_000
    by_bytes = [home.make(Trim, "a", prevs=[noise(32, i)], body=big) for i in range(200)]
    by_count = [home.make(Leave, "b", prevs=[noise(32, i)]) for i in range(2 * MAX_WAITING_RECORDS)]
    log = home.log
    for raw in by_bytes + by_count:
        assert log.insert(raw) is Inserted.WAITING
        assert len(log._waiting) <= MAX_WAITING_RECORDS
        assert log._waiting.total_bytes <= MAX_WAITING_BYTES
    assert len(log) == 4


def test_what_waited_and_is_bad_is_dropped_without_an_error(home):
    good = home.make(Remove, "a", target=home.seats["b"])
    tip = read_record(good, SPACE).hash
    forged = home.make(Leave, "c", prevs=[tip], secret="d")
    assert home.log.insert(forged) is Inserted.WAITING
    assert home.log.insert(good) is Inserted.ADDED
    assert read_record(forged, SPACE).hash not in home.log
    assert tip in home.log
    assert home.log.raw(tip) == good


def test_a_forged_copy_that_waits_does_not_keep_out_the_true_one(home):
    first = home.make(Remove, "a", target=home.seats["b"])
    true = home.make(Leave, "c", prevs=[read_record(first, SPACE).hash])
    forged = true[:-1] + bytes([true[-1] ^ 1])
    assert read_record(forged, SPACE).hash == read_record(true, SPACE).hash
    assert home.log.insert(forged) is Inserted.WAITING
    assert home.log.insert(true) is Inserted.WAITING
    assert home.log.insert(first) is Inserted.ADDED
    assert home.log.raw(read_record(true, SPACE).hash) == true


def test_update_takes_the_good_and_names_the_first_fault(home):
    good = home.make(Remove, "a", target=home.seats["b"])
    after = home.make(Leave, "c", prevs=[read_record(good, SPACE).hash])
    forged = home.make(Leave, "d", secret="c")
    added, error = home.log.update([after, b"\xc0", forged, good, good])
    assert [r.raw for r in added] == [good, after]
    assert isinstance(error, BadRecord)
    again, error = home.log.update([good])
    assert (again, error) == ([], None)


def test_more_heads_than_a_record_can_name(home):
    base = home.log.heads
    for i in range(MAX_PREVS + 9):
        home.do(Wrap, "b", prevs=base, target=home.seats["b"], ts=i)
    assert len(home.log.heads) == MAX_PREVS + 9
    assert len(home.log.signing_heads) == MAX_PREVS
    assert len(home.log.short_heads) == MAX_PREVS + 9
    home.do(Wrap, "a", target=home.seats["a"])
    assert len(home.log.heads) == 10
    for i in range(MAX_HEADS):
        home.do(Wrap, "b", prevs=base, target=home.seats["b"], ts=1_000 + i)
    assert len(home.log.short_heads) == MAX_HEADS < len(home.log.heads)


def test_leaves_are_stored_and_change_nothing(home):
    log = home.log
    heads = log.heads
    leaf = home.do(XKey, "b", body=b"key")
    home.do(Endorse, "b")
    home.do(Trim, "b")
    assert log.heads == heads
    assert leaf in log
    assert log.raw(leaf)
    assert len(log.missing_from([])) == len(log) == 7
    assert log.missing_from(heads) == []
    assert home.log.insert(log.raw(leaf)) is Inserted.KNOWN
    with pytest.raises(BadRecord, match="not on the graph"):
        log.insert(home.make(Leave, "a", prevs=[leaf]))


# ---- what is refused -------------------------------------------------------------------------------------------------
def unsorted(*digests: bytes) -> tuple[bytes, ...]:
    return tuple(sorted(digests, reverse=True))


MALFORMED = {
    "another space": lambda h: h.make(Leave, "b", space=b"s" * 16),
    "a newer version": lambda h: h.make(Leave, "b", v=2),
    "a negative time": lambda h: h.make(Leave, "b", ts=-1),
    "a time beyond 53 bits": lambda h: h.make(Leave, "b", ts=2**53),
    "no prevs": lambda h: h.make(Leave, "b", prevs=[]),
    "65 prevs": lambda h: h.make(Leave, "b", prevs=sorted(noise(32, i) for i in range(65))),
    "prevs out of order": lambda h: h.make(Leave, "b", prevs=unsorted(h.seats["a"], h.seats["b"])),
    "prevs twice": lambda h: h.make(Leave, "b", prevs=[h.seats["b"]] * 2),
    "a short prev": lambda h: h.make(Leave, "b", prevs=[b"short"]),
    "a signer of 31 bytes": lambda h: h.make(Leave, b"x" * 31, secret="b"),
    "a signer that is no seat": lambda h: h.make(Leave, b"x" * 32, secret="b"),
    "a signer that it has not seen": lambda h: h.make(Leave, "d", prevs=[h.seats["b"]]),
    "a second genesis": lambda h: h.genesis(sign_public=KEYS.public("x")),
    "genesis of another root": lambda h: h.genesis(root_public=KEYS.public("x")),
    "genesis with a short key": lambda h: h.genesis(exchange_public=b"x" * 31),
    "add with a long name": lambda h: h.make_add("a", "x", name=b"n" * 513),
    "add that gives an unknown key": lambda h: h.make_add("a", "x", wraps=((noise(32), noise(80)),)),
    "add with a box of 79 bytes": lambda h: h.make_add("a", "x", wraps=((noise(32), noise(79)),)),
    "add of a device that is here": lambda h: h.make_add("a", "b"),
    "remove by root": lambda h: h.make(Remove, "root", target=h.seats["b"]),
    "remove of oneself": lambda h: h.make(Remove, "b", target=h.seats["b"]),
    "remove of what is no seat": lambda h: h.make(Remove, "b", target=noise(32)),
    "remove of a seat that it has not seen": lambda h: h.make(Remove, "b", target=h.seats["d"], prevs=[h.seats["b"]]),
    "leave by root": lambda h: h.make(Leave, "root"),
    "restore of nothing": lambda h: h.make(Restore, "b", ends=()),
    "restore of what is no remove": lambda h: h.make(Restore, "b", ends=(h.seats["a"],)),
    "restore of another's remove": lambda h: h.make(
        Restore, "b", ends=(h.do(Remove, "a", target=h.seats["c"]),), prevs=h.log.heads
    ),
    "restore of a leave": lambda h: h.make(Restore, "root", ends=(h.do(Leave, "c"),), prevs=h.log.heads),
    "expel by a device": lambda h: h.make(Expel, "a", target=h.seats["b"], keep=()),
    "expel of what is no seat": lambda h: h.make(Expel, "root", target=noise(32), keep=()),
    "expel that keeps the unseen": lambda h: h.make(
        Expel, "root", target=h.seats["b"], keep=(h.seats["d"],), prevs=[h.seats["b"]]
    ),
    "epoch to what is no seat": lambda h: h.make(
        Epoch, "a", kid=b"k" * 8, commitment=noise(32), root_wrap=noise(80), wraps=((noise(32), noise(80)),)
    ),
    "epoch with a short commitment": lambda h: h.make_epoch("a", to=["a"], commitment=b"x"),
    "epoch with a short key id": lambda h: h.make_epoch("a", to=["a"], kid=KeyId(b"k" * 7)),
    "epoch without a box for root": lambda h: h.make_epoch("a", to=["a"], root_wrap=b""),
    "epoch that carries an unknown key": lambda h: h.make_epoch("a", to=["a"], carries=[noise(32)]),
    "wrap of an unknown key": lambda h: h.make(Wrap, "a", target=h.seats["b"], wraps=((noise(32), noise(80)),)),
    "wrap to what is no seat": lambda h: h.make(Wrap, "a", target=noise(32)),
    "close of another's log": lambda h: h.make(
        LogClose, "b", device=h.log.devices()[2].device, log=LogId(1), n=1, hash=noise(32), fork=1
    ),
    "close for no device": lambda h: h.make(
        LogClose, "root", device=noise(16), log=LogId(1), n=1, hash=noise(32), fork=1
    ),
    "close with a fork beyond its end": lambda h: h.make(
        LogClose, "b", device=h.log.devices()[1].device, log=LogId(1), n=1, hash=noise(32), fork=2
    ),
    "close at nothing with a hash": lambda h: h.make(
        LogClose, "b", device=h.log.devices()[1].device, log=LogId(1), n=0, hash=noise(32), fork=0
    ),
    "close of a log beyond 64 bits": lambda h: h.make(
        LogClose, "b", device=h.log.devices()[1].device, log=LogId(2**63), n=1, hash=noise(32), fork=1
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_is_refused_for_ever(home, name):
    raw = MALFORMED[name](home)
    before = (len(home.log), home.log.heads, home.log.active_seats())
    with pytest.raises(BadRecord):
        home.log.insert(raw)
    assert (len(home.log), home.log.heads, home.log.active_seats()) == before


FORGED = {
    "signed by another device": lambda h: h.make(Leave, "b", secret="c"),
    "root's name, a device's key": lambda h: h.make(Expel, "root", target=h.seats["b"], keep=(), secret="a"),
    "no signature of the new device": lambda h: h.make_add("a", "x", joiner_sig=bytes(64)),
    "a new device that signed for another adder": lambda h: h.make_add(
        "a", "x", joiner_sig=msgspec.msgpack.decode(h.make_add("b", "x"))[1]
    ),
    "a new device that signed on top of other records": lambda h: h.make_add(
        "a", "x", joiner_sig=read_record(h.make_add("a", "x", prevs=[h.seats["b"]]), SPACE).payload.joiner_sig
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_is_refused(home, name):
    with pytest.raises(BadSignature):
        home.log.insert(FORGED[name](home))
    assert len(home.log) == 4


def every_kind(home: Home) -> list[bytes]:
    epoch = home.make_epoch("a", to=["a", "b"])
    remove = home.make(Remove, "a", target=home.seats["b"])
    home.put(remove)
    ends = (read_record(remove, SPACE).hash,)
    device = home.log.devices()[0].device
    return [
        home.genesis(),
        home.make_add("a", "x", name=b"name"),
        remove,
        home.make(Restore, "a", ends=ends),
        home.make(Leave, "c"),
        home.make(Expel, "root", target=home.seats["b"], keep=(home.seats["b"],)),
        epoch,
        home.make(Wrap, "a", target=home.seats["b"]),
        home.make(LogClose, "a", device=device, log=LogId(-(2**62)), n=3, hash=noise(32), fork=2),
        home.make(XKey, "a", body=b"body"),
    ]


def test_no_changed_or_cut_byte_is_accepted(home):
    """Every record kind, every byte flipped in one bit and every length: refused or (prevs changed) left waiting."""
    rng = random.Random(7)
    for raw in every_kind(home):
        log = ControlLog(SPACE)
        log.update(r.raw for r in home.log.since(0))
        before = len(log)
        for at in range(len(raw)):
            flipped = bytearray(raw)
            flipped[at] ^= 1 << rng.randrange(8)
            with contextlib.suppress(BadRecord, BadSignature):
                outcome = log.insert(bytes(flipped))
                same_payload = at >= len(raw) - 64 and read_record(raw, SPACE).hash in log
                assert outcome is (Inserted.KNOWN if same_payload else Inserted.WAITING)
        for size in range(len(raw)):
            with pytest.raises(BadRecord):
                log.insert(raw[:size])
        with pytest.raises(BadRecord):
            log.insert(raw + b"\0")
        assert len(log) == before


def test_one_byte_form_per_record(home):
    raw = home.make(Leave, "b")
    payload, signature = msgspec.msgpack.decode(raw)
    fields = msgspec.msgpack.decode(payload)

    def with_payload(encoded: bytes) -> bytes:
        return msgspec.msgpack.encode([encoded, signature])

    assert home.log.insert(with_payload(msgspec.msgpack.Encoder(order="sorted").encode(fields))) is Inserted.ADDED
    backwards = msgspec.msgpack.encode(dict(reversed(sorted(fields.items()))))
    more = msgspec.msgpack.Encoder(order="sorted").encode({**fields, "zz": 1})
    less = msgspec.msgpack.Encoder(order="sorted").encode({k: v for k, v in fields.items() if k != "v"})
    unknown = msgspec.msgpack.Encoder(order="sorted").encode({**fields, "type": "promote"})
    long_array = b"\xdc\x00\x02" + raw[1:]
    deep = b"\x81\xa1v" + b"\x91" * 4_000 + b"\xc0"
    wrong = [with_payload(p) for p in (backwards, more, less, unknown, deep, b"", b"\xc1", b"\xff" * 99)]
    not_pairs = [
        b"",
        b"\x90",
        b"\xc0",
        b"\x93\xc4\x00\xc4\x00\xc4\x00",
        msgspec.msgpack.encode([payload, signature[:63]]),
    ]
    for bad in [*wrong, *not_pairs, long_array, msgspec.msgpack.encode(["text", signature])]:
        with pytest.raises(BadRecord):
            home.log.insert(bad)


def test_too_big_is_told_before_it_is_read(home):
    with pytest.raises(TooBig):
        home.log.insert(b"\xc1" * (MAX_RECORD_BYTES + 1))
    with pytest.raises(TooBig):
        sign_record(
            Trim(space=SPACE, prevs=(ROOT or noise(32),), by=home.seats["a"], ts=0, body=bytes(9000)), bytes(64)
        )


def test_sign_record_makes_only_what_is_accepted(home):
    heads = unsorted(home.seats["b"], home.seats["c"])
    raw = sign_record(
        Remove(space=SPACE, prevs=heads, by=home.seats["a"], ts=5, target=home.seats["b"]), KEYS.secret("a")
    )
    assert read_record(raw, SPACE).payload.prevs == tuple(sorted(heads))
    assert home.log.insert(raw) is Inserted.ADDED
    with pytest.raises(BadRecord):
        sign_record(Leave(space=SPACE, prevs=(), by=home.seats["a"], ts=5), KEYS.secret("a"))


def test_trusted_records_are_not_verified_again(home):
    forged = home.make(Leave, "b", secret="c")
    log = ControlLog(SPACE)
    log.update([r.raw for r in home.log.since(0)], trusted=True)
    assert log.insert(forged, trusted=True) is Inserted.ADDED


def test_the_33rd_active_device_is_refused():
    home = Home()
    for i in range(1, MAX_DEVICES):
        home.add("a", f"n{i}")
    with pytest.raises(BadRecord, match="at most 32 active"):
        home.log.insert(home.make_add("a", "one too many"))
    home.do(Remove, "a", target=home.seats["n1"])
    home.add("a", "in its place")
    assert len(home.log.active_seats()) == MAX_DEVICES


def test_a_flood_has_an_end_and_root_can_expel_it():
    """4,000 records and no more; root still has room, and what it voids makes room again."""
    home = Home()
    keep = home.add("a", "thief")
    base = tuple(home.log.heads)
    thief = {"prevs": base, "by": "thief", "kind": Wrap, "target": home.seats["thief"]}
    flood = [home.make(ts=i, **thief) for i in range(MAX_RECORDS + 1)]
    for raw in flood[: MAX_RECORDS - len(home.log)]:
        home.log.insert(raw, trusted=True)
    assert len(home.log) == MAX_RECORDS
    for raw in (flood[-1], home.make(Wrap, "a", prevs=base, target=home.seats["a"])):
        with pytest.raises(TooBig, match="full"):
            home.log.insert(raw)
    home.do(Expel, "root", prevs=base, target=keep, keep=base)
    home.do(Wrap, "a", prevs=base, target=home.seats["a"])
    assert home.log.active_seats() == [home.seats["a"]]
    refused = 0
    for raw in flood[-20:]:
        try:
            home.log.insert(raw, trusted=True)
        except TooBig:
            refused += 1
    assert 0 < refused < 20
    for i in range(ROOT_RESERVE):
        home.do(
            LogClose, "root", prevs=base, device=home.log.devices()[0].device, log=LogId(i), n=0, hash=bytes(32), fork=0
        )


def test_errors_are_of_our_tree():
    assert issubclass(BadRecord, HybridGWError)
    with pytest.raises(BadRecord):
        _ = ControlLog(SPACE).root_public
    empty = ControlLog(SPACE)
    assert (empty.heads, empty.devices(), empty.missing_from([]), empty.usable_epochs()) == ([], [], [], [])
    assert empty.verify_key(b"\0" * 16) is None
    assert empty.device(b"\0" * 16) is None
    assert empty.seat(b"\0" * 32) is None
    assert empty.standing_removes(b"\0" * 16) == []
    assert empty.known_epochs(b"\0" * 32) == set()
    assert empty.sealing_epoch(b"") is None


# ---- putting a lost device out ---------------------------------------------------------------------------------------
def test_spec_D4_what_is_kept_without_some_records(home):
    """The heads of what is left when records and all that rests on them are taken out: the thief's go, others' stay."""
    log, before = home.log, home.log.heads
    assert log.heads_without([]) == before
    honest = home.do(Wrap, "c", target=home.seats["d"], prevs=before)
    strike = home.do(Remove, "b", target=home.seats["c"], prevs=before)
    after = home.do(Wrap, "a", target=home.seats["d"])  # on top of both
    assert log.heads == [after]
    keep = log.heads_without([strike])
    assert keep == [honest]
    assert log.heads_without([home.seats["b"]]) == [home.seats["a"]]  # all came after it, one on the other
    home.do(Expel, "root", target=home.seats["b"], keep=tuple(keep))
    assert [home.status(name) for name in "abcd"] == [Status.ACTIVE, Status.EXPELLED, Status.ACTIVE, Status.ACTIVE]


def test_spec_D4_a_keep_names_no_more_heads_than_a_record_holds(home):
    before = tuple(home.log.heads)
    spread = [home.do(Wrap, "b", target=home.seats["c"], prevs=before, ts=k) for k in range(MAX_PREVS + 6)]
    strike = home.do(Remove, "b", target=home.seats["c"], prevs=before)
    keep = home.log.heads_without([strike])
    assert MAX_PREVS - 1 <= len(keep) <= MAX_PREVS
    assert set(keep) <= set(spread) & set(home.log.signing_heads)  # root's record rests on no others
    home.do(Expel, "root", target=home.seats["b"], keep=tuple(keep))
    assert home.status("c") is Status.ACTIVE


def test_spec_D4_logs_of_which_root_lets_nothing_count(home):
    device = device_id(KEYS.public("b"), noise(32, "b"))
    assert home.log.void_by_root() == set()
    home.do(LogClose, "b", device=device, log=LogId(1), n=0, hash=bytes(32), fork=0)  # its owner's word is for its own
    home.do(LogClose, "root", device=device, log=LogId(2), n=3, hash=noise(32, 3), fork=3)
    home.do(LogClose, "root", device=device, log=LogId(3), n=0, hash=bytes(32), fork=0)
    assert home.log.void_by_root() == {LogId(3)}

"""Golden bytes of control records and of the keys in them: one small history, what follows from it, what is refused."""

from __future__ import annotations

from typing import Final

import msgspec
from nacl.bindings import crypto_sign

from hybridgw_daemon.core.key_wraps import carry_key, commitment, seal_key
from hybridgw_daemon.core.keys import (
    DeviceKeys,
    Hand,
    KeyRing,
    RootKeys,
    admit,
    begin_space,
    encrypt_name,
    rotate,
    tend,
)
from hybridgw_protocol.codec import encode_canonical
from hybridgw_protocol.errors import BadRecord, HybridGWError
from hybridgw_protocol.ids import DeviceId, Digest, LogId, blake2b, device_id, key_id, log_id
from hybridgw_protocol.limits import MAX_RECORD_BYTES
from hybridgw_protocol.membership import ControlLog
from hybridgw_protocol.records import (
    ROOT,
    AnyPayload,
    Expel,
    Leave,
    LogClose,
    Record,
    Remove,
    Restore,
    Trim,
    Wrap,
    joiner_digest,
    read_record,
    record_hash,
    sign_record,
)

NOW_MS: Final = 1_800_000_000_000
ROOT_SEED: Final = bytes(range(32))
DEVICE_SEEDS: Final = {
    name: bytes([start] * 32 + [start + 1] * 32) for name, start in zip("abcd", range(1, 9, 2), strict=True)
}
EPHEMERAL: Final = bytes(range(64, 96))
NONCE: Final = bytes(range(96, 120))
_sorted: Final = msgspec.msgpack.Encoder(order="sorted")


class _Counter:
    """Entropy for golden bytes: the hash of a counter."""

    def __init__(self) -> None:
        self._calls = 0

    def __call__(self, size: int) -> bytes:
        self._calls += 1
        return blake2b(self._calls.to_bytes(8, "big"), size, "vectors")


class _Story:
    """One control log in the making, with the keys of everybody in it."""

    def __init__(self) -> None:
        self.root = RootKeys.from_seed(ROOT_SEED)
        self.keys = {name: DeviceKeys.from_seed(seed) for name, seed in DEVICE_SEEDS.items()}
        self.log = ControlLog(self.root.space)
        self.ring = KeyRing.of_device(self.keys["a"])
        self.entropy = _Counter()
        self.names: list[str] = []
        self.outcomes: list[dict[str, object]] = []

    def seat(self, name: str) -> Digest:
        info = self.log.device(self.keys[name].device) if name != "root" else None
        return info.seat if info else ROOT

    def hand(self) -> Hand:
        return Hand(self.log, self.seat("a"), self.keys["a"].sign_secret, self.ring, self.entropy, NOW_MS)

    def take(self, name: str, raws: list[bytes]) -> Record:
        added, error = self.log.update(raws)
        if error:
            raise error
        self.names += [name] * len(added)
        self.ring.follow(self.log)
        return added[-1]

    def sign(self, name: str, by: str, payload: AnyPayload) -> Record:
        secret = self.root.sign_secret if by == "root" else self.keys[by].sign_secret
        return self.take(name, [sign_record(payload, secret)])

    def common(self, by: str) -> dict[str, object]:
        return {"space": self.log.space, "prevs": tuple(self.log.signing_heads), "by": self.seat(by), "ts": NOW_MS}

    def add(self, name: str) -> None:
        keys, prevs = self.keys[name], tuple(self.log.signing_heads)
        signature = crypto_sign(joiner_digest(self.log.space, self.seat("a"), prevs, keys.device), keys.sign_secret)[
            :64
        ]
        raw = admit(
            self.hand(), prevs=prevs, sign_public=keys.sign_public, exchange_public=keys.exchange_public,
            joiner_sig=signature, label=(f"device {name}", "linux"),
        )  # fmt: skip
        self.take(f"a adds {name}", [raw])

    def outcome(self, name: str, logs: list[tuple[DeviceId, LogId]]) -> None:
        """What everybody with the records so far must say."""
        log = self.log
        self.outcomes.append(
            {
                "name": name,
                "records": len(log),
                "heads": log.heads,
                "seats": [
                    {
                        "seat": info.seat,
                        "device": info.device,
                        "status": info.status.value,
                        "added_by": info.added_by,
                        "known_epochs": sorted(log.known_epochs(info.seat)),
                        "sealing_epoch": log.sealing_epoch(info.seat),
                    }
                    for info in log.devices()
                ],
                "usable_epochs": log.usable_epochs(),
                "ends": [
                    {"device": device, "log": str(number), "end": [end.n, end.hash, end.fork] if end else None}
                    for device, number in logs
                    for end in [log.end_of(number, device)]
                ],
            }
        )


def vectors() -> dict[str, object]:
    """See tools/vectors/__init__.py."""
    story = _tell()
    log = story.log
    space_key, older = story.ring.epochs[log.usable_epochs()[0]], bytes(range(120, 152))
    a = story.keys["a"]
    return {
        "about": 'Control records, who belongs, space keys; protocol/SPEC.md, "Control log" and "Keys". `records` are '
        "taken in this order; an outcome holds after that many of them, in whatever order they came. A refused record "
        "is offered after that many. Integers of 64 bits are text.",
        "keys": {
            "root_seed": ROOT_SEED,
            "root_public": story.root.sign_public,
            "root_exchange": story.root.exchange_public,
            "space": story.root.space,
            "devices": [
                {
                    "name": name,
                    "seed": seed,
                    "sign_public": story.keys[name].sign_public,
                    "exchange_public": story.keys[name].exchange_public,
                    "device": story.keys[name].device,
                }
                for name, seed in DEVICE_SEEDS.items()
            ],
        },
        "wraps": {
            "space_key": space_key,
            "kid": key_id(space_key),
            "commitment": commitment(space_key),
            "ephemeral_secret": EPHEMERAL,
            "sealed_to_a": seal_key(space_key, a.exchange_public, EPHEMERAL),
            "older_key": older,
            "older_epoch": log.heads[0],
            "nonce": NONCE,
            "carried": carry_key(older, log.heads[0], space_key, NONCE),
            "name": "Küche",
            "platform": "linux",
            "device_a": a.device,
            "sealed_name_of_a": encrypt_name(space_key, a.device, "Küche", "linux", NONCE),
        },
        "joiner": {
            "space": log.space,
            "adder_seat": story.seat("a"),
            "prevs": [log.heads[0], story.seat("a")],
            "device": a.device,
            "digest": joiner_digest(log.space, story.seat("a"), [log.heads[0], story.seat("a")], a.device),
        },
        "records": [
            {"name": name, "raw": record.raw, "hash": record.hash, "prevs": list(record.payload.prevs)}
            for name, record in zip(story.names, log.since(0), strict=True)
        ],
        "outcomes": story.outcomes,
        "opened": [
            {"name": name, "keys": [{"epoch": e, "key": key} for e, key in sorted(ring.epochs.items())]}
            for name, ring in [
                *((name, KeyRing.of_device(keys)) for name, keys in story.keys.items()),
                ("root", KeyRing.of_root(story.root)),
            ]
            if ring.follow(log) >= 0
        ],
        "refused": _refused(story),
    }


def _tell() -> _Story:
    story = _Story()
    log = story.log
    story.take(
        "genesis and first epoch",
        begin_space(story.root, story.keys["a"], ("device a", "linux"), story.entropy, NOW_MS),
    )
    for name in "bcd":
        story.add(name)
    b, c = story.keys["b"].device, story.keys["c"].device
    number = log_id(b, bytes(32))
    logs = [(b, number), (b, LogId(1)), (c, LogId(2))]
    story.outcome("four devices, one key", logs)

    remove = story.sign("b removes c", "b", Remove(**story.common("b"), target=story.seat("c")))  # type: ignore[arg-type]
    story.outcome("a removal: no key is usable", logs)
    story.take("a makes a new key", [rotate(story.hand())])
    story.outcome("a new key without c", logs)
    story.sign("b brings c back", "b", Restore(**story.common("b"), ends=(remove.hash,)))  # type: ignore[arg-type]
    for raw in tend(story.hand()):
        story.take("a gives c the key", [raw])
    story.outcome("c is back and has all keys", logs)

    tip = blake2b(b"tip", 32, "vectors")
    close = LogClose(**story.common("b"), device=b, log=number, n=9, hash=tip, fork=7)  # type: ignore[arg-type]
    story.sign("b closes its log", "b", close)
    story.sign("d leaves", "d", Leave(**story.common("d")))  # type: ignore[arg-type]
    story.sign("a leaf", "a", Trim(**story.common("a"), body=b"reserved"))  # type: ignore[arg-type]
    story.outcome("a closed log, one device gone", logs)

    keep = tuple(log.heads)
    fork = {**story.common("b"), "prevs": keep}
    story.sign("b removes a", "b", Remove(**fork, target=story.seat("a")))  # type: ignore[arg-type]
    fork = {**story.common("a"), "prevs": keep}
    story.sign("a removes b, not having seen that", "a", Remove(**fork, target=story.seat("b")))  # type: ignore[arg-type]
    story.outcome("two removes against each other both stand", logs)
    expel = Expel(**{**story.common("root"), "by": ROOT}, target=story.seat("b"), keep=keep)  # type: ignore[arg-type]
    story.sign("root expels b", "root", expel)
    story.outcome("the remove by b is void", logs)
    story.take("a makes a new key again", tend(story.hand()))
    empty = Wrap(**story.common("a"), target=story.seat("a"))  # type: ignore[arg-type]
    story.sign("a joins heads", "a", empty)
    story.outcome("the end", logs)
    return story


def _refused(story: _Story) -> list[dict[str, object]]:
    log, a = story.log, story.keys["a"]
    count = len(log)
    base = story.common("a")
    good = sign_record(Wrap(**base, target=story.seat("a")), a.sign_secret)  # type: ignore[arg-type]
    payload, signature = msgspec.msgpack.decode(good)
    fields = msgspec.msgpack.decode(payload)

    def signed(encoded: bytes, secret: bytes = a.sign_secret) -> bytes:
        return encode_canonical([encoded, crypto_sign(record_hash(encoded), secret)[:64]])

    def changed(**fresh: object) -> bytes:
        return signed(_sorted.encode({**fields, **fresh}))

    other = device_id(bytes(32), bytes(32))
    add = next(r for r in log.since(0) if r.payload.__class__.__name__ == "Add")
    as_add = {**msgspec.msgpack.decode(msgspec.msgpack.decode(add.raw)[0]), "prevs": list(base["prevs"])}  # type: ignore[call-overload]
    new = DeviceKeys.from_seed(bytes(64))
    as_add |= {"sign_public": new.sign_public, "exchange_public": new.exchange_public}
    expel = {**{k: v for k, v in fields.items() if k != "wraps"}, "type": "expel", "keep": []}
    close = {k: v for k, v in fields.items() if k not in ("wraps", "target")}
    close |= {"type": "log_close", "device": other, "log": 1, "n": 1, "hash": bytes(32), "fork": 1}
    cases: list[tuple[str, bytes, str]] = [
        ("empty", b"", "bad_record"),
        ("not msgpack", b"\xc1", "bad_record"),
        ("truncated", good[:-1], "bad_record"),
        ("a byte after the end", good + b"\0", "bad_record"),
        ("three elements", b"\x93" + good[1:] + b"\xc0", "bad_record"),
        ("too big", b"\x92" + bytes(MAX_RECORD_BYTES), "too_big"),
        ("signature of 63 bytes", encode_canonical([payload, signature[:63]]), "bad_record"),
        ("signature with a changed bit", good[:-1] + bytes([good[-1] ^ 1]), "bad_signature"),
        ("signed by another device", signed(payload, story.keys["c"].sign_secret), "bad_signature"),
        ("keys in another order", signed(msgspec.msgpack.encode(dict(reversed(sorted(fields.items()))))), "bad_record"),
        ("an unknown field", changed(zz=1), "bad_record"),
        ("a missing field", signed(_sorted.encode({k: v for k, v in fields.items() if k != "wraps"})), "bad_record"),
        ("an unknown type", changed(type="promote"), "bad_record"),
        ("a newer version", changed(v=2), "bad_record"),
        ("another space", changed(space=bytes(16)), "bad_record"),
        ("no prevs", changed(prevs=[]), "bad_record"),
        ("prevs twice", changed(prevs=[fields["prevs"][0]] * 2), "bad_record"),
        ("a signer that is no seat", changed(by=fields["prevs"][0]), "bad_record"),
        ("a target that is no seat", changed(target=fields["prevs"][0]), "bad_record"),
        ("the key of what is no epoch", changed(wraps=[[story.seat("a"), bytes(80)]]), "bad_record"),
        ("a box of 79 bytes", changed(wraps=[[log.usable_epochs()[0], bytes(79)]]), "bad_record"),
        ("an add that the new device did not sign", signed(_sorted.encode(as_add)), "bad_signature"),
        ("an expel by a device", signed(_sorted.encode(expel)), "bad_record"),
        ("a close for no device", signed(_sorted.encode(close)), "bad_record"),
        ("a second genesis", _second_genesis(story), "bad_record"),
    ]
    for name, raw, code in cases:
        _must_be_refused(log, name, raw, code)
    if len(log) != count or read_record(good, log.space).hash in log:
        raise BadRecord("A refused record was taken.")
    return [{"name": name, "records": count, "bytes": raw, "code": code} for name, raw, code in cases]


def _second_genesis(story: _Story) -> bytes:
    return begin_space(story.root, story.keys["b"], ("again", "linux"), _Counter(), NOW_MS)[0]


def _must_be_refused(log: ControlLog, name: str, raw: bytes, code: str) -> None:
    try:
        log.insert(raw)
    except HybridGWError as error:
        if error.code == code:
            return
        raise
    raise BadRecord(f"The vector {name!r} is not refused.")

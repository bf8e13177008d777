"""Turns the records of a model history into real signed ones, and the model's into such that bear the real hashes.

So the model and hybridgw_protocol.membership can be fed the same set, in the same order, and be compared: ties between
epochs are broken by hash, which must be the same on both sides.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import msgspec
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from hybridgw_protocol.ids import DeviceId, Digest, KeyId, LogId, device_id, space_id
from hybridgw_protocol.records import (
    ROOT,
    Add,
    AnyPayload,
    Epoch,
    Expel,
    Genesis,
    Leave,
    LogClose,
    Remove,
    Restore,
    Wrap,
    joiner_digest,
    record_hash,
)
from tests.models import membership_model as mm

_sorted_encoder = msgspec.msgpack.Encoder(order="sorted")


def noise(size: int, *parts: object) -> bytes:
    """Bytes that stand for a random box."""
    return hashlib.shake_256(repr(parts).encode()).digest(size)


def force_sign(payload: AnyPayload, sign_secret: bytes) -> bytes:
    """A record that nobody has checked: what a hostile program can make."""
    encoded = _sorted_encoder.encode(payload)
    return msgspec.msgpack.encode([encoded, crypto_sign(record_hash(encoded), sign_secret)[:64]])


class Keys:
    """Ed25519 keys by name, made once."""

    def __init__(self) -> None:
        self._pairs: dict[str, tuple[bytes, bytes]] = {}

    def pair(self, name: str) -> tuple[bytes, bytes]:
        """(public, secret)"""
        if name not in self._pairs:
            self._pairs[name] = crypto_sign_seed_keypair(noise(32, "seed", name))
        return self._pairs[name]

    def public(self, name: str) -> bytes:
        return self.pair(name)[0]

    def secret(self, name: str) -> bytes:
        return self.pair(name)[1]


class Translator:
    """One space: model record -> (raw record, model record with the real hash)."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self.space = space_id(keys.public("root"))
        self.real: dict[str, Digest] = {mm.ROOT: ROOT}  # model hash -> real hash
        self.device_of: dict[str, str] = {}  # model seat -> device name

    def device(self, name: str) -> DeviceId:
        return device_id(self.keys.public(name), noise(32, "exchange", name))

    def names(self, hashes) -> tuple[Digest, ...]:
        return tuple(sorted(self.real[h] for h in hashes))

    def pairs(self, hashes, size: int, *parts: object) -> tuple[tuple[Digest, bytes], ...]:
        return tuple((digest, noise(size, digest, *parts)) for digest in self.names(hashes))

    def joiner_signature(self, signed: tuple) -> bytes:
        """What a new device signed, by (device, adder, prevs); nothing if it signed nothing."""
        if not signed:
            return bytes(64)
        name, adder, prevs = signed
        digest = joiner_digest(self.space, self.real[adder], [self.real[p] for p in prevs], self.device(name))
        return crypto_sign(digest, self.keys.secret(name))[:64]

    def payload(self, r: mm.Record) -> AnyPayload:
        common = {
            "space": self.space,
            "prevs": self.names(r.prevs),
            "by": self.real[r.by],
            "ts": int.from_bytes(noise(4, r.salt), "big"),
        }
        match r.type:
            case "genesis":
                keys = {"sign_public": self.keys.public(r.device), "exchange_public": noise(32, "exchange", r.device)}
                return Genesis(**common, root_public=self.keys.public("root"), root_exchange=noise(32, "root"), **keys)
            case "add":
                keys = {"sign_public": self.keys.public(r.device), "exchange_public": noise(32, "exchange", r.device)}
                wraps = self.pairs(r.wraps, 80, r.hash)
                return Add(**common, **keys, joiner_sig=self.joiner_signature(r.joiner_sig), wraps=wraps)
            case "remove":
                return Remove(**common, target=self.real[r.target])
            case "restore":
                return Restore(**common, ends=self.names(r.ends))
            case "leave":
                return Leave(**common)
            case "expel":
                return Expel(**common, target=self.real[r.target], keep=self.names(r.keep))
            case "epoch":
                return Epoch(
                    **common,
                    kid=self.kid(r),
                    commitment=noise(32, r.hash),
                    wraps=self.pairs(r.recipients, 80, r.hash),
                    root_wrap=noise(80, r.hash),
                    prev_wraps=self.pairs(r.prev_wraps, 72, r.hash),
                )
            case "wrap":
                return Wrap(**common, target=self.real[r.target], wraps=self.pairs(r.wraps, 80, r.hash))
            case "log_close":
                tip = noise(32, r.log) if r.n else bytes(32)
                log = LogId(int(r.log))
                return LogClose(**common, device=self.device(r.device), log=log, n=r.n, hash=tip, fork=r.n)
        raise AssertionError(r.type)

    @staticmethod
    def kid(r: mm.Record) -> KeyId:
        return KeyId(noise(8, r.hash))

    def translate(self, r: mm.Record) -> tuple[bytes, mm.Record]:
        """All that *r* names must have been translated before."""
        signer = "root" if r.by == mm.ROOT else self.device_of[r.by]
        raw = force_sign(self.payload(r), self.keys.secret(signer))
        self.real[r.hash] = record_hash(msgspec.msgpack.decode(raw)[0])
        if r.type in ("genesis", "add"):
            self.device_of[r.hash] = r.device
        return raw, self.with_real_hash(r)

    def with_real_hash(self, r: mm.Record) -> mm.Record:
        def hexes(hashes) -> frozenset[str]:
            return frozenset(self.hex(h) for h in hashes)

        signed = r.joiner_sig
        twin = replace(
            r,
            by=self.hex(r.by),
            prevs=hexes(r.prevs),
            target=self.hex(r.target) if r.target else "",
            joiner_sig=(signed[0], self.hex(signed[1]), hexes(signed[2])) if signed else (),
            keep=hexes(r.keep),
            ends=hexes(r.ends),
            recipients=hexes(r.recipients),
            prev_wraps=hexes(r.prev_wraps),
            wraps=hexes(r.wraps),
        )
        twin.__dict__["hash"] = self.hex(r.hash)  # the cached value of a property
        return twin

    def hex(self, model_hash: str) -> str:
        return mm.ROOT if model_hash == mm.ROOT else self.real[model_hash].hex()

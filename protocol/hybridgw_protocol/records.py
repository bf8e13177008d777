"""Control records: their bytes, their hash, who signed them. What a set of them means is in membership.py.

A record is msgpack `[payload, signature]`. The payload is canonical msgpack of one of the structs below; its hash names
the record, the Ed25519 signature is over that hash and is no part of it. Everything here is judged from the record
alone. There is one byte form per record: unknown, missing or misplaced fields are refused, so that two programs never
read one record differently; a new field needs a new `v`, a new kind a new `type`.
Source: protocol/SPEC.md, "Control log".
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from nacl.bindings import crypto_sign, crypto_sign_open
from nacl.exceptions import BadSignatureError

from .codec import encode_canonical
from .errors import BadRecord, BadSignature, TooBig
from .ids import DeviceId, Digest, KeyId, LogId, SpaceId, blake2b, device_id, space_id
from .limits import MAX_INT, MAX_RECORD_BYTES, SIGNATURE_BYTES

RECORD_VERSION: Final = 1
ROOT: Final = Digest(b"")  # `by` of a record that the root key signed; any other `by` is a seat
MAX_PREVS: Final = 64  # also of `keep` and `ends`: 2 KiB of an 8 KiB record
MAX_SEALED_NAME_BYTES: Final = 512  # a device's label and platform, sealed (core/keys.py)
SEALED_KEY_BYTES: Final = 80  # libsodium sealed box of a 32-byte space key
PREV_WRAP_BYTES: Final = 72  # 24 nonce, 32 older space key, 16 tag

Pairs = tuple[tuple[Digest, bytes], ...]  # names a record -> bytes for it; ascending, none twice


class Payload(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", forbid_unknown_fields=True):
    """Fields of every record. prevs: heads of the signer's control log, ascending; by: 32-byte seat (the hash of the
    record that admitted the signer) or ROOT; ts: signer's clock, Unix ms, for people only, nothing depends on it."""

    v: int = RECORD_VERSION
    space: SpaceId
    prevs: tuple[Digest, ...]
    by: Digest
    ts: int


class Genesis(Payload, frozen=True, kw_only=True, tag="genesis"):
    """The space begins: root keys (Ed25519, X25519) and the first device. Signed by root, once per space."""

    root_public: bytes
    root_exchange: bytes
    sign_public: bytes
    exchange_public: bytes
    name: bytes = b""

    @property
    def device(self) -> DeviceId:
        """Id of the device it seats."""
        return device_id(self.sign_public, self.exchange_public)


class Add(Payload, frozen=True, kw_only=True, tag="add"):
    """Admit a device. joiner_sig: the new device's signature over joiner_digest; name: sealed label, may be empty;
    wraps: epoch -> its space key sealed to the new device."""

    sign_public: bytes
    exchange_public: bytes
    name: bytes = b""
    joiner_sig: bytes
    wraps: Pairs = ()

    @property
    def device(self) -> DeviceId:
        """Id of the device it seats."""
        return device_id(self.sign_public, self.exchange_public)


class Remove(Payload, frozen=True, kw_only=True, tag="remove"):
    """Put out the device of a seat, until restored. Signed by a device, never by root."""

    target: Digest


class Restore(Payload, frozen=True, kw_only=True, tag="restore"):
    """End removes: own ones, or any for root."""

    ends: tuple[Digest, ...]


class Leave(Payload, frozen=True, kw_only=True, tag="leave"):
    """The signer puts itself out; nothing ends it."""


class Expel(Payload, frozen=True, kw_only=True, tag="expel"):
    """Root puts out a device for ever. keep: heads of the history that is still accepted from it."""

    target: Digest
    keep: tuple[Digest, ...]


class Epoch(Payload, frozen=True, kw_only=True, tag="epoch"):
    """A new space key K. kid, commitment: of K; wraps: seat -> K sealed to it; root_wrap: K sealed to the root exchange
    key; prev_wraps: older epoch -> its key, encrypted under K."""

    kid: KeyId
    commitment: bytes
    wraps: Pairs
    root_wrap: bytes
    prev_wraps: Pairs = ()


class Wrap(Payload, frozen=True, kw_only=True, tag="wrap"):
    """Give keys of epochs to a seat that lacks them. With no wraps it only joins heads."""

    target: Digest
    wraps: Pairs = ()


class LogClose(Payload, frozen=True, kw_only=True, tag="log_close"):
    """End a log. device: its owner; n, hash: last batch that counts (n 0: 32 zero bytes); fork: last batch that all
    branches share, n where nobody signed two batches for one place. Signed by the owner or root."""

    device: DeviceId
    log: LogId
    n: int
    hash: bytes
    fork: int


class XKey(Payload, frozen=True, kw_only=True, tag="xkey"):
    """Leaf, reserved: a device's key for messages."""

    body: bytes = b""


class Endorse(Payload, frozen=True, kw_only=True, tag="endorse"):
    """Leaf, reserved: a device vouches for a snapshot."""

    body: bytes = b""


class Trim(Payload, frozen=True, kw_only=True, tag="trim"):
    """Leaf, reserved: batches that a snapshot stands for."""

    body: bytes = b""


AnyPayload = (
    Genesis | Add | Remove | Restore | Leave | Expel | Epoch | Wrap | LogClose | XKey | Endorse | Trim
)  # fmt: skip
LEAVES: Final = (XKey, Endorse, Trim)  # stored, no effect, never named by `prevs`, never a head


class Record(msgspec.Struct, frozen=True):
    """A record that was read. `raw` is the whole of it, `hash` its name."""

    hash: Digest
    payload: AnyPayload
    signature: bytes
    raw: bytes


# A struct of two, so that the decoder tells apart what is no array of two byte strings.
class _Raw(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    payload: bytes
    signature: bytes


_encoder: Final = msgspec.msgpack.Encoder(order="sorted")
_read_raw: Final = msgspec.msgpack.Decoder(_Raw)
_read_payload: Final = msgspec.msgpack.Decoder(AnyPayload)


# ---- reading -------------------------------------------------------------------------------------------------------
def read_record(raw: bytes, space: SpaceId) -> Record:
    """Everything that can be checked without other records and without the signature.

    Raises: TooBig: above MAX_RECORD_BYTES, nothing was read; BadRecord: anything else, a record of another space too.
    """
    if len(raw) > MAX_RECORD_BYTES:
        raise TooBig(f"A control record has at most {MAX_RECORD_BYTES} bytes, this one {len(raw)}.")
    try:
        pair = _read_raw.decode(raw)
        payload = _read_payload.decode(pair.payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise BadRecord(f"The control record cannot be read: {error}. Perhaps a newer program wrote it.") from error
    if _encoder.encode(payload) != pair.payload or _encoder.encode(pair) != raw:
        raise BadRecord("The control record is not in its one byte form.")
    if len(pair.signature) != SIGNATURE_BYTES:
        raise BadRecord("The signature of a control record has 64 bytes.")
    _check(payload, space)
    return Record(record_hash(pair.payload), payload, pair.signature, raw)


def record_hash(payload: bytes) -> Digest:
    """Names a record; what is signed. Args: payload: its exact bytes."""
    return Digest(blake2b(payload, 32, "hgw-rec"))


def verify_record(record: Record, sign_public: bytes) -> None:
    """Raises: BadSignature."""
    _verify(record.hash, record.signature, sign_public, "The control record is not signed by the device it names.")


def verify_joiner(add: Add) -> None:
    """Has the new device agreed to exactly this admission? Raises: BadSignature."""
    digest = joiner_digest(add.space, add.by, add.prevs, add.device)
    _verify(digest, add.joiner_sig, add.sign_public, "The new device did not sign that it joins here.")


def _verify(digest: bytes, signature: bytes, sign_public: bytes, message: str) -> None:
    try:
        crypto_sign_open(signature + digest, sign_public)
    except (BadSignatureError, ValueError) as error:
        raise BadSignature(message) from error


def _check(payload: AnyPayload, space: SpaceId) -> None:
    """Sizes, ranges, order. Raises: BadRecord."""
    p = payload
    _need(p.v == RECORD_VERSION, "its version is not known here; a newer program wrote it")
    _need(p.space == space, "it belongs to another space")
    _need(len(p.by) in (0, 32), "`by` is a seat of 32 bytes, or empty for root")
    _need(0 <= p.ts <= MAX_INT, "`ts` is out of range")
    _need(_ascending(p.prevs, MAX_PREVS), "`prevs` are at most 64 hashes, ascending, none twice")
    _need(bool(p.prevs) != isinstance(p, Genesis), "only genesis has no `prevs`")
    match p:
        case Genesis():
            _need(p.by == ROOT and space_id(p.root_public) == space, "its root key is not this space's")
            _sizes((p.root_public, 32), (p.root_exchange, 32), (p.sign_public, 32), (p.exchange_public, 32))
            _need(len(p.name) <= MAX_SEALED_NAME_BYTES, "the name is too long")
        case Add():
            _sizes((p.sign_public, 32), (p.exchange_public, 32), (p.joiner_sig, SIGNATURE_BYTES))
            _need(len(p.name) <= MAX_SEALED_NAME_BYTES, "the name is too long")
            _need(_pairs(p.wraps, SEALED_KEY_BYTES), "`wraps` are epochs and boxes of 80 bytes, ascending")
        case Remove():
            _need(p.by != ROOT and len(p.target) == 32, "a device removes a seat; root expels")
        case Restore():
            _need(bool(p.ends) and _ascending(p.ends, MAX_PREVS), "`ends` are 1 to 64 removes, ascending")
        case Leave():
            _need(p.by != ROOT, "root does not leave")
        case Expel():
            _need(p.by == ROOT and len(p.target) == 32, "only root expels")
            _need(_ascending(p.keep, MAX_PREVS), "`keep` are at most 64 hashes, ascending, none twice")
        case Epoch():
            _sizes((p.kid, 8), (p.commitment, 32), (p.root_wrap, SEALED_KEY_BYTES))
            _need(_pairs(p.wraps, SEALED_KEY_BYTES), "`wraps` are seats and boxes of 80 bytes, ascending")
            _need(_pairs(p.prev_wraps, PREV_WRAP_BYTES), "`prev_wraps` are epochs and 72 bytes, ascending")
        case Wrap():
            _sizes((p.target, 32))
            _need(_pairs(p.wraps, SEALED_KEY_BYTES), "`wraps` are epochs and boxes of 80 bytes, ascending")
        case LogClose():
            _sizes((p.device, 16), (p.hash, 32))
            _need(-(2**63) <= p.log < 2**63, "`log` has 64 bits")
            _need(0 <= p.fork <= p.n <= MAX_INT, "`n` or `fork` is out of range")
            _need(p.n > 0 or not any(p.hash), "a log that ends before its first batch has no hash")
        case XKey() | Endorse() | Trim():
            pass


def _need(holds: bool, why: str) -> None:
    if not holds:
        raise BadRecord(f"The control record is malformed: {why}.")


def _sizes(*fields: tuple[bytes, int]) -> None:
    _need(all(len(value) == size for value, size in fields), "a key, hash or signature has the wrong size")


def _ascending(names: Sequence[bytes], most: int) -> bool:
    return (
        len(names) <= most
        and all(len(name) == 32 for name in names)
        and all(a < b for a, b in itertools.pairwise(names))
    )


def _pairs(pairs: Pairs, size: int) -> bool:
    return _ascending([name for name, _ in pairs], MAX_RECORD_BYTES) and all(len(box) == size for _, box in pairs)


# ---- signing -------------------------------------------------------------------------------------------------------
def sign_record(payload: AnyPayload, sign_secret: bytes) -> bytes:
    """Raw bytes of a new record. Lists are brought into order here.

    Args: sign_secret: 64-byte libsodium Ed25519 secret of the seat `by` names, or of root.
    Raises: BadRecord, TooBig: nobody would accept it.
    """
    fields = {name: getattr(payload, name) for name in payload.__struct_fields__}
    lists = {name: tuple(sorted(value)) for name, value in fields.items() if isinstance(value, tuple)}
    encoded = _encoder.encode(msgspec.structs.replace(payload, **lists))
    raw = encode_canonical([encoded, crypto_sign(record_hash(encoded), sign_secret)[:SIGNATURE_BYTES]])
    read_record(raw, payload.space)
    return raw


def joiner_digest(space: SpaceId, adder_seat: bytes, prevs: Iterable[bytes], device: DeviceId) -> bytes:
    """32 bytes that a new device signs: it joins this space, by this seat, on top of these records, under these keys.

    Without it a hostile device could seat other people's devices where it likes. Args: adder_seat: 32 bytes, or ROOT.
    """
    return blake2b(encode_canonical([space, adder_seat, sorted(prevs), device]), 32, "hgw-join")

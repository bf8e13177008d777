"""A second reader of the wire formats, written from protocol/SPEC.md alone: standard library and libsodium only.

It imports none of our packages (a test checks that). It is slow and strict on purpose: canonical bytes are checked byte
by byte, nothing is skipped, and every refusal is a `Refused`.
"""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from dataclasses import dataclass

from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt, crypto_sign_open
from nacl.exceptions import CryptoError

MAX_INT = 2**53 - 1
MAX_DEPTH = 32
HEADER_BYTES, SIGNATURE_BYTES, TAG_BYTES = 114, 64, 16
MAX_BODY_BYTES = 1024 * 1024
MAX_BATCH_BYTES = 256 * 1024
MAX_FRAME_BYTES = 1024 * 1024
FRAME_TYPES = {
    0x01: "challenge", 0x02: "auth", 0x03: "welcome",
    0x10: "push", 0x11: "push_ack", 0x12: "want", 0x13: "batches", 0x14: "credit",
    0x20: "ctl_get", 0x21: "ctl", 0x22: "ctl_put", 0x23: "ctl_ack",
    0x40: "msg_put", 0x41: "msg_stored", 0x42: "msg", 0x43: "msg_done",
    0x44: "letter_put", 0x45: "letter", 0x46: "letter_done", 0x60: "dir_get", 0x61: "dir",
    0x70: "pair_open", 0x71: "pair_opened", 0x72: "pair_join", 0x73: "pair_joined", 0x74: "pair_msg",
    0x75: "pair_close",
    0x7D: "ping", 0x7E: "pong", 0x7F: "err",
}  # fmt: skip


class Refused(Exception):
    """These bytes are not what the page describes."""


# ---- msgpack -------------------------------------------------------------------------------------------------------
class Msgpack:
    """One value from bytes. `canonical` also refuses every encoding that is not the one canonical form."""

    def __init__(self, data: bytes, *, canonical: bool = False, binary: bool = True) -> None:
        self.data, self.at, self.canonical, self.binary = data, 0, canonical, binary

    def take(self, count: int) -> bytes:
        """The next *count* bytes."""
        if count > len(self.data) - self.at:
            raise Refused(f"{count} bytes wanted at {self.at}, {len(self.data) - self.at} are left")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, form: str, least: int | None = None, below: int | None = None) -> int:
        """A big-endian integer; canonical only if a shorter form could not hold it."""
        value: int = struct.unpack(">" + form, self.take(struct.calcsize(form)))[0]
        if self.canonical and least is not None and not (value >= least or (below is not None and value < below)):
            raise Refused(f"{value} has a shorter form")
        return value

    def value(self, depth: int = 0) -> object:
        """The next value. Raises: Refused."""
        tag = self.take(1)[0]
        if tag < 0x80:
            return tag
        if tag >= 0xE0:
            return tag - 0x100
        if tag < 0x90:
            return self.map(tag & 0x0F, depth)
        if tag < 0xA0:
            return self.array(tag & 0x0F, depth)
        if tag < 0xC0:
            return self.text(tag & 0x1F)
        match tag:
            case 0xC0:
                return None
            case 0xC2 | 0xC3:
                return tag == 0xC3
            case 0xC4 | 0xC5 | 0xC6:
                if not self.binary:
                    raise Refused("bytes are not in the value domain")
                form, least = {0xC4: ("B", 0), 0xC5: ("H", 2**8), 0xC6: ("I", 2**16)}[tag]
                return self.take(self.number(form, least))
            case 0xCA:
                if self.canonical:
                    raise Refused("floats have 64 bits")
                return self.real(">f", 4)
            case 0xCB:
                return self.real(">d", 8)
            case 0xCC | 0xCD | 0xCE | 0xCF:
                return self.integer(
                    *{0xCC: ("B", 2**7), 0xCD: ("H", 2**8), 0xCE: ("I", 2**16), 0xCF: ("Q", 2**32)}[tag]
                )
            case 0xD0:
                return self.integer("b", 2**63, -(2**5))
            case 0xD1:
                return self.integer("h", 2**63, -(2**7))
            case 0xD2:
                return self.integer("i", 2**63, -(2**15))
            case 0xD3:
                return self.integer("q", 2**63, -(2**31))
            case 0xD9 | 0xDA | 0xDB:
                form, least = {0xD9: ("B", 2**5), 0xDA: ("H", 2**8), 0xDB: ("I", 2**16)}[tag]
                return self.text(self.number(form, least))
            case 0xDC | 0xDD:
                return self.array(self.number(*{0xDC: ("H", 2**4), 0xDD: ("I", 2**16)}[tag]), depth)
            case 0xDE | 0xDF:
                return self.map(self.number(*{0xDE: ("H", 2**4), 0xDF: ("I", 2**16)}[tag]), depth)
        raise Refused(f"byte {tag:#x} begins no value")

    def integer(self, form: str, least: int, below: int | None = None) -> int:
        """An integer. In the value domain (`binary` off) it has at most 53 bits."""
        value = self.number(form, least, below)
        if not self.binary and abs(value) > MAX_INT:
            raise Refused("integers have at most 53 bits")
        return value

    def real(self, form: str, size: int) -> float:
        """A float; canonical only if it is finite and no integer of the domain."""
        value: float = struct.unpack(form, self.take(size))[0]
        if self.canonical and (not math.isfinite(value) or (value.is_integer() and abs(value) <= MAX_INT)):
            raise Refused(f"{value} is not a canonical float")
        return value

    def text(self, size: int) -> str:
        """UTF-8; strict, so surrogates are refused."""
        try:
            return self.take(size).decode()
        except UnicodeDecodeError as error:
            raise Refused("text is not UTF-8") from error

    def array(self, count: int, depth: int) -> list[object]:
        """Items one after the other."""
        if depth >= MAX_DEPTH or count > len(self.data) - self.at:
            raise Refused("an array nests too deep or is longer than the bytes that are left")
        return [self.value(depth + 1) for _ in range(count)]

    def map(self, count: int, depth: int) -> dict[str, object]:
        """Text keys, none twice; canonical only in the order of their UTF-8 bytes."""
        if depth >= MAX_DEPTH or 2 * count > len(self.data) - self.at:
            raise Refused("a map nests too deep or is longer than the bytes that are left")
        found: dict[str, object] = {}
        last = b""
        for index in range(count):
            key = self.value(depth + 1)
            if not isinstance(key, str) or key in found:
                raise Refused("keys are text, none twice")
            if self.canonical and index and key.encode() <= last:
                raise Refused("keys are not in order")
            last = key.encode()
            found[key] = self.value(depth + 1)
        return found


def read(data: bytes, *, canonical: bool = False, binary: bool = True) -> object:
    """The one value that *data* is. Args: binary: byte strings and 64-bit integers are allowed (not in documents)."""
    reader = Msgpack(data, canonical=canonical, binary=binary)
    value = reader.value()
    if reader.at != len(data):
        raise Refused(f"{len(data) - reader.at} bytes after the value")
    return value


# ---- hashes and identifiers ----------------------------------------------------------------------------------------
def blake(data: bytes, size: int, person: str, key: bytes = b"") -> bytes:
    """BLAKE2b with a domain."""
    return hashlib.blake2b(data, digest_size=size, person=person.encode(), key=key).digest()


def signed64(raw: bytes) -> int:
    """A log id as it is compared: signed, big endian."""
    return int.from_bytes(raw, "big", signed=True)


def padme(size: int) -> int:
    """The padded length of *size* bytes, at most 12 % more."""
    exponent = size.bit_length() - 1
    mask = (1 << max(0, exponent - exponent.bit_length())) - 1
    return (size + mask) & ~mask


# ---- batches -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Header:
    """The clear part of a batch."""

    flags: int
    space: bytes
    device: bytes
    log: int
    n: int
    kid: bytes
    prev: bytes
    nonce: bytes


def read_header(blob: bytes) -> Header:
    """Bytes 0 to 113 of a batch. Raises: Refused: sizes, version, flags, n, or a first batch of a foreign log."""
    if not HEADER_BYTES + 256 + TAG_BYTES + SIGNATURE_BYTES <= len(blob) <= MAX_BATCH_BYTES:
        raise Refused(f"{len(blob)} bytes are no batch")
    if blob[0] != 1 or blob[1] & ~7:
        raise Refused("version or flags not known")
    header = Header(
        flags=blob[1], space=blob[2:18], device=blob[18:34], log=signed64(blob[34:42]),
        n=int.from_bytes(blob[42:50], "big"), kid=blob[50:58], prev=blob[58:90], nonce=blob[90:114],
    )  # fmt: skip
    if not 1 <= header.n <= MAX_INT:
        raise Refused("n out of range")
    if header.n == 1 and signed64(blake(header.device + header.prev, 8, "hgw-log")) != header.log:
        raise Refused("the log is not this device's")
    return header


def batch_hash(blob: bytes) -> bytes:
    """H: what is signed, and `prev` of the next batch."""
    return blake(blob[:-SIGNATURE_BYTES], 32, "hgw-batch1")


def check_signature(blob: bytes, sign_public: bytes) -> None:
    """Raises: Refused."""
    try:
        crypto_sign_open(blob[-SIGNATURE_BYTES:] + batch_hash(blob), sign_public)
    except (CryptoError, ValueError) as error:
        raise Refused("signature") from error


def open_body(blob: bytes, space_key: bytes) -> bytes:
    """The encoded body of a batch: decrypted, its padding checked, inflated. Raises: Refused."""
    header = read_header(blob)
    if blake(space_key, 8, "hgw-kid") != header.kid:
        raise Refused("another key")
    key = blake(blob[34:42], 32, "hgw-batch-key", key=space_key)
    try:
        plain = crypto_aead_xchacha20poly1305_ietf_decrypt(
            blob[HEADER_BYTES:-SIGNATURE_BYTES], blob[:HEADER_BYTES], header.nonce, key
        )
    except (CryptoError, ValueError) as error:
        raise Refused("does not open") from error
    size = int.from_bytes(plain[:4], "big")
    if size + 4 > len(plain) or len(plain) != max(256, padme(size + 4)) or any(plain[4 + size :]):
        raise Refused("length or padding")
    body = plain[4 : 4 + size]
    if not header.flags & 1:
        return body
    if header.flags & 2:
        raise Refused("secret and deflated")
    inflate = zlib.decompressobj(wbits=-15)
    try:
        inflated = inflate.decompress(body, MAX_BODY_BYTES)
    except zlib.error as error:
        raise Refused("deflate") from error
    if not inflate.eof or inflate.unused_data:
        raise Refused("a bomb, or bytes after the end")
    return inflated


def open_batch(blob: bytes, space_key: bytes) -> object:
    """The decoded body of a batch. Raises: Refused."""
    return read(open_body(blob, space_key))


# ---- control records ------------------------------------------------------------------------------------
def read_record(data: bytes) -> tuple[dict[str, object], bytes, bytes]:
    """A control record `[payload, signature]`: the decoded payload, its exact bytes, the signature. Raises: Refused."""
    match read(data):
        case [bytes(payload), bytes(signature)] if len(signature) == SIGNATURE_BYTES:
            body = read(payload, canonical=True)
            if isinstance(body, dict):
                return body, payload, signature
    raise Refused("not [payload, signature]")

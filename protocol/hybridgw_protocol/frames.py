"""Frames: what travels on a link. One WebSocket binary message is one frame: msgpack `[type, id, map]`.

`id` joins an answer to its request; 0 where nothing is answered. Unknown keys of a map are ignored (a newer program
may send more), unknown types are refused. The same frames serve a relay and a device on the LAN.
Source: protocol/SPEC.md, "Frames".
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, ClassVar, Final

import msgspec
from msgspec import Meta

from .codec import decode
from .errors import BadFrame
from .limits import (
    LOGS_PER_SPACE,
    MAX_FRAME_BATCHES,
    MAX_FRAME_BYTES,
    MAX_FRAME_ENVELOPES,
    MAX_PAIRING_BYTES,
    MAX_RECORDS,
)
from .vectors import Entry

# Sizes stand in the types, so that the decoder refuses a list by its head, before it makes room for its entries.
Key16 = Annotated[bytes, Meta(min_length=16, max_length=16)]
Key32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Blobs = Annotated[list[bytes], Meta(max_length=MAX_FRAME_BATCHES)]
Envelopes = Annotated[list[bytes], Meta(max_length=MAX_FRAME_ENVELOPES)]
MailKeys = Annotated[list[Key32], Meta(max_length=2 * MAX_FRAME_ENVELOPES)]
Records = Annotated[list[bytes], Meta(max_length=MAX_RECORDS)]
Heads = Annotated[list[bytes], Meta(max_length=256)]
Vector = Annotated[list[Entry], Meta(max_length=2 * LOGS_PER_SPACE)]
Nameplate = Annotated[int, Meta(ge=0, le=9999)]
Word = Annotated[str, Meta(max_length=64)]
Place = Annotated[str, Meta(max_length=300)]


class FrameType(IntEnum):
    """First element of a frame."""

    CHALLENGE = 0x01
    AUTH = 0x02
    WELCOME = 0x03
    PUSH = 0x10
    PUSH_ACK = 0x11
    WANT = 0x12
    BATCHES = 0x13
    CREDIT = 0x14
    CTL_GET = 0x20
    CTL = 0x21
    CTL_PUT = 0x22
    CTL_ACK = 0x23
    MSG_PUT = 0x40
    MSG_STORED = 0x41
    MSG = 0x42
    MSG_DONE = 0x43
    LETTER_PUT = 0x44
    LETTER = 0x45
    LETTER_DONE = 0x46
    DIR_GET = 0x60
    DIR = 0x61
    PAIR_OPEN = 0x70
    PAIR_OPENED = 0x71
    PAIR_JOIN = 0x72
    PAIR_JOINED = 0x73
    PAIR_MSG = 0x74
    PAIR_CLOSE = 0x75
    PING = 0x7D
    PONG = 0x7E
    ERR = 0x7F


class Frame(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Base of all frames; `type` is the wire number, `id` the request it belongs to."""

    type: ClassVar[FrameType]


class Challenge(Frame):
    """Server's first frame. v: lowest and highest protocol version; ns: 32 random bytes; role: relay or peer;
    ep: peer only, "fp:<sha256 of its TLS certificate>"; t: its clock, Unix ms."""

    type = FrameType.CHALLENGE
    v: tuple[int, int]
    ns: Key32
    role: Annotated[str, Meta(max_length=16)]
    t: int
    ep: Place = ""
    tags: Annotated[list[bytes], Meta(max_length=16)] = []


class Auth(Frame):
    """Who the client is and what it holds. v: chosen version; sp: space; pk: sign and exchange public keys (64 bytes);
    nc: 32 random bytes; ep: "host:<authority it dialled>" or the peer's "fp:…"; sig: see auth.py; vv: stored heads;
    ctl: 16-byte prefixes of control log heads; sub: keep sending what arrives; enrol: invite secret, once."""

    type = FrameType.AUTH
    v: int
    sp: Annotated[bytes, Meta(min_length=16, max_length=16)]
    pk: Annotated[bytes, Meta(min_length=64, max_length=64)]
    nc: Key32
    ep: Place
    sig: Annotated[bytes, Meta(min_length=64, max_length=64)]
    t: int
    vv: Vector = []
    ctl: Heads = []
    caps: Annotated[list[str], Meta(max_length=32)] = []
    sub: bool = True
    enrol: Annotated[bytes, Meta(max_length=1024)] = b""


class Quota(msgspec.Struct, kw_only=True):
    """What a relay account may still store; 0 = no limit told."""

    bytes: int = 0
    used: int = 0
    devices: int = 0


class Welcome(Frame):
    """Admitted. In step exactly if vv and ctl equal the client's. sig and pk: peer only."""

    type = FrameType.WELCOME
    sid: Word
    t: int
    vv: Vector = []
    ctl: Heads = []
    quota: Quota | None = None
    sig: bytes = b""
    pk: bytes = b""


class Push(Frame):
    """Batches in an order whose dependencies come first. Costs credit."""

    type = FrameType.PUSH
    b: Blobs


class PushAck(Frame):
    """Durable here: the heads now stored of every log that was touched."""

    type = FrameType.PUSH_ACK
    vv: Vector


class Want(Frame):
    """Send everything above this vector from now on (replaces the vector of auth)."""

    type = FrameType.WANT
    vv: Vector


class Batches(Frame):
    """Batches in arrival order, dependencies first. more: the sender holds further ones right now. Costs credit."""

    type = FrameType.BATCHES
    b: Blobs
    more: bool = False


class Credit(Frame):
    """So many more bytes of push or batches frames may be sent: what was sent is stored durably."""

    type = FrameType.CREDIT
    n: Annotated[int, Meta(ge=1, le=2**40)]


class CtlGet(Frame):
    """Send the control records that are not at or below these heads."""

    type = FrameType.CTL_GET
    heads: Heads = []


class Ctl(Frame):
    """Control records, `prevs` first. more: another ctl frame follows."""

    type = FrameType.CTL
    recs: Records
    more: bool = False


class CtlPut(Frame):
    """New control records to keep; answered by ctl_ack or err."""

    type = FrameType.CTL_PUT
    recs: Records


class CtlAck(Frame):
    """Durable here; the heads now known (16-byte prefixes)."""

    type = FrameType.CTL_ACK
    heads: Heads


class MsgPut(Frame):
    """Messages for other devices, in the order of their stream; answered by msg_stored. m: envelopes; x: tombstones."""

    type = FrameType.MSG_PUT
    m: Envelopes = []
    x: Envelopes = []


class MsgStored(Frame):
    """Durable here. ids: those taken, each recipient's device id and message id (32 bytes); no: those that are refused,
    likewise; why: the code of each of these."""

    type = FrameType.MSG_STORED
    ids: MailKeys = []
    no: MailKeys = []
    why: Annotated[list[Word], Meta(max_length=2 * MAX_FRAME_ENVELOPES)] = []


class Msg(Frame):
    """Messages that a relay kept for this device. m: envelopes; x: tombstones of those whose time was over."""

    type = FrameType.MSG
    m: Envelopes = []
    x: Envelopes = []


class MsgDone(Frame):
    """Durable at their device: forget them. ids: each sender's device id and message id (32 bytes)."""

    type = FrameType.MSG_DONE
    ids: MailKeys


class LetterPut(Frame):
    """Letters for devices of another person, in the order of their streams; answered by msg_stored. sp: whose devices
    these are; heads: of its control log, as known here: with others none is taken."""

    type = FrameType.LETTER_PUT
    sp: Key16
    heads: Heads = []
    m: Envelopes = []


class LetterFrame(Frame):
    """Letters that a relay kept for this device."""

    type = FrameType.LETTER
    m: Envelopes


class LetterDone(Frame):
    """Durable at their device: forget them. ids: each sender's device id and letter id (32 bytes)."""

    type = FrameType.LETTER_DONE
    ids: MailKeys


class DirGet(Frame):
    """Who is this person; answered by dir. heads: of its control log, as known here."""

    type = FrameType.DIR_GET
    sp: Key16
    heads: Heads = []


class Dir(Frame):
    """Control records of a person that are lacking, `prevs` first, and the message keys in use. more: another dir frame
    follows. None at all: nobody of this id is in the directory."""

    type = FrameType.DIR
    recs: Records
    more: bool = False


class PairOpen(Frame):
    """Open a pairing mailbox; only after authentication."""

    type = FrameType.PAIR_OPEN


class PairOpened(Frame):
    """np: the nameplate to tell the new device; ttl: ms until it is burned."""

    type = FrameType.PAIR_OPENED
    np: Nameplate
    ttl: int


class PairJoin(Frame):
    """Join a mailbox; the only thing a client without membership may ask for."""

    type = FrameType.PAIR_JOIN
    np: Nameplate


class PairJoined(Frame):
    """Both are there (told to both sides)."""

    type = FrameType.PAIR_JOINED


class PairMsg(Frame):
    """Opaque bytes for the other side of the mailbox."""

    type = FrameType.PAIR_MSG
    m: Annotated[bytes, Meta(max_length=MAX_PAIRING_BYTES)]


class PairClose(Frame):
    """The mailbox is gone. why: done, abort, expired, gone."""

    type = FrameType.PAIR_CLOSE
    why: Word


class Ping(Frame):
    """Are you there; answered at once."""

    type = FrameType.PING
    t: int = 0


class Pong(Frame):
    """Answer to ping with its t."""

    type = FrameType.PONG
    t: int = 0


class Err(Frame):
    """Something was refused. id 0: the link closes after it; else the answer to that request. retry: ms, 0 = never."""

    type = FrameType.ERR
    code: Word
    msg: Annotated[str, Meta(max_length=1024)]
    retry: int = 0


_CLASSES: Final[dict[int, type[Frame]]] = {int(kind.type): kind for kind in Frame.__subclasses__()}
_encoder: Final = msgspec.msgpack.Encoder()


class _Raw(msgspec.Struct, array_like=True):
    type: int
    id: int
    body: msgspec.Raw


def encode_frame(frame: Frame, request: int = 0) -> bytes:
    """Wire bytes of a frame. Args: request: its id, or the id it answers."""
    return _encoder.encode((int(frame.type), request, frame))


def decode_frame(data: bytes) -> tuple[Frame, int]:
    """The frame and its id. Raises: BadFrame: too long, not msgpack, unknown type, a field of wrong type or size."""
    if len(data) > MAX_FRAME_BYTES:
        raise BadFrame(f"A frame has at most {MAX_FRAME_BYTES} bytes, this one {len(data)}.")
    raw = decode(data, _Raw, "frame")
    kind = _CLASSES.get(raw.type)
    if kind is None:
        raise BadFrame(f"Frame type {raw.type:#x} is not known here.")
    if not 0 <= raw.id < 2**32:
        raise BadFrame("A frame id is an integer of 32 bits.")
    return decode(bytes(raw.body), kind, f"{kind.type.name.lower()} frame"), raw.id

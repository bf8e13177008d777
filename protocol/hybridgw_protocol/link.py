"""Link: one sync conversation, without I/O. Bytes in, frames out; frames in, bytes out.

A link knows whose turn it is (the tables below: a missing key *is* the error) and how many bytes of batches each side
may still send. What the frames mean is the business of the two drivers. States:

    START -> CHALLENGED -> AUTHENTICATING -> READY          a device
                       \\-> JOINING -> PAIRING               a new device, before it is a member
    every state -> CLOSED on an err frame with id 0

Credit (protocol/SPEC.md, "Link"): push and batches frames cost their length. A side may send while its credit is above
zero, so it overdraws by one frame at most; the receiver gives bytes back once they are stored durably.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from .errors import BadFrame
from .frames import Batches, Credit, Err, Frame, FrameType, PairClose, Push, decode_frame, encode_frame
from .limits import CREDIT_START_BYTES, FRAME_TARGET_BYTES, MAX_FRAME_BATCHES, MAX_FRAME_BYTES

F = FrameType


class Role(Enum):
    """Which end of the connection this is. A relay is always the server."""

    CLIENT = auto()
    SERVER = auto()


class State(Enum):
    """Where the conversation stands; see the module's chart."""

    START = auto()
    CHALLENGED = auto()
    AUTHENTICATING = auto()
    READY = auto()
    JOINING = auto()
    PAIRING = auto()
    CLOSED = auto()


_DATA: Final = {
    t: State.READY
    for t in (
        F.PUSH, F.PUSH_ACK, F.WANT, F.BATCHES, F.CREDIT, F.CTL_GET, F.CTL, F.CTL_PUT, F.CTL_ACK, F.MSG_PUT,
        F.MSG_STORED,
    )
}  # fmt: skip
_ASKS: Final = dict.fromkeys((F.MSG_DONE, F.LETTER_PUT, F.LETTER_DONE, F.DIR_GET), State.READY)
_MAILBOX: Final = {F.PAIR_MSG: State.READY, F.PAIR_CLOSE: State.READY}

# What the client may send in each state, and the state after it. The server mirrors it.
CLIENT_SENDS: Final[dict[State, dict[FrameType, State]]] = {
    State.CHALLENGED: {F.AUTH: State.AUTHENTICATING, F.PAIR_JOIN: State.JOINING},
    State.AUTHENTICATING: {F.CTL: State.AUTHENTICATING},
    State.READY: {**_DATA, **_MAILBOX, **_ASKS, F.PAIR_OPEN: State.READY},
    State.PAIRING: {F.PAIR_MSG: State.PAIRING, F.PAIR_CLOSE: State.CLOSED},
}
SERVER_SENDS: Final[dict[State, dict[FrameType, State]]] = {
    State.START: {F.CHALLENGE: State.CHALLENGED},
    State.AUTHENTICATING: {F.CTL_GET: State.AUTHENTICATING, F.WELCOME: State.READY},
    State.READY: {
        **_DATA,
        **_MAILBOX,
        F.MSG: State.READY,
        F.LETTER: State.READY,
        F.DIR: State.READY,
        F.PAIR_OPENED: State.READY,
        F.PAIR_JOINED: State.READY,
    },
    State.JOINING: {F.PAIR_JOINED: State.PAIRING},
    State.PAIRING: {F.PAIR_MSG: State.PAIRING, F.PAIR_CLOSE: State.CLOSED},
}
_ANY_TIME: Final = (F.PING, F.PONG, F.ERR)  # after the first frame


@dataclass(frozen=True, slots=True)
class Flow:
    """How much of batches goes at once. Both ends of a link begin with the same credit; frames are the sender's choice.

    frame_bytes, frame_batches: a frame is closed when it has reached one of them.
    """

    credit_bytes: int = CREDIT_START_BYTES
    frame_bytes: int = FRAME_TARGET_BYTES
    frame_batches: int = MAX_FRAME_BATCHES


DEFAULT_FLOW: Final = Flow()


class Link:
    """One end of a conversation. Feed `receive`, drain `data_to_send`; after an exception the link is CLOSED."""

    def __init__(self, role: Role, *, credit_bytes: int = CREDIT_START_BYTES) -> None:
        self.state = State.START
        self.credit = credit_bytes  # bytes of batches we may still send
        self._allowance = credit_bytes  # bytes of batches the other side may still send
        self._stored = 0  # received and durable, not given back yet
        self._grant_at = max(1, credit_bytes // 8)
        mine, theirs = (CLIENT_SENDS, SERVER_SENDS) if role is Role.CLIENT else (SERVER_SENDS, CLIENT_SENDS)
        self._mine, self._theirs = mine, theirs
        self._out: list[bytes] = []
        self._last_id = 0
        self.bytes_in = 0
        self.bytes_out = 0

    @property
    def may_send_batches(self) -> bool:
        """Is there credit left for a push or batches frame."""
        return self.state is State.READY and self.credit > 0

    def receive(self, data: bytes) -> tuple[Frame, int]:
        """One frame and its id. Raises: BadFrame: unreadable, out of turn, or beyond the credit given."""
        self.bytes_in += len(data)
        try:
            frame, request = decode_frame(data)
            self._step(self._theirs, frame, request, "sent out of turn")
        except BadFrame:
            self.state = State.CLOSED
            raise
        if isinstance(frame, Push | Batches):
            if self._allowance <= 0:
                self.state = State.CLOSED
                raise BadFrame("More batches than the credit allows.")
            self._allowance -= len(data)
        elif isinstance(frame, Credit):
            self.credit = min(self.credit + frame.n, 2**40)
        return frame, request

    def send(self, frame: Frame, *, request: int = 0) -> int:
        """Queue a frame. Returns its size in bytes. Raises: BadFrame: our own turn is not now, or it is too long."""
        data = encode_frame(frame, request)
        if len(data) > MAX_FRAME_BYTES:
            raise BadFrame(f"A frame of {len(data)} bytes does not fit; split it.")
        self._step(self._mine, frame, request, "may not be sent now")
        if isinstance(frame, Push | Batches):
            self.credit -= len(data)
        self._out.append(data)
        self.bytes_out += len(data)
        return len(data)

    def ask(self, frame: Frame) -> int:
        """Queue a request under a new id; returns the id its answer will carry."""
        self._last_id = self._last_id % (2**32 - 1) + 1
        self.send(frame, request=self._last_id)
        return self._last_id

    def stored(self, size_bytes: int) -> None:
        """So many received bytes are durable: gives credit back, in large steps."""
        self._stored += size_bytes
        if self._stored >= self._grant_at and self.state is State.READY:
            self.send(Credit(n=self._stored))
            self._allowance += self._stored
            self._stored = 0

    def data_to_send(self) -> list[bytes]:
        """Drain the queued frames, one WebSocket message each."""
        out, self._out = self._out, []
        return out

    def _step(self, table: dict[State, dict[FrameType, State]], frame: Frame, request: int, problem: str) -> None:
        if frame.type in _ANY_TIME and self.state is not State.START:
            if self.state is State.CLOSED:
                raise BadFrame("The link is closed.")
            if isinstance(frame, Err) and request == 0:
                self.state = State.CLOSED
            return
        after = table.get(self.state, {}).get(frame.type)
        if after is None:
            raise BadFrame(f"A {frame.type.name.lower()} frame {problem} (state {self.state.name.lower()}).")
        self.state = after


__all__ = ["DEFAULT_FLOW", "Flow", "Link", "PairClose", "Role", "State"]

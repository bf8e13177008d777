"""The link machine: two ends against each other, every frame in every state for both roles, and the credit."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridgw_protocol import frames as f
from hybridgw_protocol.errors import BadFrame
from hybridgw_protocol.frames import Frame, FrameType, encode_frame
from hybridgw_protocol.limits import CREDIT_START_BYTES, MAX_FRAME_BYTES
from hybridgw_protocol.link import Link, Role, State
from tests.unit.protocol.samples import every_frame

T, S = FrameType, State
SAMPLES: dict[FrameType, Frame] = {frame.type: frame for frame in reversed(every_frame())}

# The table of protocol/SPEC.md, "Link": (state, who) -> frame -> state after it.
BOTH_READY = dict.fromkeys(
    (
        T.PUSH,
        T.PUSH_ACK,
        T.WANT,
        T.BATCHES,
        T.CREDIT,
        T.CTL_GET,
        T.CTL,
        T.CTL_PUT,
        T.CTL_ACK,
        T.MSG_PUT,
        T.MSG_STORED,
        T.PAIR_MSG,
        T.PAIR_CLOSE,
    ),
    S.READY,
)
PAGE: dict[tuple[State, Role], dict[FrameType, State]] = {
    (S.START, Role.SERVER): {T.CHALLENGE: S.CHALLENGED},
    (S.CHALLENGED, Role.CLIENT): {T.AUTH: S.AUTHENTICATING, T.PAIR_JOIN: S.JOINING},
    (S.AUTHENTICATING, Role.CLIENT): {T.CTL: S.AUTHENTICATING},
    (S.AUTHENTICATING, Role.SERVER): {T.CTL_GET: S.AUTHENTICATING, T.WELCOME: S.READY},
    (S.READY, Role.CLIENT): BOTH_READY
    | dict.fromkeys((T.MSG_DONE, T.LETTER_PUT, T.LETTER_DONE, T.DIR_GET, T.PAIR_OPEN), S.READY),
    (S.READY, Role.SERVER): BOTH_READY | dict.fromkeys((T.MSG, T.LETTER, T.DIR, T.PAIR_OPENED, T.PAIR_JOINED), S.READY),
    (S.JOINING, Role.SERVER): {T.PAIR_JOINED: S.PAIRING},
    (S.PAIRING, Role.CLIENT): {T.PAIR_MSG: S.PAIRING, T.PAIR_CLOSE: S.CLOSED},
    (S.PAIRING, Role.SERVER): {T.PAIR_MSG: S.PAIRING, T.PAIR_CLOSE: S.CLOSED},
}
for at in (S.CHALLENGED, S.AUTHENTICATING, S.READY, S.JOINING, S.PAIRING):  # in every state after the first frame
    for who in Role:
        PAGE.setdefault((at, who), {}).update({T.PING: at, T.PONG: at, T.ERR: S.CLOSED})

# The frames that lead to each state, by who sends them.
PATHS: dict[State, list[FrameType]] = {
    S.START: [],
    S.CHALLENGED: [T.CHALLENGE],
    S.AUTHENTICATING: [T.CHALLENGE, T.AUTH],
    S.READY: [T.CHALLENGE, T.AUTH, T.WELCOME],
    S.JOINING: [T.CHALLENGE, T.PAIR_JOIN],
    S.PAIRING: [T.CHALLENGE, T.PAIR_JOIN, T.PAIR_JOINED],
    S.CLOSED: [T.CHALLENGE, T.PAIR_JOIN, T.PAIR_JOINED, T.PAIR_CLOSE],
}


class Pair:
    """A client and a server; `move` carries what one has queued to the other."""

    def __init__(self, *, credit_bytes: int = CREDIT_START_BYTES) -> None:
        self.client = Link(Role.CLIENT, credit_bytes=credit_bytes)
        self.server = Link(Role.SERVER, credit_bytes=credit_bytes)

    def end(self, role: Role) -> Link:
        return self.client if role is Role.CLIENT else self.server

    def other(self, role: Role) -> Link:
        return self.server if role is Role.CLIENT else self.client

    def move(self, sender: Role) -> list[tuple[Frame, int]]:
        return [self.other(sender).receive(data) for data in self.end(sender).data_to_send()]

    def say(self, sender: Role, frame: Frame, request: int = 0) -> None:
        self.end(sender).send(frame, request=request)
        assert self.move(sender) == [(frame, request)]


def pair_in(state: State, **options: int) -> Pair:
    pair = Pair(**options)
    for kind in PATHS[state]:
        sender = Role.SERVER if kind in (T.CHALLENGE, T.WELCOME, T.PAIR_JOINED) else Role.CLIENT
        pair.say(sender, SAMPLES[kind])
    assert pair.client.state is pair.server.state is state
    return pair


CASES = [(state, role, kind) for state in State for role in Role for kind in FrameType]


@pytest.mark.parametrize(("state", "role", "kind"), CASES, ids=[f"{s.name}-{r.name}-{k.name}" for s, r, k in CASES])
def test_every_frame_in_every_state(state: State, role: Role, kind: FrameType) -> None:
    """What the page allows leads both ends to its next state; all else is refused when sent, and cuts when received."""
    frame = SAMPLES[kind]
    after = PAGE.get((state, role), {}).get(kind)
    pair = pair_in(state)
    sender, receiver = pair.end(role), pair.other(role)
    if after is not None:
        pair.say(role, frame)
        assert sender.state is receiver.state is after
        return
    with pytest.raises(BadFrame):
        sender.send(frame)
    assert sender.data_to_send() == []
    assert sender.state is state  # our own mistake does not break the link
    with pytest.raises(BadFrame):
        receiver.receive(encode_frame(frame))
    assert receiver.state is State.CLOSED


def test_the_page_names_every_state() -> None:
    assert {state for state, _ in PAGE} == set(State) - {S.CLOSED}
    assert len(CASES) == 7 * 2 * 30


def test_an_error_with_an_id_refuses_a_request_and_keeps_the_link() -> None:
    for state in (S.CHALLENGED, S.AUTHENTICATING, S.READY, S.JOINING, S.PAIRING):
        for role in Role:
            pair = pair_in(state)
            pair.say(role, f.Err(code="busy", msg="later", retry=100), request=7)
            assert pair.client.state is pair.server.state is state
            pair.say(role, f.Err(code="busy", msg="over"))
            assert pair.client.state is pair.server.state is State.CLOSED


def test_after_a_bad_frame_nothing_is_taken_any_more() -> None:
    for raw in (b"", b"\xc1", encode_frame(SAMPLES[T.AUTH])[:-1], bytes(MAX_FRAME_BYTES + 1)):
        link = pair_in(S.READY).server
        with pytest.raises(BadFrame):
            link.receive(raw)
        assert link.state is State.CLOSED
        assert not link.may_send_batches
        with pytest.raises(BadFrame):
            link.receive(encode_frame(f.Ping()))
        with pytest.raises(BadFrame):
            link.send(f.Ping())


@given(st.lists(st.binary(max_size=60) | st.sampled_from([encode_frame(x) for x in SAMPLES.values()]), max_size=12))
def test_whatever_arrives_only_bad_frame_comes_out(arriving: list[bytes]) -> None:
    for role in Role:
        link = Link(role)
        for raw in arriving:
            closed = link.state is State.CLOSED
            try:
                link.receive(raw)
            except BadFrame:
                assert link.state is State.CLOSED
            else:
                assert not closed


def test_a_conversation_is_told_in_bytes() -> None:
    pair = pair_in(S.READY)
    pair.say(Role.CLIENT, f.Ping(t=1))
    pair.say(Role.SERVER, f.Pong(t=1))
    assert pair.client.bytes_out == pair.server.bytes_in > 0
    assert pair.client.bytes_in == pair.server.bytes_out > 0


def test_a_frame_that_is_too_long_is_refused_where_it_is_made() -> None:
    pair = pair_in(S.READY)
    credit = pair.client.credit
    with pytest.raises(BadFrame, match="split"):
        pair.client.send(f.Push(b=[bytes(MAX_FRAME_BYTES)]))
    assert (pair.client.credit, pair.client.state, pair.client.data_to_send()) == (credit, State.READY, [])


def test_request_ids_are_never_0_and_wrap() -> None:
    pair = pair_in(S.READY)
    assert [pair.client.ask(f.CtlGet()) for _ in range(3)] == [1, 2, 3]
    pair.client._last_id = 2**32 - 2  # as after four thousand million requests
    assert [pair.client.ask(f.CtlGet()) for _ in range(3)] == [2**32 - 1, 1, 2]
    assert [request for _, request in pair.move(Role.CLIENT)] == [1, 2, 3, 2**32 - 1, 1, 2]


# ---- credit ------------------------------------------------------------------------------------------------------
def push(size: int) -> f.Push:
    """A push frame of exactly so many bytes on the wire."""
    empty = len(encode_frame(f.Push(b=[bytes(size - 40)]))) - (size - 40)
    frame = f.Push(b=[bytes(size - empty)])
    assert len(encode_frame(frame)) == size
    return frame


@pytest.mark.parametrize("kind", [f.Push, f.Batches])
@pytest.mark.parametrize("role", Role)
def test_credit_may_be_overdrawn_by_one_frame_and_no_more(role: Role, kind: type[f.Push] | type[f.Batches]) -> None:
    pair = pair_in(S.READY, credit_bytes=10_000)
    sender, receiver = pair.end(role), pair.other(role)
    big = kind(b=[bytes(9_000)])
    for _ in range(2):  # 9,000 of 10,000; then 9,000 more while 1,000 are left
        assert sender.may_send_batches
        pair.say(role, big)
    assert sender.credit < 0
    assert not sender.may_send_batches
    assert receiver.may_send_batches  # the other direction has its own
    pair.say(role, f.Ping())  # all else is free
    pair.say(role, f.CtlPut(recs=[bytes(8_000)] * 50))
    sender.send(kind(b=[]))  # one that ignores its credit
    with pytest.raises(BadFrame, match="credit"):
        pair.move(role)
    assert receiver.state is State.CLOSED


def test_exactly_used_up_credit_is_none() -> None:
    pair = pair_in(S.READY, credit_bytes=1_000)
    pair.say(Role.CLIENT, push(1_000))
    assert pair.client.credit == 0
    assert not pair.client.may_send_batches
    pair.client.send(push(100))
    with pytest.raises(BadFrame, match="credit"):
        pair.move(Role.CLIENT)


def test_credit_comes_back_when_bytes_are_stored_in_large_steps() -> None:
    pair = pair_in(S.READY, credit_bytes=8_000)
    pair.say(Role.CLIENT, push(3_000))
    assert pair.client.credit == 5_000
    pair.server.stored(400)
    assert pair.move(Role.SERVER) == []  # below an eighth nothing is worth a frame
    pair.server.stored(600)
    assert pair.move(Role.SERVER) == [(f.Credit(n=1_000), 0)]
    assert pair.client.credit == 6_000
    pair.server.stored(2_000)
    assert pair.move(Role.SERVER) == [(f.Credit(n=2_000), 0)]
    assert pair.client.credit == 8_000
    for _ in range(4):  # and it may be used again, to the end
        pair.say(Role.CLIENT, push(2_000))
    assert not pair.client.may_send_batches


def test_credit_is_not_given_before_the_welcome_nor_after_the_end() -> None:
    for state in set(State) - {S.READY}:
        link = pair_in(state).server
        link.stored(10**7)
        assert link.data_to_send() == []


def test_credit_that_a_hostile_end_gives_without_limit_stays_a_number_one_can_count() -> None:
    pair = pair_in(S.READY)
    for _ in range(5):
        pair.say(Role.SERVER, f.Credit(n=2**40))
    assert pair.client.credit == 2**40


@given(st.integers(0, 2**32), st.integers(200, 20_000))
def test_no_order_of_sending_storing_and_carrying_cuts_an_honest_sender(seed: int, credit: int) -> None:
    """Both send whenever they may; frames wait on the way; what is stored is given back at any time later."""
    r = random.Random(seed)
    pair = pair_in(S.READY, credit_bytes=credit)
    way: dict[Role, list[bytes]] = {role: [] for role in Role}
    unstored = dict.fromkeys(Role, 0)
    sent = dict.fromkeys(Role, 0)
    for _ in range(150):
        role = r.choice(list(Role))
        end = pair.end(role)
        match r.randrange(4):
            case 0 | 1 if end.may_send_batches:
                sent[role] += end.send(f.Push(b=[bytes(r.randrange(credit))]))
            case 2:
                end.stored(unstored[role])
                unstored[role] = 0
            case _:
                if way[role]:
                    data = way[role].pop(0)
                    frame, _ = pair.other(role).receive(data)
                    if isinstance(frame, f.Push):
                        unstored[Role.SERVER if role is Role.CLIENT else Role.CLIENT] += len(data)
        way[role] += end.data_to_send()
    for role in Role:  # all arrives, all is stored
        for data in way[role]:
            frame, _ = pair.other(role).receive(data)
            unstored[Role.SERVER if role is Role.CLIENT else Role.CLIENT] += (
                len(data) if isinstance(frame, f.Push) else 0
            )
    for role in Role:
        pair.end(role).stored(unstored[role])
        pair.move(role)
    assert sum(sent.values()) > 0
    for role in Role:
        assert credit - credit // 8 - 1 <= pair.end(role).credit <= credit
        assert pair.end(role).state is State.READY

"""Frames: round trips of every type, and damage of every kind, of which nothing but BadFrame ever comes out."""

from __future__ import annotations

import contextlib
import random
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridgw_protocol import frames as f
from hybridgw_protocol.auth import sign_auth
from hybridgw_protocol.errors import BadFrame
from hybridgw_protocol.frames import Frame, FrameType, decode_frame, encode_frame
from hybridgw_protocol.limits import MAX_FRAME_BATCHES, MAX_FRAME_BYTES, MAX_PAIRING_BYTES, MAX_RECORDS
from tests.unit.protocol.samples import Author, entries, every_frame

FRAMES = every_frame()
pack = msgspec.msgpack.encode
by_type = {int(frame.type): frame for frame in reversed(FRAMES)}  # the fullest of each


def plain(frame: Frame, request: int = 0) -> list[Any]:
    """A frame as loose msgpack values."""
    found: list[Any] = msgspec.msgpack.decode(encode_frame(frame, request))
    return found


def test_there_is_a_sample_of_every_type() -> None:
    assert {frame.type for frame in FRAMES} == set(FrameType)


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.type.name.lower())
@pytest.mark.parametrize("request_id", [0, 1, 2**32 - 1])
def test_round_trip(frame: Frame, request_id: int) -> None:
    raw = encode_frame(frame, request_id)
    assert decode_frame(raw) == (frame, request_id)
    number, told, body = msgspec.msgpack.decode(raw)
    assert (number, told) == (int(frame.type), request_id)
    assert isinstance(body, dict)


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.type.name.lower())
def test_keys_of_a_newer_program_are_passed_over(frame: Frame) -> None:
    number, told, body = plain(frame, 5)
    more = {"zz": [1, {"deep": [None, b"x"]}], "": None, **body, "a new one": 1.5}
    assert decode_frame(pack([number, told, more])) == (frame, 5)


def test_a_key_that_is_missing_and_has_no_default_is_refused() -> None:
    for frame in FRAMES:
        number, told, body = plain(frame)
        required = {field.encode_name for field in msgspec.structs.fields(type(frame)) if field.required}
        assert required <= set(body)
        for key in body:
            less = {k: v for k, v in body.items() if k != key}
            if key in required:
                with pytest.raises(BadFrame):
                    decode_frame(pack([number, told, less]))
            else:
                decode_frame(pack([number, told, less]))


WRONG: list[Any] = [None, True, -1, 2**63, 1.5, "text", b"bytes", [], [1], ["x"], [[1, 2, 3]], {}, {"a": 1}]


@pytest.mark.parametrize("number", sorted(by_type), ids=lambda number: FrameType(number).name.lower())
def test_values_of_other_types_and_sizes_never_do_harm(number: int) -> None:
    """Each key set to a value of every other kind: refused, or what it decodes to has the type of the field."""
    frame = by_type[number]
    _, _, body = plain(frame)
    for key in body:
        good = type(body[key])
        for wrong in WRONG:
            raw = pack([number, 0, body | {key: wrong}])
            if type(wrong) is good or (wrong is None and key == "quota"):
                with contextlib.suppress(BadFrame):
                    decode_frame(raw)
            else:
                with pytest.raises(BadFrame):
                    decode_frame(raw)


@pytest.mark.parametrize(
    "value",
    [
        [], [16], [16, 0], {}, {"type": 16}, 16, None, "x", [16, 0, []], [16, 0, None], [16, 0, "x"], [16, 0, 5],
        ["16", 0, {"b": []}], [16.0, 0, {"b": []}], [True, 0, {"b": []}], [None, 0, {"b": []}],
        [16, "0", {"b": []}], [16, None, {"b": []}], [16, 1.0, {"b": []}], [16, -1, {"b": []}], [16, 2**32, {"b": []}],
        [0, 0, {}], [4, 0, {}], [255, 0, {}], [-16, 0, {"b": []}], [2**63, 0, {}],
    ],
)  # fmt: skip
def test_what_is_no_frame(value: Any) -> None:
    with pytest.raises(BadFrame):
        decode_frame(pack(value))


def test_too_long() -> None:
    room = MAX_FRAME_BYTES - len(encode_frame(f.Push(b=[bytes(900_000), bytes(100_000)]))) + 100_000
    fits = encode_frame(f.Push(b=[bytes(900_000), bytes(room)]))
    assert len(fits) == MAX_FRAME_BYTES
    decode_frame(fits)
    with pytest.raises(BadFrame, match="at most"):
        decode_frame(fits + b"\0")
    with pytest.raises(BadFrame, match="at most"):
        decode_frame(encode_frame(f.Push(b=[bytes(MAX_FRAME_BYTES)])))


LIMITS: list[tuple[Frame, Frame]] = [
    (f.Push(b=[b""] * MAX_FRAME_BATCHES), f.Push(b=[b""] * (MAX_FRAME_BATCHES + 1))),
    (f.Batches(b=[b""] * MAX_FRAME_BATCHES), f.Batches(b=[b""] * (MAX_FRAME_BATCHES + 1))),
    (f.Ctl(recs=[b""] * MAX_RECORDS), f.Ctl(recs=[b""] * (MAX_RECORDS + 1))),
    (f.CtlPut(recs=[b""] * MAX_RECORDS), f.CtlPut(recs=[b""] * (MAX_RECORDS + 1))),
    (f.CtlGet(heads=[bytes(16)] * 256), f.CtlGet(heads=[bytes(16)] * 257)),
    (f.CtlAck(heads=[bytes(16)] * 256), f.CtlAck(heads=[bytes(16)] * 257)),
    (f.MsgPut(m=[b""] * 256, x=[b""] * 256), f.MsgPut(m=[b""] * 257)),
    (f.Msg(x=[b""] * 256), f.Msg(x=[b""] * 257)),
    (f.MsgDone(ids=[bytes(32)] * 512), f.MsgDone(ids=[bytes(32)] * 513)),
    (f.LetterPut(sp=bytes(16), m=[b""] * 256), f.LetterPut(sp=bytes(16), m=[b""] * 257)),
    (f.LetterPut(sp=bytes(16), heads=[b""] * 256), f.LetterPut(sp=bytes(15), heads=[])),
    (f.LetterFrame(m=[b""] * 256), f.LetterFrame(m=[b""] * 257)),
    (f.LetterDone(ids=[bytes(32)] * 512), f.LetterDone(ids=[bytes(32)] * 513)),
    (f.DirGet(sp=bytes(16), heads=[b""] * 256), f.DirGet(sp=bytes(16), heads=[b""] * 257)),
    (f.Dir(recs=[b""] * MAX_RECORDS), f.Dir(recs=[b""] * (MAX_RECORDS + 1))),
    (f.MsgDone(ids=[bytes(32)]), f.MsgDone(ids=[bytes(31)])),
    (f.MsgStored(why=["x" * 64]), f.MsgStored(why=["x" * 65])),
    (f.Welcome(sid="", t=0, ctl=[bytes(16)] * 256), f.Welcome(sid="", t=0, ctl=[bytes(16)] * 257)),
    (f.Want(vv=entries(1024)), f.Want(vv=entries(1025))),
    (f.PushAck(vv=entries(1024)), f.PushAck(vv=entries(1025))),
    (f.Welcome(sid="", t=0, vv=entries(1024)), f.Welcome(sid="", t=0, vv=entries(1025))),
    (f.PairMsg(m=bytes(MAX_PAIRING_BYTES)), f.PairMsg(m=bytes(MAX_PAIRING_BYTES + 1))),
    (f.Credit(n=1), f.Credit(n=0)),
    (f.Credit(n=2**40), f.Credit(n=2**40 + 1)),
    (f.Credit(n=1), f.Credit(n=-1)),
    (f.PairJoin(np=0), f.PairJoin(np=-1)),
    (f.PairJoin(np=9999), f.PairJoin(np=10000)),
    (f.PairOpened(np=9999, ttl=1), f.PairOpened(np=10000, ttl=1)),
    (f.Err(code="x" * 64, msg="m" * 1024), f.Err(code="x" * 65, msg="")),
    (f.Err(code="x", msg="m" * 1024), f.Err(code="x", msg="m" * 1025)),
    (f.PairClose(why="w" * 64), f.PairClose(why="w" * 65)),
    (f.Welcome(sid="s" * 64, t=0), f.Welcome(sid="s" * 65, t=0)),
]


@pytest.mark.parametrize(
    ("most", "more"), LIMITS, ids=[f"{i}-{m.type.name.lower()}" for i, (m, _) in enumerate(LIMITS)]
)
def test_limits(most: Frame, more: Frame) -> None:
    assert decode_frame(encode_frame(most))[0] == most
    with pytest.raises(BadFrame):
        decode_frame(encode_frame(more))


def changed(frame: Frame, **changes: Any) -> bytes:
    return encode_frame(msgspec.structs.replace(frame, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"sp": b""}, {"sp": bytes(15)}, {"sp": bytes(17)}, {"pk": bytes(32)}, {"pk": bytes(65)}, {"nc": bytes(31)},
        {"nc": bytes(33)}, {"sig": b""}, {"sig": bytes(63)}, {"sig": bytes(65)}, {"ep": "h" * 301},
        {"enrol": bytes(1025)}, {"ctl": [bytes(16)] * 257}, {"caps": ["c"] * 33}, {"vv": entries(1025)},
    ],
    ids=str,
)  # fmt: skip
def test_auth_fields_have_their_sizes(changes: dict[str, Any]) -> None:
    with pytest.raises(BadFrame):
        decode_frame(changed(by_type[FrameType.AUTH], **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"ns": bytes(31)},
        {"ns": bytes(33)},
        {"ns": b""},
        {"ep": "f" * 301},
        {"tags": [bytes(16)] * 17},
        {"role": "r" * 17},
    ],
    ids=str,
)
def test_challenge_fields_have_their_sizes(changes: dict[str, Any]) -> None:
    with pytest.raises(BadFrame):
        decode_frame(changed(by_type[FrameType.CHALLENGE], **changes))


# ---- damage ------------------------------------------------------------------------------------------------------
def survives(raw: bytes) -> None:
    """A frame or BadFrame; and what is taken for a frame can be written and read again."""
    try:
        frame, request = decode_frame(raw)
    except BadFrame:
        return
    assert decode_frame(encode_frame(frame, request)) == (frame, request)


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.type.name.lower())
def test_every_prefix_is_refused(frame: Frame) -> None:
    raw = encode_frame(frame, 70_000)
    for size in range(len(raw)):
        with pytest.raises(BadFrame):
            decode_frame(raw[:size])
    with pytest.raises(BadFrame):
        decode_frame(raw + b"\xc0")


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.type.name.lower())
def test_every_byte_changed(frame: Frame) -> None:
    raw = encode_frame(frame, 70_000)
    r = random.Random(3)
    spots = range(len(raw)) if len(raw) < 400 else r.sample(range(len(raw)), 400)
    for at in spots:
        for byte in (raw[at] ^ 1, raw[at] ^ 0x80, 0xC1, 0xDD, 0xDF, 0xC6, r.randrange(256)):
            damaged = bytearray(raw)
            damaged[at] = byte
            survives(bytes(damaged))


@given(st.binary(max_size=200))
def test_random_bytes(raw: bytes) -> None:
    survives(raw)


loose = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=70),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4), inner, max_size=5),
    max_leaves=15,
)


@given(st.sampled_from(sorted(by_type)), loose, st.data())
def test_random_values_in_the_place_of_good_ones(number: int, value: Any, data: st.DataObject) -> None:
    _, _, body = plain(by_type[number])
    key = data.draw(st.sampled_from(sorted(body)) if body else st.just("x"))
    survives(pack([number, 1, body | {key: value}]))
    survives(pack([number, 1, value]))
    survives(pack([number, value, body]))


@given(st.sampled_from(FRAMES), st.data())
def test_pieces_moved_about(frame: Frame, data: st.DataObject) -> None:
    raw = encode_frame(frame, 9)
    a, b, c = sorted(data.draw(st.integers(0, len(raw))) for _ in range(3))
    survives(raw[:a] + raw[b:c] + raw[a:b] + raw[c:])
    survives(raw[:a] + raw[b:])
    survives(raw[:b] + raw[a:])
    survives(raw[:b] + data.draw(st.binary(max_size=9)) + raw[b:])


BOMBS = {
    "arrays in arrays": b"\x93\x10\x00" + b"\x91" * (MAX_FRAME_BYTES - 10),
    "arrays in an unknown key": b"\x93\x10\x00\x82\xa1b\x90\xa1z" + b"\x91" * (MAX_FRAME_BYTES - 20) + b"\xc0",
    "maps in maps": b"\x93\x10\x00" + b"\x81\xa1b" * (MAX_FRAME_BYTES // 3 - 10),
    "an array of 2^32-1 batches": b"\x93\x10\x00\x81\xa1b\xdd\xff\xff\xff\xff" + b"\xc4\x00" * 400_000,
    "a map of 2^32-1 keys": b"\x93\x10\x00\xdf\xff\xff\xff\xff" + b"\xa1b\x90" * 300_000,
    "a batch of 2^32-1 bytes": b"\x93\x10\x00\x81\xa1b\x91\xc6\xff\xff\xff\xff" + bytes(1000),
    "a text of 2^32-1 bytes": b"\x93\x7f\x00\x81\xa4code\xdb\xff\xff\xff\xff" + bytes(1000),
    "half a million empty batches": b"\x93\x10\x00\x81\xa1b\xdd\x00\x07\xa1\x20" + b"\xc4\x00" * 500_000,
    "a million empty words": b"\x93\x02\x00\x81\xa4caps\xdd\x00\x0f\x00\x00" + b"\xa0" * 0xF0000,
    "200,000 entries of a vector": b"\x93\x12\x00\x81\xa2vv\xdd\x00\x03\x0d\x40" + b"\x93\x01\x01\xc4\x00" * 200_000,
    "one key again and again": b"\x93\x10\x00\xdf\x00\x03\x0d\x40" + b"\xa1b\x90" * 200_000,
}


@pytest.mark.parametrize("bomb", [name for name in BOMBS if name != "one key again and again"])
def test_bombs_are_refused_and_memory_stays_flat(bomb: str) -> None:
    """The most that reading a frame of 1 MiB may take is a few times that, and nothing of it stays."""
    raw = BOMBS[bomb]
    assert len(raw) <= MAX_FRAME_BYTES
    with pytest.raises(BadFrame):
        decode_frame(raw)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(3):
            with contextlib.suppress(BadFrame):
                decode_frame(raw)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 3 * MAX_FRAME_BYTES
    assert after - before < 64 * 1024


def test_of_a_key_that_stands_twice_the_last_counts() -> None:
    assert decode_frame(BOMBS["one key again and again"]) == (f.Push(b=[]), 0)


# ---- sizes -------------------------------------------------------------------------------------------------------
def test_in_step_reconnect_is_under_600_bytes_each_way() -> None:
    """Ten logs, random ids and hashes, numbers of busy logs; the frames as a device and a relay send them."""
    author = Author(11)
    challenge = f.Challenge(v=(1, 1), ns=author.random.randbytes(32), role="relay", t=1_790_000_000_000)
    vector, ctl = entries(10, seed=4), [author.random.randbytes(16)]
    auth = f.Auth(
        v=1, sp=author.space, pk=author.sign_public + author.exchange_public, nc=author.random.randbytes(32),
        ep="host:relay.example.com", sig=bytes(64), t=1_790_000_000_123, vv=vector, ctl=ctl,
    )  # fmt: skip
    auth.sig = sign_auth(challenge, auth, author.sign_secret)
    welcome = f.Welcome(
        sid="c-1048576", t=1_790_000_000_456, vv=vector, ctl=ctl,
        quota=f.Quota(bytes=2**30, used=123_456_789, devices=16),
    )  # fmt: skip
    up, down = len(encode_frame(auth)), len(encode_frame(challenge)) + len(encode_frame(welcome))
    assert 400 < up < 600
    assert 400 < down < 600

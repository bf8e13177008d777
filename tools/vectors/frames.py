"""Golden bytes of frames, of authentication, and of endpoints."""

from __future__ import annotations

from typing import Final

import msgspec
from nacl.bindings import crypto_sign_seed_keypair

from hybridgw_daemon.core.discovery_keys import DiscoveryKeys
from hybridgw_protocol.auth import auth_digest, endpoint, sign_answer, sign_auth, verify_answer
from hybridgw_protocol.codec import encode_canonical
from hybridgw_protocol.errors import BadValue, HybridGWError
from hybridgw_protocol.frames import (
    Auth,
    Batches,
    Challenge,
    Credit,
    Ctl,
    CtlAck,
    CtlGet,
    CtlPut,
    Dir,
    DirGet,
    Err,
    Frame,
    LetterDone,
    LetterFrame,
    LetterPut,
    Msg,
    MsgDone,
    MsgPut,
    MsgStored,
    PairClose,
    PairJoin,
    PairJoined,
    PairMsg,
    PairOpen,
    PairOpened,
    Ping,
    Pong,
    Push,
    PushAck,
    Quota,
    Want,
    Welcome,
    decode_frame,
    encode_frame,
)
from hybridgw_protocol.ids import DeviceId, blake2b, device_id
from hybridgw_protocol.limits import MAX_FRAME_BATCHES
from hybridgw_protocol.vectors import Entry

NOW_MS: Final = 1_800_000_000_000
SIGN_SEED: Final = bytes(range(32))
SIGN_PUBLIC, SIGN_SECRET = crypto_sign_seed_keypair(SIGN_SEED)
EXCHANGE_PUBLIC: Final = bytes(range(32, 64))
SPACE: Final = bytes(range(64, 80))
SERVER_NONCE: Final = bytes(range(80, 112))
CLIENT_NONCE: Final = bytes(range(112, 144))
PEER_SEED: Final = bytes(range(16, 48))
PEER_PUBLIC, PEER_SECRET = crypto_sign_seed_keypair(PEER_SEED)
PEER: Final = device_id(PEER_PUBLIC, EXCHANGE_PUBLIC)
PLACE: Final = "fp:" + "ab" * 32
HASH: Final = bytes(range(16))
VECTOR: Final = [Entry(-(2**63), 1, HASH), Entry(-5, 2**53 - 1, HASH), Entry(7, 300, HASH)]

ENDPOINTS: Final = (
    "https://relay.example.com", "https://relay.example.com/", "https://Relay.Example.COM:443", "wss://relay.example.com",
    "https://relay.example.com:8443/path?query#fragment", "http://relay.example.com", "ws://relay.example.com:80",
    "http://relay.example.com:443", "https://relay.example.com:80", "https://b\u00fccher.example", "https://192.0.2.7",
    "http://127.0.0.1:8080", "http://[::1]:8080", "https://[2001:DB8::1]", "https://user:word@relay.example.com",
)  # fmt: skip
NO_ENDPOINTS: Final = (
    "", "relay.example.com", "ftp://relay.example.com", "https://", "https://:8080", "https://relay.example.com:70000",
    "https://relay.example.com:port", "host:relay.example.com",
)  # fmt: skip


def vectors() -> dict[str, object]:
    """See tools/vectors/__init__.py."""
    return {
        "about": 'Frames, what authentication signs, and endpoints; protocol/SPEC.md, "Frames" and "Authentication". '
        "In `map` byte strings are hex and the log of a vector entry is text, for it has 64 bits. Keys with their "
        "default value are left out of the bytes; a reader accepts them. "
        "`refused_auth` are no answers to the auth of a device to a peer.",
        "cases": [_case(name, frame, request) for name, frame, request in _frames()] + _lenient(),
        "auth": [_auth_of_relay(), _auth_of_peer(), _answer_of_peer()],
        "refused_auth": _refused_auth(),
        "recognising": _recognising(),
        "endpoints": [{"url": url, "endpoint": endpoint(url)} for url in ENDPOINTS],
        "refused_endpoints": [_no_endpoint(url) for url in NO_ENDPOINTS],
        "refused": [_refused(name, data) for name, data in _bad_frames()],
    }


# ---- frames ----------------------------------------------------------------------------------------------------------
def _frames() -> list[tuple[str, Frame, int]]:
    return [
        ("challenge of a relay", Challenge(v=(1, 1), ns=SERVER_NONCE, role="relay", t=NOW_MS), 0),
        (
            "challenge of a peer",
            Challenge(v=(1, 3), ns=SERVER_NONCE, role="peer", t=NOW_MS, ep="fp:" + "ab" * 32, tags=[HASH, HASH[::-1]]),
            0,
        ),
        ("smallest auth", _auth("host:relay.example.com"), 0),
        ("auth to a peer", _auth(PLACE), 0),
        ("largest auth", _full_auth(), 0),
        ("smallest welcome", Welcome(sid="a", t=NOW_MS), 0),
        (
            "welcome",
            Welcome(sid="0a1b", t=NOW_MS, vv=VECTOR, ctl=[HASH], quota=Quota(bytes=2**30, used=12, devices=32)),
            0,
        ),
        ("welcome of a peer", Welcome(sid="0a1b", t=NOW_MS, sig=bytes(64), pk=SIGN_PUBLIC + EXCHANGE_PUBLIC), 0),
        ("push", Push(b=[bytes(450), b"\1" * 451]), 1),
        ("push of nothing", Push(b=[]), 2**32 - 1),
        ("push_ack", PushAck(vv=VECTOR), 1),
        ("want", Want(vv=VECTOR), 2),
        ("want of everything", Want(vv=[]), 2),
        ("batches, the last for now", Batches(b=[bytes(450)]), 0),
        ("batches, more follow", Batches(b=[bytes(450)], more=True), 0),
        ("credit", Credit(n=2**40), 0),
        ("ctl_get of everything", CtlGet(), 3),
        ("ctl_get", CtlGet(heads=[HASH]), 3),
        ("ctl", Ctl(recs=[b"record"], more=True), 3),
        ("ctl_put", CtlPut(recs=[b"record", b"another"]), 4),
        ("ctl_ack", CtlAck(heads=[HASH]), 4),
        ("msg_put", MsgPut(m=[bytes(467)], x=[bytes(227)]), 5),
        ("msg_put of nothing", MsgPut(), 5),
        ("msg_stored", MsgStored(ids=[CLIENT_NONCE], no=[SERVER_NONCE], why=["quota"]), 5),
        ("msg", Msg(m=[bytes(467), bytes(468)]), 0),
        ("msg of a tombstone", Msg(x=[bytes(227)]), 0),
        ("msg_done", MsgDone(ids=[CLIENT_NONCE, SERVER_NONCE]), 0),
        ("letter_put", LetterPut(sp=bytes(16), heads=[HASH], m=[bytes(499)]), 5),
        ("letter_put of nothing", LetterPut(sp=bytes(16)), 5),
        ("letter", LetterFrame(m=[bytes(499), bytes(500)]), 0),
        ("letter_done", LetterDone(ids=[CLIENT_NONCE]), 0),
        ("dir_get", DirGet(sp=bytes(16), heads=[HASH]), 6),
        ("dir_get of everything", DirGet(sp=bytes(16)), 6),
        ("dir", Dir(recs=[b"record"], more=True), 6),
        ("dir of nobody", Dir(recs=[]), 6),
        ("pair_open", PairOpen(), 5),
        ("pair_opened", PairOpened(np=417, ttl=600_000), 5),
        ("pair_join", PairJoin(np=0), 0),
        ("pair_joined", PairJoined(), 0),
        ("pair_msg", PairMsg(m=b"opaque"), 0),
        ("pair_close", PairClose(why="done"), 0),
        ("ping", Ping(t=NOW_MS), 6),
        ("ping without a time", Ping(), 0),
        ("pong", Pong(t=NOW_MS), 6),
        ("err that refuses a request", Err(code="gap", msg="Log 7 is held up to batch 2.", retry=1000), 1),
        ("err that closes", Err(code="revoked", msg="The device was removed."), 0),
    ]


def _case(name: str, frame: Frame, request: int) -> dict[str, object]:
    data = encode_frame(frame, request)
    assert decode_frame(data) == (frame, request), name
    return {"name": name, "type": frame.type.name.lower(), "id": request, "map": _shown(frame), "bytes": data}


def _shown(frame: Frame) -> dict[str, object]:
    """Every key of the map, defaults included."""
    found = {name: getattr(frame, name) for name in frame.__struct_fields__}
    if "vv" in found:
        found["vv"] = [[str(entry.log), entry.n, entry.hash] for entry in found["vv"]]
    if isinstance(found.get("quota"), Quota):
        found["quota"] = msgspec.structs.asdict(found["quota"])
    return found


def _lenient() -> list[dict[str, object]]:
    """What a writer does not make and a reader takes."""
    cases = {
        "unknown keys are ignored": (0x7D, {"t": 5, "later": [1, {"x": None}]}, "ping", {"t": 5}),
        "defaults may be written out": (0x13, {"b": [], "more": False}, "batches", {"b": [], "more": False}),
        "keys in any order": (0x7F, {"msg": "m", "retry": 0, "code": "busy"}, "err",
                              {"code": "busy", "msg": "m", "retry": 0}),
    }  # fmt: skip
    found: list[dict[str, object]] = []
    for name, (kind, body, text, shown) in cases.items():
        data = msgspec.msgpack.encode([kind, 0, body])
        decode_frame(data)
        found.append({"name": name, "type": text, "id": 0, "map": shown, "bytes": data})
    return found


def _bad_frames() -> list[tuple[str, bytes]]:
    def raw(kind: object, request: object, body: object) -> bytes:
        return msgspec.msgpack.encode([kind, request, body])

    auth = msgspec.to_builtins(_auth("host:x"), builtin_types=(bytes,))
    return [
        ("nothing", b""),
        ("no array", b"\x80"),
        ("two elements", b"\x92\x7d\x00"),
        ("the map is no map", raw(0x7D, 0, [])),
        ("unknown type", raw(0x55, 0, {})),
        ("type is text", raw("ping", 0, {})),
        ("negative id", raw(0x7D, -1, {})),
        ("id of 33 bits", raw(0x7D, 2**32, {})),
        ("cut off", encode_frame(Push(b=[bytes(450)]), 1)[:-1]),
        ("bytes after the end", encode_frame(Ping()) + b"\x00"),
        ("a list that claims 2^32 elements", b"\x93\x10\x00\x81\xa1b\xdd\xff\xff\xff\xff"),
        ("a byte string that claims 2^32 bytes", b"\x93\x10\x00\x81\xa1b\x91\xc6\xff\xff\xff\xff"),
        ("a required key is missing", raw(0x10, 0, {})),
        ("a batch is text", raw(0x10, 0, {"b": ["text"]})),
        ("a vector entry of two", raw(0x12, 0, {"vv": [[1, 2]]})),
        ("challenge with a short nonce", raw(0x01, 0, {"v": [1, 1], "ns": bytes(31), "role": "relay", "t": 0})),
        ("auth with a short space id", raw(0x02, 0, auth | {"sp": bytes(15)})),
        ("auth with one key", raw(0x02, 0, auth | {"pk": bytes(32)})),
        ("auth with a short signature", raw(0x02, 0, auth | {"sig": bytes(63)})),
        ("auth with a long endpoint", raw(0x02, 0, auth | {"ep": "x" * 301})),
        ("auth with a long invite", raw(0x02, 0, auth | {"enrol": bytes(1025)})),
        ("too many batches", raw(0x10, 0, {"b": [b""] * (MAX_FRAME_BATCHES + 1)})),
        ("too many heads", raw(0x20, 0, {"heads": [b""] * 257})),
        ("credit of nothing", raw(0x14, 0, {"n": 0})),
        ("negative credit", raw(0x14, 0, {"n": -1})),
        ("credit beyond any sense", raw(0x14, 0, {"n": 2**40 + 1})),
        ("too many envelopes", raw(0x40, 0, {"m": [b""] * 257})),
        ("a message key of 31 bytes", raw(0x43, 0, {"ids": [bytes(31)]})),
        ("a reason that is too long", raw(0x41, 0, {"why": ["x" * 65]})),
        ("nameplate of five digits", raw(0x72, 0, {"np": 10_000})),
        ("negative nameplate", raw(0x72, 0, {"np": -1})),
        ("error code too long", raw(0x7F, 0, {"code": "x" * 65, "msg": ""})),
    ]


def _refused(name: str, data: bytes) -> dict[str, object]:
    try:
        decode_frame(data)
    except HybridGWError as error:
        return {"name": name, "bytes": data, "code": error.code}
    raise AssertionError(name)


# ---- authentication --------------------------------------------------------------------------------------------------
def _auth(ep: str) -> Auth:
    return Auth(v=1, sp=SPACE, pk=SIGN_PUBLIC + EXCHANGE_PUBLIC, nc=CLIENT_NONCE, ep=ep, sig=bytes(64), t=NOW_MS)


def _full_auth() -> Auth:
    auth = _auth("host:relay.example.com:8443")
    auth.vv, auth.ctl, auth.caps, auth.sub, auth.enrol = VECTOR, [HASH, HASH[::-1]], ["later"], False, bytes(32)
    return auth


def _auth_of_relay() -> dict[str, object]:
    challenge = Challenge(v=(1, 2), ns=SERVER_NONCE, role="relay", t=NOW_MS)
    return _signed("a device to a relay", "hgw-auth-c", challenge, _full_auth(), None)


def _auth_of_peer() -> dict[str, object]:
    challenge = Challenge(v=(1, 1), ns=SERVER_NONCE, role="peer", t=0, ep=PLACE)
    return _signed("a device to a peer", "hgw-auth-c", challenge, _auth(PLACE), None)


def _answer_of_peer() -> dict[str, object]:
    """The same conversation, signed by the server."""
    challenge = Challenge(v=(1, 1), ns=SERVER_NONCE, role="peer", t=0, ep=PLACE)
    return _signed("a peer to a device", "hgw-auth-s", challenge, _auth(PLACE), PEER)


def _refused_auth() -> list[dict[str, object]]:
    """What a client must not take for the answer of a peer to the auth above."""
    challenge = Challenge(v=(1, 1), ns=SERVER_NONCE, role="peer", t=0, ep=PLACE)
    auth, elsewhere = _auth(PLACE), _auth("fp:" + "cd" * 32)
    keys = PEER_PUBLIC + EXCHANGE_PUBLIC
    good = sign_answer(challenge, auth, PEER_SECRET, PEER)
    cases = {
        "no proof": (b"", b""),
        "the client's own signature, sent back": (sign_auth(challenge, auth, SIGN_SECRET), auth.pk),
        "an answer over another certificate": (sign_answer(challenge, elsewhere, PEER_SECRET, PEER), keys),
        "an answer to another nonce of the server": (
            sign_answer(Challenge(v=(1, 1), ns=CLIENT_NONCE, role="peer", t=0, ep=PLACE), auth, PEER_SECRET, PEER), keys
        ),
        "signed as a client": (sign_auth(challenge, auth, PEER_SECRET), keys),
        "keys of another device": (good, SIGN_PUBLIC + EXCHANGE_PUBLIC),
        "another exchange key": (good, PEER_PUBLIC + SIGN_PUBLIC),
        "a byte too many": (good + b"\0", keys),
    }  # fmt: skip
    found = []
    for name, (sig, pk) in cases.items():
        try:
            verify_answer(challenge, auth, Welcome(sid="a", t=NOW_MS, sig=sig, pk=pk))
        except HybridGWError as error:
            found.append({"name": name, "sig": sig, "pk": pk, "code": error.code})
        else:
            raise AssertionError(name)
    return found


def _recognising() -> list[dict[str, object]]:
    """Tags and marks of three space keys, best first; the last is one that a removed device has too."""
    keys = [bytes([n]) * 32 for n in (1, 2, 3)]
    of_all = DiscoveryKeys([(keys[0], True), (keys[1], True), (keys[2], False)])
    tags, instance = of_all.tags(PLACE, SERVER_NONCE), bytes(range(8))
    found: list[dict[str, object]] = []
    for key, tag in zip(keys, tags, strict=True):
        own = DiscoveryKeys([(key, True)])
        assert own.tags(PLACE, SERVER_NONCE) == [tag]
        found.append(
            {
                "space_key": key, "discovery_key": blake2b(b"", 32, "hgw-disc", key), "ep": PLACE, "ns": SERVER_NONCE,
                "tag": tag, "instance": instance, "mark": own.mark(instance),
            }
        )  # fmt: skip
    return found


def _signed(name: str, label: str, challenge: Challenge, auth: Auth, server: DeviceId | None) -> dict[str, object]:
    seed, public, secret = (
        (SIGN_SEED, SIGN_PUBLIC, SIGN_SECRET) if server is None else (PEER_SEED, PEER_PUBLIC, PEER_SECRET)
    )
    said = [
        label, list(challenge.v), auth.v, challenge.role, challenge.ns, auth.nc, auth.ep, auth.sp, auth.pk,
        server or b"", auth.ctl, auth.caps, auth.enrol,
    ]  # fmt: skip
    digest = auth_digest(label, challenge, auth, server)
    assert digest == blake2b(encode_canonical(said), 32, "hgw-auth"), name
    return {
        "name": name,
        "sign_seed": seed,
        "sign_public": public,
        "device": device_id(public, EXCHANGE_PUBLIC),
        "server": server,
        "array": said,
        "canonical": encode_canonical(said),
        "digest": digest,
        "sig": sign_auth(challenge, auth, secret) if server is None else sign_answer(challenge, auth, secret, server),
    }


# ---- endpoints -------------------------------------------------------------------------------------------------------
def _no_endpoint(url: str) -> str:
    try:
        endpoint(url)
    except BadValue:
        return url
    raise AssertionError(url)

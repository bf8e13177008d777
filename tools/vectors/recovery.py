"""Golden recovery words: the list, seeds with their words and root keys, what people type, root at a relay and at a
device."""

from __future__ import annotations

import random
from typing import Final

from hybridgw_daemon.core.keys import DeviceKeys, RootKeys
from hybridgw_daemon.core.recovery_words import WORDS
from hybridgw_daemon.core.words import seed_to_words, words_to_seed
from hybridgw_protocol.auth import sign_answer, sign_auth, veiled
from hybridgw_protocol.errors import BadValue
from hybridgw_protocol.frames import Auth, Challenge, CtlGet, Push, Want, Welcome, encode_frame

_RANDOM: Final = tuple(random.Random(seed).randbytes(32) for seed in (22, 23, 24))
_SEEDS: Final = (bytes(32), b"\x7f" * 32, b"\x80" * 32, b"\xff" * 32, bytes(range(32)), *_RANDOM)
_PAPER: Final = seed_to_words(_SEEDS[-1])
_TYPED: Final = (
    " ".join(_PAPER),
    "\n".join(f"{number}. {word.upper()}," for number, word in enumerate(_PAPER, 1)),
    " ".join(word[:4] for word in _PAPER),
)
_NOT_TYPED: Final = (
    "", " ".join(_PAPER[:23]), " ".join([*_PAPER, "zoo"]), " ".join([*_PAPER[:23], "zoos"]),
    " ".join([_PAPER[1], _PAPER[0], *_PAPER[2:]]), " ".join([*_PAPER[:5], "word5", *_PAPER[6:]]),
    " ".join([word[:3] for word in _PAPER]),
)  # fmt: skip


def vectors() -> dict[str, object]:
    """See tools/vectors/__init__.py."""
    return {
        "about": 'Recovery words and root at a relay; protocol/SPEC.md, "Keys", "Relay" and "Authentication". '
        "typed: texts that stand for the last of the seeds; refused: texts that stand for none. relay, device: a whole "
        "connection of root with one, frame by frame; not_allowed: frames that end it when root sends them instead of "
        "the last. device has the sign and exchange public key of the device, as its welcome shows them.",
        "list": list(WORDS),
        "cases": [_case(seed) for seed in _SEEDS],
        "typed": list(_TYPED),
        "refused": [_refused(text) for text in _NOT_TYPED],
        "relay": _relay(RootKeys.from_seed(_SEEDS[-1])),
        "device": _device(RootKeys.from_seed(_SEEDS[-1])),
    }


def _case(seed: bytes) -> dict[str, object]:
    root = RootKeys.from_seed(seed)
    return {
        "seed": seed,
        "words": " ".join(seed_to_words(seed)),
        "sign_public": root.sign_public,
        "exchange_public": root.exchange_public,
        "space": root.space,
    }


def _refused(text: str) -> str:
    try:
        words_to_seed(text)
    except BadValue:
        return text
    raise AssertionError(text)


def _relay(root: RootKeys) -> dict[str, object]:
    challenge = Challenge(v=(1, 1), ns=bytes(range(32)), role="relay", t=1_800_000_000_000)
    auth = Auth(
        v=1, sp=root.space, pk=root.sign_public + root.exchange_public, nc=bytes(range(32, 64)),
        ep="host:relay.example.com", sig=bytes(64), t=1_800_000_000_001, sub=False,
    )  # fmt: skip
    auth.sig = sign_auth(challenge, auth, root.sign_secret)
    welcome = Welcome(sid="c0ffee", t=1_800_000_000_002, ctl=[bytes(range(16))])
    frames = [("server", challenge, 0), ("client", auth, 0), ("server", welcome, 0), ("client", CtlGet(heads=[]), 1)]
    return {
        "frames": [{"from": side, "bytes": encode_frame(frame, request)} for side, frame, request in frames],
        "not_allowed": [encode_frame(Push(b=[b"x"]), 1), encode_frame(Want(vv=[]), 1)],
    }


def _device(root: RootKeys) -> dict[str, object]:
    device = DeviceKeys.from_seed(bytes(range(64)))
    where = "fp:" + bytes(range(64, 96)).hex()
    challenge = Challenge(v=(1, 1), ns=bytes(range(32)), role="peer", t=0, ep=where, tags=[bytes(range(16))])
    auth = Auth(
        v=1, sp=root.space, pk=root.sign_public + root.exchange_public, nc=bytes(range(32, 64)), ep=where,
        sig=bytes(64), t=1_800_000_000_001, sub=False,
    )  # fmt: skip
    auth.sig = sign_auth(challenge, auth, root.sign_secret)
    welcome = Welcome(
        sid="c0ffee", t=1_800_000_000_002, ctl=[bytes(range(16))],
        sig=sign_answer(challenge, auth, device.sign_secret, device.device),
        pk=device.sign_public + device.exchange_public,
    )  # fmt: skip
    frames = [
        ("server", challenge, 0), ("client", veiled(auth), 0), ("server", welcome, 0), ("client", CtlGet(heads=[]), 1),
    ]  # fmt: skip
    return {
        "pk": device.sign_public + device.exchange_public,
        "frames": [{"from": side, "bytes": encode_frame(frame, request)} for side, frame, request in frames],
        "not_allowed": [encode_frame(Push(b=[b"x"]), 1), encode_frame(Want(vv=[]), 1)],
    }

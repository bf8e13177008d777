"""A second reader of recovery words, from protocol/SPEC.md, "Keys", "Relay" and "Authentication", alone."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Any

from nacl.bindings import crypto_scalarmult_base, crypto_sign_open, crypto_sign_seed_keypair

from tests.architecture import _reader as reader
from tests.architecture._reader import Refused
from tests.architecture._reader_frames import read_frame
from tests.architecture._reader_operations import canonical

ROOT_MAY_SEND = {"ctl_get", "ctl_ack", "credit", "ping", "pong", "err"}  # in the state ready
TO_A_DEVICE = ROOT_MAY_SEND | {"ctl_put"}


def words_of(seed: bytes, words: list[str]) -> list[str]:
    """24 words of a seed."""
    text = "".join(f"{byte:08b}" for byte in (*seed, hashlib.sha256(seed).digest()[0]))
    return [words[int(text[at : at + 11], 2)] for at in range(0, 264, 11)]


def seed_of(typed: str, words: list[str]) -> bytes:
    """What typed words stand for. Raises: Refused."""
    flat = unicodedata.normalize("NFKD", typed).lower()
    found = [word for word in re.split(r"[^a-z]+", flat) if word]
    text = ""
    for word in found:
        fits = [place for place, one in enumerate(words) if one == word]
        fits = fits or [place for place, one in enumerate(words) if len(word) == 4 and one.startswith(word)]
        if len(fits) != 1:
            raise Refused("bad_value")
        text += f"{fits[0]:011b}"
    if len(found) != 24:
        raise Refused("bad_value")
    seed = int(text[:256], 2).to_bytes(32, "big")
    if f"{hashlib.sha256(seed).digest()[0]:08b}" != text[256:]:
        raise Refused("bad_value")
    return seed


def root_hash(seed: bytes, person: str) -> bytes:
    """BLAKE2b-256 of nothing, keyed with a root seed."""
    return hashlib.blake2b(b"", digest_size=32, key=seed, person=person.encode()).digest()


def check(vectors: dict[str, Any]) -> None:
    """All of protocol/vectors/recovery.json. Raises: AssertionError, Refused."""
    words = vectors["list"]
    assert len(words) == len({word[:4] for word in words}) == 2_048
    assert words == sorted(words)
    for case in vectors["cases"]:
        seed = bytes.fromhex(case["seed"])
        assert " ".join(words_of(seed, words)) == case["words"]
        assert seed_of(case["words"], words) == seed
        public, _ = crypto_sign_seed_keypair(root_hash(seed, "hgw-root-sign"))
        assert public.hex() == case["sign_public"]
        assert crypto_scalarmult_base(root_hash(seed, "hgw-root-xchg")).hex() == case["exchange_public"]
        assert reader.blake(public, 16, "hgw-uid").hex() == case["space"]
    for typed in vectors["typed"]:
        assert seed_of(typed, words).hex() == vectors["cases"][-1]["seed"], typed
    for typed in vectors["refused"]:
        try:
            seed_of(typed, words)
        except Refused:
            continue
        raise AssertionError(typed)
    check_relay(vectors["relay"], vectors["cases"][-1])
    check_device(vectors["device"], vectors["cases"][-1])


def check_relay(relay: dict[str, Any], case: dict[str, Any]) -> None:
    """Root proves the key whose hash is the space id, and asks for control records alone."""
    frames = [(frame["from"], *read_frame(bytes.fromhex(frame["bytes"]))) for frame in relay["frames"]]
    assert [(side, name) for side, name, _, _ in frames] == [
        ("server", "challenge"), ("client", "auth"), ("server", "welcome"), ("client", "ctl_get"),
    ]  # fmt: skip
    challenge, auth, welcome, wanted = (body for _, _, _, body in frames)
    keys = auth["pk"]
    assert isinstance(keys, bytes)
    assert keys.hex() == case["sign_public"] + case["exchange_public"]
    assert reader.blake(keys[:32], 16, "hgw-uid") == auth["sp"] == bytes.fromhex(case["space"])
    said = [
        "hgw-auth-c", challenge["v"], auth["v"], challenge["role"], challenge["ns"], auth["nc"], auth["ep"],
        auth["sp"], keys, b"", auth["ctl"], auth["caps"], auth["enrol"],
    ]  # fmt: skip
    digest = reader.blake(canonical(said, domain=False), 32, "hgw-auth")
    assert isinstance(auth["sig"], bytes)
    assert crypto_sign_open(auth["sig"] + digest, keys[:32]) == digest
    assert [request for _, _, request, _ in frames] == [0, 0, 0, 1]
    assert (welcome["vv"], welcome["quota"], welcome["sid"]) == ([], None, "c0ffee")
    assert welcome["ctl"] == [bytes(range(16))]
    assert [body["t"] for body in (challenge, auth, welcome)] == [1_800_000_000_000 + k for k in range(3)]
    assert (auth["sub"], auth["vv"], wanted["heads"]) == (False, [], [])
    refused = [read_frame(bytes.fromhex(raw)) for raw in relay["not_allowed"]]
    assert not {name for name, _, _ in refused} & ROOT_MAY_SEND
    assert refused == [("push", 1, {"b": [b"x"]}), ("want", 1, {"vv": []})]


def check_device(device: dict[str, Any], case: dict[str, Any]) -> None:
    """What root sends shows neither space nor key; who puts the right ones in verifies it, and root does the answer."""
    frames = [(frame["from"], *read_frame(bytes.fromhex(frame["bytes"]))) for frame in device["frames"]]
    assert [(side, name) for side, name, _, _ in frames] == [
        ("server", "challenge"), ("client", "auth"), ("server", "welcome"), ("client", "ctl_get"),
    ]  # fmt: skip
    challenge, auth, welcome, wanted = (body for _, _, _, body in frames)
    keys, space = bytes.fromhex(case["sign_public"] + case["exchange_public"]), bytes.fromhex(case["space"])
    assert (auth["sp"], auth["pk"]) == (bytes(16), bytes(64))
    sent = bytes.fromhex(device["frames"][1]["bytes"])
    assert all(secret not in sent for secret in (space, keys[:32], keys[32:]))
    assert challenge["role"] == "peer"
    assert auth["ep"] == challenge["ep"]
    said = [
        "hgw-auth-c", challenge["v"], auth["v"], challenge["role"], challenge["ns"], auth["nc"], auth["ep"],
        space, keys, b"", auth["ctl"], auth["caps"], auth["enrol"],
    ]  # fmt: skip
    digest = reader.blake(canonical(said, domain=False), 32, "hgw-auth")
    assert isinstance(auth["sig"], bytes)
    assert crypto_sign_open(auth["sig"] + digest, keys[:32]) == digest
    own, shown, answered = bytes.fromhex(device["pk"]), welcome["pk"], welcome["sig"]
    assert isinstance(answered, bytes)
    assert shown == own
    said[0], said[9] = "hgw-auth-s", reader.blake(own, 16, "hgw-dev")
    digest = reader.blake(canonical(said, domain=False), 32, "hgw-auth")
    assert crypto_sign_open(answered + digest, own[:32]) == digest
    assert (welcome["vv"], welcome["ctl"], welcome["quota"]) == ([], [bytes(range(16))], None)
    assert (welcome["sid"], challenge["tags"], auth["sub"]) == ("c0ffee", [bytes(range(16))], False)
    assert [body["t"] for body in (challenge, auth, welcome)] == [0, 1_800_000_000_001, 1_800_000_000_002]
    assert [request for _, _, request, _ in frames] == [0, 0, 0, 1]
    assert (auth["vv"], wanted["heads"]) == ([], [])
    refused = [read_frame(bytes.fromhex(raw)) for raw in device["not_allowed"]]
    assert not {name for name, _, _ in refused} & TO_A_DEVICE
    assert refused == [("push", 1, {"b": [b"x"]}), ("want", 1, {"vv": []})]

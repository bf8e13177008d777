"""Proofs of an app's key: what holds, and everything near it that does not; one example is fixed."""

from __future__ import annotations

from base64 import urlsafe_b64encode

import pytest
from nacl.signing import SigningKey

from hybridgw_protocol.errors import BadValue
from hybridgw_protocol.proofs import LIFE_MS, parse_app_key, proof_text, proven_nonce

KEY = SigningKey(bytes(range(32)))
NOW = 1_764_363_600_000
NONCE = "n" * 24
TOKEN = "a.b.c"


def b64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def proof(*, port: int = 8000, purpose: str = "ws", token: str = TOKEN, at_ms: int = NOW, nonce: str = NONCE) -> str:
    signature = KEY.sign(proof_text(port=port, purpose=purpose, token=token, at_ms=at_ms, nonce=nonce)).signature
    return f"{at_ms}.{nonce}.{b64(signature)}"


def holds(text: str, *, port: int = 8000, purpose: str = "ws", token: str = TOKEN, now_ms: int = NOW) -> bool:
    key = bytes(KEY.verify_key)
    return proven_nonce(text, key, port=port, purpose=purpose, token=token, now_ms=now_ms) == NONCE


def test_spec_A6_a_proof_is_for_one_port_purpose_token_and_time() -> None:
    assert holds(proof())
    assert holds(proof(at_ms=NOW - LIFE_MS))
    assert holds(proof(at_ms=NOW + LIFE_MS))
    assert not holds(proof(at_ms=NOW - LIFE_MS - 1))
    assert not holds(proof(at_ms=NOW + LIFE_MS + 1))
    assert not holds(proof(), port=8001)
    assert not holds(proof(), purpose="login")
    assert not holds(proof(purpose="GET /api/auth/validate"), purpose="POST /api/auth/validate")
    assert not holds(proof(), token="a.b.d")
    assert proven_nonce(proof(), bytes(SigningKey.generate().verify_key), port=8000, purpose="ws", token=TOKEN,
                        now_ms=NOW) is None  # fmt: skip


def test_spec_A6_what_is_signed_is_this() -> None:
    assert proof_text(port=8000, purpose="ws", token=TOKEN, at_ms=NOW, nonce=NONCE) == (
        b"hybridgw proof 1\n8000\nws\n1764363600000\nnnnnnnnnnnnnnnnnnnnnnnnn\n"
        b"845e30448809e2bc8958eb025bfc795235d13b077a53d0c3abbd2385170dc9b8"
    )


def test_spec_A6_a_proof_of_another_form_is_none() -> None:
    good = proof()
    at, nonce, signature = good.split(".")
    for text in (
        "", "..", good + "=", good + " ", f" {good}", f"-{good}", good[:-1], f"{at}.{nonce}", "9" * 300 + good,
        f"{at}.{signature}.{nonce}", f"{at}.{nonce[:10]}.{signature}", f"{at}.{nonce}\n.{signature}",
        good.replace(".", ","), f"{at}.{nonce}.{'A' * 86}", f"{at}.{nonce}.{'_' * 86}", f"1e9.{nonce}.{signature}",
    ):  # fmt: skip
        assert not holds(text), text


@pytest.mark.parametrize(
    "text",
    ["", "A" * 43, "A" * 42, "A" * 44, b64(bytes(32)), b64(b"\x01" + bytes(31)), b64(b"\xff" * 32), "!" * 43, "é" * 43],
)
def test_spec_A6_what_is_no_key_is_refused(text: str) -> None:
    """Points of small order among them: a signature under such a key holds for any text."""
    with pytest.raises(BadValue):
        parse_app_key(text)


def test_spec_A6_a_key_is_read() -> None:
    assert parse_app_key(b64(bytes(KEY.verify_key))) == bytes(KEY.verify_key)

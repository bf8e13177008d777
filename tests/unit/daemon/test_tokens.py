"""Local tokens against the published vectors, and against everything that is nearly one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from hybridgw_daemon.core.tokens import ALGORITHMS, MAX_TOKEN_BYTES, Claims, Invalid, TokenKey

NOW_S = 1_800_000_000
ISSUER = "hybridgw:0011223344556677"
SECRET = bytes(range(32))


def claims(**changes: Any) -> Claims:
    found: dict[str, Any] = {
        "iss": ISSUER, "sub": "local", "cid": "grant:1", "scope": "read:tasks", "jti": "j1", "iat": NOW_S,
        "exp": NOW_S + 60, "kv": 1, "amr": ["grant"],
    }  # fmt: skip
    return Claims(**found | changes)


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def signed(head: Any, body: Any, secret: bytes = SECRET, kind: str = "sha256") -> str:
    """A token as a forger makes it, right in all but what is given."""
    first = f"{b64(json.dumps(head, separators=(',', ':')).encode())}.{b64(json.dumps(body).encode())}"
    return f"{first}.{b64(hmac.digest(secret, first.encode(), kind))}"


HEAD = {"alg": "HS256", "typ": "hgw+jwt"}
BODY = {
    "iss": ISSUER, "sub": "local", "cid": "grant:1", "scope": "admin", "jti": "j", "iat": NOW_S, "exp": NOW_S + 60,
    "kv": 1, "amr": [], "aud": "hybridgw-local",
}  # fmt: skip


def reason(token: str, *, algorithm: Any = "HS256", now_s: float = NOW_S) -> str:
    with pytest.raises(Invalid) as caught:
        TokenKey(algorithm, SECRET).verify(token, issuer=ISSUER, now_s=now_s)
    return caught.value.reason


@pytest.mark.spec("A4")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_spec_A4_what_was_signed_is_read_back(algorithm: Any) -> None:
    key = TokenKey(algorithm, SECRET)
    token = key.sign(claims())
    assert key.verify(token, issuer=ISSUER, now_s=NOW_S) == claims()
    head, body, _ = token.split(".")
    assert json.loads(unb64(head)) == {"alg": algorithm, "typ": "hgw+jwt"}
    assert json.loads(unb64(body))["aud"] == "hybridgw-local"
    for other in ALGORITHMS:
        if other != algorithm:
            assert reason(token, algorithm=other) == "form"
    with pytest.raises(Invalid):
        TokenKey(algorithm, b"x" * 32).verify(token, issuer=ISSUER, now_s=NOW_S)


@pytest.mark.parametrize(
    ("algorithm", "hashed"), [("HS256", hashlib.sha256), ("HS384", hashlib.sha384), ("HS512", hashlib.sha512)]
)
def test_signatures_are_those_of_another_implementation(algorithm: Any, hashed: Any) -> None:
    """HMAC from its definition (RFC 2104), without the hmac module."""
    token = TokenKey(algorithm, SECRET).sign(claims())
    text, _, signature = token.rpartition(".")
    block = hashed().block_size
    padded = SECRET.ljust(block, b"\0")
    inner = hashed(bytes(b ^ 0x36 for b in padded) + text.encode()).digest()
    assert unb64(signature) == hashed(bytes(b ^ 0x5C for b in padded) + inner).digest()


def test_the_vector_of_rfc_7515_a_1() -> None:
    """The signing input, key and signature of appendix A.1 under the primitive that tokens are signed with."""
    text = (
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxl"
        "LmNvbS9pc19yb290Ijp0cnVlfQ"
    )
    key = unb64("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
    found = TokenKey("HS256", key)._signature(text.encode())
    assert b64(found) == "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"


def test_the_vector_of_rfc_8037_a_4() -> None:
    """Ed25519 over the signing input of appendix A.4, by the primitive that tokens are signed with."""
    seed = unb64("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
    public, private = crypto_sign_seed_keypair(seed)
    assert b64(public) == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    text = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
    assert b64(crypto_sign(text, private)[:64]) == (
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    )


@pytest.mark.parametrize(
    ("head", "why"),
    [
        ({"alg": "none", "typ": "hgw+jwt"}, "form"), ({"alg": "HS512", "typ": "hgw+jwt"}, "form"),
        ({"alg": "HS256"}, "form"), ({"alg": "HS256", "typ": "JWT"}, "form"),
        ({"typ": "hgw+jwt", "alg": "HS256"}, "form"),
        ({"alg": "HS256", "typ": "hgw+jwt", "kid": "x"}, "form"),
        ({"alg": "HS256", "typ": "hgw+jwt", "jwk": {"kty": "oct", "k": "AAAA"}}, "form"),
        ({"alg": "HS256", "typ": "hgw+jwt", "crit": ["b64"], "b64": False}, "form"), ([], "form"), ("x", "form"),
    ],
)  # fmt: skip
def test_no_header_but_ours_counts_however_well_it_is_signed(head: Any, why: str) -> None:
    assert reason(signed(head, BODY)) == why


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"iss": "hybridgw:other"}, "issuer"), ({"aud": "authenticated"}, "issuer"),
        ({"aud": ["hybridgw-local"]}, "claims"),
        ({"exp": NOW_S}, "expired"), ({"exp": NOW_S - 1}, "expired"), ({"iat": NOW_S + 61}, "early"),
        ({"exp": "never"}, "claims"), ({"exp": None}, "claims"), ({"exp": 1.5}, "claims"),
        ({"scope": ["admin"]}, "claims"), ({"kv": True}, "claims"), ({"amr": "x"}, "claims"), ({"cid": None}, "claims"),
    ],
)  # fmt: skip
def test_claims_that_do_not_count(changes: Any, why: str) -> None:
    assert reason(signed(HEAD, BODY | changes)) == why


@pytest.mark.parametrize("name", ["iss", "sub", "cid", "scope", "jti", "iat", "exp", "kv", "amr"])
def test_every_claim_is_needed(name: str) -> None:
    assert reason(signed(HEAD, {k: v for k, v in BODY.items() if k != name})) == "claims"


@pytest.mark.parametrize("body", [[], 1, None, "x", {"exp": {}}])
def test_a_body_that_is_no_set_of_claims(body: Any) -> None:
    assert reason(signed(HEAD, body)) == "claims"


def test_the_clock_may_be_set_back_a_little() -> None:
    token = TokenKey("HS256", SECRET).sign(claims())
    assert TokenKey("HS256", SECRET).verify(token, issuer=ISSUER, now_s=NOW_S - 60)
    assert reason(token, now_s=NOW_S - 61) == "early"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(data=st.data())
def test_no_other_spelling_of_a_token_counts(algorithm: Any, data: Any) -> None:
    """Any one character changed, added or left out, padding and white space included."""
    key = TokenKey(algorithm, SECRET)
    token = key.sign(claims())
    at = data.draw(st.integers(0, len(token)))
    what = data.draw(st.sampled_from([*"AaZz09-_=+/. \n\x00", "é", "=="]))
    how = data.draw(st.sampled_from(["add", "change", "drop"]))
    other = token[:at] + (what if how != "drop" else "") + token[at + (how != "add") :]
    if other == token:
        return
    with pytest.raises(Invalid):
        key.verify(other, issuer=ISSUER, now_s=NOW_S)


@given(st.text(max_size=200))
def test_text_that_is_no_token(text: str) -> None:
    for algorithm in ("HS256", "EdDSA"):
        assert reason(text, algorithm=algorithm) in ("form", "signature")


@pytest.mark.parametrize("text", ["", ".", "..", "...", "a.b", "a.b.c.d", "x" * (MAX_TOKEN_BYTES + 1), "\udcff"])
def test_forms_that_are_none(text: str) -> None:
    assert reason(text) == "form"


def test_a_long_token_is_not_even_looked_at() -> None:
    token = TokenKey("HS256", SECRET).sign(claims(scope="x" * MAX_TOKEN_BYTES))
    assert reason(token) == "form"


def test_keys_are_strong_and_never_shown() -> None:
    for algorithm, secret in (("none", SECRET), ("RS256", SECRET), ("HS256", b"x" * 31), ("EdDSA", b"")):
        with pytest.raises(ValueError, match=r"algorithm|bytes"):
            TokenKey(algorithm, secret)  # type: ignore[arg-type]
    assert "planted" not in repr(TokenKey("HS256", b"planted" * 5))

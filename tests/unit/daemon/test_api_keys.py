"""API keys and origins as text: one form each, and nothing that is nearly one."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridgw_daemon.core.api_keys import ENTROPY_BYTES, make, read, remake
from hybridgw_daemon.core.origins import kind_of


@given(st.binary(min_size=ENTROPY_BYTES, max_size=ENTROPY_BYTES))
def test_a_key_is_read_back(entropy: bytes) -> None:
    made = make(entropy)
    assert len(made.text) == 4 + 8 + 1 + 43 + 6
    assert made.text.startswith(f"hgw_{made.id}_")
    assert read(made.text) == (made.id, made.digest)
    assert made.digest == hashlib.sha256(made.text[13:56].encode()).digest()
    again = remake(made.id, entropy[:32])
    assert again.id == made.id
    assert read(again.text) == (again.id, again.digest)


def test_all_random_bits_count() -> None:
    """Every bit of the secret's entropy changes the key: 62**43 has room for all 2**256."""
    base = make(bytes(ENTROPY_BYTES)).text
    texts = {base}
    for bit in range(256):
        texts.add(make((1 << bit).to_bytes(ENTROPY_BYTES, "big")).text)
    assert len(texts) == 257
    assert make(b"\xff" * ENTROPY_BYTES).text != base


@given(st.integers(0, 61), st.sampled_from("0Az_ -é"))
def test_a_slip_of_the_hand_is_noticed(at: int, char: str) -> None:
    text = make(bytes(range(ENTROPY_BYTES))).text
    other = text[:at] + char + text[at + 1 :]
    assert other == text or read(other) is None
    assert read(text[:at] + text[at + 1 :]) is None


@pytest.mark.parametrize("text", ["", "hgw_", "x" * 62, "HGW_" + "A" * 58, "hgw_" + "A" * 58, "\ud800", "hgw_A\n"])
def test_what_is_no_key(text: str) -> None:
    assert read(text) is None
    assert read(make(bytes(ENTROPY_BYTES)).text + "\n") is None


@pytest.mark.parametrize("size", [0, 32, 37, 39])
def test_too_little_entropy_is_a_fault_of_ours(size: int) -> None:
    with pytest.raises(ValueError, match="random bytes"):
        make(bytes(size))


# ---- origins ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("origin", "kind"),
    [("https://app.example.com", "web"), ("https://app.example.com:8443", "web"), ("https://[2001:db8::1]", "web"),
     ("https://10.0.0.1", "web"), ("http://localhost:5173", "web"), ("http://127.0.0.1:1", "web"),
     ("http://[::1]:3000", "web"), ("https://xn--bcher-kva.example", "web"), ("https://my_host", "web"),
     ("chrome-extension://" + "abcdefghijklmnop" * 2, "extension"),
     ("moz-extension://0f1e2d3c-aaaa-bbbb-cccc-0123456789ab", "extension"),
     ("safari-web-extension://0F1E2D3C-AAAA-BBBB-CCCC-0123456789AB", "extension")],
)  # fmt: skip
def test_origins_as_browsers_send_them(origin: str, kind: str) -> None:
    assert kind_of(origin) == kind


@pytest.mark.parametrize(
    "origin",
    ["", "null", "*", "https://", "https://a/", "https://a/b", "https://a?x", "https://a#x", "https://A.example",
     "HTTPS://a.example", "https://a.example.", "https://.a", "https://a..b", "https://-a", "https://a:443",
     "http://localhost:80",
     "https://a:0", "https://a:080", "https://a:65536", "https://a:99999", "https://u@a", "https://u:p@a",
     "https://a b",
     "https://a\n", "ftp://a", "file://", "data:,x", "https://bücher.example", "https://" + "a" * 256,
     "chrome-extension://", "chrome-extension://" + "q" * 32, "chrome-extension://" + "a" * 31,
     "chrome-extension://" + "a" * 32 + "/", "moz-extension://0f1e2d3c", "https://a.example https://b.example",
     "http://evil.example", "http://localhost.evil.example", "http://127.0.0.1.evil.example", "http://192.168.0.2"],
)  # fmt: skip
def test_what_is_no_origin_that_could_be_let_in(origin: str) -> None:
    assert kind_of(origin) is None


def test_the_operator_may_name_plain_http() -> None:
    assert kind_of("http://nas.local:8080", plain_http=True) == "web"
    assert kind_of("null", plain_http=True) is None

"""Invite links and relay addresses: as they are printed, as people paste them, as they get damaged."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridgw_protocol.errors import BadValue
from hybridgw_protocol.invite import INVITE_SECRET_BYTES, Invite, format_invite, normal_url, parse_invite

SECRET = random.Random(1).randbytes(INVITE_SECRET_BYTES)
LINK = format_invite("https://Relay.Example.com:443/", SECRET)


def test_a_link_has_its_secret_in_the_fragment() -> None:
    assert LINK.startswith("https://relay.example.com/#hgw-invite=")
    assert len(LINK.partition("=")[2]) == 43
    assert parse_invite(LINK) == Invite("https://relay.example.com", SECRET)


@given(
    st.binary(min_size=32, max_size=32),
    st.sampled_from(
        ["https://a.example", "http://127.0.0.1:8080", "https://[::1]:8443", "https://a.example/sub/relay"]
    ),
)
def test_round_trip(secret: bytes, url: str) -> None:
    link = format_invite(url, secret)
    assert parse_invite(link) == Invite(url, secret)
    assert parse_invite(f"  {link}\n") == Invite(url, secret)
    assert parse_invite(link + "=") == Invite(url, secret)  # some programs pad
    assert parse_invite(f"{link[:-9]}\n{link[-9:]}") == Invite(url, secret)  # and some break lines


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("relay.example.com", "https://relay.example.com"), ("relay.example.com:8443",
        "https://relay.example.com:8443"),
        ("http://10.0.0.7:8080", "http://10.0.0.7:8080"), (" https://relay.example.com/ ", "https://relay.example.com"),
        ("wss://relay.example.com", "https://relay.example.com"), ("[::1]:8080", "http://[::1]:8080"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080"), ("localhost:8080/", "http://localhost:8080"),
        ("https://localhost", "https://localhost"),
        ("https://relay.example.com/sub/", "https://relay.example.com/sub"), ("https://relay.example.com/?a=b",
        "https://relay.example.com"),
        ("https://relay.example.com/#", "https://relay.example.com"),
    ],
)  # fmt: skip
def test_a_bare_address_has_no_secret(text: str, url: str) -> None:
    assert parse_invite(text) == Invite(url, b"")


@pytest.mark.parametrize("cut", range(1, 43))
def test_a_link_that_lost_its_end(cut: int) -> None:
    with pytest.raises(BadValue, match="not complete"):
        parse_invite(LINK[:-cut])


@pytest.mark.parametrize(
    "text",
    [
        "", "   ", "#hgw-invite=abc", LINK + "A", LINK + "AAAA", LINK[:-5] + " " + LINK[-5:],
        LINK[:-1] + ".", LINK[:-1] + "+", LINK[:-1] + "é", LINK[:-1] + "/", LINK + ">", LINK.replace("hgw-invite",
        "hgw-inwite"),
        "https://relay.example.com/#top", "https://[::1/#" + LINK.partition("#")[2],
        "https://a b/#" + LINK.partition("#")[2],
        "ftp://relay.example.com/", "https://user@relay.example.com/", "https://u:p@relay.example.com/",
        "mailto:me@relay.example.com",
        "https://relay.example.com:x/",
    ],
)  # fmt: skip
def test_damaged_links(text: str) -> None:
    with pytest.raises(BadValue):
        parse_invite(text)


@pytest.mark.parametrize("at", [*range(len("https://relay.example.com/#hgw-invite="), len(LINK), 7), len(LINK) - 1])
def test_no_letter_of_the_secret_is_left_out(at: int) -> None:
    for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
        other = LINK[:at] + letter + LINK[at + 1 :]
        with contextlib.suppress(BadValue):
            assert (parse_invite(other).secret == SECRET) == (other == LINK)


@given(st.text(max_size=50) | st.text(st.sampled_from("htps:/#=hgw-invite.a[]@%\\"), max_size=40))
def test_only_bad_value_comes_out(text: str) -> None:
    try:
        invite = parse_invite(text)
    except BadValue:
        return
    assert invite.secret == b"" or len(invite.secret) == 32
    assert parse_invite(format_invite(invite.url, SECRET)) == Invite(invite.url, SECRET)


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("HTTPS://Relay.Example.COM:443/", "https://relay.example.com"), ("ws://a.example:80", "http://a.example"),
        ("wss://a.example:8443/x/", "https://a.example:8443/x"), ("https://bücher.example",
        "https://xn--bcher-kva.example"),
        ("https://a.example/x?q#f", "https://a.example/x"), ("http://[::1]:80/", "http://[::1]"),
    ],
)  # fmt: skip
def test_one_spelling(url: str, normal: str) -> None:
    assert normal_url(url) == normal
    assert normal_url(normal) == normal


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.example",
        "https://",
        "https://u@a.example",
        "https://u:p@a.example",
        "https://:p@a.example",
        "ftp://a.example",
        "https://[::1",
        "https://a:b",
    ],
)
def test_what_is_no_relay_url(url: str) -> None:
    with pytest.raises(BadValue):
        normal_url(url)

"""Proof of a device key: what the signature covers, and the names of relays it is bound to."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_sign

from hybridgw_protocol.auth import (
    auth_digest,
    certificate_endpoint,
    choose_version,
    endpoint,
    sign_answer,
    sign_auth,
    space_of,
    verify_answer,
    verify_auth,
)
from hybridgw_protocol.codec import encode_canonical
from hybridgw_protocol.errors import AuthFailed, BadValue, HybridGWError, UnsupportedVersion
from hybridgw_protocol.frames import Auth, Challenge, Welcome
from hybridgw_protocol.ids import blake2b
from tests.unit.protocol.samples import Author, entries

HERE = frozenset({"host:relay.example.com", "host:10.0.0.7:8080"})
AUTHOR, THIEF = Author(21), Author(22)
CHALLENGE = Challenge(v=(1, 1), ns=bytes(range(32)), role="relay", t=1_790_000_000_000)
replace = msgspec.structs.replace


def auth_of(author: Author = AUTHOR, challenge: Challenge = CHALLENGE, **changes: Any) -> Auth:
    auth = Auth(
        v=1, sp=author.space, pk=author.sign_public + author.exchange_public, nc=bytes(range(32, 64)),
        ep="host:relay.example.com", sig=bytes(64), t=1_790_000_000_123, vv=entries(2), ctl=[bytes(16)], caps=["a"],
        enrol=b"invite",
    )  # fmt: skip
    auth = replace(auth, **changes)
    return replace(auth, sig=sign_auth(challenge, auth, author.sign_secret))


def test_a_device_proves_itself() -> None:
    auth = auth_of()
    assert verify_auth(CHALLENGE, auth, HERE) == AUTHOR.device
    assert space_of(auth) == AUTHOR.space
    assert verify_auth(CHALLENGE, auth_of(ep="host:10.0.0.7:8080"), HERE) == AUTHOR.device


def test_the_signed_bytes_are_those_of_the_page() -> None:
    auth = auth_of()
    said = [
        "hgw-auth-c", [1, 1], 1, "relay", CHALLENGE.ns, auth.nc, auth.ep, auth.sp, auth.pk, b"", auth.ctl, auth.caps,
        auth.enrol,
    ]  # fmt: skip
    assert auth_digest("hgw-auth-c", CHALLENGE, auth, None) == blake2b(encode_canonical(said), 32, "hgw-auth")


# ---- nothing that was said can be changed ------------------------------------------------------------------------
COVERED: dict[str, Any] = {
    "sp": THIEF.space, "nc": bytes(32), "ep": "host:10.0.0.7:8080", "ctl": [], "caps": [], "enrol": b"",
    "pk": AUTHOR.sign_public + THIEF.exchange_public,
}  # fmt: skip


@pytest.mark.parametrize("name", COVERED)
def test_a_changed_field_is_refused(name: str) -> None:
    with pytest.raises(AuthFailed):
        verify_auth(CHALLENGE, replace(auth_of(), **{name: COVERED[name]}), HERE)


@pytest.mark.parametrize(
    "more",
    [
        {"ctl": [bytes(16), bytes(16)]},
        {"ctl": [b"\1" * 16]},
        {"caps": ["a", "b"]},
        {"caps": ["b"]},
        {"enrol": b"other"},
        {"enrol": b"invite "},
    ],
)
def test_nothing_can_be_added(more: dict[str, Any]) -> None:
    with pytest.raises(AuthFailed):
        verify_auth(CHALLENGE, replace(auth_of(), **more), HERE)


def test_every_field_is_covered_or_known_not_to_be() -> None:
    """Heads, clock and `sub` say only what to send; who could change them could as well hold frames back."""
    open_ones = {"vv": entries(5), "t": 0, "sub": False}
    names = {field.name for field in msgspec.structs.fields(Auth)}
    assert names == set(COVERED) | set(open_ones) | {"v", "sig"}
    assert verify_auth(CHALLENGE, replace(auth_of(), **open_ones), HERE) == AUTHOR.device


@pytest.mark.parametrize("at", range(64))
def test_every_byte_of_the_signature_counts(at: int) -> None:
    auth = auth_of()
    sig = bytearray(auth.sig)
    sig[at] ^= 1
    with pytest.raises(AuthFailed):
        verify_auth(CHALLENGE, replace(auth, sig=bytes(sig)), HERE)


@pytest.mark.parametrize(
    "challenge",
    [
        replace(CHALLENGE, ns=bytes(32)),  # a recorded auth, replayed on a new connection
        replace(CHALLENGE, v=(1, 2)),  # the range was cut down on the way: downgrade
        replace(CHALLENGE, v=(0, 1)),
        replace(CHALLENGE, role="peer"),
    ],
)
def test_another_challenge_than_the_one_that_was_answered(challenge: Challenge) -> None:
    with pytest.raises(AuthFailed):
        verify_auth(challenge, auth_of(), HERE)
    assert verify_auth(challenge, auth_of(challenge=challenge), HERE) == AUTHOR.device


def test_relayed_to_another_relay() -> None:
    """A relay hands on what a device signed for it. The other sees the name that was dialled: not its own."""
    with pytest.raises(AuthFailed, match="not a name of this relay"):
        verify_auth(CHALLENGE, auth_of(ep="host:evil.example"), HERE)
    with pytest.raises(AuthFailed):  # renamed on the way
        verify_auth(CHALLENGE, replace(auth_of(ep="host:evil.example"), ep="host:relay.example.com"), HERE)


def test_reflected_and_taken_for_a_servers_answer() -> None:
    auth = auth_of()
    server_side = crypto_sign(auth_digest("hgw-auth-s", CHALLENGE, auth, None), AUTHOR.sign_secret)[:64]
    with pytest.raises(AuthFailed):
        verify_auth(CHALLENGE, replace(auth, sig=server_side), HERE)


# ---- a device as the server ----------------------------------------------------------------------------------------
SERVER = Author(23)
PLACE = certificate_endpoint(b"a certificate")
PEER = replace(CHALLENGE, role="peer", ep=PLACE)


def answer_of(server: Author = SERVER, challenge: Challenge = PEER, auth: Auth | None = None) -> Welcome:
    auth = auth or auth_of(challenge=PEER, ep=PLACE)
    return Welcome(
        sid="a", t=0, sig=sign_answer(challenge, auth, server.sign_secret, server.device),
        pk=server.sign_public + server.exchange_public,
    )  # fmt: skip


def test_a_peer_proves_itself_too() -> None:
    auth = auth_of(challenge=PEER, ep=PLACE)
    assert verify_auth(PEER, auth, frozenset((PLACE,))) == AUTHOR.device
    assert verify_answer(PEER, auth, answer_of()) == SERVER.device


def test_a_certificate_in_the_middle_is_seen_by_the_server() -> None:
    """The client signs what it saw; handed on, that is not the certificate of who gets it."""
    seen = certificate_endpoint(b"of somebody in the middle")
    with pytest.raises(AuthFailed, match="another certificate"):
        verify_auth(PEER, auth_of(challenge=PEER, ep=seen), frozenset((PLACE,)))


@pytest.mark.parametrize(
    "changed",
    [
        {"challenge": replace(PEER, ns=bytes(32))},
        {"challenge": replace(PEER, v=(1, 2))},
        {"auth": auth_of(challenge=PEER, ep=PLACE, nc=bytes(32))},  # an answer that somebody else was given
        {"auth": auth_of(challenge=PEER, ep=certificate_endpoint(b"x"))},
        {"auth": auth_of(THIEF, challenge=PEER, ep=PLACE)},
        {"auth": auth_of(challenge=PEER, ep=PLACE, enrol=b"")},
    ],
)
def test_an_answer_to_something_else_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(AuthFailed):
        verify_answer(PEER, auth_of(challenge=PEER, ep=PLACE), answer_of(**changed))


def test_an_answer_without_proof_or_with_that_of_another_device_is_refused() -> None:
    auth, good = auth_of(challenge=PEER, ep=PLACE), answer_of()
    reflected = replace(good, sig=auth.sig, pk=auth.pk)
    for bad in (
        replace(good, sig=b""), replace(good, pk=b""), replace(good, sig=bytes(64)),
        replace(good, sig=good.sig + b"\0"),
        replace(good, pk=THIEF.sign_public + THIEF.exchange_public), reflected,
        replace(good, pk=SERVER.sign_public + THIEF.exchange_public),
        replace(answer_of(THIEF), pk=good.pk),
    ):  # fmt: skip
        with pytest.raises(AuthFailed):
            verify_answer(PEER, auth, bad)


def test_a_key_of_another_device_does_not_fit() -> None:
    with pytest.raises(AuthFailed):
        verify_auth(CHALLENGE, replace(auth_of(THIEF), pk=AUTHOR.sign_public + AUTHOR.exchange_public), HERE)
    own = verify_auth(CHALLENGE, auth_of(THIEF, sp=AUTHOR.space), HERE)  # it may ask for any space, as itself
    assert own == THIEF.device


@pytest.mark.parametrize("sign", [bytes(32), b"\x01" + bytes(31), b"\xff" * 32])
def test_keys_with_which_anything_verifies_are_refused(sign: bytes) -> None:
    with pytest.raises(AuthFailed):
        verify_auth(CHALLENGE, replace(auth_of(), pk=sign + bytes(32), sig=bytes(64)), HERE)


# ---- versions ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("low", "high", "fits"), [(1, 1, True), (0, 5, True), (2, 3, False), (0, 0, False), (1, 0, False), (5, 1, False)]
)
def test_versions(low: int, high: int, fits: bool) -> None:
    challenge = replace(CHALLENGE, v=(low, high))
    if fits:
        assert choose_version(challenge) == 1
    else:
        with pytest.raises(UnsupportedVersion, match="Upgrade"):
            choose_version(challenge)


@pytest.mark.parametrize("version", [0, 2, -1, 2**63])
def test_a_version_that_is_not_spoken_here(version: int) -> None:
    with pytest.raises(UnsupportedVersion):
        verify_auth(CHALLENGE, auth_of(v=version), HERE)


# ---- names of relays ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://relay.example.com", "relay.example.com"), ("https://Relay.Example.COM/", "relay.example.com"),
        ("https://relay.example.com:443", "relay.example.com"), ("wss://relay.example.com:443/x", "relay.example.com"),
        ("http://relay.example.com:80", "relay.example.com"), ("ws://relay.example.com:80", "relay.example.com"),
        ("http://relay.example.com:443", "relay.example.com:443"), ("https://relay.example.com:80",
        "relay.example.com:80"),
        ("https://relay.example.com:8443/a?b#c", "relay.example.com:8443"), ("https://relay.example.com:",
        "relay.example.com"),
        ("HTTPS://relay.example.com", "relay.example.com"), ("https://user:secret@relay.example.com",
        "relay.example.com"),
        ("https://127.0.0.1:8080", "127.0.0.1:8080"), ("http://localhost:80", "localhost"), ("https://nas", "nas"),
        ("https://[::1]", "[::1]"), ("https://[::1]:443", "[::1]"), ("http://[2001:DB8::7]:8080", "[2001:db8::7]:8080"),
        ("https://[fe80::1%25eth0]:1", "[fe80::1%25eth0]:1"),
        ("https://bücher.example", "xn--bcher-kva.example"), ("https://BÜCHER.example:443", "xn--bcher-kva.example"),
        ("https://xn--bcher-kva.example", "xn--bcher-kva.example"), ("https://例え.テスト", "xn--r8jz45g.xn--zckzah"),
        ("https://a_b.example", "a_b.example"),
    ],
)  # fmt: skip
def test_endpoints(url: str, name: str) -> None:
    assert endpoint(url) == f"host:{name}"


@pytest.mark.parametrize(
    "url",
    [
        "", "relay.example.com", "//relay.example.com", "https://", "https:///x", "https://:443",
        "ftp://relay.example.com",
        "file:///etc/passwd", "javascript:alert(1)", "https://relay.example.com:port",
        "https://relay.example.com:99999",
        "https://relay.example.com:-1", "https://[::1", "https://::1]", "https://[not an address]", "https://[::1]x",
        "https://a b.example", "https://a\x00b", "https://a..b", "https://.example", "https://" + "ü" * 70 + ".example",
        "https://a\uff0fb.example", "https://\ud800.example", "https://a<b>.example", "https://a%2fb",
        "https://" + "a" * 300,
    ],
)  # fmt: skip
def test_what_is_no_relay_address(url: str) -> None:
    with pytest.raises(BadValue):
        endpoint(url)


@given(st.text(max_size=40) | st.text(st.sampled_from("ab./:@[]%#?-é 1 "), max_size=25))
def test_only_our_errors_come_out(text: str) -> None:
    for url in (text, "https://" + text):
        try:
            found = endpoint(url)
        except HybridGWError:
            continue
        authority = found.removeprefix("host:")
        assert endpoint(f"https://{authority}") == found.removesuffix(":443")  # one spelling, and it is its own

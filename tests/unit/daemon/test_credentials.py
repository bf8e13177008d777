"""The register of who holds what, without a daemon around it."""

from __future__ import annotations

from base64 import urlsafe_b64encode

from nacl.signing import SigningKey

from hybridgw_daemon.core.scopes import parse
from hybridgw_daemon.core.tokens import TokenKey
from hybridgw_daemon.services.credentials import MOST_PROOFS, Credentials, Holding
from hybridgw_protocol.proofs import LIFE_MS, proof_text

NOW_MS = 1_800_000_000_000
KEYS = {name: SigningKey(name.encode().ljust(32)) for name in ("flood", "other")}


class Desk:
    """Two apps with keys of their own, at a clock that is set."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS
        self.credentials = Credentials(
            "issuer", TokenKey("HS256", bytes(32)), clock=lambda: self.now_ms, ended=lambda _id: None
        )
        self._count = 0
        self.apps = {
            name: Holding(
                f"grant:{name}", "program", parse(["read:tasks"]), frozenset(), None, key=bytes(key.verify_key)
            )
            for name, key in KEYS.items()
        }

    def shows(self, name: str) -> bool:
        """An app shows a fresh proof."""
        self._count += 1
        nonce = f"nonce-{self._count:012d}"
        text = proof_text(port=0, purpose="GET /", token="t", at_ms=self.now_ms, nonce=nonce)
        signature = urlsafe_b64encode(KEYS[name].sign(text).signature).decode().rstrip("=")
        return self.credentials.is_proven(self.apps[name], "t", f"{self.now_ms}.{nonce}.{signature}", "GET /")


def test_an_app_that_shows_too_many_proofs_keeps_no_other_app_out() -> None:
    desk = Desk()
    assert all(desk.shows("flood") for _ in range(MOST_PROOFS))
    assert not desk.shows("flood")  # what it has shown is remembered, so that none counts twice, and has an end
    assert desk.shows("other")
    desk.now_ms += 2 * LIFE_MS + 1
    assert desk.shows("flood")

"""Where the daemon is and how we show who we are: both are looked up anew for every connection."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import aiohttp

from hybridgw_protocol.errors import BadValue, NotRunning

from ..problems import error_of
from ..profile import find_endpoint, find_profile, is_loopback

TokenSource = Callable[[str], Awaitable[str]]


class Place:
    """By the endpoint file of a profile, which has a new token after each start; or as the program says."""

    def __init__(
        self, home: str | os.PathLike[str] | None, url: str | None, token: str | TokenSource | None,
        api_key: str | None,
    ) -> None:  # fmt: skip
        """Raises: BadValue: the url is not of this machine, or it is not clear who we are."""
        if token is not None and api_key is not None:
            raise BadValue("Give a token or an API key, not both.", field="api_key")
        if url is not None and token is None and api_key is None:
            raise BadValue("With a url, give a token or an API key too: the endpoint file is not read.", field="url")
        self._url = None if url is None else _local(url)
        self._profile = find_profile(home)
        self._token: str | TokenSource | None = api_key if token is None else token

    @property
    def is_renewable(self) -> bool:
        """Another token may be had: where one does not count, it is worth asking again."""
        return not isinstance(self._token, str)

    @property
    def makes_tokens(self) -> bool:
        """Tokens come from a function, and may be asked for at any time."""
        return callable(self._token)

    async def find(self) -> tuple[str, str]:
        """(url, token). Raises: NotRunning, StateError: see profile.find_endpoint; whatever the function raises."""
        if self._url is None:
            endpoint = find_endpoint(self._profile)
            url, token = endpoint.url, endpoint.token.reveal()
        else:
            url, token = self._url, ""
        if isinstance(self._token, str):
            token = self._token
        elif self._token is not None:
            token = await self._token(url)
        return url, token


def login(api_key: str) -> TokenSource:
    """For `connect(token=login(key))`: swaps the key for a token of a day at most, again when that ends."""

    async def fetch(url: str) -> str:
        body = {"deployment_mode": "local_install", "credentials": {"api_key": api_key}}
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session,
                session.post(f"{url}/api/auth/login", json=body) as answer,
            ):
                found = await answer.json(content_type=None)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NotRunning(f"No daemon answers at {url}. Start it: hybridgw up") from error
        if answer.status != 200:
            raise error_of(answer.status, found if isinstance(found, dict) else {}, dict(answer.headers))
        return str(found["access_token"])

    return fetch


def _local(url: str) -> str:
    """Scheme, host and port. Raises: BadValue: another machine: nothing is sent there."""
    try:
        parts = urlsplit(url)
        plain = f"{parts.scheme}://{'127.0.0.1' if parts.hostname == 'localhost' else parts.hostname}"
        plain = f"http://[{parts.hostname}]" if ":" in (parts.hostname or "") else plain
        plain = plain if parts.port is None else f"{plain}:{parts.port}"
    except ValueError as error:
        raise BadValue(f"This is no address: {error}.", field="url") from error
    if parts.scheme != "http" or not is_loopback(plain):
        raise BadValue("HybridGW answers on this machine only: http://127.0.0.1 with its port.", field="url")
    return plain

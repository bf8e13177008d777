"""Keys for scripts: made, listed, given another secret, revoked. Only with `admin`; shown once."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from hybridgw_protocol.errors import BadValue, Busy, Forbidden, NotFound, TooMany
from hybridgw_protocol.localapi_access import (
    ApiKey,
    ApiKeyList,
    CreateApiKey,
    ListApiKeys,
    NewApiKey,
    RevokeApiKey,
    RotateApiKey,
)
from hybridgw_storage.database import Connection, Tx

from ..core import api_keys
from ..core.origins import kind_of
from ..core.scopes import parse
from ..stores import api_keys as rows
from ..stores.api_keys import KeyRow
from .credentials import Holding
from .issuing import Issuing
from .ports import Principal

MOST_KEYS: Final = 256
_DAY_MS: Final = 86_400_000


class ApiKeyService:
    """What `/api/auth/keys` does."""

    def __init__(self, by: Issuing) -> None:
        self._by = by

    async def list(self, _principal: Principal, _command: ListApiKeys) -> ApiKeyList:
        """Latest first."""
        found = await self._by.database.read(rows.all_of_them)
        return ApiKeyList(items=[ApiKey(**self._fields(row)) for row in found])

    async def create(self, principal: Principal, command: CreateApiKey) -> NewApiKey:
        """A new key; the answer is the only place where it stands.

        Raises: BadValue: a scope or origin; Forbidden: nobody gives away `admin` but the owner.
        """
        scopes = parse(command.scopes)
        if scopes.is_admin and not principal.is_owner:
            raise Forbidden("Only the owner makes keys with `admin`.")
        for origin in command.origins:
            if kind_of(origin) is None:
                raise BadValue(f"{ascii(origin)[:60]} is no origin like https://app.example.com.", field="origins")
        if any(not char.isprintable() for char in command.note):
            raise BadValue("The note has characters that cannot be shown.", field="note")
        now_ms = self._by.clock()
        made = api_keys.make(self._by.entropy(api_keys.ENTROPY_BYTES))
        ends = None if command.expires_days is None else now_ms + round(command.expires_days * _DAY_MS)
        origins = sorted(set(command.origins))
        row = KeyRow(
            made.id,
            made.digest,
            1,
            command.note,
            scopes.text(),
            msgspec.json.encode(origins).decode(),
            now_ms,
            ends,
            None,
        )

        def write(tx: Tx) -> None:
            if len(rows.all_of_them(tx.connection)) >= MOST_KEYS:
                raise TooMany(f"There are {MOST_KEYS} keys; revoke some first: hybridgw keys")
            if not rows.add(tx, row):
                raise Busy("Try again.")  # two of the same 47 random bits
            self._by.audit.write(
                tx, "key.created", principal=f"key:{row.id}", name=_named(row), may=scopes.sentence(),
                scopes=scopes.items(), by=principal.id,
            )  # fmt: skip

        await self._by.database.write(write)
        self._by.credentials.put(_holding(row))
        return NewApiKey(**self._fields(row), key=made.text)

    async def rotate(self, principal: Principal, command: RotateApiKey) -> NewApiKey:
        """Another secret; tokens made with the old one end too. Raises: NotFound; Forbidden: of a key with `admin`."""
        made = api_keys.remake(command.id, self._by.entropy(32))

        def write(tx: Tx) -> KeyRow:
            row = self._existing(tx.connection, command.id, principal)
            rows.replace_secret(tx, row.id, made.digest)
            self._by.audit.write(tx, "key.rotated", principal=f"key:{row.id}", name=_named(row), by=principal.id)
            return row._replace(digest=made.digest, version=row.version + 1)

        row = await self._by.database.write(write)
        self._by.credentials.drop(f"key:{row.id}")
        self._by.credentials.put(_holding(row))
        return NewApiKey(**self._fields(row), key=made.text)

    async def revoke(self, principal: Principal, command: RevokeApiKey) -> ApiKeyList:
        """It counts no more. Raises: NotFound; Forbidden: of a key with `admin`."""

        def write(tx: Tx) -> None:
            row = self._existing(tx.connection, command.id, principal)
            rows.remove(tx, row.id)
            self._by.audit.write(tx, "key.revoked", principal=f"key:{row.id}", name=_named(row), by=principal.id)

        await self._by.database.write(write)
        self._by.credentials.drop(f"key:{command.id}")
        return await self.list(principal, ListApiKeys())

    async def expire(self, key: str) -> None:
        """It has ended by itself."""

        def write(tx: Tx) -> None:
            row = rows.get(tx.connection, key)
            if row is not None and rows.remove(tx, key):
                self._by.audit.write(tx, "key.expired", principal=f"key:{key}", name=_named(row))

        await self._by.database.write(write)
        self._by.credentials.drop(f"key:{key}")

    def _existing(self, connection: Connection, key: str, principal: Principal) -> KeyRow:
        row = rows.get(connection, key)
        if row is None:
            raise NotFound("There is no such key; 'hybridgw keys' lists them.")
        if parse(row.scopes).is_admin and not principal.is_owner:
            raise Forbidden("Only the owner changes keys with `admin`.")
        return row

    def _fields(self, row: KeyRow) -> dict[str, Any]:
        scopes = parse(row.scopes)
        return {
            "id": row.id,
            "note": row.note,
            "scopes": scopes.items(),
            "sentence": scopes.sentence(),
            "origins": msgspec.json.decode(row.origins),
            "created_ms": row.created_ms,
            "expires_ms": row.expires_ms,
            "last_used_ms": self._by.credentials.used_ms.get(f"key:{row.id}", row.last_used_ms),
        }


def load(connection: Connection) -> list[Holding]:
    """The keys there are."""
    return [_holding(row) for row in rows.all_of_them(connection)]


def _holding(row: KeyRow) -> Holding:
    origins = frozenset(msgspec.json.decode(row.origins, type=list[str]))
    return Holding(f"key:{row.id}", "key", parse(row.scopes), origins, row.expires_ms, row.digest, row.version)


def _named(row: KeyRow) -> str:
    return f"{row.id} ({row.note})" if row.note else row.id

"""Rows of writes that are not sealed yet, as the database holds them: those of secret collections are sealed at rest.

Not which batch number they get, and not what becomes of them: that is writing.py.
"""

from __future__ import annotations

from hybridgw_protocol.errors import SecretsLocked
from hybridgw_storage.database import Tx

from ...core.operations import Operation, decode_pending
from ...stores import oplog
from ...stores.documents import Vault
from ...stores.oplog import Pending


def keep(tx: Tx, vault: Vault | None, n: int, secret: bool, raw: bytes) -> None:
    """Add encoded operations to batch number n. Args: vault: may be None only if they are not secret."""
    if secret:
        assert vault is not None  # noqa: S101 - checked by the caller before anything was written
        raw = vault.seal(_place(n), raw)
    oplog.add_pending(tx, n, secret, raw)


def rows(vault: Vault | None, pending: Pending) -> list[bytes]:
    """Encoded operations, as they were kept. Raises: SecretsLocked: they are secret and the vault is not open."""
    if not pending.secret:
        return pending.rows
    if vault is None:
        raise SecretsLocked("Writes to a secret collection wait to be sealed and the keyring is locked.")
    return [vault.open(_place(pending.n), raw) for raw in pending.rows]


def operations(vault: Vault | None, pending: Pending) -> list[Operation]:
    """The operations of one batch number, oldest first. Raises: SecretsLocked: as `rows`."""
    return [operation for raw in rows(vault, pending) for operation in decode_pending(raw)]


def _place(n: int) -> bytes:
    return b"pending" + n.to_bytes(8, "big")

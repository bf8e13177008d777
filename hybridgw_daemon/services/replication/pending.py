"""Writes that are not sealed yet: rows of the transaction, and of the table once it ends. Secret ones sealed at rest.

Most writes are sealed in the transaction that made them and never reach the table. Not which batch number they get, and
not what becomes of them: that is writing.py.
"""

from __future__ import annotations

from hybridgw_protocol.errors import SecretsLocked
from hybridgw_storage.database import Tx

from ...core.operations import Operation, decode_pending
from ...stores import oplog
from ...stores.documents import Vault
from ...stores.oplog import Pending
from .state import State


def keep(state: State, vault: Vault | None, n: int, secret: bool, raw: bytes) -> None:
    """Add encoded operations to batch number n. Args: vault: may be None only if they are not secret."""
    if secret:
        assert vault is not None  # noqa: S101 - checked by the caller before anything was written
        raw = vault.seal(_place(n), raw)
    state.unkept.append((n, secret, raw))


def held(tx: Tx, state: State) -> list[Pending]:
    """All of them, by batch number, in order."""
    if state.has_pending_rows:
        state.put_down(tx)
        return oplog.pending(tx.connection)
    return oplog.by_batch(state.unkept)


def clear(tx: Tx, state: State) -> None:
    """They were sealed, or taken out."""
    if state.has_pending_rows:
        oplog.clear_pending(tx)
    state.unkept, state.has_pending_rows, state.pending = [], False, []


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

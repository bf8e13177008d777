"""Keyrings as bad as real ones can be, loaded by keyring's own plugin mechanism (PYTHON_KEYRING_BACKEND).

Each keeps its items in memory, in a file if HGW_TEST_KEYRING names one. Used in child processes only.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import ClassVar

import keyring.errors
from keyring.backend import KeyringBackend


class Working(KeyringBackend):
    """Keeps everything, counts every call in the file."""

    priority: ClassVar[float] = 5
    items: ClassVar[dict[str, str]] = {}

    @property
    def _file(self) -> Path | None:
        name = os.environ.get("HGW_TEST_KEYRING")
        return Path(name) if name else None

    def _load(self) -> dict[str, str]:
        return json.loads(self._file.read_text()) if self._file and self._file.exists() else self.items

    def _save(self, items: dict[str, str]) -> None:
        type(self).items = items
        if self._file:
            self._file.write_text(json.dumps(items))

    def get_password(self, service: str, username: str) -> str | None:
        return self._load().get(f"{service}/{username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        items = self._load()
        items["writes"] = str(int(items.get("writes", "0")) + 1)
        self._save({**items, f"{service}/{username}": password})

    def delete_password(self, service: str, username: str) -> None:
        items = self._load()
        if items.pop(f"{service}/{username}", None) is None:
            raise keyring.errors.PasswordDeleteError(username)
        self._save(items)


class HangsOnRead(Working):
    """Waits for a prompt that nobody answers."""

    def get_password(self, service: str, username: str) -> str | None:
        threading.Event().wait()
        return None


class HangsOnWrite(Working):
    """Reads are free, a write asks."""

    def set_password(self, service: str, username: str, password: str) -> None:
        threading.Event().wait()


class KeepsNothing(Working):
    """Takes everything and forgets it, as the null back end does."""

    def set_password(self, service: str, username: str, password: str) -> None:
        pass

    def delete_password(self, service: str, username: str) -> None:
        pass


class CutsLong(Working):
    """Keeps the first bytes: a size limit that is not told."""

    def set_password(self, service: str, username: str, password: str) -> None:
        super().set_password(service, username, password[:20])


class ProbeOnly(Working):
    """Works for the probe, then forgets the key: full between the two."""

    def set_password(self, service: str, username: str, password: str) -> None:
        if service.endswith(":probe"):
            super().set_password(service, username, password)


class Locked(Working):
    """As SecretService says it."""

    def get_password(self, service: str, username: str) -> str | None:
        raise keyring.errors.KeyringLocked("locked")


class Strange(Working):
    """Raises what no list of keyring errors has."""

    def get_password(self, service: str, username: str) -> str | None:
        raise LookupError("org.freedesktop.Something.Else")


class PlainText(Working):
    """Works, and says by its priority that it should not be used."""

    priority: ClassVar[float] = 0.5

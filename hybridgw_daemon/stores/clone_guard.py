"""Is this database a copy? A counter in a file beside it, and the machine it ran on, say so before the first write.

Two installations with one identity would sign two batches for one place in a log. So the counter stands twice: here,
in a file of its own outside the database, and in the database. `advance` raises it here first, then the database
follows in the transaction that takes it into use:

    equal                         -> SAME
    file one ahead of database    -> CRASHED: the last run ended between the two
    anything else                 -> COPIED: a restored or copied database, or a file from elsewhere: open a new log
    another machine id            -> COPIED

What it cannot see is a whole machine that was copied or went back in time, and a restore from just one step before;
those are found by comparing heads with a peer before the first push. The inode is only a hint to do so at once: moving
a folder or restoring it changes it, and on some file systems a restart does.
"""

from __future__ import annotations

import sys
from enum import Enum, auto
from pathlib import Path
from typing import Final

import msgspec

from hybridgw_protocol.ids import blake2b

from .private_files import read_private, write_private

FILE_NAME: Final = "instance.json"
_MAX_BYTES: Final = 1_024
_VERSION: Final = 1
_MACHINE_FILES: Final = ("/etc/machine-id", "/var/lib/dbus/machine-id")


class Verdict(Enum):
    """What the two counters and the machine say about the database."""

    SAME = auto()
    CRASHED = auto()
    COPIED = auto()


class _File(msgspec.Struct, frozen=True):
    version: int
    counter: int
    inode: int = 0


def check(folder: Path, db_counter: int, db_machine: bytes, machine: bytes | None = None) -> Verdict:
    """Compare, changing nothing; call before anything is sealed.

    Args: db_counter: 0 in a new database; db_machine: b"" before the first run; machine: this one, found if None.
    Raises: StorageUnavailable: the file is there and cannot be read.
    """
    here = machine_id() if machine is None else machine
    if db_machine and here and db_machine != here:
        return Verdict.COPIED
    file = _read(folder)
    counter = 0 if file is None else file.counter
    if counter == db_counter:
        return Verdict.SAME
    return Verdict.CRASHED if counter == db_counter + 1 else Verdict.COPIED


def advance(folder: Path, db_counter: int, database: Path | None = None) -> int:
    """Raise the counter here; durable on return. Returns: what the database must now store in its next transaction.

    After CRASHED it writes what is there already. After COPIED it skips a number, so that the verdict stays COPIED
    until the database has stored the result, in the same transaction as its new log and this machine's id.
    Args: database: its inode is noted as a hint. Raises: StorageUnavailable, DiskFull.
    """
    file = _read(folder)
    held = 0 if file is None else file.counter
    counter = db_counter + 1 if held in (db_counter, db_counter + 1) else max(held + 1, db_counter + 2)
    write_private(
        folder / FILE_NAME, msgspec.json.encode(_File(_VERSION, counter, _inode(database))) + b"\n", replace=True
    )
    return counter


def is_moved(folder: Path, database: Path) -> bool:
    """A hint that the database file is another one than last time: compare heads before the first seal."""
    file = _read(folder)
    inode = _inode(database)
    return bool(file is not None and file.inode and inode and file.inode != inode)


def machine_id() -> bytes:
    """16 bytes that name this machine, b"" where nothing stable can be found. Hashed: the raw id is not to be told."""
    raw = _windows_id() if sys.platform == "win32" else _mac_id() if sys.platform == "darwin" else _linux_id()
    return blake2b(raw.encode(), 16, "hgw-machine") if raw else b""


def _linux_id() -> str:
    for name in _MACHINE_FILES:
        try:
            text = Path(name).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            continue
        if text and text != "uninitialized":
            return text
    return ""


def _windows_id() -> str:
    if sys.platform != "win32":
        return ""
    import winreg  # noqa: PLC0415 - only on Windows

    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SOFTWARE\Microsoft\Cryptography") as key:
            return str(winreg.QueryValueEx(key, "MachineGuid")[0])
    except OSError:
        return ""


def _mac_id() -> str:
    import subprocess  # noqa: PLC0415 - only on macOS

    try:
        run = subprocess.run(
            ["/usr/sbin/ioreg", "-rd1", "-c", "IOPlatformExpertDevice"], capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    _, _, after = run.stdout.partition('"IOPlatformUUID" = "')
    return after.partition('"')[0]


def _inode(path: Path | None) -> int:
    try:
        return 0 if path is None else path.stat().st_ino
    except OSError:
        return 0


def _read(folder: Path) -> _File | None:
    raw = read_private(folder / FILE_NAME, _MAX_BYTES)
    if raw is None:
        return None
    try:
        file = msgspec.json.decode(raw, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _File(_VERSION, -1)  # damaged: equal to no database, so a new log is opened and nothing is risked
    return file if file.version == _VERSION and file.counter >= 0 else _File(_VERSION, -1)

"""Opening a database file: made and upgraded by migrations only, copied before an upgrade, refused when too new.

Migrations are forward only and named; sqlite-utils records each. All that are due run in one transaction, together
with the new `PRAGMA user_version`, which holds their number: so an upgrade happens whole or not at all, the old program
can go on with the file if it fails, and a file that is up to date opens without loading sqlite-utils.

Everything before that transaction reads through a read-only connection: a file that is too new, foreign or damaged
keeps every byte, its write-ahead log included.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from hybridgw_protocol.errors import DatabaseDamaged, DatabaseTooNew, StorageUnavailable

from .check import is_sound, sync_folder
from .connection import connect, translated

Migration = tuple[str, str]  # (name, SQL script)

# Network file systems where SQLite's locks or WAL shared memory do not work (https://sqlite.org/wal.html).
UNSAFE_FILE_SYSTEMS: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "fuse.sshfs", "ncpfs"})
_PARTS: Final = ("", "-wal", "-shm", "-journal")  # the file first: a log without it is set aside, not read


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def prepare_file(
    path: Path,
    migrations: Sequence[Migration],
    *,
    stamp: str,
    mounts: str | None = None,
    free_bytes: Callable[[Path], int] = _free_bytes,
) -> int:
    """Make or upgrade the file at *path*; returns how many migrations ran.

    Args: stamp: text for the names of copies, for example a UTC time; mounts: as `file_system_of`; free_bytes: of a
    folder. Raises: DatabaseTooNew, DatabaseDamaged (the file was set aside), DiskFull, StorageUnavailable.
    """
    make_folder(path.parent, mounts)
    _check_file(path)
    if not path.exists() or path.stat().st_size == 0:
        version = 0
        if _size(Path(f"{path}-wal")):
            set_aside(path, stamp)  # the log of a file that is gone: SQLite would delete it
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))  # never readable by others, not even for a moment
    else:
        try:
            version = _look(path, migrations, stamp, free_bytes)
        except DatabaseDamaged as error:
            target = set_aside(path, stamp)
            raise DatabaseDamaged(
                f"{path.name} is damaged and was set aside as {target.name}; nothing in it was changed. "
                "Restore a backup, or start again and pair this device anew: what was synced comes back "
                "from your other devices.",
                cause=str(error),
            ) from error
    if version == len(migrations):
        return 0
    with translated(path), contextlib.closing(connect(path)) as connection:
        _migrate(connection, migrations)
    return len(migrations) - version


def _look(path: Path, migrations: Sequence[Migration], stamp: str, free_bytes: Callable[[Path], int]) -> int:
    """The version of an existing file; a copy is made if an upgrade is due."""
    if _size(Path(f"{path}-journal")):
        connect(path).close()  # the power failed before the file was in WAL mode; who only reads cannot roll that back
    with translated(path), contextlib.closing(connect(path, read_only=True)) as reader:
        version = int(reader.execute("PRAGMA user_version").fetchone()[0])
        tables = {name for (name,) in reader.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        if version > len(migrations):
            raise DatabaseTooNew(
                f"{path.name} was written by a newer version (schema {version}, this program knows "
                f"{len(migrations)}). Upgrade the program; nothing was changed."
            )
        if tables and "_sqlite_migrations" not in tables:
            raise StorageUnavailable(f"{path} is the database of another program. Move it away, or choose a folder.")
        if 0 < version < len(migrations):
            needed, free = 2 * (_size(path) + _size(Path(f"{path}-wal"))), free_bytes(path.parent)
            if free < needed:
                raise StorageUnavailable(
                    f"An upgrade of {path.name} needs {_mib(needed)} MiB free for a copy of it, and there are "
                    f"{_mib(free)} MiB free. Nothing was changed."
                )
            reader.execute("PRAGMA query_only=OFF")  # for the copy only; the connection itself is read-only
            copy_database(reader, _unused(path.with_name(f"{path.name}.before-{version}-{stamp}")))
    return version


def _migrate(connection: sqlite3.Connection, migrations: Sequence[Migration]) -> None:
    import sqlite_utils  # noqa: PLC0415 - 100 ms that only a new or old file pays

    steps = sqlite_utils.Migrations("hybridgw")
    for name, script in migrations:
        steps(name=name)(_runner(script))
    db = sqlite_utils.Database(connection, execute_plugins=False)
    connection.execute("BEGIN IMMEDIATE")
    try:
        steps.apply(db)
        connection.execute(f"PRAGMA user_version={len(migrations)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _runner(script: str) -> Callable[[object], None]:
    def run(db: object) -> None:
        for statement in split_statements(script):
            db.execute(statement)  # type: ignore[attr-defined]

    return run


def split_statements(script: str) -> list[str]:
    """The statements of a script, one by one: executescript would end the migration's transaction."""
    found, rest = [], ""
    for piece in re.split("(?<=;)", script):  # SQLite says which of these semicolons ends a statement
        rest += piece
        if rest.strip() and sqlite3.complete_statement(rest):
            found.append(rest.strip())
            rest = ""
    if rest.strip():
        found.append(rest.strip())
    return found


def copy_database(reader: sqlite3.Connection, target: Path) -> None:
    """A verified, durable copy in one file. It bears its name only when it is whole.

    Raises: sqlite3.Error: the source cannot be read, or no space; StorageUnavailable: the copy is not sound.
    """
    part = target.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        reader.execute("VACUUM INTO ?", (str(part),))
        part.chmod(0o600)
        with contextlib.closing(connect(part, read_only=True)) as copy:
            same = all(
                copy.execute(sql).fetchall() == reader.execute(sql).fetchall()
                for sql in ("PRAGMA user_version", "SELECT type, name, sql FROM sqlite_schema ORDER BY type, name")
            )
        if not same or not is_sound(part):
            raise StorageUnavailable(f"The copy {target.name} could not be verified. Nothing was changed; try again.")
        with open(part, "rb") as file:
            os.fsync(file.fileno())  # VACUUM INTO does not
        part.rename(target)
        sync_folder(target.parent)
    finally:
        for suffix in _PARTS:
            Path(f"{part}{suffix}").unlink(missing_ok=True)


def set_aside(path: Path, stamp: str) -> Path:
    """Rename a damaged file, its log and its shared memory out of the way; nothing is ever overwritten.

    Returns: the new path of the file.
    """
    target = _unused(path.with_name(f"{path.name}.damaged-{stamp}"))
    for suffix in _PARTS:
        source = Path(f"{path}{suffix}")
        if source.exists():
            source.rename(f"{target}{suffix}")
    sync_folder(path.parent)
    return target


def _unused(path: Path) -> Path:
    """The path, or the path with the first number that makes it and its companions new names."""
    found, k = path, 0
    while any(Path(f"{found}{suffix}").exists() for suffix in _PARTS):
        k += 1
        found = path.with_name(f"{path.name}-{k}")
    return found


def make_folder(folder: Path, mounts: str | None = None) -> None:
    """Make the folder of a database, for its owner alone. Args: mounts: as `file_system_of`.

    Raises: StorageUnavailable: it is on a network file system, cannot be made or cannot be written.
    """
    kind = file_system_of(folder, mounts)
    if kind in UNSAFE_FILE_SYSTEMS:
        raise StorageUnavailable(
            f"{folder} is on a network file system ({kind}), where SQLite can lose data. Choose a local folder."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except FileExistsError as error:
        raise StorageUnavailable(
            f"The folder {folder} cannot be made: there is a file of that name. Choose another."
        ) from error
    except OSError as error:
        raise StorageUnavailable(f"The folder {folder} cannot be made: {error.strerror}. Choose another.") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StorageUnavailable(f"The folder {folder} cannot be written by this user. Choose another, or its owner.")


def _check_file(path: Path) -> None:
    if path.exists() and not (path.is_file() and os.access(path, os.R_OK | os.W_OK)):
        raise StorageUnavailable(f"{path} cannot be written by this user, or is no file. Check its owner and mode.")


_ESCAPES: Final = (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"))


def file_system_of(folder: Path, mounts: str | None = None) -> str:
    """The file system type of a folder on Linux, '' where it cannot be told.

    Args: mounts: text in the form of /proc/self/mounts, read from there if None.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mounts").read_text(errors="surrogateescape")
        except OSError:
            return ""
    best, kind = "", ""
    resolved = str(folder.resolve())
    for line in mounts.splitlines():
        parts = line.split(" ")
        if len(parts) < 3:
            continue
        point = parts[1]
        for escape, character in _ESCAPES:
            point = point.replace(escape, character)
        inside = resolved == point or resolved.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):  # the last one of a place is the one that is seen
            best, kind = point, parts[2]
    return kind


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _mib(size: int) -> int:
    return -(-size // 2**20)

"""Opening a database file: made and upgraded by migrations only, copied before an upgrade, refused when too new.

Migrations are forward only and named; sqlite-utils records each in the same transaction that makes it. The number of
them is also kept in `PRAGMA user_version`, so that a file that is up to date opens without loading sqlite-utils.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from hybridgw_protocol.errors import DatabaseDamaged, DatabaseTooNew, StorageUnavailable

from .connection import connect, translated

Migration = tuple[str, str]  # (name, SQL script)

# Network file systems where SQLite's locks or WAL shared memory do not work (https://sqlite.org/wal.html).
UNSAFE_FILE_SYSTEMS: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "fuse.sshfs", "ncpfs"})


def prepare_file(path: Path, migrations: Sequence[Migration], *, stamp: str) -> int:
    """Make or upgrade the file at *path*; returns how many migrations ran.

    Args: stamp: text for the names of copies, for example a UTC time.
    Raises: DatabaseTooNew, DatabaseDamaged (the file was set aside), StorageUnavailable.
    """
    _check_folder(path)
    fresh = not path.exists() or path.stat().st_size == 0
    try:
        connection = connect(path)
    except DatabaseDamaged as error:
        raise _set_aside(path, stamp, error) from error
    try:
        with translated(path):
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
            if version > len(migrations):
                raise DatabaseTooNew(
                    f"{path.name} was written by a newer version (schema {version}, this program knows "
                    f"{len(migrations)}). Upgrade the program; nothing was changed."
                )
            if version == len(migrations):
                connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
                return 0
            if not fresh and version:
                copy_database(connection, path.with_name(f"{path.name}.before-{version}-{stamp}"))
            _migrate(connection, migrations)
            return len(migrations) - version
    except DatabaseDamaged as error:
        connection.close()
        raise _set_aside(path, stamp, error) from error
    finally:
        connection.close()
        if fresh:
            with contextlib.suppress(OSError):
                path.chmod(0o600)


def _migrate(connection: sqlite3.Connection, migrations: Sequence[Migration]) -> None:
    import sqlite_utils  # noqa: PLC0415 - 100 ms that only a new or old file pays

    steps = sqlite_utils.Migrations("hybridgw")
    for name, script in migrations:
        steps(name=name)(_runner(script))
    db = sqlite_utils.Database(connection)
    steps.apply(db)
    connection.execute(f"PRAGMA user_version={len(migrations)}")


def _runner(script: str) -> Callable[[object], None]:
    def run(db: object) -> None:
        for statement in split_statements(script):
            db.execute(statement)  # type: ignore[attr-defined]

    return run


def split_statements(script: str) -> list[str]:
    """The statements of a script, one by one: executescript would end the migration's transaction."""
    found, rest = [], ""
    for line in script.splitlines(keepends=True):
        rest += line
        if rest.strip() and sqlite3.complete_statement(rest):
            found.append(rest.strip())
            rest = ""
    if rest.strip():
        found.append(rest.strip())
    return found


def copy_database(connection: sqlite3.Connection, target: Path) -> None:
    """A verified copy in one file, by VACUUM INTO; never over an existing file."""
    with contextlib.suppress(FileExistsError):
        free, needed = shutil.disk_usage(target.parent).free, Path(_file_of(connection)).stat().st_size
        if free < needed * 2:
            raise StorageUnavailable(
                f"An upgrade needs {needed * 2 // 2**20} MiB free for a copy of the database; {free // 2**20} MiB are."
            )
        connection.execute("VACUUM INTO ?", (str(target),))
        target.chmod(0o600)


def is_sound(path: Path) -> bool:
    """quick_check on a connection of its own; False when it finds damage. Seconds per gigabyte."""
    try:
        connection = connect(path, read_only=True)
    except DatabaseDamaged:
        return False
    try:
        return [row[0] for row in connection.execute("PRAGMA quick_check(3)")] == ["ok"]
    except sqlite3.DatabaseError:
        return False
    finally:
        connection.close()


def set_aside(path: Path, stamp: str) -> Path:
    """Rename a damaged file and its WAL out of the way; nothing is ever overwritten. Returns the new path."""
    target = path.with_name(f"{path.name}.damaged-{stamp}")
    k = 0
    while target.exists():
        k += 1
        target = path.with_name(f"{path.name}.damaged-{stamp}-{k}")
    for suffix in ("-wal", "-shm", ""):
        source = Path(f"{path}{suffix}")
        if source.exists():
            source.rename(f"{target}{suffix}")
    return target


def _set_aside(path: Path, stamp: str, error: DatabaseDamaged) -> DatabaseDamaged:
    target = set_aside(path, stamp)
    return DatabaseDamaged(
        f"{path.name} is damaged and was set aside as {target.name}; nothing in it was changed. "
        "Restore a backup, or start again and pair this device anew: what was synced comes back "
        "from your other devices.",
        cause=str(error),
    )


def _check_folder(path: Path) -> None:
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StorageUnavailable(f"The folder {folder} cannot be made: {error.strerror}. Choose another.") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StorageUnavailable(f"The folder {folder} cannot be written by this user. Choose another, or its owner.")
    kind = file_system_of(folder)
    if kind in UNSAFE_FILE_SYSTEMS:
        raise StorageUnavailable(
            f"{folder} is on a network file system ({kind}), where SQLite can lose data. Choose a local folder."
        )


def file_system_of(folder: Path) -> str:
    """The file system type of a folder on Linux, '' where it cannot be told."""
    best, kind = "", ""
    try:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return ""
    resolved = str(folder.resolve())
    for line in mounts:
        parts = line.split(" ")
        point = parts[1].replace("\\040", " ")
        inside = resolved == point or resolved.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, parts[2]
    return kind


def _file_of(connection: sqlite3.Connection) -> str:
    return str(connection.execute("PRAGMA database_list").fetchone()[2])

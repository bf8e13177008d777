"""Opening files: made, upgraded with a copy kept, refused when too new, set aside when damaged, never overwritten."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybridgw_protocol.errors import DatabaseDamaged, DatabaseTooNew, StorageUnavailable
from hybridgw_storage.database import InlineDatabase
from hybridgw_storage.migrations import file_system_of, prepare_file, set_aside, split_statements

ONE = ("0001_t", "CREATE TABLE t(i INTEGER PRIMARY KEY, v TEXT) STRICT;\nCREATE INDEX t_v ON t(v);")
TWO = ("0002_more", "ALTER TABLE t ADD COLUMN n INTEGER NOT NULL DEFAULT 7;\nUPDATE t SET v = v || '!';")
THREE = ("0003_u", "CREATE TABLE u(x) STRICT;")  # wrong: STRICT wants a type
ROWS = 500


def fill(path: Path, rows: int = ROWS, text: str = "x" * 200) -> None:
    db = InlineDatabase(path)
    db.write_now(lambda tx: tx.executemany("INSERT INTO t(i, v) VALUES(?, ?)", [(i, text) for i in range(rows)]))
    db._connection.close()


def ask(path: Path, sql: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def digests(folder: Path) -> dict[str, str]:
    """Of every file that holds data: a reader may leave shared memory and an empty log behind."""
    found = {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.endswith("-shm")}
    return {name: hashlib.sha256(raw).hexdigest() for name, raw in found.items() if raw or not name.endswith("-wal")}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "t.db"


# ---- making and upgrading ----------------------------------------------------------------------------------------
def test_a_new_file_is_made_for_its_owner_only(path: Path) -> None:
    assert prepare_file(path, [ONE, TWO], stamp="s") == 2
    assert ask(path, "SELECT count(n) FROM t") == [(0,)]
    assert ask(path, "PRAGMA user_version") == [(2,)]
    assert ask(path, "SELECT name FROM _sqlite_migrations ORDER BY id") == [("0001_t",), ("0002_more",)]
    assert names(path.parent) == ["t.db"]  # no copy of nothing
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert prepare_file(path, [ONE, TWO], stamp="s") == 0


def test_an_empty_file_counts_as_new(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    assert prepare_file(path, [ONE], stamp="s") == 1


def test_a_file_that_is_up_to_date_opens_without_loading_the_migration_library(path: Path) -> None:
    prepare_file(path, [ONE], stamp="s")
    told = (
        "import sys; from pathlib import Path; from hybridgw_storage.migrations import prepare_file\n"
        f"assert prepare_file(Path({str(path)!r}), [('0001_t', '')], stamp='s') == 0\n"
        "assert 'sqlite_utils' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", told], check=True)


def test_an_upgrade_keeps_a_sound_copy_of_the_old_file(path: Path) -> None:
    prepare_file(path, [ONE], stamp="s")
    fill(path)
    assert prepare_file(path, [ONE, TWO], stamp="2026") == 1
    assert ask(path, "SELECT sum(n), count(*), max(v) FROM t") == [(7 * ROWS, ROWS, "x" * 200 + "!")]
    assert names(path.parent) == ["t.db", "t.db.before-1-2026"]
    copy = path.with_name("t.db.before-1-2026")
    assert ask(copy, "PRAGMA integrity_check") == [("ok",)]
    assert ask(copy, "PRAGMA user_version") == [(1,)]
    assert ask(copy, "SELECT count(*), max(v) FROM t") == [(ROWS, "x" * 200)]
    if os.name == "posix":
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    # It is a database that the old program opens.
    assert prepare_file(copy, [ONE], stamp="s") == 0


def test_a_copy_holds_what_was_only_in_the_log_of_the_old_file(path: Path) -> None:
    prepare_file(path, [ONE], stamp="s")
    db = InlineDatabase(path)
    db.write_now(lambda tx: tx.execute("INSERT INTO t VALUES(1, 'in the log')"))
    assert Path(f"{path}-wal").stat().st_size > 0
    prepare_file(path, [ONE, TWO], stamp="s")
    db._connection.close()
    assert ask(path.with_name("t.db.before-1-s"), "SELECT v FROM t") == [("in the log",)]


def test_a_copy_never_replaces_another(path: Path) -> None:
    prepare_file(path, [ONE], stamp="s")
    fill(path, 1)
    taken = path.with_name("t.db.before-1-s")
    taken.write_text("mine")
    prepare_file(path, [ONE, TWO], stamp="s")
    assert taken.read_text() == "mine"
    assert ask(path.with_name("t.db.before-1-s-1"), "SELECT count(*) FROM t") == [(1,)]


def test_an_upgrade_without_room_for_a_copy_is_refused_untouched(path: Path) -> None:
    prepare_file(path, [ONE], stamp="s")
    fill(path)
    before = digests(path.parent)
    with pytest.raises(StorageUnavailable, match="MiB free"):
        prepare_file(path, [ONE, TWO], stamp="s", free_bytes=lambda _: 1000)
    assert digests(path.parent) == before


def test_a_newer_file_is_refused_untouched(path: Path) -> None:
    prepare_file(path, [ONE, TWO], stamp="s")
    fill(path)
    before = digests(path.parent)
    with pytest.raises(DatabaseTooNew, match="schema 2, this program knows 1"):
        prepare_file(path, [ONE], stamp="s")
    assert digests(path.parent) == before


def test_a_newer_file_that_was_not_closed_is_refused_untouched(path: Path) -> None:
    """Its last changes are in its log still; looking at the version must not write them back."""
    prepare_file(path, [ONE], stamp="s")
    script = (
        "import os; from pathlib import Path; from hybridgw_storage.migrations import prepare_file\n"
        "from hybridgw_storage.database import InlineDatabase\n"
        f"db = InlineDatabase(Path({str(path)!r}))\n"
        "db.write_now(lambda tx: (tx.execute('INSERT INTO t VALUES(1, 1)'), tx.execute('PRAGMA user_version=9')))\n"
        "os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    before = digests(path.parent)
    assert "t.db-wal" in before
    with pytest.raises(DatabaseTooNew, match="schema 9"):
        prepare_file(path, [ONE], stamp="s")
    assert digests(path.parent) == before


def test_a_failing_upgrade_changes_nothing_at_all(path: Path) -> None:
    """Also not what the migrations before the failing one did: the old program goes on with the file."""
    prepare_file(path, [ONE], stamp="s")
    fill(path)
    schema = "SELECT sql FROM sqlite_schema ORDER BY rowid"
    before = ask(path, schema), ask(path, "SELECT * FROM t ORDER BY i"), ask(path, "SELECT * FROM _sqlite_migrations")
    for _ in range(2):
        with pytest.raises(StorageUnavailable):
            prepare_file(path, [ONE, TWO, THREE], stamp="s")
    assert ask(path, "PRAGMA user_version") == [(1,)]
    assert (
        ask(path, schema), ask(path, "SELECT * FROM t ORDER BY i"), ask(path, "SELECT * FROM _sqlite_migrations")
    ) == before  # fmt: skip
    assert prepare_file(path, [ONE], stamp="s") == 0
    assert prepare_file(path, [ONE, TWO], stamp="s") == 1


def test_a_failing_first_migration_leaves_a_file_that_can_be_made_later(path: Path) -> None:
    with pytest.raises(StorageUnavailable):
        prepare_file(path, [ONE, THREE], stamp="s")
    assert prepare_file(path, [ONE], stamp="s") == 1
    fill(path, 3)
    assert ask(path, "SELECT count(*) FROM t") == [(3,)]


def test_a_file_of_another_program_is_refused_untouched(path: Path) -> None:
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE moz_places(id INTEGER PRIMARY KEY)")
    before = digests(path.parent)
    with pytest.raises(StorageUnavailable, match="another program"):
        prepare_file(path, [ONE], stamp="s")
    assert digests(path.parent) == before


@pytest.mark.parametrize(
    ("script", "count"),
    [
        ("", 0),
        ("-- only words;\n", 1),  # SQLite ignores it
        ("CREATE TABLE a(x);\nCREATE TABLE b(x);", 2),
        ("CREATE TABLE a(x); CREATE TABLE b(x);", 2),
        ("INSERT INTO a VALUES('one; two'); SELECT 1", 2),
        ("CREATE TABLE a(x -- one; two\n, y);\nSELECT ';';\n", 2),
        ("CREATE TRIGGER g AFTER INSERT ON a BEGIN\n  DELETE FROM a;\n  DELETE FROM b;\nEND;\nSELECT 1", 2),
    ],
)
def test_statements_of_a_script(script: str, count: int) -> None:
    assert len(split_statements(script)) == count


# ---- killed in between -------------------------------------------------------------------------------------------
UPGRADE = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from hybridgw_storage.migrations import prepare_file
prepare_file(Path({path!r}), {migrations!r}, stamp="s")
"""
STRACE = shutil.which("strace")


@pytest.mark.skipif(STRACE is None, reason="needs the Debian package strace")
@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "upgrade"])
def test_killed_at_any_write_of_a_migration(tmp_path: Path, fresh: bool) -> None:
    """kill -9 at the k-th write to the file: the next start ends it, and nothing that was there is lost."""
    assert STRACE is not None
    kills, k = 0, 1
    outcomes = set()
    while True:
        path = tmp_path / str(k) / "t.db"
        if not fresh:
            prepare_file(path, [ONE], stamp="s")
            fill(path)
        script = UPGRADE.format(here=os.getcwd(), path=str(path), migrations=[ONE, TWO])
        done = subprocess.run(
            [STRACE, "-f", "-qq", "-o", os.devnull, "-e", "trace=pwrite64", "-e",
             f"inject=pwrite64:signal=KILL:when={k}", sys.executable, "-c", script],
            check=False,
        )  # fmt: skip
        if done.returncode == 0:
            break
        kills += 1
        if not fresh:
            assert ask(path, "SELECT count(*) FROM t") == [(ROWS,)]
        ran = prepare_file(path, [ONE, TWO], stamp="t")
        outcomes.add(ran)
        assert ask(path, "PRAGMA integrity_check") == [("ok",)]
        assert ask(path, "SELECT count(*), coalesce(sum(n), 0) FROM t") == [(0, 0) if fresh else (ROWS, 7 * ROWS)]
        if not fresh:
            copies = [p for p in path.parent.iterdir() if ".before-1-" in p.name and not p.name.startswith(".")]
            assert copies
            for copy in copies:  # what bears the name of a copy is one
                assert ask(copy, "PRAGMA integrity_check") == [("ok",)]
                assert ask(copy, "SELECT count(*) FROM t") == [(ROWS,)]
        k += 1 if fresh else 1 + k // 3
    assert kills >= 6
    assert outcomes <= ({2, 0} if fresh else {1, 0})


# ---- damage ------------------------------------------------------------------------------------------------------
DAMAGE = {
    "garbage header": lambda raw: b"not a database at all" * 10 + raw[210:],
    "text": lambda raw: b"hello\n",
    "zero header": lambda raw: bytes(4096) + raw[4096:],
    "zero first page of the schema": lambda raw: raw[:100] + bytes(3996) + raw[4096:],
    "cut in the first page": lambda raw: raw[:1000],
    "cut in the middle": lambda raw: raw[: len(raw) // 2],
    "all zeros": lambda raw: bytes(len(raw)),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_set_aside_unchanged(path: Path, kind: str) -> None:
    prepare_file(path, [ONE], stamp="s")
    fill(path)
    damaged = DAMAGE[kind](path.read_bytes())
    path.write_bytes(damaged)
    Path(f"{path}-wal").write_bytes(b"a log")
    with pytest.raises(DatabaseDamaged, match=r"set aside as t\.db\.damaged-now") as caught:
        prepare_file(path, [ONE], stamp="now")
    assert "anew" in caught.value.message
    assert path.with_name("t.db.damaged-now").read_bytes() == damaged
    assert path.with_name("t.db.damaged-now-wal").read_bytes() == b"a log"
    assert not path.exists()
    assert not Path(f"{path}-wal").exists()
    # The next start makes a new file; nothing of the old one is in its way.
    assert prepare_file(path, [ONE], stamp="now") == 1
    assert ask(path, "SELECT count(*) FROM t") == [(0,)]


def test_damage_found_while_copying_sets_the_file_aside_unchanged(path: Path) -> None:
    prepare_file(path, [ONE], stamp="s")
    fill(path, 5_000)
    raw = bytearray(path.read_bytes())
    for page in range(10, 40):
        raw[page * 4096 : page * 4096 + 8] = b"\xff" * 8
    path.write_bytes(raw)
    with pytest.raises(DatabaseDamaged):
        prepare_file(path, [ONE, TWO], stamp="now")
    assert path.with_name("t.db.damaged-now").read_bytes() == raw
    assert list(digests(path.parent)) == ["t.db.damaged-now"]  # and no half copy


def test_a_second_damaged_file_does_not_replace_the_first(path: Path) -> None:
    texts = [b"first" * 100, b"second" * 100, b"third" * 100]
    path.parent.mkdir()
    for text in texts:
        path.write_bytes(text)
        with pytest.raises(DatabaseDamaged):
            prepare_file(path, [ONE], stamp="s")
    assert [path.with_name(f"t.db.damaged-s{k}").read_bytes() for k in ("", "-1", "-2")] == texts


def test_set_aside_takes_log_and_shared_memory_along_and_spares_what_is_there(path: Path) -> None:
    path.parent.mkdir()
    parts = ("", "-wal", "-shm", "-journal")
    for suffix in parts:
        Path(f"{path}{suffix}").write_text("new" + suffix)
    Path(f"{path}.damaged-s-wal").write_text("an older log")
    target = set_aside(path, "s")
    assert target.name == "t.db.damaged-s-1"
    assert [Path(f"{target}{suffix}").read_text() for suffix in parts] == ["new" + suffix for suffix in parts]
    assert Path(f"{path}.damaged-s-wal").read_text() == "an older log"


def test_a_log_whose_file_is_gone_is_kept(path: Path) -> None:
    """SQLite would delete it with the making of a new file; it may hold what somebody wants back."""
    path.parent.mkdir()
    Path(f"{path}-wal").write_bytes(b"somebody's last writes")
    assert prepare_file(path, [ONE], stamp="s") == 1
    assert Path(f"{path}.damaged-s-wal").read_bytes() == b"somebody's last writes"


# ---- places where no database can be -----------------------------------------------------------------------------
def test_a_folder_in_the_place_of_the_file(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(StorageUnavailable):
        prepare_file(path, [ONE], stamp="s")


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(StorageUnavailable, match="cannot be made"):
        prepare_file(tmp_path / "data" / "t.db", [ONE], stamp="s")


@pytest.fixture
def strangers() -> Iterator[Path]:
    """A folder that others may enter: as root, access is tested by a process that is nobody."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_this_user_may_not_write_is_refused_at_the_start(strangers: Path, what: str) -> None:
    path = strangers / "t.db"
    prepare_file(path, [ONE], stamp="s")
    path.chmod(0o444 if what == "file" else 0o666)
    strangers.chmod(0o555 if what == "folder" else 0o777)
    script = (
        "import json, os, sys; from pathlib import Path\n"
        "from hybridgw_protocol.errors import HybridGWError\n"
        "from hybridgw_storage.migrations import prepare_file\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        f"try: prepare_file(Path({str(path)!r}), {[ONE]!r}, stamp='s')\n"
        "except HybridGWError as error: print(json.dumps([error.code, error.message]))"
    )
    told = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    code, message = json.loads(told)
    assert code == "storage_unavailable"
    assert "cannot be written" in message


MOUNTS = r"""
sysfs /sys sysfs rw 0 0
/dev/vda / ext4 rw,relatime 0 0
server:/home /srv/home nfs4 rw,vers=4.2 0 0
/dev/sdb /media/ann/local\040disk ext4 rw 0 0
me@host: /media/ann/remote fuse.sshfs rw 0 0
//nas/share /mnt/nas cifs rw 0 0
tmpfs /mnt/nas tmpfs rw 0 0
share /mnt/tab\011x 9p rw 0 0
bad line
""".strip()


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", "ext4"),
        ("/var/lib/x", "ext4"),
        ("/srv/home", "nfs4"),
        ("/srv/home/ann/.local/share", "nfs4"),
        ("/srv/homes/ann", "ext4"),  # a name that only begins alike
        ("/media/ann/local disk/db", "ext4"),
        ("/media/ann/remote/x", "fuse.sshfs"),
        ("/mnt/nas/x", "tmpfs"),  # mounted over
        ("/mnt/tab\tx/y", "9p"),
    ],
)
def test_file_system_of_a_folder(folder: str, kind: str) -> None:
    assert file_system_of(Path(folder), MOUNTS) == kind


def test_file_system_of_a_folder_here() -> None:
    assert isinstance(file_system_of(Path("/")), str)
    assert file_system_of(Path("/"), "") == ""


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "9p", "fuse.sshfs"])
def test_a_network_file_system_is_refused_before_anything_is_made(path: Path, kind: str) -> None:
    mounts = f"/dev/vda / ext4 rw 0 0\nx {path.parent.parent} {kind} rw 0 0"
    with pytest.raises(StorageUnavailable, match=kind):
        prepare_file(path, [ONE], stamp="s", mounts=mounts)
    assert not path.parent.exists()

"""The counter beside the database: crashes are told from copies at every place where a run can end."""

from __future__ import annotations

import json
import os
import random
import shutil
import stat
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hybridgw_daemon.stores.clone_guard import FILE_NAME, Verdict, advance, check, is_moved, machine_id
from hybridgw_protocol.errors import StorageUnavailable

HERE, ELSEWHERE = b"\x01" * 16, b"\x02" * 16


@dataclass
class Installation:
    """A folder and the three facts a database keeps. A start that finds a copy opens a new log."""

    folder: Path
    counter: int = 0
    machine: bytes = b""
    logs: int = 0
    verdicts: list[Verdict] = field(default_factory=list)

    def start(self, machine: bytes = HERE, *, dies: bool = False) -> Verdict:
        verdict = check(self.folder, self.counter, self.machine, machine)
        self.verdicts.append(verdict)
        counter = advance(self.folder, self.counter)
        if not dies:  # one transaction
            self.counter, self.machine = counter, machine
            self.logs += verdict is Verdict.COPIED
        return verdict

    def copy(self, folder: Path) -> Installation:
        shutil.copytree(self.folder, folder)
        return Installation(folder, self.counter, self.machine, self.logs)


def test_ordinary_starts_are_the_same(tmp_path: Path) -> None:
    one = Installation(tmp_path)
    assert {one.start() for _ in range(5)} == {Verdict.SAME}
    assert one.counter == 5
    assert json.loads((tmp_path / FILE_NAME).read_text())["counter"] == 5


def test_a_run_that_ended_between_file_and_database_is_a_crash(tmp_path: Path) -> None:
    one = Installation(tmp_path)
    assert one.start(dies=True) is Verdict.SAME
    for _ in range(3):  # again and again, at the same place
        assert one.start(dies=True) is Verdict.CRASHED
    assert one.start() is Verdict.CRASHED
    assert one.start() is Verdict.SAME
    assert one.logs == 0


@pytest.mark.parametrize("later", [2, 3, 50])
def test_spec_R14_a_restored_database_is_a_copy(tmp_path: Path, later: int) -> None:
    one = Installation(tmp_path)
    one.start()
    backup = one.counter
    for _ in range(later):
        one.start()
    one.counter = backup
    assert one.start() is Verdict.COPIED
    assert one.start() is Verdict.SAME
    assert one.logs == 1


def test_a_database_without_its_file_is_a_copy_until_it_has_its_new_log(tmp_path: Path) -> None:
    one = Installation(tmp_path)
    for _ in range(4):
        one.start()
    (tmp_path / FILE_NAME).unlink()
    for _ in range(3):  # the verdict must not turn to CRASHED because the file was written and the database not
        assert one.start(dies=True) is Verdict.COPIED
    assert one.start() is Verdict.COPIED
    assert one.start() is Verdict.SAME


@pytest.mark.parametrize("counters", [(9, 3), (9, 8), (5, 6), (0, 1), (7, 0)])
def test_a_copy_stays_one_while_starts_die(tmp_path: Path, counters: tuple[int, int]) -> None:
    database, _ = counters
    one = Installation(tmp_path, counter=database, machine=ELSEWHERE)
    (tmp_path / FILE_NAME).write_text(json.dumps({"version": 1, "counter": counters[1]}))
    assert [one.start(dies=True) for _ in range(3)] == [Verdict.COPIED] * 3
    assert one.start() is Verdict.COPIED
    assert one.start() is Verdict.SAME


def test_spec_R14_a_copied_folder_is_found_by_the_machine(tmp_path: Path) -> None:
    one = Installation(tmp_path / "a")
    one.start()
    two = one.copy(tmp_path / "b")
    assert two.start(ELSEWHERE) is Verdict.COPIED
    assert one.start() is Verdict.SAME
    assert two.start(ELSEWHERE) is Verdict.SAME
    assert one.copy(tmp_path / "c").start() is Verdict.SAME, "on the same machine only heads can tell"


def test_an_unknown_machine_is_no_witness(tmp_path: Path) -> None:
    one = Installation(tmp_path)
    one.start(b"")
    assert one.start(HERE) is Verdict.SAME
    assert one.start(b"") is Verdict.SAME


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"null", b'{"version":1,"counter":-5}', b'{"version":9,"counter":1}', b"\xff"]
)
def test_a_damaged_file_risks_nothing(tmp_path: Path, raw: bytes) -> None:
    one = Installation(tmp_path)
    one.start()
    (tmp_path / FILE_NAME).write_bytes(raw)
    assert one.start(dies=True) is Verdict.COPIED
    assert one.start() is Verdict.COPIED
    assert one.start() is Verdict.SAME


def test_no_history_of_crashes_opens_a_log_and_every_restore_does(tmp_path: Path) -> None:
    rng = random.Random(3)
    for run in range(40):
        one, backups, restores = Installation(tmp_path / str(run)), [0], 0
        for _ in range(30):
            one.start(dies=rng.random() < 0.4)
            backups.append(one.counter)
            if rng.random() < 0.1:
                old = rng.choice(backups)
                if old < one.counter - 1:  # one step back looks like a crash; heads find that
                    one.counter = old
                    assert one.start() is Verdict.COPIED
                    restores += 1
                    backups = [one.counter]
        assert one.logs == restores


def test_the_inode_is_a_hint(tmp_path: Path) -> None:
    database = tmp_path / "replica.db"
    database.write_bytes(b"x")
    assert not is_moved(tmp_path, database), "nothing known yet"
    advance(tmp_path, 0, database)
    assert not is_moved(tmp_path, database)
    shutil.copy(database, tmp_path / "copy")
    os.replace(tmp_path / "copy", database)
    assert is_moved(tmp_path, database)
    assert check(tmp_path, 1, b"") is Verdict.SAME, "and no verdict"
    assert not is_moved(tmp_path, tmp_path / "absent")


def test_the_file_is_private_and_whole(tmp_path: Path) -> None:
    advance(tmp_path / "new", 0)
    path = tmp_path / "new" / FILE_NAME
    assert [entry.name for entry in path.parent.iterdir()] == [FILE_NAME]
    if os.name != "nt":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_folder_that_cannot_be_written_is_an_error_not_a_verdict(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageUnavailable):
        advance(tmp_path / "file", 0)
    (tmp_path / "folder" / FILE_NAME).mkdir(parents=True)
    with pytest.raises(StorageUnavailable):
        check(tmp_path / "folder", 0, b"")


def test_the_machine_is_named_by_a_stable_hash() -> None:
    first = machine_id()
    assert first == machine_id()
    assert len(first) in (0, 16)
    raw = Path("/etc/machine-id")
    if raw.exists() and raw.read_text().strip():
        assert len(first) == 16
        assert first.hex() not in raw.read_text()

"""Power failures at any moment, on the real store, recorded from the process that really writes.

A recording (tests/powerloss/recorder.py) gives images of the disk at random moments (disk.py); each is opened and gone
on with by the real code (judges.py). With `synchronous=FULL` no promise may be broken: 320 images, ten times that in
`make soak`. With NORMAL promises must be broken, or this harness could not see one.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from hybridgw_storage.migrations import prepare_file
from tests.powerloss import write_upgrade
from tests.powerloss.disk import Disk, write_image
from tests.powerloss.judges import Promises, Verdict, check_sound, judge_replica, judge_store
from tests.powerloss.recorder import NEEDS, Kind, Step, can_record, parse, record

Judge = Callable[[Path, Promises, random.Random], Verdict]
FORMS: dict[str, tuple[Judge, int]] = {
    "store": (judge_store, 100),
    "replica": (judge_replica, 70),
}  # and how many steps
SEEDS = (1, 2)
IMAGES = 80  # per form and seed: 320 of FULL, 320 of NORMAL


@cache
def tracing_works() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        return can_record(Path(folder) / "empty")


@contextlib.contextmanager
def memory() -> Iterator[Path]:
    """A folder in memory where the system has one: what an image becomes need not survive anything real."""
    where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=where) as folder:
        yield Path(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the process writes; a resolved path, for strace tells those."""
    if not tracing_works():
        pytest.skip(NEEDS)
    folder = tmp_path.resolve() / "disk"
    folder.mkdir()
    return folder


def run(form: str, synchronous: str, seed: int, folder: Path) -> Disk:
    """A recording of the whole life of a process, checked to be complete: it gives the very files that are there."""
    program = [sys.executable, "-m", f"tests.powerloss.write_{form}", str(folder / "x.db"), synchronous, str(seed)]
    steps = record([*program, str(FORMS[form][1])], folder, folder.with_name("trace"))
    disk = Disk(steps)
    real = {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.endswith("-shm")}
    assert disk.everything() == real
    kinds = Counter(step.kind for step in steps)
    assert kinds[Kind.SAID] > 50  # it promised something
    assert kinds[Kind.SYNC] > (20 if synchronous == "FULL" else 5)
    assert kinds[Kind.UNLINK] >= 2  # the log and the marker, at the end of every use
    return disk


def fail_power(form: str, disk: Disk, seed: int, images: int, folder: Path) -> Counter[str]:
    """Fail the power *images* times and judge. Half of the moments are right after a promise was made."""
    judge = FORMS[form][0]
    lines = [(step.begin, line) for step in disk.said for line in step.data.decode().splitlines()]
    first = next(begin for begin, line in lines if line.startswith(("ack", "wrote")))
    after_promise = sorted({begin for begin, _ in lines if begin >= first})
    found: Counter[str] = Counter()
    for number in range(images):
        rng = random.Random(f"{form} {seed} {number}")
        moment = rng.choice(after_promise) if number % 2 else rng.randint(first, disk.last)
        promises = Promises.read([line for begin, line in lines if begin <= moment], [line for _, line in lines])
        files = disk.image(moment, rng)
        with memory() as place:
            write_image(files, place / "disk")
            try:
                verdict = judge(place / "disk" / "x.db", promises, rng)
            except BaseException as error:
                write_image(files, folder.with_name(f"image-{number}"))
                error.add_note(f"{form}, seed {seed}, moment {moment}: see {folder.with_name(f'image-{number}')}")
                raise
        found["images"] += 1
        found["promises"] += len(promises.acked) + len(promises.sealed) + len(promises.stored)
        found["broken"] += not verdict.kept
        found["lost"] += bool(verdict.lost_writes)
        found["signed twice"] += bool(verdict.signed_twice)
        found["lost batches"] += bool(verdict.lost_batches)
    return found


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("form", FORMS)
def test_spec_S1_full_keeps_every_promise(form: str, seed: int, folder: Path) -> None:
    found = fail_power(form, run(form, "FULL", seed, folder), seed, IMAGES, folder)
    assert found["broken"] == 0
    assert found["images"] == IMAGES
    assert found["promises"] > 20 * IMAGES


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("form", FORMS)
def test_the_control_breaks_promises(form: str, seed: int, folder: Path) -> None:
    """The same with NORMAL: acknowledged writes must be seen to get lost, and nothing else may go wrong."""
    found = fail_power(form, run(form, "NORMAL", seed, folder), seed, IMAGES, folder)
    assert found["lost"] > IMAGES // 4
    if form == "replica":
        assert found["lost batches"] > IMAGES // 4
        assert found["signed twice"] > IMAGES // 8  # what a lost batch becomes: a fork


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10, 20))
@pytest.mark.parametrize("form", FORMS)
def test_spec_S1_full_keeps_every_promise_long(form: str, seed: int, folder: Path, scale: int) -> None:
    images = IMAGES * len(SEEDS) * scale // 10
    assert fail_power(form, run(form, "FULL", seed, folder), seed, images, folder)["broken"] == 0
    shutil.rmtree(folder)
    folder.mkdir()
    control = fail_power(form, run(form, "NORMAL", seed, folder), seed, images, folder)
    assert control["lost"] > images // 4


def test_power_fails_while_a_file_is_made_or_upgraded(folder: Path) -> None:
    """The next start ends what was begun. What was in the file is there, and what bears the name of a copy is one."""
    rows = 300
    program = [sys.executable, "-m", "tests.powerloss.write_upgrade", str(folder / "x.db"), str(rows)]
    disk = Disk(record(program, folder, folder.with_name("trace")))
    assert disk.everything() == {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.endswith("-shm")}
    said = {step.data.decode().strip(): step.begin for step in disk.said}
    assert list(said) == ["made", "filled", "upgraded"]
    outcomes: Counter[int] = Counter()
    copies = 0
    for number in range(150):
        rng = random.Random(number)
        low, high = (said["filled"], disk.last) if number % 3 else (0, said["filled"])
        moment = rng.randint(low, high)
        with memory() as place:
            write_image(disk.image(moment, rng), place / "disk")
            path = place / "disk" / "x.db"
            for copy in path.parent.glob("x.db.before-*"):
                copies += 1
                check_sound(copy)
                with contextlib.closing(sqlite3.connect(copy)) as connection:
                    assert connection.execute("SELECT count(*), max(v) FROM t").fetchone() == (rows, f"{rows - 1:0100}")
            ran = prepare_file(path, write_upgrade.NEW, stamp="next")
            outcomes[ran] += 1
            assert ran == 0 or moment < said["upgraded"]
            check_sound(path)
            with contextlib.closing(sqlite3.connect(path)) as connection:
                count, right = connection.execute(
                    "SELECT count(*), coalesce(sum(v GLOB '*[0-9]!' AND n = 7), 0) FROM t"
                ).fetchone()
            assert count == right
            assert count == rows or (count == 0 and moment < said["filled"])
    assert set(outcomes) == {0, 1, 2}  # before, between and after
    assert copies > 10


# ---- the harness itself ------------------------------------------------------------------------------------------
def disk_of(*steps: tuple[Kind, str] | tuple[Kind, str, int, bytes]) -> Disk:
    """A recording made by hand: each step takes one place."""
    made = []
    for place, (kind, name, *more) in enumerate(steps):
        at, data = more if more else (0, b"")
        name, _, target = name.partition(">")
        made.append(Step(kind, place, place, name, int(at), bytes(data), target))  # type: ignore[arg-type]
    return Disk(made)


def images(disk: Disk, moment: int, count: int = 400) -> list[dict[str, bytes]]:
    return [disk.image(moment, random.Random(i)) for i in range(count)]


SYNCED = (
    (Kind.CREATE, "a"), (Kind.SYNC_FOLDER, ""), (Kind.WRITE, "a", 0, b"x" * 2048), (Kind.SYNC, "a"),
)  # fmt: skip


def test_what_was_synced_is_there_and_what_was_not_may_be_torn() -> None:
    disk = disk_of(*SYNCED, (Kind.WRITE, "a", 1024, b"y" * 2048), (Kind.SYNC, "a"))
    assert {image["a"] for image in images(disk, 3)} == {b"x" * 2048}
    later = {image["a"] for image in images(disk, 4)}
    assert b"x" * 2048 in later
    assert b"x" * 1024 + b"y" * 2048 in later
    assert any(b"x" in content[1024:2048] and b"y" in content for content in later)  # torn
    assert all(content[:1024] == b"x" * 1024 for content in later)
    for content in later:
        for start in range(0, len(content), 512):  # sectors are whole; a hole reads as zeros
            assert content[start : start + 512] in (b"x" * 512, b"y" * 512, bytes(512))
    assert {image["a"] for image in images(disk, 5)} == {b"x" * 1024 + b"y" * 2048}


def test_a_later_write_may_be_there_without_an_earlier_one() -> None:
    disk = disk_of(*SYNCED, (Kind.WRITE, "a", 0, b"1" * 512), (Kind.WRITE, "a", 512, b"2" * 512))
    seen = {(image["a"][:512] == b"1" * 512, image["a"][512:1024] == b"2" * 512) for image in images(disk, 5)}
    assert seen == {(False, False), (False, True), (True, False), (True, True)}


def test_a_change_of_size_may_be_lost() -> None:
    disk = disk_of(*SYNCED, (Kind.TRUNCATE, "a", 0, b""))
    assert {len(image["a"]) for image in images(disk, 4)} == {0, 2048}


def test_a_new_name_is_sure_only_after_a_sync_of_the_folder() -> None:
    disk = disk_of((Kind.CREATE, "a"), (Kind.WRITE, "a", 0, b"x"), (Kind.SYNC, "a"), (Kind.SYNC_FOLDER, ""))
    assert {"a" in image for image in images(disk, 2)} == {True, False}
    assert {image["a"] for image in images(disk, 3)} == {b"x"}


def test_a_rename_may_be_lost_and_the_file_keeps_what_was_synced() -> None:
    disk = disk_of(
        *SYNCED, (Kind.CREATE, "b"), (Kind.WRITE, "b", 0, b"new"), (Kind.SYNC, "b"), (Kind.RENAME, "b>a"),
        (Kind.SYNC_FOLDER, ""), (Kind.UNLINK, "a"),
    )  # fmt: skip
    assert {tuple(sorted(image)) for image in images(disk, 7)} == {("a",), ("a", "b")}
    assert {image["a"] for image in images(disk, 7)} == {b"x" * 2048, b"new"}
    assert images(disk, 8, 50) == [{"a": b"new"}] * 50
    assert {tuple(image) for image in images(disk, 9)} == {("a",), ()}
    assert disk.everything() == {}


def test_a_sync_covers_only_what_had_ended_when_it_began() -> None:
    """Two threads: the write began before the sync and ended after it had begun."""
    steps = [
        Step(Kind.CREATE, 0, 0, "a"), Step(Kind.SYNC_FOLDER, 1, 1), Step(Kind.WRITE, 2, 5, "a", data=b"x"),
        Step(Kind.SYNC, 4, 6, "a"),
    ]  # fmt: skip
    assert {image["a"] for image in images(Disk(steps), 7)} == {b"", b"x"}
    steps = [*steps[:2], Step(Kind.WRITE, 2, 3, "a", data=b"x"), steps[3]]
    assert {image["a"] for image in images(Disk(steps), 5)} == {b"", b"x"}  # the sync has not ended
    assert {image["a"] for image in images(Disk(steps), 6)} == {b"x"}


def hexed(text: str) -> str:
    """As strace -xx writes it."""
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


def told(*lines: str) -> list[Step]:
    """What strace writes; here strings and paths of descriptors are plain, and made hexadecimal on the way."""
    strings = [re.sub(r'"([^"]*)"', lambda found: f'"{hexed(found[1])}"', line) for line in lines]
    paths = [re.sub(r"<(/[^>]*)>", lambda found: f"<{hexed(found[1])}>", line) for line in strings]
    return list(parse(iter(f"{line}\n" for line in paths), Path("/d")))


def test_reading_a_recording() -> None:
    steps = told(
        '7 openat(AT_FDCWD</w>, "/d/x.db", O_RDWR|O_CREAT|O_CLOEXEC, 0644) = 3</d/x.db>',
        '7 openat(AT_FDCWD</w>, "/d/x.db", O_RDWR|O_CREAT|O_CLOEXEC, 0644) = 4</d/x.db>',
        '7 openat(AT_FDCWD</w>, "/d/absent", O_RDONLY) = -1 ENOENT (No such file or directory)',
        '7 openat(AT_FDCWD</w>, "/e/other", O_RDWR|O_CREAT, 0644) = 5</e/other>',
        '7 pwrite64(3</d/x.db>, "abcd", 4, 4096) = 4',
        '7 pwrite64(3</d/x.db>, "abcd", 4, 8192) = 2',  # a short write
        '7 pwrite64(3</d/x.db>, "abcd", 4, 8192) = -1 ENOSPC (No space left on device)',
        '7 pwrite64(5</e/other>, "abcd", 4, 0) = 4',
        "7 fdatasync(3</d/x.db>) = 0",
        "7 fsync(6</d>) = 0",
        '8 write(1</dev/null>, "ack", 3) = 3',
        "7 ftruncate(3</d/x.db>, 100) = 0",
        '7 rename("/d/x.db", "/d/y.db") = 0',
        '7 unlink("/d/y.db") = 0',
        "7 +++ exited with 0 +++",
    )
    assert [(s.kind, s.name, s.at, s.data, s.target) for s in steps] == [
        (Kind.CREATE, "x.db", 0, b"", ""),
        (Kind.WRITE, "x.db", 4096, b"abcd", ""),
        (Kind.WRITE, "x.db", 8192, b"ab", ""),
        (Kind.SYNC, "x.db", 0, b"", ""),
        (Kind.SYNC_FOLDER, "", 0, b"", ""),
        (Kind.SAID, "", 0, b"ack", ""),
        (Kind.TRUNCATE, "x.db", 100, b"", ""),
        (Kind.RENAME, "x.db", 0, b"", "y.db"),
        (Kind.UNLINK, "y.db", 0, b"", ""),
    ]


def test_calls_of_two_threads_that_overlap() -> None:
    steps = told(
        '7 openat(AT_FDCWD</w>, "/d/x.db", O_RDWR|O_CREAT, 0644) = 3</d/x.db>',
        "7 fdatasync(3</d/x.db> <unfinished ...>",
        '8 pwrite64(4</d/x.db>, "ab", 2, 0 <unfinished ...>',
        "7 <... fdatasync resumed>) = 0",
        "8 <... pwrite64 resumed>) = 2",
    )
    assert [(s.kind, s.begin, s.end, s.data) for s in steps[1:]] == [
        (Kind.SYNC, 1, 3, b""),
        (Kind.WRITE, 2, 4, b"ab"),
    ]


def test_a_call_that_is_not_understood_is_not_passed_over() -> None:
    with pytest.raises(NotImplementedError):
        told('7 linkat(AT_FDCWD</w>, "/d/x.db", AT_FDCWD</w>, "/d/y.db", 0) = 0')
    assert told('7 linkat(AT_FDCWD</w>, "/e/x.db", AT_FDCWD</w>, "/e/y.db", 0) = 0') == []

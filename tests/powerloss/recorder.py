"""Records what a real process does to the files of a folder: every write, sync, rename, in order, with the data.

strace sits around the process, so nothing in it is replaced: not SQLite, not Python, not our code. What the process
says on its standard output is in the same order: an acknowledgement is a line there, and what happened to the disk
before it is known.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
STRACE: Final = shutil.which("strace")
NEEDS: Final = "needs the Debian package strace, and leave to trace processes"

# Every call that can change a file or its name; "?": not there on some machines. What is missing here would show: the
# test compares the files that the recording gives with the real ones.
_CALLS: Final = (
    "?open", "?creat", "openat", "pwrite64", "pwritev", "?pwritev2", "write", "writev", "ftruncate", "truncate",
    "fallocate", "fsync", "fdatasync", "?sync_file_range", "?unlink", "unlinkat", "?rename", "?renameat", "renameat2",
    "?link", "linkat", "copy_file_range", "sendfile",
)  # fmt: skip


class Kind(Enum):
    """What was done."""

    CREATE = auto()
    WRITE = auto()
    TRUNCATE = auto()
    SYNC = auto()
    SYNC_FOLDER = auto()
    UNLINK = auto()
    RENAME = auto()
    SAID = auto()


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was done. begin, end: places in the recording; other threads may stand between them.

    name: of the file in the folder; at: offset of a write, or the new size; data: written, or said; target: new name.
    """

    kind: Kind
    begin: int
    end: int
    name: str = ""
    at: int = 0
    data: bytes = b""
    target: str = ""


def can_record(folder: Path) -> bool:
    """Is strace here, and may it trace (some containers forbid it)?"""
    if STRACE is None:
        return False
    try:
        record([sys.executable, "-S", "-c", "pass"], folder, folder.with_name(folder.name + ".trace"))
    except (subprocess.CalledProcessError, OSError):
        return False
    return True


def record(command: list[str], folder: Path, trace: Path) -> list[Step]:
    """Run a command to its end and tell what it did in *folder*, which is empty before.

    Args: trace: a file for strace's own words. Raises: subprocess.CalledProcessError: the command or strace failed.
    """
    assert STRACE is not None
    call = [STRACE, "-f", "--seccomp-bpf", "-qq", "-y", "-xx", "-s", "1100000", "-o", str(trace),
            "-e", "trace=" + ",".join(_CALLS), "-e", "signal=none"]  # fmt: skip
    done = subprocess.run([*call, *command], cwd=ROOT, check=False, capture_output=True, text=True, errors="replace")
    if done.returncode:
        print(done.stdout[-2000:], done.stderr[-4000:], file=sys.stderr)
        done.check_returncode()
    with open(trace, encoding="ascii") as lines:
        return list(parse(lines, folder))


# ---- reading what strace wrote -----------------------------------------------------------------------------------
_LINE: Final = re.compile(r"(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)\n?")
_UNFINISHED: Final = " <unfinished ...>"
_STRING: Final = r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?'
_FD: Final = r"(\d+)<((?:\\x[0-9a-f]{2})*)>"
_RESULT: Final = re.compile(r"\) += (-?\d+|\?)")


def parse(lines: Iterator[str] | object, folder: Path) -> Iterator[Step]:
    """The steps of a recording; only those in *folder* and what was said. Ordered by their begin."""
    prefix = f"{folder}/"
    reader = _Reader(prefix, str(folder))
    open_calls: dict[str, tuple[int, str]] = {}
    steps = []
    for number, line in enumerate(lines):  # type: ignore[arg-type, var-annotated]
        found = _LINE.fullmatch(line)
        if not found:
            continue  # exits and signals
        pid, resumed, call, rest = found.groups()
        if call and rest.endswith(_UNFINISHED):
            open_calls[pid] = (number, rest.removesuffix(_UNFINISHED))
            continue
        begin = number
        if resumed:
            call = resumed
            begin, first = open_calls.pop(pid)
            rest = first + rest
        step = reader.read(call, rest, begin, number)
        if step:
            steps.append(step)
    yield from sorted(steps, key=lambda step: step.begin)


class _Reader:
    """Understands one line, knowing which files there are."""

    def __init__(self, prefix: str, folder: str) -> None:
        self._prefix, self._folder = prefix, folder
        self._known: set[str] = set()
        self._places: dict[str, int] = {}  # of plain write(): file -> offset, for files written from their start

    def read(self, call: str, rest: str, begin: int, end: int) -> Step | None:
        """The step of a call; None if it failed or is not about the folder."""
        result = _RESULT.search(rest.rpartition(")")[1] + rest.rpartition(")")[2])
        if result is None or result[1] == "?" or int(result[1]) < 0:
            return None
        value = int(result[1])
        match call:
            case "open" | "openat" | "creat":
                return self._opened(rest, begin, end)
            case "pwrite64" | "write" | "fsync" | "fdatasync" | "ftruncate":
                return self._on_open_file(call, rest, value, begin, end)
            case "unlink" | "unlinkat":
                return self._named(Kind.UNLINK, rest, begin, end)
            case "rename" | "renameat" | "renameat2":
                return self._named(Kind.RENAME, rest, begin, end)
            case _:
                if self._folder in _texts(rest):
                    raise NotImplementedError(f"{call} in the folder is not understood: {rest[:200]}")
                return None

    def _opened(self, rest: str, begin: int, end: int) -> Step | None:
        paths = re.findall(_STRING, rest)
        path = _bytes(paths[0][0]).decode()
        if not path.startswith(self._prefix):
            return None
        name = path.removeprefix(self._prefix)
        if "O_TRUNC" in rest:
            raise NotImplementedError("a file was opened with O_TRUNC")
        self._places[name] = 0
        if "O_CREAT" not in rest or name in self._known:
            return None
        self._known.add(name)
        return Step(Kind.CREATE, begin, end, name)

    def _on_open_file(self, call: str, rest: str, value: int, begin: int, end: int) -> Step | None:
        file = re.match(_FD, rest)
        if not file:
            return None
        path = _bytes(file[2]).decode(errors="replace")
        if call == "write" and file[1] == "1":
            return Step(Kind.SAID, begin, end, data=self._data(rest, value))
        if path == self._folder:
            return Step(Kind.SYNC_FOLDER, begin, end)
        if not path.startswith(self._prefix) or path.endswith(" (deleted)"):
            return None
        name = path.removeprefix(self._prefix)
        if call in ("fsync", "fdatasync"):
            return Step(Kind.SYNC, begin, end, name)
        if call == "ftruncate":
            return Step(Kind.TRUNCATE, begin, end, name, at=int(_numbers(rest)[-1]))
        data = self._data(rest, value)
        if call == "pwrite64":
            return Step(Kind.WRITE, begin, end, name, at=int(_numbers(rest)[-1]), data=data)
        at = self._places[name]
        self._places[name] += len(data)
        return Step(Kind.WRITE, begin, end, name, at=at, data=data)

    def _data(self, rest: str, written: int) -> bytes:
        found = re.search(_STRING, rest)
        assert found is not None
        assert not found[2]  # strace left nothing out
        return _bytes(found[1])[:written]

    def _named(self, kind: Kind, rest: str, begin: int, end: int) -> Step | None:
        paths = [_bytes(text).decode() for text, _ in re.findall(_STRING, rest)]
        if not paths[0].startswith(self._prefix):
            return None
        names = [path.removeprefix(self._prefix) for path in paths]
        self._known.discard(names[0])
        if kind is Kind.RENAME:
            self._known.add(names[1])
            return Step(kind, begin, end, names[0], target=names[1])
        return Step(kind, begin, end, names[0])


def _numbers(rest: str) -> list[str]:
    """The plain numbers among the arguments: after the last string or descriptor."""
    return re.findall(r", (\d+)", rest.rpartition(")")[0])


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _texts(rest: str) -> str:
    """All strings of a line, decoded, to look for a path in."""
    return " ".join(_bytes(found).decode(errors="replace") for found in re.findall(r"((?:\\x[0-9a-f]{2})+)", rest))

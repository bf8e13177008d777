"""What may be on a disk after the power failed: images built from a recording.

The rules, at a moment *k* of the recording:
* What was written to a file before the last sync of that file that had ended at *k* is there, whole. A write that had
  not ended when that sync began is not covered by it.
* Of every later write any part may be there, in any order: all of it, nothing, some of its sectors of 512 bytes.
  Changes of size likewise.
* Names (new files, renames, removals) are sure after a sync of the folder. Of the later ones some first part is there:
  file systems journal names in order. The sync of a file says nothing about its name.
Shared memory (`-shm`) is not on a disk.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.powerloss.recorder import Kind, Step

SECTOR: Final = 512


@dataclass
class _Object:
    """A file apart from its name: what was done to it, and its syncs."""

    changes: list[Step] = field(default_factory=list)
    syncs: list[Step] = field(default_factory=list)


class Disk:
    """A recording, ready to make images of."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.said = [step for step in steps if step.kind is Kind.SAID]
        self.last = max((step.end for step in steps), default=0)
        self._objects: list[_Object] = []
        self._names: list[tuple[Step, int]] = []  # changes of names, and the object they are about
        self._folder_syncs = [step for step in steps if step.kind is Kind.SYNC_FOLDER]
        here: dict[str, int] = {}
        for step in steps:
            if step.name.endswith("-shm"):
                continue
            match step.kind:
                case Kind.CREATE:
                    here[step.name] = len(self._objects)
                    self._objects.append(_Object())
                    self._names.append((step, here[step.name]))
                case Kind.UNLINK:
                    self._names.append((step, here.pop(step.name)))
                case Kind.RENAME:
                    here[step.target] = here.pop(step.name)
                    self._names.append((step, here[step.target]))
                case Kind.WRITE | Kind.TRUNCATE:
                    self._objects[here[step.name]].changes.append(step)
                case Kind.SYNC:
                    self._objects[here[step.name]].syncs.append(step)
                case _:
                    pass

    def image(self, moment: int, rng: random.Random) -> dict[str, bytes]:
        """One of the disks that may be found if the power failed at a moment: name -> content."""
        odds = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))  # how much of what was not synced is there
        covered = _covered(self._folder_syncs, moment)
        sure = [step.end < covered for step, _ in self._names].count(True)
        begun = [step.begin <= moment for step, _ in self._names].count(True)
        names: dict[str, int] = {}
        for step, obj in self._names[: rng.randint(sure, max(sure, begun))]:
            if step.kind is not Kind.CREATE:
                names.pop(step.name, None)
            if step.kind is not Kind.UNLINK:
                names[step.target or step.name] = obj
        return {name: self._content(self._objects[obj], moment, rng, odds) for name, obj in names.items()}

    def everything(self) -> dict[str, bytes]:
        """What the files hold at the end if the power never fails."""
        names: dict[str, int] = {}
        for step, obj in self._names:
            names.pop(step.name, None)
            if step.kind is not Kind.UNLINK:
                names[step.target or step.name] = obj
        keep = random.Random(0)
        return {name: self._content(self._objects[obj], self.last, keep, 2.0) for name, obj in names.items()}

    @staticmethod
    def _content(obj: _Object, moment: int, rng: random.Random, odds: float) -> bytes:
        covered = _covered(obj.syncs, moment)
        content = bytearray()
        for step in obj.changes:
            if step.begin > moment:
                break
            if step.end < covered or odds > 1:
                _apply(content, step, [(0, len(step.data))])
            elif rng.random() < odds:
                _apply(content, step, _torn(len(step.data), rng))
        return bytes(content)


def _covered(syncs: Iterable[Step], moment: int) -> int:
    """Changes that had ended before this place are sure: the begin of the last sync that had ended."""
    return max((sync.begin for sync in syncs if sync.end <= moment), default=-1)


def _torn(size: int, rng: random.Random) -> list[tuple[int, int]]:
    """Which parts of a write arrived: mostly all, or the first sectors, or any sectors."""
    how = rng.random()
    if how < 0.6 or size <= SECTOR:
        return [(0, size)]
    sectors = range(0, size, SECTOR)
    if how < 0.8:
        return [(0, rng.choice(sectors))]
    return [(start, min(size, start + SECTOR)) for start in sectors if rng.random() < 0.5]


def _apply(content: bytearray, step: Step, parts: Iterable[tuple[int, int]]) -> None:
    if step.kind is Kind.TRUNCATE:
        del content[step.at :]
        content.extend(bytes(step.at - len(content)))
        return
    for start, stop in parts:
        at = step.at + start
        if at > len(content):
            content.extend(bytes(at - len(content)))
        content[at : at + stop - start] = step.data[start:stop]


def write_image(files: dict[str, bytes], folder: Path) -> None:
    """Put an image into an empty folder."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)

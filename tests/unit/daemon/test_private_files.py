"""Small private files: owner only, whole or not at all."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hybridgw_daemon.stores.private_files import is_readable_by_others, read_private, write_private
from hybridgw_protocol.errors import AlreadyExists, StorageUnavailable

posix = pytest.mark.skipif(os.name == "nt", reason="file modes mean nothing on Windows")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@posix
def test_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_private(tmp_path / "new" / "file", b"x", replace=False)
        write_private(tmp_path / "new" / "file", b"yy", replace=True)
    finally:
        os.umask(before)
    assert mode(tmp_path / "new") == 0o700
    assert mode(tmp_path / "new" / "file") == 0o600
    assert not is_readable_by_others(tmp_path / "new" / "file")
    assert read_private(tmp_path / "new" / "file", 2) == b"yy"
    assert read_private(tmp_path / "none", 2) is None
    with pytest.raises(StorageUnavailable):
        read_private(tmp_path / "new" / "file", 1)
    with pytest.raises(StorageUnavailable):
        write_private(tmp_path / "new" / "file" / "below", b"", replace=True)
    with pytest.raises(StorageUnavailable):
        read_private(tmp_path, 1)


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    write_private(tmp_path / "file", b"first", replace=False)
    with pytest.raises(AlreadyExists):
        write_private(tmp_path / "file", b"second", replace=False)
    assert (tmp_path / "file").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


FULL = """
import sys
from pathlib import Path
from hybridgw_daemon.stores.private_files import write_private
from hybridgw_protocol.errors import HybridGWError
folder = Path(sys.argv[1])
write_private(folder / "file", b"old", replace=True)
try:
    write_private(folder / "file", bytes(100_000), replace=True)
except HybridGWError as error:
    print(error.code, (folder / "file").read_bytes().decode(), len(list(folder.iterdir())))
"""


@posix
def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """On a real file system of 16 KiB, mounted in a name space of its own."""
    if shutil.which("unshare") is None or os.geteuid() != 0:
        pytest.skip("needs root and unshare (Debian package util-linux) to mount a small disk")
    mount = f"mount -t tmpfs -o size=16k tmpfs '{tmp_path}' && exec \"$@\""
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, "sh", sys.executable, "-c", FULL, str(tmp_path)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    if "mount:" in done.stderr:
        pytest.skip("needs the right to mount a small disk")
    assert done.stdout.split() == ["disk_full", "old", "1"], done.stderr

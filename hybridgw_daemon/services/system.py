"""What the machine has left and what this process takes of it. psutil is loaded when somebody asks first."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path

from hybridgw_protocol.localapi_operations import DiskUse, SystemReport


class System:
    """Remembers the last look, so that the next one can tell how busy the process was in between."""

    def __init__(self, database: Path) -> None:
        """Args: database: the file whose disk counts."""
        self._database = database
        self._at, self._cpu_s = time.monotonic(), time.process_time()

    def look(self) -> SystemReport:
        """Takes some milliseconds: for a worker thread."""
        import psutil  # noqa: PLC0415 - 14 ms and 1 MB, only for those who ask

        memory, process = psutil.virtual_memory(), psutil.Process()
        with process.oneshot():
            rss, threads = process.memory_info().rss, process.num_threads()
            open_files = process.num_fds() if hasattr(process, "num_fds") else process.num_handles()
        now, cpu_s = time.monotonic(), time.process_time()
        busy = (cpu_s - self._cpu_s) / max(now - self._at, 1e-3) * 100
        self._at, self._cpu_s = now, cpu_s
        load = psutil.getloadavg()[0] if hasattr(psutil, "getloadavg") else None
        return SystemReport(
            cpu_count=psutil.cpu_count() or 1,
            load_1m=load,
            memory_total_bytes=memory.total,
            memory_available_bytes=memory.available,
            process_rss_bytes=rss,
            process_cpu_percent=round(busy, 2),
            process_threads=threads,
            process_open_files=open_files,
            disk=self._disk(),
        )

    def database_bytes(self) -> int:
        """The database with its log."""
        total = 0
        for path in (self._database, Path(f"{self._database}-wal")):
            with suppress(OSError):
                total += path.stat().st_size
        return total

    def _disk(self) -> DiskUse | None:
        folder = self._database.parent
        try:
            usage = shutil.disk_usage(folder)
        except OSError:
            return None
        return DiskUse(
            path=str(folder), free_bytes=usage.free, total_bytes=usage.total, database_bytes=self.database_bytes()
        )

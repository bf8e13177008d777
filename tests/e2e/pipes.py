"""A pipe between devices and their relay, for cutting."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
from types import TracebackType
from typing import Self


class Pipe:
    """Listens on loopback and passes on to `target`, a port that is set later."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.target = 0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        while self.cut(random.Random(0)):
            pass

    def leads_to(self, port: int) -> None:
        """Where it ends."""
        self.target = port

    def cut(self, rng: random.Random) -> bool:
        """Break one connection, in the middle of whatever it carries. Returns whether there was one."""
        with self._lock:
            if not self._pairs:
                return False
            pair = self._pairs.pop(rng.randrange(len(self._pairs)))
        for end in pair:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, nothing flushed
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        return True

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self.target), 30)
                except OSError:
                    near.close()
                    continue
                pair = (near, far)
                with self._lock:
                    self._pairs.append(pair)
                for source, sink in (pair, pair[::-1]):
                    threading.Thread(target=self._pump, args=(pair, source, sink), daemon=True).start()

    def _pump(self, pair: tuple[socket.socket, socket.socket], source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        with self._lock:
            if pair in self._pairs:
                self._pairs.remove(pair)
        for end in pair:
            end.close()


__all__ = ["Pipe"]

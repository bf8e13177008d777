"""A cable between two namespaces that delays and loses frames: `slow_cable.py NS_A NAME_A NS_B NAME_B`.

Makes a TAP interface in each and carries the frames between them, because not every kernel has netem. Each line on
stdin is `DELAY_MS JITTER_MS LOSS` and holds from then on. Frames keep their order, as on a real cable.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import random
import struct
import sys

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x2, 0x1000
_libc = ctypes.CDLL(None, use_errno=True)


def tap(namespace: str, name: str) -> int:
    """A TAP interface in a namespace; returns its descriptor."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    assert _libc.setns(there, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    try:
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TAP | IFF_NO_PI))
    finally:
        assert _libc.setns(home, CLONE_NEWNET) == 0
        os.close(home)
        os.close(there)
    return descriptor


class Carrier:
    """Both ways of the cable."""

    def __init__(self) -> None:
        self.delay_s = self.jitter_s = self.loss = 0.0

    def carry(self, source: int, target: int) -> None:
        """Move frames one way, from now on."""
        loop = asyncio.get_running_loop()
        last_s = 0.0

        def write(frame: bytes) -> None:
            try:
                os.write(target, frame)
            except OSError:
                return  # the other end is down: a frame into a loose cable

        def read() -> None:
            nonlocal last_s
            while True:
                try:
                    frame = os.read(source, 65536)
                except OSError:  # nothing more, or this end is down
                    return
                if random.random() < self.loss:
                    continue
                at_s = loop.time() + self.delay_s + random.uniform(0, self.jitter_s)
                last_s = max(last_s, at_s)
                if self.delay_s or self.jitter_s:
                    loop.call_at(last_s, write, frame)
                else:
                    write(frame)

        loop.add_reader(source, read)


async def main() -> None:
    ends = tap(sys.argv[1], sys.argv[2]), tap(sys.argv[3], sys.argv[4])
    carrier = Carrier()
    carrier.carry(*ends)
    carrier.carry(*reversed(ends))
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        delay_ms, jitter_ms, carrier.loss = map(float, line.split())
        carrier.delay_s, carrier.jitter_s = delay_ms / 1000, jitter_ms / 1000
        print("ok", flush=True)


if __name__ == "__main__":
    asyncio.run(main())

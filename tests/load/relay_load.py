"""Load on one relay process: how many pushes a second it takes in, and how fast it streams to an empty device.

    python -m tests.load.relay_load [--devices 200] [--per-space 1] [--batches 200] [--window 4] [--mib 64]

Prints JSON. The clients run in this process, beside the relay's; batches are built and signed before the clock starts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import uvloop
from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair

from hybridgw_protocol.frames import FrameType, Push, encode_frame
from tests.relay_client import Client, Family, Keys, RelayProcess, Writer

UNLIMITED = {
    "DEVICE_PUSHES_PER_SECOND": "1000000",
    "DEVICE_PUSH_BURST": "1000000",
    "DEVICE_BYTES_PER_SECOND": "100G",
    "DEVICE_BYTES_BURST": "100G",
    "ACCOUNT_BYTES": "100G",
    "ACCOUNT_DEVICES": "10000",
    "LOG_LEVEL": "WARNING",
}


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


class Pusher:
    """One device that keeps *window* pushes under way."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, frames: list[bytes], window: int) -> None:
        self.socket, self.frames, self.window = socket, frames, window
        self.latencies: list[float] = []
        self.received = 0

    async def run(self) -> None:
        """Push everything; ends with the last acknowledgement."""
        sent: list[float] = []
        clock = time.perf_counter
        for frame in self.frames[: self.window]:
            sent.append(clock())
            await self.socket.send_bytes(frame)
        acked = 0
        while acked < len(self.frames):
            message = await self.socket.receive()
            kind = message.data[1]
            if kind == FrameType.PUSH_ACK:
                self.latencies.append(clock() - sent[acked])
                acked += 1
                if len(sent) < len(self.frames):
                    sent.append(clock())
                    await self.socket.send_bytes(self.frames[len(sent) - 1])
            elif kind == FrameType.BATCHES:
                self.received += 1
            elif kind == FrameType.ERR:
                raise AssertionError(message.data)


async def ingest(relay: RelayProcess, devices: int, per_space: int, batches: int, window: int) -> dict[str, object]:
    """Single-operation batches (450 bytes) from many devices."""
    pushers: list[Pusher] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        sockets = []
        for index in range(0, devices, per_space):
            family = Family(index)
            members: list[Keys] = [family.first, *(family.add() for _ in range(per_space - 1))]
            secret = relay.invite("load", max_bytes=2**40, max_devices=10**5)
            for number, keys in enumerate(members):
                socket = await session.ws_connect(relay.url.replace("http", "ws") + "/hgw/1", compress=0)
                client = Client(socket, relay.url)
                client.challenge, _ = await client.receive()  # type: ignore[assignment]
                await client.authenticate(family, keys, enrol=b"" if number else secret)
                writer = Writer(family, keys)
                frames = [encode_frame(Push(b=[blob]), n + 1) for n, blob in enumerate(writer.make_many(batches))]
                pushers.append(Pusher(socket, frames, window))
                sockets.append(socket)
        assert relay.process is not None
        before, mine = cpu_s(relay.process.pid), resource.getrusage(resource.RUSAGE_SELF)
        start = time.perf_counter()
        await asyncio.gather(*(pusher.run() for pusher in pushers))
        took = time.perf_counter() - start
        used = cpu_s(relay.process.pid) - before
        now = resource.getrusage(resource.RUSAGE_SELF)
    client = now.ru_utime + now.ru_stime - mine.ru_utime - mine.ru_stime
    latencies = sorted(latency for pusher in pushers for latency in pusher.latencies)
    total = devices * batches
    return {
        "devices": devices, "per_space": per_space, "batches": total, "window": window,
        "batches_per_s": round(total / took), "relay_cpu_us_per_batch": round(used / total * 1e6, 1),
        "client_cpu_us_per_batch": round(client / total * 1e6, 1),
        "ack_p50_ms": round(latencies[len(latencies) // 2] * 1e3, 2),
        "ack_p99_ms": round(latencies[len(latencies) * 99 // 100] * 1e3, 2),
        "batches_frames_received": sum(pusher.received for pusher in pushers),
        "relay_rss_mib": round(relay.rss_bytes() / 2**20, 1),
    }  # fmt: skip


async def stream(relay: RelayProcess, mib: int, size: int) -> dict[str, object]:
    """A whole log pushed by one device, then sent to an empty one."""
    family = Family(10**6 + size)
    other = family.add()
    secret = relay.invite("load", max_bytes=2**40, max_devices=10**5)
    blobs = Writer(family, family.first).make_many(mib * 2**20 // size, size)
    per_frame = max(1, min(1000, 512 * 1024 // size))
    async with Client.admitted(relay.url, family, family.first, enrol=secret, sub=False) as client:
        start = time.perf_counter()
        await client.caught_up()
        waiting = []
        for first in range(0, len(blobs), per_frame):
            while not client.link.may_send_batches or len(waiting) > 8:
                await client.expect(_ack(), waiting.pop(0))
            waiting.append(await client.ask(Push(b=blobs[first : first + per_frame])))
        for request in waiting:
            await client.expect(_ack(), request)
        pushed = time.perf_counter() - start
    async with Client.connect(relay.url) as client:
        start = time.perf_counter()
        await client.authenticate(family, other)
        await client.caught_up()
        took = time.perf_counter() - start
        assert client.received == blobs
    return {
        "batch_bytes": size, "mib": mib, "push_mib_per_s": round(mib / pushed), "stream_mib_per_s": round(mib / took),
        "stream_batches_per_s": round(len(blobs) / took), "relay_rss_mib": round(relay.rss_bytes() / 2**20, 1),
    }  # fmt: skip


def _ack() -> type:
    from hybridgw_protocol.frames import PushAck

    return PushAck


def verify_per_s() -> int:
    """The raw limit: Ed25519 checks on one core."""
    public, secret = crypto_sign_seed_keypair(bytes(32))
    signed = crypto_sign(bytes(32), secret)
    start = time.perf_counter()
    for _ in range(2_000):
        crypto_sign_open(signed, public)
    return round(2_000 / (time.perf_counter() - start))


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--devices", type=int, default=200)
    parser.add_argument("--per-space", type=int, default=1)
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--window", type=int, default=4)
    parser.add_argument("--mib", type=int, default=64)
    arguments = parser.parse_args()
    results: dict[str, object] = {"ed25519_verify_per_s": verify_per_s()}
    with (
        tempfile.TemporaryDirectory() as folder,
        RelayProcess(Path(folder) / "relay", environment=UNLIMITED) as relay,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        if arguments.batches:
            results["ingest"] = runner.run(
                ingest(relay, arguments.devices, arguments.per_space, arguments.batches, arguments.window)
            )
        if arguments.mib:
            results["stream_64k"] = runner.run(stream(relay, arguments.mib, 64 * 1024))
            results["stream_small"] = runner.run(stream(relay, min(arguments.mib, 16), 450))
    json.dump(results, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()

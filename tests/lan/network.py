"""Machines on a network, without machines: hosts are network namespaces, a network is a bridge in one of its own.

Real interfaces, addresses, multicast and sockets; what is cut is cut in the kernel. Needs root and iproute2, nftables
for what filters. A host's main interface is eth0. Everything ends with the Lab that made it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
WHY_NOT = "needs root, and network namespaces: Debian packages iproute2 and nftables"


def is_possible() -> bool:
    """Can hosts be made here."""
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("nft"):
        return False
    name = f"hgwtry{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode:
        return False
    try:
        rules = subprocess.run(["ip", "netns", "exec", name, "nft", "list", "tables"], capture_output=True)
        link = subprocess.run(["ip", "-n", name, "link", "add", "try0", "type", "bridge"], capture_output=True)
        return not rules.returncode and not link.returncode
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True)


def sh(*command: str) -> str:
    """Run it. Raises: AssertionError with what it said."""
    done = subprocess.run(command, capture_output=True, text=True)
    assert not done.returncode, f"{' '.join(command)}: {done.stderr.strip()}"
    return done.stdout


class Lab:
    """Networks and hosts of one test."""

    _numbers = itertools.count(1)

    def __init__(self) -> None:
        self._namespaces: list[str] = []
        self._processes: list[subprocess.Popen[Any]] = []

    def network(self) -> Network:
        """A switch that forwards everything."""
        return Network(self, self.namespace())

    def namespace(self) -> str:
        """A new one, with loopback up."""
        name = f"hgw{os.getpid()}x{next(self._numbers)}"
        sh("ip", "netns", "add", name)
        self._namespaces.append(name)
        sh("ip", "-n", name, "link", "set", "lo", "up")
        return name

    def popen(self, namespace: str, arguments: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a program there. `ip netns exec` becomes the program, so the pid is its own."""
        process = subprocess.Popen(["ip", "netns", "exec", namespace, *arguments], **options)
        self._processes.append(process)
        return process

    def close(self) -> None:
        """End what was started, by its id, and take the namespaces away."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with contextlib.suppress(BrokenPipeError):
                        stream.close()
        for name in self._namespaces:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


class Network:
    """A bridge. Hosts join it with `host`; a host can be on several (`Host.join`)."""

    _ports = itertools.count(1)

    def __init__(self, lab: Lab, namespace: str) -> None:
        self.lab, self.namespace = lab, namespace
        # With snooping a bridge forwards multicast only where a querier has learned to; no home network has one.
        sh("ip", "-n", namespace, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0", "forward_delay", "0")
        sh("ip", "-n", namespace, "link", "set", "br0", "up")

    def host(self, address: str | None = None, *, slow: bool = False) -> Host:
        """A new machine on this network. Args: address: like 10.77.0.1/24; None: nothing is plugged in yet; slow: its
        cable can delay and lose frames (`Host.cable`)."""
        host = Host(self.lab, self.lab.namespace())
        if address is not None:
            host.join(self, address, slow=slow)
        return host

    def plug(self, host: Host, name: str) -> None:
        """A cable between the bridge and a new interface of the host."""
        port = f"p{next(self._ports)}"
        sh(
            "ip",
            "-n",
            self.namespace,
            "link",
            "add",
            port,
            "type",
            "veth",
            "peer",
            "name",
            name,
            "netns",
            host.namespace,
        )
        sh("ip", "-n", self.namespace, "link", "set", port, "master", "br0", "up")
        host.ports[name] = (self.namespace, port)

    def plug_slow(self, host: Host, name: str) -> Cable:
        """A cable that a program carries frame by frame."""
        port = f"p{next(self._ports)}"
        cable = Cable(self.lab, (self.namespace, port), (host.namespace, name))
        sh("ip", "-n", self.namespace, "link", "set", port, "master", "br0", "up")
        host.ports[name] = (self.namespace, port)
        return cable


class Cable:
    """Delay, jitter and loss of a slow cable; without them it forwards at once."""

    def __init__(self, lab: Lab, one: tuple[str, str], other: tuple[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "slow_cable.py"), *one, *other],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        lab._processes.append(self._process)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def set(self, *, delay_ms: float = 0.0, jitter_ms: float = 0.0, loss: float = 0.0) -> None:
        """From now on, each way. Args: loss: part of the frames, 0 to 1."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{delay_ms} {jitter_ms} {loss}\n")
        assert self._process.stdout.readline() == "ok\n"


class Host:
    """One machine."""

    def __init__(self, lab: Lab, namespace: str) -> None:
        self.lab, self.namespace = lab, namespace
        self.ports: dict[str, tuple[str, str]] = {}  # interface -> the other end of its cable
        self.networks: list[Network] = []
        self.cable: Cable | None = None
        self._filters = itertools.count(1)

    # ---- programs ----------------------------------------------------------------------------------------------------
    def run(self, *command: str) -> str:
        """Run a command on it; returns what it printed. Raises: AssertionError: it failed."""
        return sh("ip", "netns", "exec", self.namespace, *command)

    def popen(self, arguments: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a program on it; it is ended with the lab."""
        return self.lab.popen(self.namespace, arguments, **options)

    # ---- its cables --------------------------------------------------------------------------------------------------
    def join(self, network: Network, address: str | None, name: str = "eth0", *, slow: bool = False) -> None:
        """Plug a new interface into a network and bring it up."""
        self.networks.append(network)
        if slow:
            self.cable = network.plug_slow(self, name)
        else:
            network.plug(self, name)
        # Duplicate address detection costs IPv6 a second and a half, and there are no duplicates here.
        self.run("sysctl", "-qw", f"net.ipv6.conf.{name}.accept_dad=0")
        if address:
            self.ip("addr", "add", address, "dev", name)
        self.ip("link", "set", name, "up")

    def beside(self, address: str) -> Host:
        """Another host on the network that this one was in first."""
        return self.networks[0].host(address)

    def ip(self, *command: str) -> str:
        """The command `ip` for its interfaces."""
        return sh("ip", "-n", self.namespace, *command)

    def down(self, name: str = "eth0") -> None:
        """Switch an interface off."""
        self.ip("link", "set", name, "down")

    def up(self, name: str = "eth0") -> None:
        """And on."""
        self.ip("link", "set", name, "up")

    def unplug(self, name: str = "eth0") -> None:
        """Pull the cable at the other end: the address stays, the carrier is gone."""
        namespace, port = self.ports[name]
        sh("ip", "-n", namespace, "link", "set", port, "down")

    def plug_in(self, name: str = "eth0") -> None:
        """And put it back."""
        namespace, port = self.ports[name]
        sh("ip", "-n", namespace, "link", "set", port, "up")

    def readdress(self, address: str, name: str = "eth0") -> None:
        """Another IPv4 address instead of those it has."""
        self.ip("-4", "addr", "flush", "dev", name)
        self.ip("addr", "add", address, "dev", name)

    def mac(self, name: str = "eth0") -> str:
        """Its hardware address."""
        return self.run("cat", f"/sys/class/net/{name}/address").strip()

    # ---- what is filtered --------------------------------------------------------------------------------------------
    @contextlib.contextmanager
    def filtering(self, *rules: str, hook: str = "input") -> Iterator[None]:
        """nftables rules of a chain, for as long as the block runs."""
        table = f"t{next(self._filters)}"
        text = "\n".join(rules)
        self.run("nft", f"table inet {table} {{ chain c {{ type filter hook {hook} priority 0;\n{text}\n}}\n}}")
        try:
            yield
        finally:
            self.run("nft", "delete", "table", "inet", table)

    def losing(self, percent: int) -> contextlib.AbstractContextManager[None]:
        """So many of the packets that arrive are lost."""
        return self.filtering(f"numgen random mod 100 < {percent} drop")

    def deaf_to(self, other: Host) -> contextlib.AbstractContextManager[None]:
        """Hears nothing from another host, over any address of its eth0."""
        return self.filtering(f"ether saddr {other.mac()} drop")

    def masquerade(self, name: str) -> None:
        """Become a router that hides everybody behind its own address on that interface."""
        self.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        rule = f'oifname "{name}" masquerade'
        self.run("nft", f"table ip nat {{ chain c {{ type nat hook postrouting priority 100;\n{rule}\n}}\n}}")


@contextlib.contextmanager
def partition(ones: Sequence[Host], others: Sequence[Host]) -> Iterator[None]:
    """No packet passes between the two groups while the block runs."""
    with contextlib.ExitStack() as stack:
        for one in ones:
            for other in others:
                stack.enter_context(one.deaf_to(other))
                stack.enter_context(other.deaf_to(one))
        yield


def settle(seconds: float) -> None:
    """Let time pass that nothing shortens."""
    time.sleep(seconds)

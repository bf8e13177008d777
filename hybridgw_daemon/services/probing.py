"""Why another device is not reached directly: the cause, from what was tried, in a person's words.

`diagnose` is pure: facts in, causes out, so that each cause is one row of a test. The facts are gathered by trying
(transports/peers/probe.py): a question by multicast on every interface, a connection to every address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from hybridgw_protocol.limits import CLOCK_BOUND_MS, CLOCK_WARN_MS
from hybridgw_protocol.localapi_lan import LanAddress, LanCheck, LanInterface, LanReport, LanStatus

from ..core.addresses import Address, ip_of, parse_address
from .nearby import Nearby

MAX_TARGETS: Final = 8  # addresses tried by one test

Contact = Literal["open", "refused", "timeout", "unreachable", "forbidden", "unknown_name"]
Talk = Literal["member", "stranger", "itself", "other", "version", "silent"]


@dataclass(frozen=True, slots=True)
class InterfaceFacts:
    """One interface. state: as in LanInterface; is_vpn: by its name; multicast: could a question be sent, with why not;
    answers: other machines that answered it, None: nobody was asked."""

    name: str
    state: Literal["announced", "skipped", "failed", "waiting"]
    addresses: tuple[str, ...] = ()
    is_vpn: bool = False
    reason: str | None = None
    multicast: str | None = None
    answers: int | None = None


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """One address that was tried. contact: what a connection came to; is_there: does the machine answer anything at
    all, None: not known; interface: the one this system sends through; near: the one that is on its network; talk: who
    answered, None: nobody was asked; versions: of the protocol, of who answered; is_hint: only remembered or announced,
    nobody said that it must answer."""

    address: Address
    contact: Contact
    is_there: bool | None = None
    interface: str | None = None
    near: str | None = None
    talk: Talk | None = None
    versions: tuple[int, int] | None = None
    is_hint: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """off: why direct links are off; found: members that announce themselves; vpn: the VPN interface that has the
    default route; clock_ms: how far others' clocks are from ours, 0: they agree, or nobody told."""

    off: str | None = None
    port: int = 0
    interfaces: tuple[InterfaceFacts, ...] = ()
    found: int = 0
    connected: int = 0
    vpn: str | None = None
    targets: tuple[TargetFacts, ...] = ()
    clock_ms: int = 0


def diagnose(facts: Facts) -> list[LanCheck]:
    """What stands in the way, the most basic first; with nothing in the way, what works."""
    if facts.off is not None:
        return [LanCheck("lan_off", "warn", facts.off, "see: hybridgw status, and LAN_ENABLED in hybridgw config")]
    checks = [*_interfaces(facts), *_route(facts), *_clock(facts)]
    for target in facts.targets:
        if not target.is_hint:
            checks += _target(facts, target)
        elif target.contact == "open" or (target.near is not None and not facts.connected):
            checks += [_softened(check) for check in _target(facts, target)]
    checks += _multicast(facts)
    return checks


def _softened(check: LanCheck) -> LanCheck:
    return LanCheck(check.code, "warn", check.message, check.help) if check.state == "fail" else check


def _interfaces(facts: Facts) -> Iterator[LanCheck]:
    used = [i for i in facts.interfaces if i.state != "skipped"]
    if not used and facts.interfaces:
        names = ", ".join(i.name for i in facts.interfaces)
        yield LanCheck(
            "all_skipped", "warn", f"Every network interface is skipped: {names}.",
            "name the one to use: LAN_INTERFACES_ALLOW",
        )  # fmt: skip
    elif not used:
        yield LanCheck(
            "no_interface", "warn", "This machine is on no network.", "connect it by cable or Wi-Fi; nothing is lost"
        )
    for interface in used:
        if interface.state == "failed":
            yield LanCheck(
                "no_multicast", "warn",
                f"This device cannot announce itself on {interface.name}: {interface.reason or 'unknown'}.",
                "name the other device: hybridgw lan add HOST:PORT",
            )  # fmt: skip
        elif interface.state == "announced":
            yield LanCheck("announced", "ok", f"Announced on {interface.name} ({', '.join(interface.addresses)}).")


def _route(facts: Facts) -> Iterator[LanCheck]:
    if facts.vpn is not None and not facts.connected:
        yield LanCheck(
            "vpn_route", "warn", f"The VPN {facts.vpn} has the default route; some VPNs cut off the local network.",
            "allow local network access in the VPN, or leave it for a moment",
        )  # fmt: skip


def _clock(facts: Facts) -> Iterator[LanCheck]:
    off = abs(facts.clock_ms)
    if off > CLOCK_WARN_MS:
        direction = "behind" if facts.clock_ms > 0 else "ahead of"
        yield LanCheck(
            "clock", "fail" if off > CLOCK_BOUND_MS else "warn",
            f"This machine's clock is {off // 60_000} min {direction} that of the others.",
            "set the clock: timedatectl set-ntp true",
        )  # fmt: skip


def _target(facts: Facts, target: TargetFacts) -> Iterator[LanCheck]:
    where = str(target.address)
    if target.contact == "open":
        yield _talk(target)
        return
    if target.contact == "unknown_name":
        yield LanCheck("unknown_name", "fail", f"There is no machine named {target.address.host}.",
                       "name its address instead: hybridgw lan add 192.168.1.20:47801")  # fmt: skip
        return
    if target.contact == "forbidden":
        yield LanCheck("firewall_here", "fail", f"This machine's firewall does not let connections to {where} out.",
                       f"allow TCP port {target.address.port} out")  # fmt: skip
        return
    if target.contact == "refused":
        yield LanCheck(
            "not_running", "fail", f"The machine at {target.address.host} is there, and nothing listens at port "
            f"{target.address.port}.", "start HybridGW there (hybridgw up); 'hybridgw lan list' there says its port",
        )  # fmt: skip
        return
    through = next((i for i in facts.interfaces if i.name == target.interface), None)
    if through is not None and through.is_vpn and target.near is not None and target.near != through.name:
        yield LanCheck(
            "vpn_route", "fail",
            f"{where} is on the network of {target.near}, but the VPN {through.name} takes what is sent there.",
            "allow local network access in the VPN, or leave it for a moment",
        )  # fmt: skip
    elif target.is_there:
        yield LanCheck(
            "firewall", "fail",
            f"The machine at {target.address.host} is there, but does not answer at port {target.address.port}: "
            "a firewall is in the way.", f"allow TCP port {target.address.port} in, on that machine",
        )  # fmt: skip
    elif target.near is None and ip_of(target.address.host) is not None:
        own = ", ".join(a for i in facts.interfaces if i.state != "skipped" for a in i.addresses if ":" not in a)
        yield LanCheck(
            "wrong_network", "fail",
            f"{where} is on another network than this machine{f' ({own})' if own else ''}, and nothing answers there.",
            "put both on one network, or use a relay: hybridgw relay add LINK",
        )  # fmt: skip
    elif any(i.answers == 0 for i in facts.interfaces if i.name == target.near):
        yield LanCheck(
            "isolation", "fail",
            f"No answer from {where}, and nobody else on {target.near} answers either: the access point may keep its "
            "guests apart.", "use the main network instead of the one for guests, or a relay: hybridgw relay add LINK",
        )  # fmt: skip
    else:
        yield LanCheck(
            "no_answer", "fail", f"No answer from {where}: it is off, asleep, or has another address now.",
            "wake it, and see 'hybridgw lan list' there",
        )  # fmt: skip


def _talk(target: TargetFacts) -> LanCheck:
    where = str(target.address)
    match target.talk:
        case "member":
            return LanCheck("reached", "ok", f"A device of this space answers at {where}.")
        case "itself":
            return LanCheck("itself", "fail", f"{where} is this device itself.", "name the other one")
        case "stranger":
            return LanCheck("stranger", "fail", f"A device of another space answers at {where}.",
                            "pair the two first: hybridgw pair")  # fmt: skip
        case "version":
            low, high = target.versions or (0, 0)
            return LanCheck(
                "version", "fail", f"The device at {where} speaks version {low} to {high} of the protocol.",
                "update HybridGW on both",
            )  # fmt: skip
        case "silent":
            return LanCheck("silent", "fail", f"Something accepts connections at {where} and says nothing.",
                            "'hybridgw lan list' on the other device says its port")  # fmt: skip
        case "other":
            return LanCheck("other", "fail", f"What answers at {where} is not HybridGW.",
                            "'hybridgw lan list' on the other device says its port")  # fmt: skip
        case None:
            return LanCheck("open", "ok", f"Connections to {where} are accepted.")


def _multicast(facts: Facts) -> Iterator[LanCheck]:
    """Devices are found, or it is said who answers at all."""
    if facts.found:
        devices = "1 device" if facts.found == 1 else f"{facts.found} devices"
        yield LanCheck("found", "ok", f"{devices} of this space found on the network.")
        return
    is_reached = facts.connected > 0 or any(t.talk == "member" for t in facts.targets)
    for interface in facts.interfaces:
        if interface.multicast is not None:
            yield LanCheck(
                "no_multicast", "warn", f"No question can be sent to all on {interface.name}: {interface.multicast}.",
                "name the other device: hybridgw lan add HOST:PORT",
            )  # fmt: skip
        elif interface.answers == 0 and is_reached:
            yield LanCheck(
                "multicast_blocked", "warn",
                f"Devices answer directly but none is found: multicast does not get through on {interface.name}.",
                "nothing, as long as addresses stay the same; else switch off 'AP isolation' or 'IGMP snooping' there",
            )  # fmt: skip
        elif interface.answers == 0:
            yield LanCheck(
                "silence", "warn",
                f"Nobody on {interface.name} answers to multicast: no other device there, or the network (guest "
                "Wi-Fi, AP isolation) or a firewall keeps them apart.",
                "name the other device: hybridgw lan add HOST:PORT, then hybridgw lan test",
            )  # fmt: skip
        elif interface.answers:
            yield LanCheck(
                "not_found", "ok",
                f"Other machines answer on {interface.name}, none of them is a device of this space.",
            )  # fmt: skip


class Prober(Protocol):
    """Who gathers facts by trying; transports/peers/probe.py."""

    def interfaces(self) -> Sequence[InterfaceFacts]:
        """What is known of each interface without trying."""
        ...

    async def look(self, targets: Sequence[Address], hints: Sequence[Address]) -> Facts:
        """Try everything, in a few seconds. Args: hints: addresses of which nobody said that they must answer."""
        ...


class ProbingService:
    """The local network, for a person."""

    def __init__(self, nearby: Nearby, prober: Prober, *, state: Callable[[], tuple[str | None, int]]) -> None:
        """Args: state: why direct links are off, None: they are not; and the port."""
        self._nearby, self._prober, self._state = nearby, prober, state

    async def status(self) -> LanStatus:
        """What is announced where, and what is tried."""
        off, port = self._state()
        manual, found = await self._nearby.list(), self._nearby.found_now()
        good = {row.address: row for row in reversed(self._nearby.last_good())}
        addresses = []
        for address in self._nearby.candidates():
            row = good.get(address)
            addresses.append(
                LanAddress(
                    str(address),
                    "manual" if address in manual else "found" if address in found else "last_good",
                    row.device.hex() if row else None,
                    row.last_ms if row else None,
                )
            )
        interfaces = [LanInterface(i.name, i.state, list(i.addresses), i.reason) for i in self._prober.interfaces()]
        return LanStatus(off is None, port, interfaces, addresses, off)

    async def add(self, text: str) -> LanStatus:
        """Try this address too. Raises: BadValue, TooMany."""
        await self._nearby.add(text)
        return await self.status()

    async def remove(self, text: str) -> LanStatus:
        """Try it no more. Raises: BadValue, NotFound."""
        await self._nearby.remove(text)
        return await self.status()

    async def test(self, text: str | None) -> LanReport:
        """Find out what stands in the way. Raises: BadValue."""
        if text is not None:
            targets, hints = [parse_address(text)], []
        else:
            targets = (await self._nearby.list())[:MAX_TARGETS]
            hints = [a for a in self._nearby.candidates() if a not in targets][:MAX_TARGETS]
        checks = diagnose(await self._prober.look(targets, hints))
        return LanReport(all(check.state != "fail" for check in checks), checks)

    async def cause(self) -> str:
        """One sentence for a pairing that failed: the first thing that is wrong, empty if nothing is known to be."""
        checks = diagnose(await self._prober.look((), ()))
        bad = sorted((c for c in checks if c.state != "ok"), key=lambda check: check.state != "fail")
        return bad[0].message if bad else ""

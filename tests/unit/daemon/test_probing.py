"""Each cause that keeps devices apart is told from facts, with a command that helps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hybridgw_daemon.core.addresses import Address
from hybridgw_daemon.services.probing import Facts, InterfaceFacts, TargetFacts, diagnose

WIFI = InterfaceFacts("wlan0", "announced", ("192.168.1.5",), answers=3)
VPN = InterfaceFacts("wg0", "skipped", ("10.9.0.2",), is_vpn=True)
THERE = Address("192.168.1.20", 47801)
TARGET = TargetFacts(THERE, "timeout", interface="wlan0", near="wlan0")
ON_WIFI = Facts(port=47801, interfaces=(WIFI,))


def asked(**target: object) -> Facts:
    """One address was named and tried."""
    return replace(ON_WIFI, targets=(replace(TARGET, **target),))  # type: ignore[arg-type]


CASES: list[tuple[Facts, str, str, str]] = [
    (Facts(off="Direct links are off (LAN_ENABLED)."), "lan_off", "warn", "LAN_ENABLED"),
    (Facts(), "no_interface", "warn", "on no network"),
    (Facts(interfaces=(VPN,)), "all_skipped", "warn", "wg0"),
    (Facts(interfaces=(replace(WIFI, state="failed", reason="Operation not permitted"),)), "no_multicast", "warn",
     "wlan0: Operation not permitted"),
    (replace(ON_WIFI, interfaces=(replace(WIFI, answers=None, multicast="Network is unreachable"),)), "no_multicast",
     "warn", "Network is unreachable"),
    (ON_WIFI, "announced", "ok", "wlan0 (192.168.1.5)"),
    (replace(ON_WIFI, found=2), "found", "ok", "2 devices"),
    (replace(ON_WIFI, found=1), "found", "ok", "1 device of"),
    (ON_WIFI, "not_found", "ok", "none of them is a device of this space"),
    (replace(ON_WIFI, interfaces=(replace(WIFI, answers=0),)), "silence", "warn", "guest"),
    (replace(ON_WIFI, vpn="wg0"), "vpn_route", "warn", "wg0 has the default route"),
    (replace(ON_WIFI, clock_ms=-3 * 3_600_000), "clock", "fail", "180 min ahead of"),
    (replace(ON_WIFI, clock_ms=120_000), "clock", "warn", "2 min behind"),
    (asked(contact="unknown_name", address=Address("nas.home", 1)), "unknown_name", "fail", "named nas.home"),
    (asked(contact="forbidden"), "firewall_here", "fail", "This machine's firewall"),
    (asked(contact="refused"), "not_running", "fail", "nothing listens at port 47801"),
    (asked(is_there=True), "firewall", "fail", "a firewall is in the way"),
    (asked(contact="unreachable", is_there=True), "firewall", "fail", "a firewall is in the way"),
    (asked(), "no_answer", "fail", "off, asleep, or has another address"),
    (asked(near=None, interface=None), "wrong_network", "fail", "another network than this machine (192.168.1.5)"),
    (replace(asked(), interfaces=(replace(WIFI, answers=0),)), "isolation", "fail", "keep its guests apart"),
    (replace(asked(interface="wg0"), interfaces=(WIFI, VPN)), "vpn_route", "fail", "the VPN wg0 takes what is sent"),
    (asked(contact="open", talk="member"), "reached", "ok", "A device of this space answers"),
    (asked(contact="open", talk="stranger"), "stranger", "fail", "another space"),
    (asked(contact="open", talk="itself"), "itself", "fail", "this device itself"),
    (asked(contact="open", talk="other"), "other", "fail", "not HybridGW"),
    (asked(contact="open", talk="silent"), "silent", "fail", "says nothing"),
    (asked(contact="open", talk="version", versions=(2, 3)), "version", "fail", "version 2 to 3"),
    (asked(contact="open"), "open", "ok", "accepted"),
    (replace(asked(contact="open", talk="member"), interfaces=(replace(WIFI, answers=0),)), "multicast_blocked", "warn",
     "multicast does not get through on wlan0"),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "code", "state", "part"), CASES, ids=[f"{c[1]}-{i}" for i, c in enumerate(CASES)])
@pytest.mark.spec("D7")
def test_spec_D7_the_cause_is_named(facts: Facts, code: str, state: str, part: str) -> None:
    told = {check.code: check for check in diagnose(facts)}
    assert told[code].state == state
    assert part in told[code].message
    assert state == "ok" or told[code].help
    assert all(check.state == "ok" or check.help for check in told.values())


def test_a_vpn_is_no_news_while_devices_are_connected() -> None:
    assert "vpn_route" not in {check.code for check in diagnose(replace(ON_WIFI, vpn="wg0", connected=1))}


def test_what_is_only_remembered_never_fails() -> None:
    here = replace(TARGET, is_hint=True)
    told = diagnose(replace(ON_WIFI, targets=(here,)))
    assert [check.state for check in told if check.code == "no_answer"] == ["warn"]
    assert not [
        check for check in diagnose(replace(ON_WIFI, targets=(here,), connected=1)) if check.code == "no_answer"
    ]
    elsewhere = replace(here, near=None)  # at home it was good
    assert not [c for c in diagnose(replace(ON_WIFI, targets=(elsewhere,))) if c.code == "wrong_network"]

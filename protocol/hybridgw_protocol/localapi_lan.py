"""The local API, the part about the local network: where other devices may be, and why they cannot be reached."""

from __future__ import annotations

from typing import Literal

from .localapi import Command, Result, Text

AddressSource = Literal["manual", "last_good", "found"]


class LanAddress(Result):
    """Where another device may answer. source: a person named it, it was dialled and proved itself there, or it
    announces itself now; device: id of who proved itself there, last_ms: when."""

    address: str
    source: AddressSource
    device: str | None = None
    last_ms: int | None = None


class LanInterface(Result):
    """A network interface that is up. state: announced: this device can be found on it; skipped: by the settings, or
    because it belongs to containers or a VPN; failed: `reason` says why; waiting: not yet."""

    name: str
    state: Literal["announced", "skipped", "failed", "waiting"]
    addresses: list[str]
    reason: str | None = None


class LanStatus(Result):
    """enabled: direct links are on, and this device listens; message: why not; port: where it listens; addresses: what
    is tried, in this order."""

    enabled: bool
    port: int
    interfaces: list[LanInterface]
    addresses: list[LanAddress]
    message: str | None = None


class GetLan(Command):
    """The local network as this device sees it."""


class AddLanAddress(Command):
    """address: `host:port` of another device, which is tried from now on; without a port 47801."""

    address: Text


class RemoveLanAddress(Command):
    """Try it no more."""

    address: Text


class TestLan(Command):
    """Find out why devices are not reached directly; changes nothing. address: one in particular, `host:port`."""

    address: Text | None = None


class LanCheck(Result):
    """One thing that was found out. code: stable; help: a command, or what a person should do."""

    code: str
    state: Literal["ok", "warn", "fail"]
    message: str
    help: str = ""


class LanReport(Result):
    """ok: nothing failed."""

    ok: bool
    items: list[LanCheck]

"""lan: where the other devices are on the local network, and why one of them is not reached."""

from __future__ import annotations

from typing import Any

import click

from ..context import App, Command, Group, json_option, pass_app
from ..exits import Exit, Finished
from ..output import clean, time_text

Json = dict[str, Any]

_SOURCES = {"manual": "you named it", "last_good": "worked before", "found": "found now"}
_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.group(cls=Group)
def lan() -> None:
    """Find the other devices on the local network; name addresses, and test them."""


@lan.command("list", cls=Command)
@json_option
@pass_app
def list_(app: App) -> None:
    """List where this device can be found, and where it tries to reach the others."""
    found: Json = app.client.get("/api/lan")
    if app.out.as_json:
        app.out.json(found)
        return
    _show(app, found)


@lan.command(cls=Command)
@click.argument("address", metavar="HOST:PORT")
@json_option
@pass_app
def add(app: App, address: str) -> None:
    """Always try this address, too: for a device that is not found by itself. Without a port it is 47801."""
    found: Json = app.client.post("/api/lan/addresses", {"address": address})
    if app.out.as_json:
        app.out.json(found)
        return
    app.out.say(f"{clean(address)} is tried from now on. See whether it answers: {app.command(f'lan test {address}')}")


@lan.command(cls=Command)
@click.argument("address", metavar="HOST:PORT")
@json_option
@pass_app
def remove(app: App, address: str) -> None:
    """Try an address no more that you have named."""
    found: Json = app.client.request("DELETE", "/api/lan/addresses", query={"address": address})
    if app.out.as_json:
        app.out.json(found)
        return
    app.out.say(f"{clean(address)} is forgotten.")


@lan.command(cls=Command)
@click.argument("address", required=False, metavar="[HOST:PORT]")
@json_option
@pass_app
def test(app: App, address: str | None) -> None:
    """Find out why devices are not reached directly, by trying; without an address, all that are known.

    Exit codes: 0 nothing failed (a warning may be there), 5 something stands in the way.
    """
    with app.out.waiting("Trying ..."):
        report: Json = app.client.post("/api/lan/test", {"address": address} if address else {}, timeout_s=60)
    if app.out.as_json:
        app.out.json(report)
    else:
        for check in report["items"]:
            mark = app.out.paint(check["state"].ljust(4), _COLOURS[check["state"]])
            app.out.result(f"{mark}  {app.told(check['message'])}")
            if check["help"] and check["state"] != "ok":
                app.out.result(f"      {app.out.paint('helps:', 'dim')} {app.told(check['help'])}")
    if not report["ok"]:
        raise Finished(Exit.PARTIAL)


def _show(app: App, found: Json) -> None:
    out = app.out
    if not found["enabled"]:
        out.say(app.told(found.get("message") or "Direct links are off."))
    else:
        out.result(f"This device listens at port {found['port']}.")
    for interface in found["interfaces"]:
        reason = f": {clean(interface['reason'])}" if interface.get("reason") else ""
        out.result(f"  {clean(interface['name'])} {interface['state']}{reason}  {' '.join(interface['addresses'])}")
    if not found["addresses"]:
        out.say(f"No other device is known yet. Name one: {app.command('lan add HOST:PORT')}")
        return
    rows = [
        [a["address"], _SOURCES[a["source"]], time_text(a["last_ms"]) if a.get("last_ms") else ""]
        for a in found["addresses"]
    ]
    out.table(rows, ["address", "why", "last reached"])

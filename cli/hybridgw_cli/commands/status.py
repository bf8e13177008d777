"""status: how things are, in one screen and one exit code."""

from __future__ import annotations

import time
from typing import Any

import click

from hybridgw_protocol.errors import SecretsLocked

from ..context import App, Command, json_option, pass_app
from ..exits import Exit, Finished
from ..output import ago_text, bytes_text, clean, count_text, duration_text

Json = dict[str, Any]


@click.command(cls=Command)
@json_option
@pass_app
def status(app: App) -> None:
    """Say how things are: in step or not, and why.

    Exit codes: 0 fine, 3 not running, 4 a person is needed, 5 offline or waiting for another device.
    """
    client = app.client
    sync: Json = client.get("/api/sync/status")
    ready: Json = client.get("/health/ready")
    devices, alarms = _items(app, "/api/devices"), _items(app, "/api/alarms")
    code = exit_code(sync, alarms)
    if app.out.as_json:
        app.out.json(
            {
                "running": True,
                "url": client.endpoint.url,
                "pid": client.endpoint.pid,
                "profile": app.profile.home,
                **ready,
                "sync": sync,
                "devices": devices,
                "alarms": alarms,
                "exit_code": int(code),
            }
        )
        raise Finished(code)
    _show(app, sync, ready, devices, alarms)
    raise Finished(code)


def _items(app: App, path: str) -> list[Json]:
    """A list that may not be there while the keys are locked; the state says so."""
    try:
        return list(app.client.pages(path))
    except SecretsLocked:
        return []


def exit_code(sync: Json, alarms: list[Json]) -> Exit:
    """What the state of sync and the open alarms amount to. A device that is alone is complete, not offline."""
    if sync["state"] == "locked" or sync["standing"] != "active" or alarms:
        return Exit.NEEDS_PERSON
    if sync["state"] == "parked" or (sync["state"] == "offline" and not is_alone(sync)):
        return Exit.PARTIAL
    return Exit.OK


def is_alone(sync: Json) -> bool:
    """There is nobody it could be in step with."""
    return sync["standing"] == "active" and not sync["relays"] and sync["devices"] < 2


def _show(app: App, sync: Json, ready: Json, devices: list[Json], alarms: list[Json]) -> None:
    out, endpoint, now_ms = app.out, app.client.endpoint, time.time() * 1000
    own = next((d for d in devices if d["own"]), None)
    name = f"{clean(own['name'], 40)} {clean(own['fingerprint'])}".strip() if own else "-"
    facts = [
        ("HybridGW", f"{clean(ready['version'])}  process {endpoint.pid}  up {duration_text(ready['uptime_s'])}"),
        ("profile", clean(app.profile.home or app.profile.folders.data)),
        ("API", endpoint.url),
        ("this device", name),
        ("sync", _sync_line(app, sync, now_ms)),
    ]
    facts += [("waiting", line)] if (line := waiting_line(sync)) else []
    has_path = sync["state"] != "locked" and sync["standing"] == "active" and not is_alone(sync)
    facts += [("path", _path_line(app, sync))] if has_path else []
    facts += [("relay", _relay_line(app, sync, relay)) for relay in sync["relays"]] or [("relay", "none")]
    facts += [("direct", _direct_line(link)) for link in sync["direct"]]
    facts += [("device", _device_line(d, int(now_ms))) for d in devices if not d["own"] and d["state"] == "active"]
    if sync["conflicts"]:
        facts.append(("conflicts", f"{sync['conflicts']:,} open; look: {app.command('conflicts')}"))
    for component in ready["components"]:
        if component["state"] != "ok":
            facts.append((clean(component["name"], 20), out.paint(part_text(app, component), "yellow")))
    facts += [("alarm", out.paint(app.told(alarm["message"]), "red")) for alarm in alarms]
    out.facts(facts)
    for line in _next(app, sync, devices):
        out.say(line)
    if alarms:
        out.say(f"What to do about an alarm: {app.command('doctor')}")


def part_text(app: App, part: Json) -> str:
    """What is wrong with a part of the daemon, and what helps."""
    text = app.told(part.get("message") or part["state"])
    return f"{text} What helps: {app.told(part['help'])}" if part.get("help") else text


def _sync_line(app: App, sync: Json, now_ms: float) -> str:
    out, state = app.out, sync["state"] if sync["standing"] == "active" else "out"
    words = {
        "in_step": out.paint("in step", "green"),
        "syncing": "syncing",
        "offline": "on this device only" if is_alone(sync) else out.paint("offline", "yellow"),
        "out": out.paint("out", "red"),
        "parked": out.paint("waiting", "yellow"),
        "locked": out.paint("locked", "red"),
    }.get(state, clean(state))
    if sync.get("message") and state not in ("in_step", "locked"):  # why it is locked, `keys` tells
        words += f": {app.told(sync['message'])}"
    if sync.get("last_sync_ms"):
        words += f"  (last in step {ago_text(sync['last_sync_ms'], int(now_ms))})" if state != "in_step" else ""
    return words


def waiting_line(sync: Json) -> str:
    """What has not left this device, and what has arrived and is not applied; "" if nothing."""
    parts, belongs = [], sync["standing"] == "active"
    if sync["pending"]:
        parts.append(f"{count_text(sync['pending'], 'change')} {'to seal' if belongs else 'kept here'}")
    if belongs and sync["to_send"] and not is_alone(sync):
        parts.append(f"{count_text(sync['to_send'], 'batch', 'batches')} to send")
    if sync["waiting"]:
        parts.append(f"{count_text(sync['waiting'], 'batch', 'batches')} received and not applied yet")
    return ", ".join(parts)


def _path_line(app: App, sync: Json) -> str:
    words = {"both": "direct and relay", "lan": "direct", "none": app.out.paint("none", "yellow")}
    reason = sync["path_reason"].replace(sync.get("message") or "\0", "").strip()  # the line above says it
    return f"{words.get(sync['path'], clean(sync['path']))}  {app.told(reason)}".rstrip()


def _direct_line(link: Json) -> str:
    moved = f"sent {bytes_text(link['sent_bytes'])}, received {bytes_text(link['received_bytes'])}"
    return f"{clean(link['name'], 40)}  {clean(link['address'])}  {moved}"


def _relay_line(app: App, sync: Json, relay: Json) -> str:
    out = app.out
    colour = {"connected": "green", "offline": "yellow", "refused": "red"}.get(relay["state"], "dim")
    line = f"{clean(relay['url'])}  {out.paint(clean(relay['state']), colour)}"
    if relay.get("rtt_ms") is not None:
        line += f"  {relay['rtt_ms']:.0f} ms"
    if relay["state"] == "connected":  # of this connection
        line += f"  sent {bytes_text(relay['sent_bytes'])}, received {bytes_text(relay['received_bytes'])}"
    is_said = sync["state"] == "locked" or relay.get("error") in (None, sync.get("message"))
    return line if is_said else f"{line}  {app.told(relay['error'])}"


def _device_line(device: Json, now_ms: int) -> str:
    behind = f", {count_text(device['behind'], 'batch', 'batches')} of it to come" if device.get("behind") else ""
    heard = ago_text(device.get("last_seen_ms"), now_ms)
    return f"{clean(device['name'], 40)}  {clean(device['fingerprint'])}  last heard {heard}{behind}"


def _next(app: App, sync: Json, devices: list[Json]) -> list[str]:
    if sync["state"] == "locked" or sync["standing"] != "active":
        return []
    if not sync["relays"] and sync["lan"]:
        if not is_alone(sync):
            return []
        return [
            f"Next: {app.command('pair')} shows a code for a second device on the same network; for one elsewhere "
            f"first {app.command('relay add LINK')} (LINK is from 'hybridgw-relay invite')."
        ]
    if not sync["relays"]:
        return [
            f"Next: {app.command('relay add LINK')} (LINK is from 'hybridgw-relay invite'), "
            f"or {app.command('pair CODE')}"
        ]
    if len([d for d in devices if d["state"] == "active"]) < 2:
        return [f"Next: {app.command('pair')} shows a code for your second device."]
    return []

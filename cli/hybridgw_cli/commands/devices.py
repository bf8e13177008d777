"""devices: who belongs to the space."""

from __future__ import annotations

import time

import click

from ..context import App, Command, json_option, pass_app
from ..output import ago_text

_PATHS = {"lan": "direct", "relay": "relay", "both": "direct, relay"}


@click.command(cls=Command)
@json_option
@pass_app
def devices(app: App) -> None:
    """List the devices of the space."""
    found = list(app.client.pages("/api/devices"))
    if app.out.as_json:
        app.out.json({"items": found, "next_cursor": None})
        return
    now_ms = int(time.time() * 1000)
    app.out.table(
        [
            [
                device["name"] + (" (this one)" if device["own"] else ""),
                device["fingerprint"],
                device.get("platform") or "",
                device["state"],
                "" if device["own"] else _PATHS.get(device["path"], ""),
                "now" if device["own"] else ago_text(device.get("last_seen_ms"), now_ms),
                f"{device['behind']:,}" if device.get("behind") else "",
            ]
            for device in found
        ],
        ["device", "fingerprint", "platform", "state", "path", "seen", "to come"],
    )

"""dashboard: the same as these commands, in a browser. A link opens it once; whoever runs this may make one."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import click

from ..context import App, Command, json_option, pass_app
from ..output import clean, duration_text

Json = dict[str, Any]


@click.command(cls=Command)
@click.option("--no-browser", is_flag=True, help="Only print the link; open it yourself.")
@json_option
@pass_app
def dashboard(app: App, no_browser: bool) -> None:
    """Open the dashboard in the browser.

    The link works once and for five minutes; the dashboard then stays signed in on its tab. --json opens nothing.
    """
    found: Json = app.client.post("/api/auth/dashboard/links", {})
    url = app.client.endpoint.url + found["path"]
    if app.out.as_json:
        app.out.json({"url": url, "expires_ms": found["expires_ms"]})
        return
    opened = "Opening the dashboard. If no browser comes up, open this link in one:"
    app.out.say(opened if not no_browser and _open(url) else "Open this link in a browser on this machine:")
    app.out.result(clean(url, 400))
    app.out.say(f"It works once, for {duration_text((found['expires_ms'] - time.time() * 1000) / 1000)}.")


def _open(url: str) -> bool:
    """Hand it to the person's browser. False: there is none, or no screen to show one on."""
    if sys.platform not in ("win32", "darwin") and not ({"DISPLAY", "WAYLAND_DISPLAY", "BROWSER"} & os.environ.keys()):
        return False
    import webbrowser

    try:
        return webbrowser.open(url)
    except (webbrowser.Error, OSError):
        return False

"""sync: bring everything up to date now."""

from __future__ import annotations

import time
from typing import Any, Final

import click

from ..context import App, Command, json_option, pass_app
from ..exits import Exit, Finished
from ..output import count_text
from .status import is_alone, waiting_line

_EXITS: Final = {
    "offline": Exit.PARTIAL,
    "timeout": Exit.PARTIAL,
    "parked": Exit.PARTIAL,
    "locked": Exit.NEEDS_PERSON,
    "out": Exit.NEEDS_PERSON,
}
_LEAST_S: Final = 0.5  # between two questions
_STEP_S: Final = 2.0  # asked for piece by piece, so that progress can be shown and Ctrl-C works


@click.command(cls=Command)
@click.option("--wait", is_flag=True, help="Wait until this device is in step with its relay or another device.")
@click.option("--timeout", type=click.FloatRange(0.1, 86_400), default=30.0, show_default=True, help="Seconds to wait.")
@click.option("--full", is_flag=True, help="Compare everything, not only what is new.")
@json_option
@pass_app
def sync(app: App, wait: bool, timeout: float, full: bool) -> None:
    """Bring everything up to date now.

    The daemon does that by itself whenever it can; this is for scripts, and for people who want to be sure. Exit code 5
    when it is offline, or not done within the timeout; what waits is sent as soon as it can be.
    """
    result = _run(app, wait, timeout, full)
    if app.out.as_json:
        app.out.json(result)
    else:
        _show(app, result)
    if code := _EXITS.get(result["status"]):
        raise Finished(code)


def _run(app: App, wait: bool, timeout: float, full: bool) -> dict[str, Any]:
    """Ask in steps of two seconds until the time is over; the answers are added up."""
    result = _trigger(app, full=full)
    status = app.client.get("/api/sync/status")
    if not wait or is_alone(status):
        return result
    if result["status"] == "offline":
        app.out.say(app.told(status.get("message") or "Offline."))
        app.out.say(f"Trying on for {timeout:g} s.")
    sent, received, began = result["sent"], result["received"], result["started_at"]
    end = time.monotonic() + timeout
    with app.out.waiting("Syncing ...") as spinner:
        while True:
            asked = time.monotonic()
            result = _trigger(app, wait_s=max(_LEAST_S, min(end - asked, _STEP_S)))
            sent, received = sent + result["sent"], received + result["received"]
            if result["status"] not in ("timeout", "offline") or time.monotonic() >= end:
                return result | {"sent": sent, "received": received, "started_at": began}
            # With nobody to ask, the daemon answers at once; a device on the network may still turn up.
            time.sleep(max(0.0, min(end, asked + _LEAST_S) - time.monotonic()))
            spinner.tell(f"Syncing ... {waiting_line(app.client.get('/api/sync/status'))}")


def _trigger(app: App, *, wait_s: float = 0, full: bool = False) -> dict[str, Any]:
    body = {"sync_type": "all", "full": full, "wait": wait_s > 0, "timeout_s": wait_s or _STEP_S}
    result: dict[str, Any] = app.client.post("/api/sync/trigger", body, timeout_s=wait_s + 30)
    return result


def _show(app: App, result: dict[str, Any]) -> None:
    moved = f": {result['sent']:,} sent, {result['received']:,} received"
    match result["status"]:
        case "done":  # often the daemon was quicker, and nothing is left to move
            app.out.result(f"In step{moved if result['sent'] or result['received'] else ''}.")
        case "started":
            app.out.result("Started.")
        case other:
            status = app.client.get("/api/sync/status")
            reason = app.told(status.get("message") or {"timeout": "It is not done yet."}.get(other, other))
            waits = waiting_line(status)
            app.out.result(f"Not in step: {reason}" + (f"\nWaiting: {waits}." if waits else ""))
            if other == "offline" and not is_alone(status):
                whom = "the relay" if status["relays"] else "another device"
                app.out.say(f"It goes on by itself when {whom} can be reached again.")
    if result["conflicts"]:
        app.out.say(f"{count_text(result['conflicts'], 'document')} in conflict. Look: {app.command('conflicts')}")

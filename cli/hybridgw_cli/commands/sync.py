"""sync: bring everything up to date now."""

from __future__ import annotations

from typing import Any, Final

import click

from ..context import App, Command, json_option, pass_app
from ..exits import Exit, Finished
from ..output import clean, count_text
from .status import waiting_line

_EXITS: Final = {"offline": Exit.PARTIAL, "timeout": Exit.PARTIAL, "parked": Exit.PARTIAL, "locked": Exit.NEEDS_PERSON}
_STEP_S: Final = 2.0  # asked for piece by piece, so that progress can be shown and Ctrl-C works


@click.command(cls=Command)
@click.option("--wait", is_flag=True, help="Wait until this device is in step with its relay.")
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
    left, sent, received, began = timeout, 0, 0, None
    with app.out.waiting("Syncing ...") as spinner:
        while True:
            step = min(left, _STEP_S)
            body = {"sync_type": "all", "full": full, "wait": wait, "timeout_s": step}
            result: dict[str, Any] = app.client.post("/api/sync/trigger", body, timeout_s=step + 30)
            sent, received, full = sent + result["sent"], received + result["received"], False
            began = began or result["started_at"]
            left -= step
            if not wait or result["status"] not in ("timeout", "offline") or left <= 0:
                return result | {"sent": sent, "received": received, "started_at": began}
            if result["status"] == "offline":
                import time

                time.sleep(0.1)  # it answers at once while nothing can be reached
                left -= 0.1
            spinner.tell(f"Syncing ... {waiting_line(app.client.get('/api/sync/status'))}")


def _show(app: App, result: dict[str, Any]) -> None:
    moved = f"{result['sent']:,} sent, {result['received']:,} received"
    match result["status"]:
        case "done":
            app.out.result(f"In step: {moved}.")
        case "started":
            app.out.result("Started.")
        case other:
            status = app.client.get("/api/sync/status")
            reason = clean(status.get("message") or {"timeout": "It is not done yet."}.get(other, other))
            waits = waiting_line(status)
            app.out.result(f"Not in step: {reason}" + (f" Waiting: {waits}." if waits else ""))
    if result["conflicts"]:
        app.out.say(f"{count_text(result['conflicts'], 'document')} in conflict. Look: {app.command('conflicts')}")

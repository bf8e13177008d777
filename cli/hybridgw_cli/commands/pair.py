"""pair: two devices, one short code, four words to compare. The same command on both.

The code is shown once, works once, and lives ten minutes. Whoever knows it and sits between the two devices would make
the four words differ: that is why a person compares them.
"""

from __future__ import annotations

import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import click

from hybridgw_protocol.errors import HybridGWError, LocalError, PairingFailed

from ..context import App, Command, json_option, pass_app
from ..exits import Exit, Finished
from ..output import clean, duration_text

Json = dict[str, Any]
_POLL_S: Final = 0.15
_OVER: Final = ("done", "failed")


@click.command(cls=Command)
@click.argument("code", nargs=-1)
@click.option("--relay", metavar="URL", help="Through which relay, when there are several.")
@click.option("--name", help="What the other devices call this one; without it the machine's name.")
@click.option(
    "--yes", is_flag=True, help="Say yes to the four words without asking; for scripts that control both ends."
)
@click.option(
    "--anew", is_flag=True, help="With CODE: come back as a new device; for a copy, or one that was removed unheard."
)
@click.option("--no-qr", is_flag=True, help="Do not draw the QR code.")
@json_option
@pass_app
def pair(
    app: App, code: tuple[str, ...], relay: str | None, name: str | None, yes: bool, anew: bool, no_qr: bool
) -> None:
    """Show a code that admits another device, or enter one.

    Both screens then show the same four words; compare them before saying yes. CODE is taken as shown
    (417-803-265@relay.example.com, or without a relay 417-803-265), with spaces, or as the link of the QR code.
    """
    if code and relay:
        raise click.UsageError("--relay goes with showing a code; a CODE names its relay itself.")
    if anew and not code:
        raise click.UsageError("--anew goes with entering a CODE; the device that shows it decides by saying yes.")
    if app.out.as_json and not yes:
        raise click.UsageError("--json does not ask, so it goes with --yes.")
    with _ended_by_its_window():
        if code:
            _join(app, " ".join(code), name, yes, anew=anew)
        else:
            _show(app, relay, yes, with_qr=not no_qr)


@contextmanager
def _ended_by_its_window() -> Iterator[None]:
    """A terminal that is closed, or a polite kill, ends a pairing as Ctrl-C does: the code shall not live on unseen."""
    names = [name for name in ("SIGHUP", "SIGTERM") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may; a program that runs commands in another one ends them itself
        return
    before = {getattr(signal, name): signal.getsignal(getattr(signal, name)) for name in names}
    try:
        for number, was in before.items():
            if was is not signal.SIG_IGN:  # nohup
                signal.signal(number, signal.default_int_handler)
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, signal.SIG_DFL if was is None else was)


# ---- the device that shows the code --------------------------------------------------------------------------------
def _show(app: App, relay: str | None, yes: bool, *, with_qr: bool) -> None:
    offer: Json = app.client.post("/api/devices/pair", {"relay": relay} if relay else {}, timeout_s=60)
    try:
        _present(app, offer, with_qr=with_qr)
        shown = _wait(
            app, offer["id"], "Waiting for the other device ...", ("confirm", *_OVER), until_ms=offer["expires_ms"]
        )
        if shown["state"] == "confirm":
            _introduce(app, shown)
            if not _agrees(app, shown, yes):
                _refuse(app, offer["id"])
                app.out.say("Refused. Nothing was shared with that device. Ask for a new code and try again.")
                raise Finished(Exit.NEEDS_PERSON)
            _agree(app, offer["id"])
            shown = _wait(app, offer["id"], "Waiting for the yes on the other device ...", _OVER)
    except (click.Abort, KeyboardInterrupt, OSError):  # OSError: the terminal is gone
        _cancel(app, offer["id"])
        raise
    if shown.get("error"):
        shown["error"] = app.told(shown["error"])
    _ended(app, shown, f"{clean(_peer_name(shown), 40)} is one of your devices now. It fetches your data by itself.")
    _hint_at_words(app)


def _hint_at_words(app: App) -> None:
    """With the second device it is time to write the recovery words down: from then on a device may be lost."""
    if not app.out.as_json and app.client.get("/api/recovery")["state"] == "here":
        app.out.say(
            f"Write down your 24 recovery words now; they put a lost device out and bring everything back: "
            f"{app.command('recovery show')}"
        )


def _present(app: App, offer: Json, *, with_qr: bool) -> None:
    out = app.out
    if out.as_json:
        out.json_line(offer)
        out.flush()
        return
    left = duration_text((offer["expires_ms"] - time.time() * 1000) / 1000)
    out.result("On the other device run:")
    out.result()
    out.result(f"    hybridgw pair {clean(offer['code']) or shlex.quote(clean(offer['link']))}")
    out.result()
    if with_qr and out.is_watched:
        out.raw(qr(offer["link"]))
    if offer["code"]:
        where = "The relay never sees its last six digits." if "@" in offer["code"] else "Both must be on one network."
        out.result(f"The code works once, for {left}. {where}")
    else:
        out.result(f"Three codes were used up within an hour, so for now there is this long one. It works for {left}.")
    out.flush()


def qr(link: str) -> str:
    """Half a character per square, light on dark as terminals are."""
    import io

    import segno

    buffer = io.StringIO()
    segno.make(link, error="l", micro=False).terminal(buffer, compact=True, border=2)
    return buffer.getvalue()


def _introduce(app: App, shown: Json) -> None:
    peer = shown.get("peer") or {}
    app.out.say(
        f"{clean(peer.get('name', 'A device'), 40)} ({clean(peer.get('platform', '?'), 30)}, fingerprint "
        f"{clean(peer.get('fingerprint', '?'), 60)}) wants to join."
    )


# ---- the device that joins -----------------------------------------------------------------------------------------
def _join(app: App, code: str, name: str | None, yes: bool, *, anew: bool) -> None:
    body: Json = {"code": code, "ask": not yes} | ({"name": name} if name else {}) | ({"anew": True} if anew else {})
    began: Json = app.client.post("/api/devices/pair/join", body, timeout_s=60)
    try:
        shown = _wait(app, began["id"], "Meeting the other device ...", ("confirm", "joining", *_OVER))
        if shown["state"] != "failed" and shown.get("words"):
            if not _agrees(app, shown, yes):
                _refuse(app, began["id"])
                app.out.say("Refused. If the words differ somebody is in between: ask for a new code.")
                raise Finished(Exit.NEEDS_PERSON)
            _agree(app, began["id"])
        if shown["state"] not in _OVER:
            shown = _wait(app, began["id"], "Waiting until the other device agrees ...", _OVER)
    except (click.Abort, KeyboardInterrupt, OSError):  # OSError: the terminal is gone
        _cancel(app, began["id"])
        raise
    _ended(app, shown, "This device has joined. Your data comes by itself.")
    if not app.out.as_json:
        app.out.say(f"Next: {app.command('sync --wait')}, then {app.command('data list tasks')}")


# ---- both ----------------------------------------------------------------------------------------------------------
def _wait(app: App, number: str, what: str, states: tuple[str, ...], until_ms: int | None = None) -> Json:
    """Ask until the pairing is in one of the states."""
    with app.out.waiting(what) as spinner:
        while True:
            shown: Json = app.client.get(f"/api/devices/pair/{number}")
            if shown["state"] in states:
                return shown
            left = f" {duration_text((until_ms - time.time() * 1000) / 1000)} left" if until_ms else ""
            spinner.tell(what + left)
            time.sleep(_POLL_S)


def _agrees(app: App, shown: Json, yes: bool) -> bool:
    words = app.out.paint(clean(shown.get("words") or ""), "bold", talk=True)
    app.out.say(f"Both devices show four words. Here they are:  {words}")
    try:
        return yes or click.confirm("Does the other device show the same four words?", default=False, err=True)
    except click.Abort:
        if not sys.stdin.isatty():
            app.out.say("\nNobody is there to answer that. With --yes they are taken for the same.")
        raise


def _agree(app: App, number: str) -> None:
    """Tell the daemon. It may have gone on meanwhile: then what became of it is asked next."""
    try:
        app.client.post(f"/api/devices/pair/{number}/confirm", {"accept": True}, timeout_s=60)
    except LocalError as error:
        if type(error) is not LocalError:
            raise


def _refuse(app: App, number: str) -> None:
    """End it, whatever it is doing: a first no may only be noted, a further one stops it."""
    for _ in range(3):
        app.client.post(f"/api/devices/pair/{number}/confirm", {"accept": False}, timeout_s=5)
        time.sleep(_POLL_S)
        if app.client.get(f"/api/devices/pair/{number}")["state"] in _OVER:
            return


def _cancel(app: App, number: str) -> None:
    try:
        _refuse(app, number)
        text = "Cancelled; the code does not work any more."
    except HybridGWError:
        text = "The code stops working after ten minutes."
    with suppress(OSError):  # the terminal may be gone
        app.out.say(text)


def _peer_name(shown: Json) -> str:
    return str((shown.get("peer") or {}).get("name") or "The device")


def _ended(app: App, shown: Json, text: str) -> None:
    if app.out.as_json:
        app.out.json_line(shown)
    if shown["state"] == "failed":
        raise PairingFailed(clean(shown.get("error") or "The pairing failed. Ask the other device for a new code."))
    if not app.out.as_json:
        app.out.result(text)

"""relay: the places that keep sealed data for devices that are not on at the same time."""

from __future__ import annotations

from typing import Any

import click

from ..context import App, Command, Group, json_option, pass_app
from ..exits import Exit, Finished
from ..output import bytes_text, clean, count_text, time_text

Json = dict[str, Any]


@click.group(cls=Group)
def relay() -> None:
    """Add, list, test and remove relays."""


@relay.command(cls=Command)
@click.argument("link")
@json_option
@pass_app
def add(app: App, link: str) -> None:
    """Use a relay: LINK is what 'hybridgw-relay invite' printed there, or the address of one that knows you already."""
    if link.upper() == "LINK":  # typed as it stands in a hint
        raise click.UsageError("LINK stands for what 'hybridgw-relay invite' printed: http://.../#hgw-invite=...")
    with app.out.waiting("Asking the relay ..."):
        before = {one["url"] for one in app.client.pages("/api/relays")}
        added: Json = app.client.post("/api/relays", {"link": link}, timeout_s=60)
        check: Json = app.client.post("/api/relays/test", {"url": added["url"]}, timeout_s=60)
    if app.out.as_json:
        app.out.json(added | {"check": check})
        return
    app.out.result(f"{clean(added['url'])} is {'in use already' if added['url'] in before else 'added'}.")
    _show_check(app, check)
    if check["ok"] and not check["admitted"]:
        app.out.say("It has not let this device in yet; it is asked again by itself, within a minute.")
    app.out.say(f"Next, for your second device: {app.command('pair')}")


@relay.command("list", cls=Command)
@json_option
@pass_app
def list_(app: App) -> None:
    """List the relays of this profile."""
    found = list(app.client.pages("/api/relays"))
    if app.out.as_json:
        app.out.json({"items": found, "next_cursor": None})
        return
    if not found:
        app.out.say(f"No relay yet. Add one: {app.command('relay add LINK')} (LINK is from 'hybridgw-relay invite').")
        return
    app.out.table(
        [
            [r["url"], r["state"], time_text(r["added_ms"]) if r["added_ms"] else "", r.get("error") or ""]
            for r in found
        ],
        ["relay", "state", "added", ""],
    )


@relay.command(cls=Command)
@click.argument("url")
@pass_app
def remove(app: App, url: str) -> None:
    """Stop using a relay. What it stores stays there, sealed, until it forgets it."""
    app.client.request("DELETE", "/api/relays", query={"url": url})
    app.out.say(f"{clean(url)} is not used any more.")


@relay.command(cls=Command)
@click.argument("url", required=False)
@json_option
@pass_app
def test(app: App, url: str | None) -> None:
    """Try a relay without changing anything; without a URL, every one that is known.

    Exit codes: 0 fine, 4 it refuses this device, 5 it is not reached, or has no room for more.
    """
    urls = [url] if url else [found["url"] for found in app.client.pages("/api/relays")]
    if not urls:
        app.out.say(f"No relay yet. Add one: {app.command('relay add LINK')} (LINK is from 'hybridgw-relay invite').")
        raise Finished(Exit.ERROR)
    checks: list[Json] = []
    for one in urls:
        with app.out.waiting(f"Asking {clean(one)} ..."):
            checks.append(app.client.post("/api/relays/test", {"url": one}, timeout_s=60))
    if app.out.as_json:
        app.out.json({"items": checks, "next_cursor": None})
    else:
        for check in checks:
            app.out.result(clean(check["url"]))
            _show_check(app, check)
    failed = [check for check in checks if not check["ok"] or check["error"]]
    if failed:
        app.out.say(f"{count_text(len(failed), 'relay')} of {len(checks)} cannot be used now.")
        raise Finished(Exit.NEEDS_PERSON if any(c["admitted"] is False for c in failed) else Exit.PARTIAL)


def _show_check(app: App, check: Json) -> None:
    out = app.out
    if not check["ok"]:
        what = "refused" if check["admitted"] is False else "not reached"
        out.result(f"  {out.paint(what, 'red')}: {app.told(check.get('error') or 'it did not answer')}")
        return
    facts = [
        "encrypted connection (TLS)" if check["tls"] else "connection without TLS; the data in it is sealed anyway"
    ]
    if check.get("rtt_ms") is not None:
        facts.append(f"answers in {check['rtt_ms']:.0f} ms")
    if check.get("clock_offset_ms") is not None:
        facts.append(f"its clock differs by {abs(check['clock_offset_ms']) / 1000:.1f} s")
    if check.get("quota_bytes"):
        facts.append(f"{bytes_text(check.get('used_bytes') or 0)} of {bytes_text(check['quota_bytes'])} used")
    if check.get("error"):
        facts.append(out.paint(f"takes nothing more now: {app.told(check['error'])}", "red"))
    facts.append("can read your data: " + ("YES" if check["can_read"] else "no"))
    for fact in facts:
        out.result(f"  {fact}")

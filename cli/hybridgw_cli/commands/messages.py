"""send, messages: say something to programs and devices, see what became of it, what waits, and where it would go."""

from __future__ import annotations

import json
import sys
import time
from typing import Any, Final

import click

from hybridgw_client.client import path_of
from hybridgw_protocol.errors import BadValue

from ..context import App, Command, Group, json_option, pass_app
from ..exits import Exit, Finished
from ..output import ago_text, clean, time_text

Json = dict[str, Any]
PRIORITIES: Final = ("bulk", "normal", "high", "urgent")
_KINDS: Final = ("client", "app", "mode", "topic", "device", "person")
_END: Final = ("handled", "expired", "failed")


@click.command(cls=Command)
@click.argument("body", default="null")
@click.option(
    "--to", "to", multiple=True, metavar="TARGET", help="Whom: see above; several times. Else the rules decide."
)
@click.option("--type", "kind", required=True, metavar="TYPE", help="What it is, like 'note' or 'tab.open'.")
@click.option("--priority", type=click.Choice(PRIORITIES), default="normal", show_default=True, help="What goes first.")
@click.option("--ttl", type=click.FloatRange(min=1), metavar="S", help="Give up after so many seconds (7 days).")
@click.option("--wait", is_flag=True, help="Print each state, until it is handled, expired or failed.")
@click.option("--timeout", type=click.FloatRange(min=0), default=60.0, show_default=True, help="At most so long, s.")
@json_option
@pass_app
def send(
    app: App, body: str, to: tuple[str, ...], kind: str, priority: str, ttl: float | None, wait: bool, timeout: float
) -> None:
    """Send a message to programs, here and on your other devices, or to another person.

    BODY is JSON, or plain text; '-' reads it from stdin. TARGET is a device's name, or client:ID, app:NAME, mode:MODE,
    topic:TOPIC or all, each with @DEVICE or @here for one device; or person:NAME, a contact. With
    --wait exit code 5 if it is not handled in time.
    """
    asked: Json = {"type": kind, "body": _body(body), "priority": priority}
    if to:
        asked["to"] = [_target(text) for text in to]
    if ttl is not None:
        asked["ttl_s"] = ttl
    sent: Json = app.client.post("/api/messages", asked)
    if not wait:
        app.out.json(sent) if app.out.as_json else app.out.result(f"{sent['id']}  {_states(sent)}")
        return
    ids = [sent["id"], *sent["also"]]
    until, done = time.monotonic() + timeout, True
    for id in ids:
        message = sent if id == sent["id"] else app.client.get(path_of("messages", id))
        done = _follow(app, message, until) and done
    if not done:
        raise Finished(Exit.PARTIAL)


def _body(text: str) -> Any:
    raw = sys.stdin.read() if text == "-" else text
    try:
        return json.loads(raw)
    except ValueError:
        return raw


def _target(text: str) -> str:
    """A bare word is a device's name."""
    kind = text.partition(":")[0].partition("@")[0]
    return text if kind in _KINDS or kind == "all" else f"device:{text}"


def _follow(app: App, message: Json, until: float) -> bool:
    """Print each change. Returns whether it was handled everywhere."""
    told: set[tuple[str, str]] = set()
    while True:
        for delivery in message["deliveries"]:
            step = (delivery["device"], delivery["state"])
            if step not in told:
                told.add(step)
                if app.out.as_json:
                    app.out.json_line({"id": message["id"], **delivery})
                else:
                    why = f" ({clean(delivery['error'])})" if delivery["error"] else ""
                    app.out.result(f"{time_text(delivery['at_ms'])}  {clean(step[0])}  {step[1]}{why}")
                app.out.flush()
        states = {delivery["state"] for delivery in message["deliveries"]}
        left = until - time.monotonic()
        if states <= set(_END) or left <= 0:
            return states == {"handled"}
        message = app.client.get(path_of("messages", message["id"]), known=message["changes"], wait_s=min(20.0, left))


@click.group(cls=Group, invoke_without_command=True)
@click.option("--box", type=click.Choice(("all", "in", "out", "dead")), default="all", show_default=True, help="Which.")
@click.option("--type", "kind", metavar="TYPE", help="Only of this type; * at its end is any rest.")
@click.option("--peer", metavar="NAME", help="Only to or from this device or person:NAME, or from this program.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=30, show_default=True, help="At most so many.")
@json_option
@click.pass_context
def messages(ctx: click.Context, box: str, kind: str | None, peer: str | None, limit: int) -> None:
    """List messages that were sent and that arrived, newest first; see what waits, and where one would go.

    '--box dead' lists those that expired or failed: 'messages retry' sends one again.
    """
    if ctx.invoked_subcommand is not None:
        return
    app = ctx.ensure_object(App)
    found: Json = app.client.get("/api/messages", box=box, type=kind, peer=peer, limit=limit)
    if app.out.as_json:
        app.out.json(found)
        return
    now_ms = int(time.time() * 1000)
    app.out.table(
        [
            (
                clean(m["id"]), ago_text(m["created_ms"], now_ms), "in" if m["incoming"] else "out",
                clean(_sender(m) if m["incoming"] else m["to"], 32), clean(m["type"], 24),
                _states(m), clean(json.dumps(m["body"], ensure_ascii=False), 40),
            )
            for m in found["items"]
        ],
        ("id", "when", "", "whom", "type", "state", "body"),
    )  # fmt: skip
    if not found["items"]:
        if box == "dead":
            app.out.say("None: nothing has expired or failed.")
        elif box == "in" or kind or peer:
            app.out.say("None.")
        else:
            app.out.say(f"None. Send one: {app.command('send --to DEVICE --type note TEXT')}")


@messages.command(cls=Command)
@click.argument("id")
@json_option
@pass_app
def show(app: App, id: str) -> None:
    """Say everything about one message, what became of it at each device included."""
    found: Json = app.client.get(path_of("messages", id))
    if app.out.as_json:
        app.out.json(found)
        return
    app.out.facts(
        [
            ("id", clean(found["id"])), ("from", clean(_sender(found))),
            ("to", clean(found["to"])), ("type", clean(found["type"])), ("priority", found["priority"]),
            ("created", time_text(found["created_ms"])), ("expires", time_text(found["expires_ms"])),
            *((f"at {clean(d['device'])}", f"{d['state']}, {time_text(d['at_ms'])}") for d in found["deliveries"]),
            ("body", clean(json.dumps(found["body"], ensure_ascii=False))),
        ]
    )  # fmt: skip


@messages.command(cls=Command)
@click.option("--limit", type=click.IntRange(1, 1_000), default=30, show_default=True, help="At most so many.")
@json_option
@pass_app
def waiting(app: App, limit: int) -> None:
    """List what arrived and nobody has dealt with yet."""
    found: Json = app.client.get("/api/messages/notifications", limit=limit)
    if app.out.as_json:
        app.out.json(found)
        return
    now_ms = int(time.time() * 1000)
    app.out.table(
        [
            (clean(n["id"]), ago_text(n["at_ms"], now_ms), n["priority"], clean(n["type"]),
             clean(_sender(n | {"incoming": True})))
            for n in found["items"]
        ],
        ("id", "when", "priority", "type", "from"),
    )  # fmt: skip
    app.out.say(f"{found['waiting']} waiting. Done with one: {app.command('messages ack ID')}")


@messages.command(cls=Command)
@click.argument("id")
@json_option
@pass_app
def ack(app: App, id: str) -> None:
    """Say that a message is dealt with, for all programs here; its sender sees it as handled."""
    found: Json = app.client.post(path_of("messages", id, "ack"), {})
    app.out.json(found) if app.out.as_json else app.out.result("Done." if found["count"] else "It was done already.")


@messages.command(cls=Command)
@click.argument("id")
@json_option
@pass_app
def retry(app: App, id: str) -> None:
    """Send a message that expired or failed once more, as a new one."""
    sent: Json = app.client.post(path_of("messages", id, "retry"), {})
    app.out.json(sent) if app.out.as_json else app.out.result(f"{sent['id']}  {_states(sent)}")


@messages.command(cls=Command)
@click.argument("id")
@json_option
@pass_app
def delete(app: App, id: str) -> None:
    """Forget a message that has arrived, expired or failed."""
    gone: Json = app.client.request("DELETE", path_of("messages", id))
    app.out.json(gone) if app.out.as_json else app.out.result(f"{gone['id']} is gone.")


@messages.command(cls=Command)
@click.argument("kind", metavar="TYPE")
@click.option("--to", "to", multiple=True, metavar="TARGET", help="As of 'send'; without it the rules are asked.")
@json_option
@pass_app
def explain(app: App, kind: str, to: tuple[str, ...]) -> None:
    """Say where a message of TYPE would go, and why; nothing is sent."""
    asked: Json = {"type": kind}
    if to:
        asked["to"] = [_target(text) for text in to]
    found: Json = app.client.post("/api/messages/route", asked)
    if app.out.as_json:
        app.out.json(found)
        return
    for step in found["steps"]:
        app.out.result(f"{clean(step['to'])}  ({clean(step['why'])})")
        for device in step["devices"]:
            programs = ", ".join(map(clean, device["programs"])) or ("nobody listens yet" if device["here"] else "")
            away = "" if device["online"] is not False else "  (away: it waits for it)"
            app.out.result(f"  {clean(device['device'])}{': ' + programs if programs else ''}{away}")
        if step["problem"]:
            app.out.result(f"  note: {clean(step['problem'])}")
    if not found["steps"]:
        app.out.result("Nowhere: no rule is for this type, so it would be refused.")


@messages.command(cls=Command)
@json_option
@pass_app
def presence(app: App) -> None:
    """List which of your devices are here now, and which programs on them listen for messages."""
    found: Json = app.client.get("/api/messages/presence")
    if app.out.as_json:
        app.out.json(found)
        return
    now_ms = int(time.time() * 1000)
    rows = []
    for device in found["items"]:
        rows.append((clean(device["device"]), "", "", _seen(device, now_ms)))
        rows += [("", clean(p["client"]), clean(p["app"]), _seen(p, now_ms)) for p in device["programs"]]
    app.out.table(rows, ("device", "program", "app", "seen"))


def _seen(item: Json, now_ms: int) -> str:
    if item["online"]:
        return "here"
    return "never" if item["last_seen_ms"] is None else ago_text(item["last_seen_ms"], now_ms)


@messages.command(cls=Command)
@click.argument("rules", nargs=-1, metavar="[TYPE=TARGET[,TARGET...][+]...]")
@click.option("--clear", is_flag=True, help="Remove all rules but those of the configuration.")
@json_option
@pass_app
def rules(app: App, rules: tuple[str, ...], clear: bool) -> None:
    """Show the rules for messages without a target, or replace them all.

    TYPE may end in * for any rest; the first rule that fits decides, and with + at its end later ones are asked too.
    Those of the configuration (MESSAGE_RULES) come first and stay.
    """
    if rules or clear:
        body = {"rules": [_rule(k, text) for k, text in enumerate(rules, 1)]}
        found: Json = app.client.request("PUT", "/api/messages/rules", body=body)
    else:
        found = app.client.get("/api/messages/rules")
    if app.out.as_json:
        app.out.json(found)
        return
    for rule in found["items"]:
        fixed = "  (configuration)" if rule["fixed"] else ""
        app.out.result(f"{clean(rule['type'])}={clean(','.join(rule['to']))}{'+' if rule['go_on'] else ''}{fixed}")
    if not found["items"]:
        app.out.say("No rules: every message names its target.")


def _rule(number: int, text: str) -> Json:
    kind, equals, to = text.partition("=")
    if not equals or not to.rstrip("+"):
        raise BadValue(f"A rule is TYPE=TARGET, not {text!r}.")
    targets = [_target(part) for part in to.removesuffix("+").split(",")]
    return {"name": f"rule {number}", "type": kind, "to": targets, "go_on": to.endswith("+")}


def _sender(message: Json) -> str:
    if message["person"] is not None and message["incoming"]:
        return f"person:{message['person']}"
    return f"{message['client']}@{message['device']}"


def _states(message: Json) -> str:
    states = [d["state"] for d in message["deliveries"]]
    return ", ".join(dict.fromkeys(states)) if len(set(states)) < 3 else str(message["state"])

"""top: who is connected to the daemon now, and what they do."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any, Final

import click

from ..context import App, Command, json_option, pass_app
from ..output import bytes_text, clean, count_text, duration_text, is_terminal

Json = dict[str, Any]

HEADER: Final = ("ID", "STATE", "MODE", "PROGRAM", "WHO", "OPEN FOR", "RTT", "MISSED", "IN", "OUT", "IN/S", "OUT/S")


@click.command(cls=Command)
@click.option(
    "--interval", type=click.FloatRange(0.2, 60), default=1.0, show_default=True, help="Seconds between two looks."
)
@click.option("--once", is_flag=True, help="Print one table and end, as without a terminal.")
@json_option
@pass_app
def top(app: App, interval: float, once: bool) -> None:
    """Show the programs that are connected, and what they do."""
    if app.out.as_json:
        report: Json = app.client.get("/api/analytics/connections")
        app.out.json({"stats": app.client.get("/api/config/stats"), **report})
    elif once or not is_terminal(sys.stdout):
        stats, items = _look(app)
        app.out.result(summary(stats))
        if items:
            app.out.table(rows(items, {}, 1.0, time.time() * 1000), HEADER)
    else:
        _watch(app, interval)


def _look(app: App) -> tuple[Json, list[Json]]:
    found = app.client.get("/api/analytics/connections", archived=0)
    return app.client.get("/api/config/stats"), list(found["items"])


def _watch(app: App, interval: float) -> None:
    """The table on the whole screen until Ctrl-C."""
    import rich.console
    import rich.live
    import rich.table

    before: dict[str, Json] = {}
    seen_s = time.monotonic()
    console = rich.console.Console()
    with rich.live.Live(console=console, screen=True, auto_refresh=False) as screen:
        while True:
            stats, items = _look(app)
            now_s = time.monotonic()
            table = rich.table.Table(*HEADER, title=summary(stats), title_justify="left", expand=True, box=None)
            for row in rows(items, before, max(now_s - seen_s, 0.001), time.time() * 1000):
                table.add_row(*row)
            screen.update(table, refresh=True)
            before, seen_s = {item["id"]: item for item in items}, now_s
            try:
                time.sleep(interval)
            except KeyboardInterrupt:
                return


def summary(stats: Json) -> str:
    """One line over the table."""
    modes = ", ".join(f"{mode} {counts['open']}" for mode, counts in stats["modes"].items() if counts["open"])
    parts = [
        f"{count_text(stats['open'], 'connection')} of {stats['limit']}" + (f" ({modes})" if modes else ""),
        count_text(stats["event_streams"], "event stream"),
        count_text(stats["subscriptions"], "subscription"),
        f"{stats['sessions_detached']} away",
        f"in {bytes_text(stats['received_bytes'])}, out {bytes_text(stats['sent_bytes'])}",
        f"up {duration_text(stats['uptime_s'])}",
    ]
    return "; ".join(parts)


def rows(items: Sequence[Json], before: dict[str, Json], took_s: float, now_ms: float) -> list[tuple[str, ...]]:
    """The cells of each connection, the busiest first. Args: before: the same by id, took_s seconds ago."""
    found = []
    for item in items:
        last = before.get(item["id"])
        rates = [
            "" if last is None else f"{(item[name] - last[name]) / took_s:.0f}"
            for name in ("received_messages", "sent_messages")
        ]
        rtt = "" if item["rtt_ms"] is None else f"{item['rtt_ms']:.1f} ms"
        cells = (
            item["id"], item["state"], item["mode"] or item["kind"], clean(item["client_id"] or "", 32),
            clean(item["principal"] or "", 24), duration_text(max(0.0, (now_ms - item["opened_ms"]) / 1000)), rtt,
            str(item["missed_heartbeats"] or ""), bytes_text(item["received_bytes"]), bytes_text(item["sent_bytes"]),
            *rates,
        )  # fmt: skip
        found.append((item["received_messages"] + item["sent_messages"], cells))
    found.sort(key=lambda pair: -pair[0])
    return [cells for _, cells in found]

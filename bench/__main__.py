"""`make bench`: every figure of the project, each beside the raw limit of this machine, measured in the same run."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import sys
import time
from pathlib import Path

from . import report
from .options import Options
from .processes import ROOT

SCENARIOS = {
    "micro": "codec, merge, sealing and replica in one process",
    "start": "daemon and relay: start, memory, processor time at rest",
    "writes": "acknowledged local writes through the API",
    "edit": "one edit from device to device, durable at all three places",
    "direct": "the same way without a relay: all documents, one edit, eight devices at once",
    "sync": "100,000 documents to an empty device, then updates of all of them",
    "ingest": "single-operation batches of 200 devices into a relay",
    "websocket": "the WebSocket hub: routing, fan-out, connecting, idle memory, patches",
    "messages": "messages between programs and from device to device, stored; a device that returns",
    "reconnect": "coming back in step; bytes on the wire",
}
MODULES = {"writes": "local_writes", "start": "footprint", "sync": "cold_sync"}
PAGE = ROOT / "docs" / "explanation" / "performance.md"
RESULTS = ROOT / "bench-results"


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0 if everything was measured, whether or not a target was met."""
    given = _parser().parse_args(arguments)
    runs = given.runs or (3 if given.quick else 5)
    options = Options(runs, given.quick)
    names = given.only or list(SCENARIOS)
    figures: list[report.Figure] = []
    facts = report.about(runs)
    for name in names:
        _say(f"{name}: {SCENARIOS[name]} …")
        begun = time.monotonic()
        module = importlib.import_module(f"bench.{MODULES.get(name, name)}")
        found = asyncio.run(module.measure(options))
        figures += found
        _say(f"{report.table(found)}\n{report.notes(found)}\n{name}: {time.monotonic() - begun:.0f} s\n")
    facts["scenarios"] = names
    facts["quick"] = options.quick
    path = report.save(figures, facts, Path(given.results))
    if given.json:
        print(report.encode(figures, facts))
    else:
        print(f"{report.table(figures)}\n\n{report.notes(figures)}")
    _say(f"kept in {path}")
    if given.docs:
        report.fill_page(PAGE, figures, facts, "make bench")
        _say(f"written into {PAGE}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(SCENARIOS), metavar="NAME", help=", ".join(SCENARIOS))
    parser.add_argument("--runs", type=int, help="measurements of each thing; their median counts [5, quick: 3]")
    parser.add_argument("--quick", action="store_true", help="smaller counts: to try a change, not to compare")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--docs", action="store_true", help=f"fill the figures into {PAGE.relative_to(ROOT)}")
    parser.add_argument("--results", default=str(RESULTS), metavar="DIR", help="where runs are kept [bench-results]")
    return parser


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

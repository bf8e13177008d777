"""A figure, its target, and how they are printed: a table for people, JSON for comparing runs."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Figure:
    """One measured thing. runs: the single results, whose median counts; raw_runs: the same through the bare parts.

    least, most: what the median must reach or not exceed; least_ratio, most_ratio: the same for its ratio to raw.
    extra: whatever else was seen in the same runs (medians).
    """

    name: str
    unit: str
    runs: list[float]
    raw_runs: list[float] = field(default_factory=list)
    raw_name: str = ""
    least: float | None = None
    most: float | None = None
    least_ratio: float | None = None
    most_ratio: float | None = None
    note: str = ""
    extra: dict[str, float] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """Middle of the runs."""
        return statistics.median(self.runs)

    @property
    def raw(self) -> float | None:
        """Middle of the raw runs; None if there is nothing to compare with."""
        return statistics.median(self.raw_runs) if self.raw_runs else None

    @property
    def ratio(self) -> float | None:
        """Ours to raw."""
        return self.median / self.raw if self.raw else None

    @property
    def target(self) -> str:
        """What it must reach, in words."""
        parts = []
        if self.least is not None:
            parts.append(f"≥ {short(self.least)}")
        if self.most is not None:
            parts.append(f"≤ {short(self.most)}")
        if self.least_ratio is not None:
            parts.append(f"≥ {self.least_ratio:g} of raw")
        if self.most_ratio is not None:
            parts.append(f"≤ {self.most_ratio:g} of raw")
        return ", ".join(parts)

    @property
    def met(self) -> bool | None:
        """Is the target reached; None: there is none."""
        ratio = self.ratio
        checks = [
            self.least is None or self.median >= self.least,
            self.most is None or self.median <= self.most,
            self.least_ratio is None or (ratio is not None and ratio >= self.least_ratio),
            self.most_ratio is None or (ratio is not None and ratio <= self.most_ratio),
        ]
        return all(checks) if self.target else None


def table(figures: Sequence[Figure]) -> str:
    """Markdown, one row per figure."""
    rows = [
        "| what | median | lowest – highest | unit | raw limit, same run | ratio | target | met |",
        "| --- | ---: | --- | --- | --- | ---: | --- | --- |",
    ]
    for f in figures:
        raw = "" if f.raw is None else f"{short(f.raw)} ({f.raw_name})"
        ratio = "" if f.ratio is None else f"{f.ratio:.2f}"
        met = "" if f.met is None else ("yes" if f.met else "**no**")
        spread = f"{short(min(f.runs))} – {short(max(f.runs))}"
        rows.append(f"| {f.name} | {short(f.median)} | {spread} | {f.unit} | {raw} | {ratio} | {f.target} | {met} |")
    return "\n".join(rows)


def notes(figures: Sequence[Figure]) -> str:
    """What the table has no room for, one line per figure that has something to say."""
    lines = []
    for f in figures:
        said = [f.note] if f.note else []
        said += [f"{name} {short(value)}" for name, value in f.extra.items()]
        if said:
            lines.append(f"* {f.name}: {'; '.join(said)}")
    return "\n".join(lines)


def about(runs: int) -> dict[str, Any]:
    """The machine and the program versions of a run."""
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "runs": runs,
        "python": sys.version.split()[0],
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def encode(figures: Sequence[Figure], facts: dict[str, Any]) -> str:
    """A whole run as JSON."""
    rows = [
        asdict(f) | {"median": f.median, "raw": f.raw, "ratio": f.ratio, "target": f.target, "met": f.met}
        for f in figures
    ]
    return json.dumps({"about": facts, "figures": rows}, indent=1, ensure_ascii=False)


def save(figures: Sequence[Figure], facts: dict[str, Any], folder: Path) -> Path:
    """Keep a run. Returns the file."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{facts['at'].replace('-', '').replace(':', '')}.json"
    path.write_text(encode(figures, facts) + "\n")
    return path


BEGIN = "<!-- figures: begin -->"
END = "<!-- figures: end -->"


def fill_page(page: Path, figures: Sequence[Figure], facts: dict[str, Any], command: str) -> None:
    """Replace the generated part of a page. Raises: ValueError: the page has no such part."""
    text = page.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no lines {BEGIN} and {END}.")
    machine = (
        f"`{command}` printed this on {facts['at'][:10]} ({facts['system']}, {facts['cores']} cores, Python "
        f"{facts['python']}, SQLite {facts['sqlite']}; {facts['runs']} runs each unless a line below says otherwise)."
    )
    page.write_text(f"{before}{BEGIN}\n{machine}\n\n{table(figures)}\n\n{notes(figures)}\n{END}{after}")


def medians(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The median of each name over several runs."""
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which *share* (0 to 1) of the values lie, by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]


def timed(work: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def short(value: float) -> str:
    """A number as a table shows it."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"

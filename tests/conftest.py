"""What holds for every test: Hypothesis profiles, soak runs apart, and the time budget of tests/budget.toml.

Environment: CI=true makes an unlisted skip and a run over the total budget a failure; HYPOTHESIS_PROFILE names one of
the profiles dev, ci and soak; HYBRIDGW_SCALE multiplies the counts of the long runs (`make soak` sets 10).
"""

from __future__ import annotations

import contextlib
import fnmatch
import gc
import importlib
import os
import signal
import time
import tomllib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}

# No deadline anywhere: a busy machine is no fault. In CI the examples are the same in every run.
_calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
settings.register_profile("dev", _calm, max_examples=50)
settings.register_profile("ci", _calm, max_examples=200, derandomize=True, print_blob=True)
settings.register_profile("soak", _calm, max_examples=5_000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if IN_CI else "dev"))


@pytest.fixture(scope="session")
def scale() -> int:
    """Multiplier for counts of histories, seeds and kills: 1 in `make test`, 10 in `make soak`."""
    return int(os.environ.get("HYBRIDGW_SCALE", "1"))


@dataclass(frozen=True)
class Suite:
    """One table of budget.toml. `skips`: pairs of a glob on the test id and a part of the reason; the others: globs."""

    seconds: float
    skips: tuple[tuple[str, str], ...] = ()
    slow: tuple[str, ...] = ()
    first: tuple[str, ...] = ()

    def allows(self, test: str, reason: str) -> bool:
        """Whether the table lists this skip."""
        return any(fnmatch.fnmatchcase(test, glob) and because in reason for glob, because in self.skips)


@dataclass(eq=False)
class Budget:
    """A pytest plugin of the process that prints: sums up durations and judges skips."""

    suites: dict[str, Suite]
    total_seconds: float
    in_ci: bool
    began: float = field(default_factory=time.monotonic)
    spent: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    tests: Counter[str] = field(default_factory=Counter)
    unlisted: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path, *, in_ci: bool) -> Budget:
        """From budget.toml. Raises: KeyError, TypeError: a table without its keys."""
        table = tomllib.loads(path.read_text())
        total = table.pop("total_seconds")
        suites = {
            name: Suite(
                suite["seconds"],
                tuple((skip["test"], skip["because"]) for skip in suite["skips"]),
                tuple(suite.get("slow", ())),
                tuple(suite.get("first", ())),
            )
            for name, suite in table.items()
        }
        return cls(suites, total, in_ci)

    def suite_of(self, test: str) -> str:
        """The folder under tests/ of a test id."""
        parts = test.split("::", 1)[0].split("/")
        return parts[1] if len(parts) > 2 and parts[0] == "tests" else "."

    def note_skip(self, test: str, longrepr: object) -> None:
        """Remember a skip that the table does not list."""
        reason = str(longrepr[2]) if isinstance(longrepr, tuple) else str(longrepr)
        suite = self.suites.get(self.suite_of(test), Suite(0))
        if not suite.allows(test, reason):
            self.unlisted[test] = reason.removeprefix("Skipped: ")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called once per phase of a test, also for tests that ran in a worker."""
        suite = self.suite_of(report.nodeid)
        self.spent[suite] += report.duration
        if report.when == "call" or (report.when == "setup" and report.skipped):
            self.tests[suite] += 1
        if report.skipped and not hasattr(report, "wasxfail"):
            self.note_skip(report.nodeid, report.longrepr)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A whole file may skip itself."""
        if report.skipped:
            self.note_skip(report.nodeid, report.longrepr)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """In CI: an unlisted skip, or a run over the total, fails the run."""
        took_s = time.monotonic() - self.began
        if self.in_ci and self.unlisted:
            self.faults.append(f"{len(self.unlisted)} skip(s) that tests/budget.toml does not list")
        if self.in_ci and took_s > self.total_seconds:
            self.faults.append(f"the run took {took_s:.0f} s, the budget is {self.total_seconds:.0f} s")
        if self.faults and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """One line per suite, then what is wrong."""
        if not self.tests and not self.unlisted:
            return
        terminalreporter.section("budget")
        for name in sorted(self.tests, key=lambda name: -self.spent[name]):
            suite = self.suites.get(name)
            over = suite is None or self.spent[name] > suite.seconds
            allowed = "no budget" if suite is None else f"of {suite.seconds:.0f} s"
            line = f"{name:<14}{self.tests[name]:>6} tests {self.spent[name]:>8.1f} s {allowed}"
            terminalreporter.write_line(line + ("   WARNING: over budget" if over else ""), yellow=over)
        for test, reason in sorted(self.unlisted.items()):
            terminalreporter.write_line(f"unlisted skip: {test}: {reason}", red=self.in_ci, yellow=not self.in_ci)
        for fault in self.faults:
            terminalreporter.write_line(f"FAILED in CI: {fault}", red=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Each worker of a run begins with other files: pytest rewrites a file once, and the others find its bytecode."""
    worker = getattr(session.config, "workerinput", None)
    if worker is None:
        return
    folders = [Path(name.split("::")[0]).resolve() for name in session.config.args]
    files = [path for path in sorted(ROOT.glob("tests/*/**/test_*.py")) if any(map(path.is_relative_to, folders))]
    for path in files[int(worker["workerid"].removeprefix("gw")) :: worker["workercount"]]:
        with contextlib.suppress(Exception, pytest.skip.Exception):  # told when it is collected
            importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))


def pytest_collection_finish() -> None:
    """What was collected stays: the garbage collector looks at it no more."""
    gc.freeze()


@pytest.hookimpl(tryfirst=True)  # before -m takes its choice
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what the budget calls slow; begin with what mostly waits: other workers compute meanwhile."""
    suites = _budget().suites.values()
    slow = [glob for suite in suites for glob in suite.slow]
    first = [glob for suite in suites for glob in suite.first]
    for item in items:
        if _matches(item, slow):
            item.add_marker("slow")
    items.sort(key=lambda item: not _matches(item, first))


def _matches(item: pytest.Item, globs: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(item.nodeid, glob) for glob in globs)


def _budget() -> Budget:
    return Budget.read(ROOT / "tests" / "budget.toml", in_ci=IN_CI)


def pytest_configure(config: pytest.Config) -> None:
    """Soak tests run only when asked for; the budget is kept by the process that prints."""
    if not config.option.markexpr:
        config.option.markexpr = "not soak"
    # A shell that starts this in the background ignores Ctrl-C, and nohup a closed terminal; and so would all that the
    # tests start.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_budget(), "hybridgw-budget")

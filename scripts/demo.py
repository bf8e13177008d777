"""HybridGW at work on this machine: a relay, two devices, real data, apart and together again. `make demo` runs it.

Only what a person types is used: the commands `hybridgw` and `hybridgw-relay`, each device with a home folder of its
own, and what one command prints is all that goes into the next. The devices share no file and no environment. The
secret store is named openly: a demo must also run where no keyring is, and leaves nothing behind.

    python scripts/demo.py [--data FILE] [--keep] [--folder DIR]

Exits 0 when both devices hold the same at the end. Ctrl-C ends everything that it started.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = Path(sys.executable).parent  # of this virtual environment
SECRET_STORE = ["--secret-store", "insecure-file"]
STEP_S = 60.0
MAX_COMMITS = 20_000
FEW_COMMITS = 100  # a young repository, or a copy without one: then its files are activities, too
CODE = re.compile(r"\b\d{3}-\d{3}-\d{3}@\S+")

Json = dict[str, Any]


class DemoFailed(Exception):
    """A step did not do what it should; the message holds what was printed."""


# ---- typing ----------------------------------------------------------------------------------------------------------
class Terminal:
    """Where commands are typed. Everything started here is ended with it."""

    def __init__(self, folder: Path, *, quiet: bool = False) -> None:
        self.folder = folder
        self._quiet = quiet
        self._running: list[subprocess.Popen[str]] = []
        self._starting = False
        self._interrupted = False
        self.environment = {
            name: value
            for name, value in os.environ.items()
            # A profile, a port or a secret store of the person's own must not get into the demo.
            if not name.startswith("HYBRIDGW_") and name not in {"SERVER_HOST", "SERVER_PORT", "DATA_DIR", "PUBLIC_URL"}
        } | {"NO_COLOR": "1", "HYBRIDGW_LAN_ENABLED": "false"}  # all of it is one machine

    def say(self, text: str = "") -> None:
        """A line of the story."""
        if not self._quiet:
            print(text, flush=True)

    def show(self, command: list[str]) -> None:
        """The command as it would be typed."""
        words = [Path(command[0]).name, *command[1:]]
        line = shlex.join(words)
        self.say(f"  $ {line if len(line) < 160 else line[:157] + '...'}")

    def run(self, *command: str, shown: bool = True, codes: Iterable[int] = (0,), echo: bool = False) -> str:
        """Type a command and wait for its end; returns what it printed on stdout. Raises: DemoFailed."""
        if shown:
            self.show([*command])
        process = self._begin(command, subprocess.PIPE)
        out, talk = process.communicate(timeout=STEP_S)
        self._running.remove(process)
        if process.returncode not in codes:
            raise DemoFailed(f"{shlex.join(command)}\nended with {process.returncode}:\n{out}{talk}")
        if echo:
            for line in out.splitlines():
                self.say(f"    {line}")
        return out

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Type a command in a terminal of its own and leave it running."""
        self.show([*command])
        return self._begin(command, subprocess.STDOUT)

    def _begin(self, command: tuple[str, ...], errors: int) -> subprocess.Popen[str]:
        """Start a process and note it; a Ctrl-C between the two would lose it, so it counts after them."""
        self._starting = True
        try:
            process = subprocess.Popen(
                self._found(command), cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True,
            )  # fmt: skip
            self._running.append(process)
        finally:
            self._starting = False
        if self._interrupted:
            raise KeyboardInterrupt
        return process

    def interrupt(self, _number: int, _frame: object) -> None:
        """Handler of SIGINT and SIGTERM."""
        self._interrupted = True
        if not self._starting:
            raise KeyboardInterrupt

    def wait_for(self, process: subprocess.Popen[str], pattern: str | re.Pattern[str]) -> str:
        """Read what a running command prints until the pattern is in a line; returns the match. Raises: DemoFailed."""
        assert process.stdout is not None
        printed = ""
        for line in process.stdout:
            printed += line
            if match := re.search(pattern, line):
                return match.group()
        raise DemoFailed(f"{process.args!r} ended before it printed {pattern!r}:\n{printed}")

    def end(self, process: subprocess.Popen[str]) -> None:
        """Press Ctrl-C there and wait."""
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        if process in self._running:
            self._running.remove(process)

    def end_all(self) -> None:
        """Whatever happened: nothing that was started here goes on."""
        self._interrupted = False
        for process in reversed(self._running.copy()):
            self.end(process)

    @staticmethod
    def _found(command: tuple[str, ...]) -> list[str]:
        return [str(COMMANDS / command[0]), *command[1:]]


class Device:
    """One device: a home folder and the commands typed for it."""

    def __init__(self, terminal: Terminal, name: str) -> None:
        self.name = name
        self._terminal = terminal

    def type(self, *words: str, **more: Any) -> str:
        """`hybridgw --home NAME WORDS`."""
        return self._terminal.run("hybridgw", "--home", self.name, *words, **more)

    def json(self, *words: str) -> Any:
        """What a command prints with --json; not part of the story."""
        return json.loads(self.type(*words, "--json", shown=False, codes=(0, 4, 5)))

    def up(self) -> None:
        """Start it; a free port, for other daemons may run on this machine."""
        self.type("up", "--port", "0", *SECRET_STORE)

    def was_started(self) -> bool:
        """Is there a profile at all."""
        return (self._terminal.folder / self.name).exists()

    def exported(self, collection: str) -> str:
        """All of a collection, as text to compare."""
        return self.type("export", collection, shown=False)


# ---- the data --------------------------------------------------------------------------------------------------------
def git_history(root: Path) -> Iterator[Json]:
    """The commits of a repository as activities, newest first; nothing if it is none, or git is not there."""
    with suppress(OSError, subprocess.CalledProcessError):
        log = subprocess.run(
            ["git", "-C", str(root), "log", f"--max-count={MAX_COMMITS}", "--no-color", "--numstat", "--no-renames",
             "--format=%x1e%H%x1f%cI%x1f%s%x1f"],
            capture_output=True, check=True,
        ).stdout.decode("utf-8", "replace")  # fmt: skip
        for commit in log.split("\x1e")[1:]:
            digest, at, title, changes = commit.split("\x1f", 3)
            files = [line.split("\t") for line in changes.split("\n") if line.count("\t") == 2]
            yield {
                "id": digest,
                "title": title or "(no message)",
                "kind": "commit",
                "app": "git",
                "started_at": at,
                "files": len(files),
                "added": sum(int(added) for added, _, _ in files if added.isdigit()),
                "removed": sum(int(removed) for _, removed, _ in files if removed.isdigit()),
                "largest": max(files, key=lambda f: f[0].isdigit() and int(f[0]), default=[""])[-1][:200],
            }


def file_history(root: Path) -> Iterator[Json]:
    """When each file of a folder was last written."""
    for folder, below, names in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith(".") and name != "__pycache__")
        for name in sorted(names):
            path = Path(folder, name)
            shown = str(path.relative_to(root)).encode("utf-8", "replace").decode()
            about = path.lstat()
            document = {
                "title": f"wrote {shown}"[:1000],
                "kind": "file",
                "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(about.st_mtime)),
                "bytes": about.st_size,
            }
            yield ({"id": shown} if len(shown.encode()) <= 64 else {}) | document


def packages() -> Iterator[Json]:
    """What is installed here: the metadata of every Python package."""
    for found in importlib.metadata.distributions():
        meta = found.metadata
        yield {
            "id": meta["Name"].lower(),
            "name": meta["Name"],
            "version": meta["Version"],
            "summary": meta.get("Summary", ""),
            "license": meta.get("License-Expression") or (meta.get("License") or "")[:80],
            "classifiers": (meta.get_all("Classifier") or [])[:40],
            "requires": (meta.get_all("Requires-Dist") or [])[:80],
            "files": len(found.files or []),
        }


def write_lines(path: Path, documents: Iterable[Mapping[str, Any]]) -> int:
    """One JSON object a line. Returns how many."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for document in documents:
            file.write(json.dumps(document) + "\n")
            count += 1
    return count


# ---- the story -------------------------------------------------------------------------------------------------------
class Demo:
    """Its steps in their order."""

    def __init__(self, terminal: Terminal, data: Path | None) -> None:
        self.terminal = terminal
        self.laptop = Device(terminal, "laptop")
        self.desktop = Device(terminal, "desktop")
        self.relay: subprocess.Popen[str] | None = None
        self.port = ""
        self.wire = {"laptop": [0, 0], "desktop": [0, 0]}  # bytes sent and received on connections that are over
        self._data = data
        self._began = time.monotonic()

    def run(self) -> None:
        """All of it. Raises: DemoFailed."""
        self.start_relay()
        self.first_device()
        imported = self.import_data()
        self.second_device()
        self.agree(imported, "Both devices hold the same.")
        self.apart_and_together()
        self.agree(imported, "Both devices hold the same again.")
        self.resolve()
        self.report(imported)

    def title(self, text: str) -> None:
        """The heading of a step."""
        self.terminal.say(f"\n{time.monotonic() - self._began:5.1f} s  {text}")

    def serve(self) -> None:
        """The relay in a terminal of its own; the second time on the port it had."""
        say = ("hybridgw-relay", "serve", "--host", "127.0.0.1", "--port", self.port or "0", "--data", "relay")
        self.relay = self.terminal.start(*say)
        address = self.terminal.wait_for(self.relay, r"listens on http://127\.0\.0\.1:\d+")
        self.port = address.rpartition(":")[2]

    def start_relay(self) -> None:
        """Step 1."""
        self.title("A relay: it stores what devices seal, and can read none of it.")
        self.serve()
        self.terminal.say(f"    listens on port {self.port}")

    def first_device(self) -> None:
        """Step 2."""
        self.title("The first device, let in by an invite that works once.")
        link = self.terminal.run("hybridgw-relay", "invite", "--data", "relay").split()[0]
        self.laptop.up()
        self.laptop.type("relay", "add", link, echo=True)

    def import_data(self) -> list[str]:
        """Step 3. Returns: the collections that have documents now."""
        folder = self.terminal.folder
        if self._data:
            self.title(f"Your data: {self._data}")
            words = ["import", str(self._data)]
            if not self.names_collection():
                words += ["--collection", "things"]
            summary = json.loads(self.laptop.type(*words, "--json", codes=(0, 5)))
            self.terminal.say(f"    {summary['created']:,} documents, {summary['bad_lines']:,} bad lines")
            if not summary["created"]:
                raise DemoFailed(f"Nothing could be imported from {self._data}: {summary['errors'][:3]}")
            return list(summary["collections"])
        self.title("Real data: the history of this repository, and the packages that are installed here.")
        if write_lines(folder / "history.jsonl", git_history(ROOT)) < FEW_COMMITS:
            write_lines(folder / "history.jsonl", chain(git_history(ROOT), file_history(ROOT)))
        write_lines(folder / "packages.jsonl", packages())
        self.laptop.type("import", "history.jsonl", "--collection", "activities", echo=True)
        self.laptop.type("import", "packages.jsonl", "--collection", "packages", echo=True)
        return ["activities", "packages"]

    def names_collection(self) -> bool:
        """Does the file say itself where its documents go: tasks, bookmarks, and what `export` wrote do."""
        words = ["import", str(self._data), "--dry-run", "--json"]
        tried = json.loads(self.laptop.type(*words, shown=False, codes=(0, 1, 2, 5)) or "{}")
        return bool(tried.get("collections"))

    def second_device(self) -> None:
        """Step 4."""
        self.title("The second device needs a short code and nothing else.")
        self.desktop.up()
        showing = self.terminal.start("hybridgw", "--home", "laptop", "pair", "--yes")
        code = self.terminal.wait_for(showing, CODE)
        self.terminal.say(f"    shows {code}, and a QR code on a terminal")
        self.desktop.type("pair", code, "--name", "desktop", "--yes", echo=True)
        said, _ = showing.communicate(timeout=STEP_S)
        if showing.returncode:
            raise DemoFailed(f"pair ended with {showing.returncode}:\n{said}")
        for line in said.splitlines():
            if "four words" in line:
                self.terminal.say(
                    f"    both said: {line.partition(':')[2].strip()}  (people compare them; --yes did not)"
                )
        self.desktop.type("sync", "--wait", "--timeout", "50", echo=True)

    def apart_and_together(self) -> None:
        """Step 5."""
        self.title("Apart: the relay is gone. Both go on; both edit, one thing on both.")
        self.laptop.type("data", "put", "tasks", "milk", "title=Buy milk")
        self.laptop.type("data", "put", "tasks", "bread", "title=Bake bread")
        self.sync_both()
        assert self.relay is not None
        self.note_bytes()
        self.terminal.say("  ^C in the relay's terminal")
        self.terminal.end(self.relay)
        self.laptop.type("data", "patch", "tasks", "milk", "title=Buy oat milk")
        self.laptop.type("data", "patch", "tasks", "bread", "status=done")
        self.laptop.type("data", "put", "tasks", "tea", "title=Only the laptop has this")
        self.laptop.type("down")
        self.desktop.type("data", "patch", "tasks", "milk", "title=Buy two litres of milk")
        self.desktop.type("data", "patch", "tasks", "bread", "title=Bake rye bread")
        self.desktop.type("data", "put", "tasks", "coffee", "title=Only the desktop has this")
        status = self.desktop.json("status")["sync"]
        self.terminal.say(
            f"    desktop: {status['state']}, {status['to_send'] + status['pending']} batches or changes wait"
        )

        self.title("Together: the relay is back.")
        self.serve()
        self.laptop.up()
        self.sync_both()
        bread = json.loads(self.laptop.type("data", "get", "tasks", "bread"))
        self.terminal.say(f"    bread: {bread['title']!r}, {bread['status']}: different fields merge by themselves")
        if (bread["title"], bread["status"]) != ("Bake rye bread", "done"):
            raise DemoFailed(f"The two edits of the bread were not merged: {bread}")

    def sync_both(self) -> None:
        """Until each has what the other wrote: one sends, the other fetches, then the first fetches."""
        for device in (self.laptop, self.desktop, self.laptop):
            device.type("sync", "--wait", "--timeout", "30")

    def note_bytes(self) -> None:
        """The daemons count per connection, so what was counted is kept before one ends."""
        for device in (self.laptop, self.desktop):
            for relay in device.json("status")["sync"]["relays"]:
                self.wire[device.name][0] += relay["sent_bytes"]
                self.wire[device.name][1] += relay["received_bytes"]

    def agree(self, collections: list[str], text: str) -> None:
        """Compare everything that both hold. Raises: DemoFailed."""
        for collection in [*collections, "tasks"]:
            ours, theirs = self.laptop.exported(collection), self.desktop.exported(collection)
            if ours != theirs:
                raise DemoFailed(f"{collection} differs:\n{ours[:2000]}\n----\n{theirs[:2000]}")
        counts = [
            f"{c['documents']:,} {c['name']}" for c in self.desktop.json("data", "list")["items"] if c["documents"]
        ]
        self.terminal.say(f"    {text} {', '.join(counts)}.")

    def resolve(self) -> None:
        """Step 6."""
        self.title("The milk was written on both: nothing is lost, one value is shown, a person decides.")
        self.desktop.type("conflicts", echo=True)
        if self.desktop.json("conflicts")["total"] != 1 or self.laptop.json("conflicts")["total"] != 1:
            raise DemoFailed("There should be one conflict on each device.")
        self.desktop.type("conflicts", "resolve", "tasks", "milk", "--value", '"Buy two litres of oat milk"')
        self.desktop.type("sync", "--wait")
        self.laptop.type("sync", "--wait")
        self.laptop.type("data", "get", "tasks", "milk", echo=True)
        if self.laptop.json("conflicts")["total"] or self.desktop.json("conflicts")["total"]:
            raise DemoFailed("The decision did not reach both devices.")
        self.agree([], "Both agree.")

    def report(self, imported: list[str]) -> None:
        """The end: figures, and what the relay has of all this."""
        self.title("What each device holds, what went over the wire, and what the relay's disk has.")
        self.note_bytes()
        self.terminal.say(f"    {'device':<10}{'documents':>11}{'conflicts':>11}{'bytes sent':>13}{'received':>13}")
        for device in (self.laptop, self.desktop):
            collections = device.json("data", "list")["items"]
            sent, received = self.wire[device.name]
            self.terminal.say(
                f"    {device.name:<10}{sum(c['documents'] for c in collections):>11,}"
                f"{sum(c['conflicts'] for c in collections):>11,}{sent:>13,}{received:>13,}"
            )
        size = sum(len(self.laptop.exported(name).encode()) for name in [*imported, "tasks"])
        self.terminal.say(f"    The same documents as lines of JSON: {size:,} bytes.")
        self.terminal.run("hybridgw-relay", "audit", "--data", "relay", echo=True)

    def end(self) -> None:
        """Stop the daemons and the relay, also when it was interrupted in the middle of a step."""
        self.terminal.end_all()
        for device in (self.laptop, self.desktop):
            if device.was_started():
                with suppress(DemoFailed, subprocess.TimeoutExpired):
                    device.type("down", shown=False)


@contextmanager
def folder_for(given: Path | None, *, keep: bool) -> Iterator[Path]:
    """A folder for everything, removed at the end unless it shall be kept."""
    folder = given or Path(tempfile.mkdtemp(prefix="hybridgw-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        if keep:
            print(f"Kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def main(arguments: list[str] | None = None) -> int:
    """Returns: the exit code."""
    parser = argparse.ArgumentParser(description="HybridGW at work on this machine: a relay and two devices.")
    parser.add_argument(
        "--data", type=Path, metavar="FILE", help="your own data: JSON Lines, CSV, Taskwarrior, bookmarks"
    )
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="an empty folder for everything; else a temporary one"
    )
    parser.add_argument("--keep", action="store_true", help="leave the folder there at the end")
    given = parser.parse_args(arguments)
    data = given.data.resolve() if given.data else None
    if data and not data.is_file():
        parser.error(f"there is no file {data}")
    if given.folder and given.folder.exists() and any(given.folder.iterdir()):
        parser.error(f"{given.folder} is not empty")
    began = time.monotonic()
    with folder_for(given.folder, keep=given.keep) as folder:
        demo = Demo(Terminal(folder.resolve()), data)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, demo.terminal.interrupt)
        try:
            demo.run()
        except (DemoFailed, subprocess.TimeoutExpired) as error:
            print(f"\nThe demo failed: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nStopped.", file=sys.stderr)
            return 130
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):  # a second Ctrl-C must not leave daemons behind
                signal.signal(number, signal.SIG_IGN)
            demo.end()
    gone = "" if given.keep else " Its folder is gone, too; to look around in it: make demo ARGS=--keep"
    print(f"\nDone in {time.monotonic() - began:.1f} s. Everything that was started is stopped.{gone}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

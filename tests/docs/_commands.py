"""Runs the commands that a page shows, as a reader would: in order, in one shell per terminal, in an empty home.

A fenced block whose language is `sh` is run. Words after `sh` say how (no reader sees them):

    sh                       run it, and it must end with code 0
    sh background            its own terminal: it keeps running until the page ends
    sh save=NAME             what it prints holds the value that later blocks write as NAME: LINK is the first word with
                             "://", CODE the first pairing code, anything else the last line; works with background
    sh stop                  first press Ctrl-C in the background terminal that was opened last and goes on for good
                             (one that was given an `answer` ends by itself, and is waited for)
    sh answer=TEXT           typed into it, then Enter ("+" is a further Enter: answer=yes+no)
    sh open                  its input stays open, as that of a terminal does, and it ends by itself
    sh exit=N                it must end with code N
    sh norun                 not run; on a line before the block stands an HTML comment `<!-- norun: why -->`

HTML comments that a reader does not see, on the lines before a block:

    <!-- shows: TEXT -->     the block must print TEXT
    <!-- hides: TEXT -->     it must not
    <!-- sh …                a block of its own, up to a line `-->`, that is run and not shown: what a page takes for
                             granted, such as a second device or a damaged file

Nothing here knows our commands. They are found on PATH, with HOME, and with what `environment` returns.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

FENCE = re.compile(r"^(?P<indent> *)```(?P<info>.*)$")
COMMENT = re.compile(r"<!--\s*(?P<what>norun|shows|hides):\s*(?P<text>\S.*?)\s*-->$")
HIDDEN = "<!-- sh"
FLAGS = {"background", "norun", "open", "stop"}
VALUES = {"save", "answer", "exit"}
SAVED = {"LINK": re.compile(r"\S+://\S+"), "CODE": re.compile(r"\b\d{3}-\d{3}-\d{3}(?:@[^\s\"')]+)?")}
LAST_LINE = re.compile(r"[^\n]*\S[^\n]*(?=\n*\Z)")
STEP_TIMEOUT_S = 60.0


class PageFault(Exception):
    """The page is written wrongly, or one of its commands did not do what the page says."""


@dataclass(frozen=True)
class Block:
    """One fenced sh block. `line` is that of its first command, counted from 1."""

    line: int
    commands: str
    background: bool = False
    save: str = ""
    answer: str | None = None
    exit_code: int = 0
    norun: str = ""  # why not
    stop: bool = False
    open: bool = False
    shows: tuple[str, ...] = ()
    hides: tuple[str, ...] = ()


def blocks(text: str) -> list[Block]:
    """The sh blocks of a page, in order. Raises: PageFault: an unknown word, or norun without a reason."""
    found, lines, at = [], text.splitlines(), 0
    said: list[tuple[str, str]] = []  # by comments since the last line that is none
    while at < len(lines):
        line = lines[at]
        at += 1
        if comment := COMMENT.match(line.strip()):
            said.append((comment["what"], comment["text"]))
            continue
        opening = FENCE.match(line)
        is_hidden = line.startswith(HIDDEN)
        if not opening and not is_hidden:
            if said and line.strip():
                raise PageFault(f"line {at}: a comment of ours, and no block behind it")
            continue
        begin, end = at, "-->" if is_hidden else "```"
        while at < len(lines) and lines[at].strip() != end:
            at += 1
        if at == len(lines):
            raise PageFault(f"line {begin}: a fence that is never closed")
        info, indent = (
            (line.removeprefix("<!--").split(), 0)
            if opening is None
            else (opening["info"].split(), len(opening["indent"]))
        )
        if info[:1] == ["sh"]:
            found.append(_block(begin, info[1:], [body[indent:] for body in lines[begin:at]], said))
        said, at = [], at + 1
    return found


def _block(begin: int, info: list[str], body: list[str], said: list[tuple[str, str]]) -> Block:
    words = dict(word.partition("=")[::2] for word in info)
    if unknown := words.keys() - FLAGS - VALUES:
        raise PageFault(f"line {begin}: unknown word after sh: {', '.join(sorted(unknown))}")
    why = [text for what, text in said if what == "norun"]
    if ("norun" in words) != bool(why):
        raise PageFault(f"line {begin}: norun and its reason (<!-- norun: why --> on the line before) go together")
    answer = words.get("answer")
    return Block(
        line=begin + 1,
        commands="\n".join(body),
        save=words.get("save", ""),
        answer=None if answer is None else answer.replace("+", "\n") + "\n",
        exit_code=int(words.get("exit", "0")),
        norun=why[0] if why else "",
        background="background" in words,
        stop="stop" in words,
        open="open" in words,
        shows=tuple(text for what, text in said if what == "shows"),
        hides=tuple(text for what, text in said if what == "hides"),
    )


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(home: Path) -> dict[str, str]:
    """For a reader's first day: an empty home, our commands on PATH, a relay that listens on a free loopback port.

    No keyring is there, so the secret store is named; pages that name it themselves run without that. Daemons take any
    free port at each start: pages run beside each other, and one would take the port that another means to keep. That
    name would count for the relay as well, which shall come back under its address: so it does not get to see it.
    """
    commands = Path(sys.executable).parent
    node = Path(__file__).resolve().parents[2] / "clients" / "node_modules" / ".bin"  # wscat
    relay = home.parent / "bin" / "hybridgw-relay"
    relay.parent.mkdir()
    relay.write_text(f'#!/bin/sh\nunset HYBRIDGW_SERVER_PORT\nexec "{commands}/hybridgw-relay" "$@"\n')
    relay.chmod(0o755)
    return {
        "PATH": os.pathsep.join([str(relay.parent), str(commands), str(node), os.environ.get("PATH", os.defpath)]),
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home),
        "DBUS_SESSION_BUS_ADDRESS": "disabled:",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
        "SERVER_HOST": "127.0.0.1",
        "SERVER_PORT": str(free_port()),
        "HYBRIDGW_SERVER_PORT": "0",
        "HYBRIDGW_SECRET_STORE": "insecure-file",
        "HYBRIDGW_LAN_ENABLED": "false",
    }


@dataclass
class Terminal:
    """Runs the blocks of one page. A context manager: leaving it ends what still runs, daemons too."""

    home: Path
    env: Mapping[str, str]
    saved: dict[str, str] = field(default_factory=dict)
    running: list[tuple[Block, subprocess.Popen[bytes], Path]] = field(default_factory=list)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *raised: object) -> None:
        for _, process, _ in self.running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for _, process, _ in self.running:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(30)
        left = [process for process in psutil.process_iter() if self.began(process)]
        for process in left:
            process.terminate()
        for process in psutil.wait_procs(left, timeout=30)[1]:
            process.kill()

    def began(self, process: psutil.Process) -> bool:
        """Was it started by a command of this page, whoever its parent is now: only these have this HOME."""
        try:
            return process.environ().get("HOME") == str(self.home)
        except psutil.Error:
            return False

    def interrupt(self, block: Block, timeout_s: float) -> None:
        """Ctrl-C in the last background terminal that goes on for good. Raises: PageFault: none does, or it does not end."""
        for given, process, _ in reversed(self.running):
            if given.answer is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout_s)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
                try:
                    process.wait(timeout_s)
                except subprocess.TimeoutExpired:
                    raise PageFault(f"line {block.line}: what should stop goes on\n{self.transcript(block)}") from None
                return
        raise PageFault(f"line {block.line}: nothing runs that could be stopped")

    def fill_in(self, commands: str) -> str:
        """Commands with the saved names written out, where they stand as whole words."""
        for name, value in self.saved.items():
            commands = re.sub(rf"\b{name}\b", value.replace("\\", r"\\"), commands)
        return commands

    def run(self, block: Block, timeout_s: float = STEP_TIMEOUT_S) -> str:
        """What the block printed so far, both streams. Raises: PageFault: wrong exit code, no end, nothing to save."""
        if block.norun:
            return ""
        if block.stop:
            self.interrupt(block, timeout_s)
        output = Path(tempfile.mkstemp(dir=self.home.parent, prefix=f"line{block.line}-", suffix=".txt")[1])
        with output.open("wb") as stream:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", self.fill_in(block.commands)],
                cwd=self.home, env=dict(self.env), start_new_session=True,
                stdin=subprocess.PIPE, stdout=stream, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self.running.append((block, process, output))
        assert process.stdin is not None
        process.stdin.write((block.answer or "").encode())
        if not block.open:
            process.stdin.close()
        if block.background:
            self.wait_for(block, process, output, timeout_s)
            return output.read_text()
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise PageFault(f"line {block.line}: did not end in {timeout_s:.0f} s\n{self.transcript(block)}") from None
        finally:
            process.stdin.close()
        if code != block.exit_code:
            raise PageFault(f"line {block.line}: exit code {code}, not {block.exit_code}\n{self.transcript(block)}")
        printed = output.read_text()
        if block.save and not self.keep(block, printed):
            raise PageFault(f"line {block.line}: printed nothing to save as {block.save}\n{self.transcript(block)}")
        wrong = [f"does not show {text!r}" for text in block.shows if self.fill_in(text) not in printed]
        wrong += [f"shows {text!r}" for text in block.hides if self.fill_in(text) in printed]
        if wrong:
            raise PageFault(f"line {block.line}: {'; '.join(wrong)}\n{self.transcript(block)}")
        return printed

    def keep(self, block: Block, printed: str) -> bool:
        """Save what the block's `save` word asks for; whether it was there."""
        match = SAVED.get(block.save, LAST_LINE).search(printed)
        if match:
            self.saved[block.save] = match.group().strip()
        return match is not None

    def wait_for(self, block: Block, process: subprocess.Popen[bytes], output: Path, timeout_s: float) -> None:
        """A background block is under way once it printed what is to be saved, or anything at all."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            printed = output.read_text(errors="replace")
            if printed.strip() and (not block.save or self.keep(block, printed)):
                return
            if process.poll() is not None:
                break
            time.sleep(0.02)
        raise PageFault(f"line {block.line}: never came up (code {process.poll()})\n{self.transcript(block)}")

    def transcript(self, last: Block) -> str:
        """Everything the page ran, for the person who has to mend it."""
        parts = []
        for block, _, output in self.running:
            mark = "  <-- here" if block is last else ""
            parts.append(f"$ {self.fill_in(block.commands)}{mark}\n{output.read_text(errors='replace')[-3000:]}")
        return "\n".join(parts)


def run_page(page: Path, scratch: Path, *, without: tuple[str, ...] = ()) -> Iterator[tuple[Block, str]]:
    """Run a page from top to bottom; yields each block with what it printed. Raises: PageFault.

    Args: without: names that `environment` sets and this page does without.
    """
    if shutil.which("bash") is None:
        raise PageFault("bash is not there")
    home = scratch / "home"
    home.mkdir()
    given = {name: value for name, value in environment(home).items() if name not in without}
    with Terminal(home, given) as terminal:
        for block in blocks(page.read_text()):
            try:
                yield block, terminal.run(block)
            except PageFault as fault:
                raise PageFault(f"{page}: {fault}") from None

"""Runs the commands that a page shows, as a reader would: in order, in one shell per terminal, in an empty home.

A fenced block whose language is `sh` is run. Words after `sh` say how (no reader sees them):

    sh                       run it, and it must end with code 0
    sh background            its own terminal: it keeps running until the page ends
    sh save=NAME             what it prints holds the value that later blocks write as NAME: LINK is the first word with
                             "://", CODE the first pairing code, anything else the last line; works with background
    sh stop                  first press Ctrl-C in the background terminal that was opened last and still runs
    sh answer=TEXT           typed into it, then Enter ("+" is a further Enter: answer=yes+no)
    sh exit=N                it must end with code N
    sh norun                 not run; the line before the block is an HTML comment `<!-- norun: why -->`

Nothing here knows our commands. They are found on PATH, with HOME, and with what `environment` returns.
"""

from __future__ import annotations

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

FENCE = re.compile(r"^(?P<indent> *)```(?P<info>.*)$")
NORUN = re.compile(r"<!--\s*norun:\s*(?P<why>\S.*?)\s*-->")
FLAGS = {"background", "norun", "stop"}
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


def blocks(text: str) -> list[Block]:
    """The sh blocks of a page, in order. Raises: PageFault: an unknown word, or norun without a reason."""
    found, lines, at = [], text.splitlines(), 0
    while at < len(lines):
        opening = FENCE.match(lines[at])
        at += 1
        if not opening:
            continue
        begin, indent = at, len(opening["indent"])
        while at < len(lines) and lines[at].strip() != "```":
            at += 1
        if at == len(lines):
            raise PageFault(f"line {begin}: a fence that is never closed")
        info, body = opening["info"].split(), lines[begin:at]
        at += 1
        if info[:1] != ["sh"]:
            continue
        words = dict(word.partition("=")[::2] for word in info[1:])
        if unknown := words.keys() - FLAGS - VALUES:
            raise PageFault(f"line {begin}: unknown word after sh: {', '.join(sorted(unknown))}")
        reason = NORUN.search(lines[begin - 2]) if begin >= 2 else None
        if ("norun" in words) != (reason is not None):
            raise PageFault(f"line {begin}: norun and its reason (<!-- norun: why --> on the line before) go together")
        answer = words.get("answer")
        found.append(
            Block(
                line=begin + 1,
                commands="\n".join(line[indent:] for line in body),
                save=words.get("save", ""),
                answer=None if answer is None else answer.replace("+", "\n") + "\n",
                exit_code=int(words.get("exit", "0")),
                norun=reason["why"] if reason else "",
                background="background" in words,
                stop="stop" in words,
            )
        )
    return found


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(home: Path) -> dict[str, str]:
    """For a reader's first day: an empty home, our commands on PATH, a relay that listens on a free loopback port.

    No keyring is there, so the secret store is named; the how-to on secrets runs without this.
    """
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
        "SERVER_HOST": "127.0.0.1",
        "SERVER_PORT": str(free_port()),
        "HYBRIDGW_SECRET_STORE": "insecure-file",
    }


@dataclass
class Terminal:
    """Runs the blocks of one page. A context manager: leaving it ends what still runs in the background."""

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
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)

    def interrupt(self, block: Block, timeout_s: float) -> None:
        """Ctrl-C in the last background terminal. Raises: PageFault: none runs, or it does not end."""
        for _, process, _ in reversed(self.running):
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
        if code != block.exit_code:
            raise PageFault(f"line {block.line}: exit code {code}, not {block.exit_code}\n{self.transcript(block)}")
        if block.save and not self.keep(block, output.read_text()):
            raise PageFault(f"line {block.line}: printed nothing to save as {block.save}\n{self.transcript(block)}")
        return output.read_text()

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


def run_page(page: Path, scratch: Path, env: Mapping[str, str] | None = None) -> Iterator[tuple[Block, str]]:
    """Run a page from top to bottom; yields each block with what it printed. Raises: PageFault."""
    if shutil.which("bash") is None:
        raise PageFault("bash is not there")
    home = scratch / "home"
    home.mkdir()
    with Terminal(home, env or environment(home)) as terminal:
        for block in blocks(page.read_text()):
            try:
                yield block, terminal.run(block)
            except PageFault as fault:
                raise PageFault(f"{page}: {fault}") from None

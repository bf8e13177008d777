"""`hybridgw` on two devices with a relay between them: adding it, pairing, syncing, conflicts, being offline."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hybridgw_daemon.services.peers import SAVE_CONFIRMED_S
from tests.integration._cli import COMMANDS, Cli, InProcess, Relay, environment, profile, relay

CODE = re.compile(r"(?<=hybridgw pair )\d{3}-\d{3}-\d{3}@127\.0\.0\.1:\d+|hybridgw://pair[^'\s]+")


class Showing:
    """`hybridgw pair` in a terminal of its own: it shows a code and waits."""

    def __init__(self, cli: Cli, *words: str) -> None:
        self.process = subprocess.Popen(
            [str(COMMANDS / "hybridgw"), "--home", str(cli.home), "pair", *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(),
        )  # fmt: skip
        assert self.process.stdout is not None
        self.code = ""
        self.printed = ""
        for line in self.process.stdout:
            self.printed += line
            if match := CODE.search(line):
                self.code = match.group()
                break
        assert self.code, self.printed

    def type(self, keys: str) -> None:
        """Type ahead: the question comes when the other device does."""
        assert self.process.stdin is not None
        self.process.stdin.write(keys)
        self.process.stdin.flush()

    def finish(self, typed: str = "") -> int:
        """Type into it and wait for its end."""
        said, _ = self.process.communicate(typed, timeout=60)
        self.printed += said
        return self.process.returncode


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    with relay(tmp_path_factory.mktemp("relay") / "data") as made:
        yield made


@pytest.fixture(scope="module")
def first(server: Relay, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with profile(tmp_path_factory.mktemp("first") / "laptop", InProcess) as made:
        made.up()
        added = made("relay", "add", server.invite(), "--json").json
        assert added["url"] == server.url
        assert added["check"]["ok"] is True
        assert added["check"]["can_read"] is False
        yield made


@pytest.fixture(scope="module")
def second(first: Cli, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """Paired as two people would: each reads the four words and says yes."""
    with profile(tmp_path_factory.mktemp("second") / "desktop", InProcess) as made:
        made.up()
        first("data", "put", "tasks", "before", "title=Written before the second device came")
        showing = Showing(first)
        showing.type("y\n")
        joined = made("pair", showing.code.replace("-", " ").replace("@", " @ "), "--name", "desktop", typed="y\n")
        assert showing.finish() == 0, showing.printed
        words = re.findall(r"Here they are:  (.+)", showing.printed + joined.talk)
        assert len(words) == 2
        assert words[0].split("Does")[0].split() == words[1].split("Does")[0].split()
        assert len(words[0].split("Does")[0].split()) == 4
        assert "desktop" in showing.printed
        assert "wants to join" in showing.printed
        assert "has joined" in joined.out
        [compared] = re.findall(r"fingerprint ([0-9a-f-]+)", showing.printed)
        assert compared in made("devices").out
        assert compared in first("devices").out
        yield made


def both_in_step(*devices: Cli) -> None:
    for device in (*devices, devices[0]):
        device("sync", "--wait", "--timeout", "60")


def open_conflicts(device: Cli) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = device("conflicts", "--json").json["items"]
    return found


def conflict(first: Cli, second: Cli, server: Relay, name: str) -> None:
    """Both write the same field of one document while the relay is away."""
    first("data", "put", "tasks", name, "title=base")
    both_in_step(first, second)
    server.stop()
    try:
        first("data", "patch", "tasks", name, "title=from the first")
        second("data", "patch", "tasks", name, "title=from the second")
    finally:
        server.serve()
    both_in_step(first, second)


# ---- pairing ---------------------------------------------------------------------------------------------------------
def test_spec_D2_what_is_on_one_is_on_the_other(first: Cli, second: Cli) -> None:
    second("sync", "--wait", "--timeout", "60")
    assert second("data", "get", "tasks", "before").json["title"] == "Written before the second device came"
    second("data", "put", "tasks", "after", "title=From the second")
    both_in_step(second, first)
    assert first("data", "get", "tasks", "after").json["title"] == "From the second"
    for device, own in ((first, False), (second, True)):
        listed = {d["name"]: d for d in device("devices", "--json").json["items"]}
        assert len(listed) == 2
        assert listed["desktop"]["own"] is own
        assert "desktop" in device("devices").out
    status = first("status")
    assert "in step" in status.out
    assert "connected" in status.out
    assert "desktop" in status.out


def test_however_the_command_ends_its_code_is_in_nobodys_way(first: Cli) -> None:
    lost = Showing(first)
    lost.process.kill()  # nobody takes this one back
    assert lost.finish() == -signal.SIGKILL
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):  # its terminal was closed, a polite kill, Ctrl-C
        showing = Showing(first)
        showing.process.send_signal(number)
        assert showing.finish() == 130
        assert "Cancelled" in showing.printed
        assert showing.code[3] == "-"  # a code that nobody tried does not count: the last one is as short as the first
        assert showing.code != lost.code


def test_a_code_works_once_and_a_wrong_one_is_burned(first: Cli, tmp_path: Path) -> None:
    with profile(tmp_path / "third") as third:
        third.up()
        showing = Showing(first)
        digits, _, where = showing.code.partition("@")
        wrong = f"{digits[:8]}{(int(digits[8:]) + 1) % 1000:03}@{where}"
        refused = third("pair", wrong, code=1)
        assert "error:" in refused.talk
        assert "until the other device agrees" not in refused.talk
        assert "'hybridgw pair' on the device that has your data" in refused.talk  # not on this one
        assert "hybridgw pair" in refused.talk  # ask for a new one
        assert showing.finish() == 1
        assert "error:" in showing.printed
        assert third("pair", showing.code, code=1).out == ""  # the right one is dead, too
        assert "joined" not in third("status").out


def test_a_person_may_refuse(first: Cli, tmp_path: Path) -> None:
    with profile(tmp_path / "third") as third:
        third.up()
        showing = Showing(first)
        ended: list[int] = []
        joiner = threading.Thread(target=lambda: ended.append(third("pair", showing.code, typed="y\n", code=None).code))
        joiner.start()
        assert showing.finish("n\n") == 4
        joiner.join(60)
        assert ended == [1]
        assert "Refused. Nothing was shared" in showing.printed
        assert len(third("devices", "--json").json["items"]) == 1


def test_the_one_who_joins_may_refuse_too(first: Cli, tmp_path: Path) -> None:
    with profile(tmp_path / "third") as third:
        third.up()
        showing = Showing(first)
        assert "Nobody is there to answer that. With --yes" in third("pair", showing.code, code=130).talk  # is no, too
        assert showing.finish("y\n") == 1
        assert len(third("devices", "--json").json["items"]) == 1
        assert "third" not in first("devices").out


def test_sec_the_one_who_joins_may_refuse_when_the_other_has_agreed(server: Relay, tmp_path: Path) -> None:
    with profile(tmp_path / "host") as host, profile(tmp_path / "guest") as guest:
        host.up()
        host("relay", "add", server.invite())
        guest.up()
        guest("data", "put", "notes", "own", "text=not for them")
        showing = Showing(host, "--yes")
        joiner = subprocess.Popen(
            [str(COMMANDS / "hybridgw"), "--home", str(guest.home), "pair", showing.code],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(),
        )  # fmt: skip

        def active() -> int:
            return sum(device["state"] == "active" for device in host("devices", "--json").json["items"])

        deadline = time.monotonic() + 60
        while active() < 2 and time.monotonic() < deadline:  # until it has been let in
            time.sleep(0.1)
        said, _ = joiner.communicate("n\n", timeout=60)
        assert "somebody is in between" in said
        assert joiner.returncode == 4
        assert showing.finish() == 1
        assert len(guest("devices", "--json").json["items"]) == 1
        assert active() == 1
        assert host("data", "get", "notes", "own", code=1)


def test_sec_after_three_used_codes_the_link_is_what_is_shown_and_works(first: Cli, tmp_path: Path) -> None:
    """A number of six digits would be refused then."""
    with profile(tmp_path / "third") as third:
        third.up()
        for _ in range(4):  # less if other tests have used some
            showing = Showing(first)
            if showing.code.startswith("hybridgw://pair"):
                break
            third("pair", showing.code, typed="n\n", code=4)
            assert showing.finish("y\n") == 1
        assert showing.code.startswith("hybridgw://pair")
        showing.type("n\n")
        assert "four words" in third("pair", showing.code, typed="y\n", code=1).talk
        assert showing.finish() == 4


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("417-803", "9 digits"),
        ("417-803-26x", "only digits"),
        ("417-803-265@", "address is missing"),
        ("hybridgw://pair?code=1", "9 digits"),
    ],
)
def test_a_code_that_is_none_says_how_one_looks(first: Cli, code: str, says: str) -> None:
    ran = first("pair", code, code=None)
    assert ran.code == 1
    assert "417-803-265" in ran.talk or says in ran.talk


# ---- sync and relays -------------------------------------------------------------------------------------------------
def test_offline_is_told_and_work_goes_on(first: Cli, second: Cli, server: Relay, tmp_path: Path) -> None:
    both_in_step(first, second)
    server.stop()
    try:
        first("data", "put", "tasks", "offline", "title=Written offline")
        told = first("sync", "--wait", "--timeout", "0.5", "--json", code=5).json
        assert told["status"] == "offline"
        assert "is the relay running?" in first("sync", code=5).out  # known at once, and not waited for
        began = time.monotonic()
        assert "\nTrying on for 1 s.\n" in first("sync", "--wait", "--timeout", "1", code=5).talk
        assert time.monotonic() - began >= 1  # and that is what it did
        status = first("status", code=5)
        assert "offline" in status.out
        assert "sent 0 B" not in status.out
        assert "1 batch to send" in status.out
        assert status.out.count("is the relay running?") == 1
        assert "Connect call failed" not in status.out
        tested = first("relay", "test", "--json", code=5).json["items"]
        assert [check["ok"] for check in tested] == [False]
        assert tested[0]["error"]
        assert "not reached" in first("relay", "test", code=5).out
        shown = first("pair", code=5)
        assert "relay add" not in shown.talk
        assert "is the relay running?" in shown.talk
        with profile(tmp_path / "third") as third:
            third.up()
            met = third("pair", f"417-803-265@{server.url.rpartition('/')[2]}", code=1)
            assert "is the relay running?" in met.talk
            assert "new code" not in met.talk  # the code is not at fault
        assert any(
            c["state"] == "fail" and c["name"] == "relay" for c in first("doctor", "--json", code=1).json["checks"]
        )
    finally:
        server.serve()
    both_in_step(first, second)
    assert second("data", "get", "tasks", "offline").json["title"] == "Written offline"
    both_in_step(first, second)
    assert first("sync", "--wait").out == "In step.\n"  # the daemon was quicker
    assert first("sync").out


def test_relays_are_listed_tested_and_removed(first: Cli, server: Relay, tmp_path: Path) -> None:
    assert [r["url"] for r in first("relay", "list", "--json").json["items"]] == [server.url]
    assert server.url in first("relay", "list").out
    assert "can read your data: no" in first("relay", "test").out
    for link, says in (
        (server.url.replace("127.0.0.1", "localhost"), f"in use already, as {server.url}"),
        (server.url.replace("http:", "https:"), "does not speak TLS"),
        ("http://127.0.0.1:1", "127.0.0.1"),
        (f"{server.url}/#hgw-invite=AAAA", "not complete"),
        ("ftp://example.org", "not a relay address"),
        ("LINK", "what 'hybridgw-relay invite' printed"),
    ):
        assert says in first("relay", "add", link, code=None).talk
    assert "relay list" in first("relay", "remove", "http://127.0.0.1:1", code=1).talk
    assert first("relay", "add", server.url).out.startswith(f"{server.url} is in use already.\n")
    short = server.url.removeprefix("http://")  # as a pairing code shows it
    assert first("relay", "test", short, "--json").json["items"][0]["url"] == server.url
    first("relay", "remove", short)
    assert first("relay", "list", "--json").json["items"] == []
    assert first("relay", "add", short).out.startswith(f"{server.url} is added.\n")
    with profile(tmp_path / "alone") as alone:
        alone.up()
        assert "relay add LINK" in alone("relay", "list", code=None).talk
        assert "relay add LINK" in alone("relay", "test", code=None).talk
        assert f"--home {alone.home} relay add LINK" in alone("pair", code=5).talk
        assert f"--home {alone.home} relay add LINK" in alone("sync", code=5).out
        assert "hybridgw-relay invite" in alone("relay", "add", f"{server.url}/#hgw-invite={'A' * 43}", code=1).talk
        assert "which relay" in alone("pair", "417-803-265", code=1).talk


# ---- conflicts -------------------------------------------------------------------------------------------------------
def test_spec_S2_a_conflict_is_shown_and_decided_in_each_way(first: Cli, second: Cli, server: Relay) -> None:
    conflict(first, second, server, "c1")
    [listed] = open_conflicts(first)
    assert listed["id"] == "c1"
    [field] = listed["fields"]
    values = {field["shown"], *(other["value"] for other in field["others"])}
    assert values == {"from the first", "from the second"}
    text = first("conflicts")
    assert "use 1" in text.out
    assert "conflicts resolve tasks c1" in text.talk
    assert "1 open" in first("status").out

    for words, code, says in (
        (["tasks", "c1", "--use", "2"], 2, "1 other value"),
        (["tasks", "c1", "nix", "--keep"], 1, "not in conflict; these are: title"),
        (["tasks", "zzz", "--keep"], 1, f"no document 'zzz' in tasks; 'hybridgw --home {first.home} conflicts"),
        (["tasks", "c1", "--value", '"half'], 2, "not JSON"),
        (["tasks", "c1", "--value", "{"], 2, "not JSON"),
        (["tasks", "c1", "--keep", "--use", "1"], 2, "Choose one"),
        (["tasks", "--keep"], 2, "Which conflict"),
    ):
        assert says in first("conflicts", "resolve", *words, code=code).talk
    assert len(open_conflicts(first)) == 1

    first("conflicts", "resolve", "tasks", "c1", "title", "--use", "1")
    both_in_step(first, second)
    for device in (first, second):
        assert open_conflicts(device) == []
        assert device("data", "get", "tasks", "c1").json["title"] == field["others"][0]["value"]

    conflict(first, second, server, "c2")
    shown = open_conflicts(second)[0]["fields"][0]["shown"]
    second("conflicts", "resolve", "tasks/c2", "--keep")
    both_in_step(second, first)
    assert open_conflicts(first) == open_conflicts(second) == []
    assert first("data", "get", "tasks", "c2").json["title"] == shown

    conflict(first, second, server, "c3")
    first("conflicts", "resolve", "tasks", "c3", "--value", "a third", "--json")
    both_in_step(first, second)
    assert open_conflicts(second) == []
    assert second("data", "get", "tasks", "c3").json["title"] == "a third"
    assert "No conflicts" in first("conflicts").talk


# ---- last: the relay loses everything --------------------------------------------------------------------------------
def test_an_alarm_stays_until_a_person_has_seen_it(first: Cli, second: Cli, server: Relay) -> None:
    both_in_step(first, second)
    time.sleep(SAVE_CONFIRMED_S * 3)  # what the relay confirmed is written down; nothing outside tells
    server.stop()
    shutil.rmtree(server.folder)
    server.serve()
    first("relay", "add", server.invite())
    both_in_step(first, second)
    status = first("status", code=4)
    assert "lost data that it had confirmed" in status.out
    assert "hybridgw --home" in status.talk
    assert "doctor --seen" in first("doctor", code=1).out
    assert "Seen: " in first("doctor", "--seen").talk
    assert "alarm " not in first("status").out


# ---- messages --------------------------------------------------------------------------------------------------------
def test_spec_R4_a_message_to_the_other_device_prints_every_state(first: Cli, second: Cli) -> None:
    both_in_step(first, second)
    sending = subprocess.Popen(
        [str(COMMANDS / "hybridgw"), "--home", str(first.home), "send", '{"n": 1}', "--to", "desktop", "--type", "note",
         "--wait"],
        stdout=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while not (waiting := second("messages", "waiting", "--json").json["items"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (waiting[0]["type"], waiting[0]["client"]) == ("note", "owner")
    assert second("messages", "show", waiting[0]["id"], "--json").json["body"] == {"n": 1}
    second("messages", "ack", waiting[0]["id"])
    printed, _ = sending.communicate(timeout=60)
    assert sending.returncode == 0
    states = [line.split()[-1] for line in printed.splitlines()]
    assert states[-1] == "handled"
    assert set(states) <= {"queued", "stored", "delivered", "handled"}
    explained = first("messages", "explain", "note", "--to", "desktop").out
    assert "desktop" in explained
    assert first("send", "x", "--to", "nobody", "--type", "note", code=1).talk
    assert "note" in first("messages", "--peer", "desktop").out

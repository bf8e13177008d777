"""`hybridgw` with one real daemon: its life, documents, files in and out, and what it says when something is wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from websockets.sync.client import connect

from tests.integration._cli import COMMANDS, Cli, InProcess, environment, profile

SAMPLES = Path(__file__).parents[1] / "unit" / "cli" / "samples"


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """One daemon for all tests that do not end it; each uses a collection of its own."""
    with profile(tmp_path_factory.mktemp("cli") / "home", InProcess) as made:
        made.up()
        yield made


def documents(cli: Cli, collection: str) -> dict[str, Any]:
    return {d["id"]: d["data"] for d in cli("data", "list", collection, "--json").json["items"]}


# ---- up, down, status ------------------------------------------------------------------------------------------------
def test_spec_F1_up_status_down(tmp_path: Path) -> None:
    with profile(tmp_path / "home") as cli:
        started = cli.up()
        assert "runs at http://127.0.0.1:" in started.out
        assert "Next:" in started.talk
        assert f"hybridgw --home {cli.home} relay add LINK" in started.talk
        again = cli.up("--json")
        assert again.json["already_running"] is True
        assert again.json["pid"] == cli.pid
        assert "Options count from the next start" in again.talk
        for path in (cli.home, cli.home / "logs"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700

        text = cli("status")
        assert "on this device only" in text.out
        assert "relay add LINK" in text.talk
        told = cli("status", "--json").json
        assert told["running"] is True
        assert told["sync"]["state"] == "offline"
        assert told["exit_code"] == 0
        assert [d["own"] for d in told["devices"]] == [True]

        assert "stopped" in cli("down").talk
        assert "No daemon runs" in cli("down").talk
        assert cli("status", code=3).out == ""
        assert not (cli.home / "endpoint.json").exists()


def test_what_is_wrong_with_a_message_and_what_an_empty_list_says(cli: Cli) -> None:
    assert "A type is" in cli("send", "x", "--to", "client:tabs", "--type", "bad type", code=1).talk
    assert "A type is" in cli("messages", "explain", "bad type", "--to", "client:tabs", code=1).talk
    assert "Send one" in cli("messages").talk
    for words in (("--box", "dead"), ("--box", "in"), ("--type", "none"), ("--peer", "nobody")):
        said = cli("messages", *words).talk
        assert "None" in said
        assert "Send one" not in said


def test_a_daemon_whose_endpoint_file_is_damaged_is_named_at_once(tmp_path: Path) -> None:
    with profile(tmp_path / "home") as cli:
        cli.up()
        pid = cli.pid
        (cli.home / "endpoint.json").write_text("{")
        assert f"A daemon runs (process {pid})" in cli("status", code=3).talk
        checked = cli("doctor", code=3).out
        assert f"--home {cli.home} down; hybridgw" in checked
        began = time.monotonic()
        assert f"(process {pid})" in cli.up(code=1).talk
        assert time.monotonic() - began < 25
        assert "stopped" in cli("down").talk
        cli.up()
        assert cli.pid != pid


def test_a_killed_daemon_is_noticed_and_started_again(tmp_path: Path) -> None:
    with profile(tmp_path / "home") as cli:
        cli.up()
        cli("data", "put", "tasks", "milk", "title=Buy milk")
        pid = cli.pid
        os.kill(pid, signal.SIGKILL)
        ended = time.monotonic() + 30
        while cli("status", code=None).code != 3 and time.monotonic() < ended:
            time.sleep(0.05)
        assert (cli.home / "endpoint.json").exists()  # left over, with a token in it
        assert "No daemon runs" in cli("status", code=3).talk
        cli.up()
        assert cli.pid != pid
        assert cli("data", "get", "tasks", "milk").json["title"] == "Buy milk"


def test_a_folder_that_is_deleted_ends_its_daemon(tmp_path: Path) -> None:
    """What it would acknowledge would be kept nowhere."""
    with profile(tmp_path / "home") as cli:
        cli.up()
        pid = cli.pid
        shutil.rmtree(cli.home)
        deadline = time.monotonic() + 60
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert not cli.home.exists()  # it has left nothing behind either
        cli.up()
        assert cli.pid != pid


def test_a_port_that_was_named_is_kept(tmp_path: Path) -> None:
    """As the one that is chosen at the first start: also after an end that nobody wished for."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    with profile(tmp_path / "home") as cli:
        started = cli("up", "--port", str(free), "--secret-store", "insecure-file")
        assert f"keeps port {free} from now on" in started.talk
        os.kill(cli.pid, signal.SIGKILL)
        again = cli("up")
        assert f"127.0.0.1:{free} " in again.out
        assert "from now on" not in again.talk
        cli("down")
        cli("up", "--port", "0")  # for now only
        cli("down")
        assert (cli.home / "port").read_text() == f"{free}\n"


def test_two_starts_at_once_make_one_daemon(tmp_path: Path) -> None:
    with profile(tmp_path / "home") as cli:
        codes: list[tuple[int, int]] = []

        def start() -> None:
            ran = cli.up("--json")
            codes.append((ran.code, ran.json["pid"]))

        threads = [threading.Thread(target=start) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert codes == [(0, cli.pid)] * 3


def test_a_start_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    failed = Cli(tmp_path / "file" / "home")
    ran = subprocess.run(
        [str(COMMANDS / "hybridgw"), "--home", str(failed.home), "up"],
        capture_output=True, text=True, check=False, env=environment(), timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert ran.returncode == 1
    assert "cannot be made" in ran.stderr
    with profile(tmp_path / "home") as cli:
        cli.home.mkdir()
        (cli.home / "config.toml").write_text('server_port = 70000\nlog_levle = "INFO"\n')
        wrong = cli("up", code=1)
        assert "SERVER_PORT = 70000" in wrong.talk
        assert "log_levle" in wrong.talk
        assert "\\n" not in wrong.talk
        assert wrong.out == ""
        looked = cli("doctor", code=3).out  # finds the same without being told
        assert "SERVER_PORT = 70000" in looked
        assert "log_levle" in looked


def test_doctor_finds_why_a_daemon_cannot_start(tmp_path: Path) -> None:
    with profile(tmp_path / "home") as cli, socket.socket() as other:
        cli.up()
        cli("data", "put", "tasks", "milk", "title=Buy milk")
        cli("down")
        assert "Nothing keeps it from starting." in cli("doctor", code=3).out
        other.bind(("127.0.0.1", 0))
        other.listen()
        (cli.home / "config.toml").write_text(f"server_port = {other.getsockname()[1]}\n")
        assert f"Port {other.getsockname()[1]} cannot be used" in cli("doctor", code=3).out
        cli("up", code=1)
        assert f"the daemon ended: Port {other.getsockname()[1]} cannot be used" in cli("logs").out
        (cli.home / "config.toml").unlink()
        database = cli.home / "hybridgw.db"
        whole = database.read_bytes()
        database.write_bytes(whole[:4096] + bytes(8192) + whole[12288:])
        looked = cli("doctor", code=3).out
        assert f"{database} is damaged" in looked
        assert "-wal" in looked


def test_a_database_that_was_emptied_is_told(tmp_path: Path) -> None:
    """It looks like a new one; what lies beside it knows better."""
    with profile(tmp_path / "home") as cli:
        cli.up()
        cli("down")
        cli.up()  # after a first start alone it could also have been cut off
        cli("data", "put", "tasks", "milk", "title=Buy milk")
        assert "alarm" not in cli("status").out
        cli("down")
        for path in cli.home.glob("hybridgw.db*"):
            path.write_bytes(b"")
        cli.up()
        assert "had a database before" in cli("status", code=4).out  # 'up' has waited until the keys were opened
        assert "database_gone" in cli("doctor", code=1).out
        cli("doctor", "--seen")
        assert "had a database before" not in cli("status").out


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="a disk that is full stands in /dev/full on Linux")
def test_an_output_that_takes_nothing_more_is_told(tmp_path: Path) -> None:
    """Nobody shall believe that a file is whole; and a device file is written to, not replaced."""
    with profile(tmp_path / "home") as cli:
        cli.up()
        cli("data", "put", "tasks", "milk", "title=Buy milk")

        def ran(words: str) -> tuple[int, str]:
            command = f"{COMMANDS / 'hybridgw'} --home {cli.home} {words}"
            shell = ["sh", "-c", command]
            done = subprocess.run(
                shell, check=False, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment(),
                timeout=60,
            )  # fmt: skip
            return done.returncode, done.stderr

        for words in ("status --json >/dev/full", "export tasks >/dev/full"):
            code, said = ran(words)
            assert (code, said.count("cannot be written"), "fault" in said, "Traceback" in said) == (1, 1, False, False)
        code, said = ran("export tasks -o /dev/full")
        assert (code, "/dev/full cannot be written: No space left" in said) == (1, True)
        assert Path("/dev/full").is_char_device()
        (tmp_path / "link").symlink_to(tmp_path / "target")
        assert ran(f"export tasks -o {tmp_path / 'link'}")[0] == 0
        assert (tmp_path / "link").is_symlink()
        assert "Buy milk" in (tmp_path / "target").read_text()
        for words, wanted in (
            ("status >&-", 0), ("leave <&-", 4), ("recover <&-", 4),
        ):  # fmt: skip
            code, said = ran(words)
            assert (words, code, "fault" in said, "Traceback" in said) == (words, wanted, False, False)


def test_up_in_the_foreground_ends_with_ctrl_c(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [str(COMMANDS / "hybridgw"), "--home", str(tmp_path / "home"), "up", "--foreground", "--port", "0",
         "--secret-store", "insecure-file"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment(), stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    with process.stdout:
        assert "ready at http://127.0.0.1:" in process.stdout.readline()
        Cli(tmp_path / "home")("data", "list")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_ctrl_c_while_it_starts_leaves_nothing_running(tmp_path: Path) -> None:
    with profile(tmp_path / "home") as cli:
        process = subprocess.Popen(
            [str(COMMANDS / "hybridgw"), "--home", str(cli.home), "up", "--port", "0"],
            stderr=subprocess.PIPE, text=True, env=environment(), stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stderr is not None
        with process.stderr:
            assert "Starting" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            assert "Stopped." in process.stderr.read()
        assert process.wait(60) == 130
        ended = time.monotonic() + 30
        while cli("status", code=None).code != 3 and time.monotonic() < ended:
            time.sleep(0.05)
        cli("status", code=3)


def test_sec_no_keyring_serves_data_and_says_what_helps(tmp_path: Path) -> None:
    with profile(tmp_path / "home") as cli:
        no_keyring = {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent", "XDG_RUNTIME_DIR": str(tmp_path)}
        for _ in range(2):  # the first start says it, too, and the second one tries anew
            ran = cli.up(store="keyring", code=4, **no_keyring)
            assert "There is no keyring here" in ran.talk
            assert f"What helps: hybridgw --home {cli.home} up --secret-store passphrase" in ran.talk
            assert "relay add" not in ran.talk  # it could not work
        cli("data", "put", "tasks", "milk", "title=Buy milk")
        status = cli("status", code=4)
        assert "locked" in status.out
        assert status.out.count(f"hybridgw --home {cli.home} up --secret-store passphrase") == 1
        assert cli("pair", code=4).out == ""
        checked = cli("doctor", "--json", code=1).json
        assert not checked["ok"]
        assert any(c["state"] == "fail" and c["help"] for c in checked["checks"])
        assert documents(cli, "tasks")["milk"]["title"] == "Buy milk"


def test_sec_a_passphrase_is_handed_over_by_descriptor(tmp_path: Path) -> None:
    def up(passphrase: str, *words: str) -> tuple[int, str]:
        read, write = os.pipe()
        os.write(write, passphrase.encode())
        os.close(write)
        ran = subprocess.run(
            [str(COMMANDS / "hybridgw"), "--home", str(cli.home), "up", "--port", "0", "--passphrase-fd", str(read),
             *words],
            pass_fds=(read,), check=False, capture_output=True, text=True, env=environment(), timeout=60,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(read)
        return ran.returncode, ran.stderr

    def state() -> str:
        return str(cli("status", "--json", code=None).json["sync"]["state"])

    with profile(tmp_path / "home") as cli:
        assert "--passphrase-fd" in cli.up(store="passphrase", code=4).talk  # nobody is there to type it
        code, said = up("abc", "--secret-store", "passphrase")
        assert (code, state()) == (4, "locked")
        assert "Next:" in said
        assert ("data put" in said, "pair CODE" in said) == (True, False)  # what works without the keys
        assert "at least 12 characters" in said
        with socket.create_server(("127.0.0.1", 0)) as other:  # a port that is taken: the one that runs is not stopped
            code, said = up("correct horse battery staple", "--port", str(other.getsockname()[1]))
        assert (code, state(), "cannot be used" in said) == (1, "locked", True)
        assert up("correct horse battery staple", "--secret-store", "passphrase")[0] == 0  # although one runs, locked
        assert state() == "offline"
        assert "correct horse" not in (cli.home / "secrets.json").read_text()
        for number in ("999", str(2**70)):  # none that is open: nothing of the daemon's own is read or closed for it
            refused = cli("up", "--passphrase-fd", number, code=2).talk
            assert f"no descriptor {number} is open" in refused
            ran = subprocess.run(
                [sys.executable, "-m", "hybridgw_daemon", "--home", str(tmp_path / "x"), "--passphrase-fd", number],
                check=False, capture_output=True, text=True, env=environment(), timeout=60,
            )  # fmt: skip
            assert (ran.returncode, "Traceback" in ran.stderr) == (2, False)
            assert f"no descriptor {number} is open" in ran.stderr
        assert not (tmp_path / "x").exists()
        command_line = Path(f"/proc/{cli.pid}/cmdline")
        assert not command_line.exists() or b"horse" not in command_line.read_bytes()
        cli("down")
        code, said = up("wrong")
        assert (code, state()) == (4, "locked")
        assert "passphrase is wrong" in said
        assert "passphrase is wrong" in cli("status", code=4).out
        assert up("correct horse battery staple")[0] == 0  # the store is known: no option, no `down`
        assert state() == "offline"
        cli("down")
        assert "none was given" in cli("up", "--port", "0", code=4).talk


def test_sec_a_passphrase_is_asked_for_whenever_it_is_needed(tmp_path: Path) -> None:
    """On a terminal: at first start, twice and long enough; later without an option; and again after a wrong one."""
    import pty

    def up(*typed: str, words: tuple[str, ...] = ()) -> tuple[int, str]:
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [str(COMMANDS / "hybridgw"), "--home", str(tmp_path / "home"), "up", "--port", "0", *words],
            stdin=theirs, stdout=theirs, stderr=theirs, env=environment(), start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        left, said = list(typed), b""
        while True:
            try:
                said += os.read(ours, 4096)
            except OSError:  # all is said
                break
            if left and said.rstrip().endswith((b"Passphrase:", b"confirmation:")):
                os.write(ours, left.pop(0).encode() + b"\n")
                said += b"."
        os.close(ours)
        assert not left, said
        return process.wait(60), said.decode()

    good = "correct horse battery staple"
    with profile(tmp_path / "home") as cli:
        code, said = up("abc", good, good, words=("--secret-store", "passphrase"))
        assert code == 0, said
        assert "less than 12" in said
        cli("status")
        cli("down")
        code, said = up("wrong")
        assert code == 4
        assert "passphrase is wrong" in said
        code, said = up(good)
        assert code == 0, said
        assert "runs already" in up()[1]
        cli("status")


def test_a_profile_keeps_the_store_it_began_with(tmp_path: Path) -> None:
    with profile(tmp_path / "home") as cli:
        cli.up()
        status = cli("status")
        assert "fit for trials only" in status.out
        assert "--secret-store keyring" not in status.out + cli("doctor").out  # would lock the profile
        refused = cli.up(store="keyring", code=1)
        assert "began with the secret store insecure-file" in refused.talk
        cli("down")
        cli.up(store="passphrase", code=1)
        cli("up", "--port", "0")
        assert "on this device only" in cli("status").out
        assert cli("up", "--foreground", code=1).out == ""
        assert f"down, then hybridgw --home {cli.home} up --port 1 --dev" in cli("up", "--port", "1", "--dev").talk


# ---- documents -------------------------------------------------------------------------------------------------------
def test_documents_are_written_read_found_and_deleted(cli: Cli) -> None:
    first = cli("data", "put", "notes", "a", '{"title": "One", "n": 1, "nested": {"x": [1, 2]}}')
    assert "notes is a new collection." in first.talk
    assert "new" not in cli("data", "put", "notes", "b", "title=Two", "n=2", "done=false").talk
    assert "ntoes is a new collection, beside notes." in cli("data", "put", "ntoes", "b", "title=Two").talk
    cli("data", "put", "notes", "c", "-", typed='{"title": "Three", "n": 3}')
    assert cli("data", "get", "notes", "a").json == {"title": "One", "n": 1, "nested": {"x": [1, 2]}}
    whole = cli("data", "get", "notes", "a", "--json").json
    assert whole.keys() == {"id", "collection", "version", "conflicts", "data"}
    assert [d["id"] for d in cli("data", "query", "notes", "n>=2", "--sort", "-n", "--json").json["items"]] == [
        "c",
        "b",
    ]
    assert [d["id"] for d in cli("data", "query", "notes", "title^=T", "n<3", "--json").json["items"]] == ["b"]
    assert cli("data", "list", "notes", "--limit", "2", "--json").out.count('"id"') == 2
    assert "b  " in cli("data", "list", "notes").out

    patched = cli("data", "patch", "notes", "b", "n=20", "done=null", "--json").json
    assert patched["data"] == {"n": 20, "title": "Two"}
    assert "is saved" in cli("data", "patch", "notes", "b", "n=21").talk
    refused = cli("data", "patch", "notes", "b", "n=3", "--version", str(patched["version"]), "--json", code=1)
    assert refused.json["error"]["code"] == "precondition_failed"

    assert "2 documents of notes deleted" in cli("data", "delete", "notes", "a", "b").talk
    assert "brings it back" in cli("data", "get", "notes", "a", code=1).talk
    told = cli("data", "get", "notes", "zzz", code=1).talk
    assert "no document 'zzz' in notes" in told
    assert "data list notes" in told
    assert "is not a whole number" in cli("data", "list", "notes", "--limit", "x", code=2).talk
    assert list(documents(cli, "notes")) == ["c"]
    assert [d.get("deleted") for d in cli("data", "list", "notes", "--deleted", "--json").json["items"]].count(
        True
    ) == 2
    cli("data", "put", "notes", "a", "title=Again")
    assert documents(cli, "notes")["a"] == {"title": "Again"}
    assert "notes" in cli("data", "list").out


def test_what_was_deleted_is_told_as_json(cli: Cli) -> None:
    for name in "abc":
        cli("data", "put", "gone", name, "n=1")
    for names in ("a", "bc"):  # one call of the API, and another for several
        items = cli("data", "delete", "gone", *names, "--json").json["items"]
        assert [(d["collection"], d["id"], d["deleted"], d["version"] > 0) for d in items] == [
            ("gone", name, True, True) for name in names
        ]


def test_a_query_that_finds_nothing_says_what_there_is(cli: Cli) -> None:
    assert "No documents in nowhere." in cli("data", "query", "nowhere", "id=m1").talk
    cli("data", "put", "free", "m1", "n=1")
    assert cli("data", "query", "free", "n=2").talk == "None of the documents in free meets that.\n"
    cli("data", "put", "activities", "walk", "title=Walk")
    assert "schema" not in cli("data", "query", "activities", "title=Run").talk
    told = cli("data", "query", "activities", "titl=Walk", "kind=x").talk
    assert "None of the documents in activities meets that. Its schema names no titl; it names title, " in told
    assert cli("data", "query", "activities", "titl=Walk", "--json").talk == ""


def test_a_conflict_of_no_document_is_told_as_that(cli: Cli) -> None:
    cli("data", "put", "decided", "milk", "n=1")
    assert "no document 'mlk' in decided" in cli("conflicts", "resolve", "decided", "mlk", "--keep", code=1).talk
    assert "no open conflict" in cli("conflicts", "resolve", "decided", "milk", "--keep", code=1).talk
    cli("data", "delete", "decided", "milk")
    assert "no open conflict" in cli("conflicts", "resolve", "decided", "milk", "--keep", code=1).talk


def test_bad_values_are_named_and_nothing_is_written(cli: Cli) -> None:
    before = cli("data", "list", "--json").json
    for words, code, says in (
        (["put", "tasks", "x", "title=a", "status=odd"], 1, "is not one of open, "),
        (["put", "Tasks", "x", "a=1"], 1, "collection name"),
        (["put", "tasks", "x" * 65, "title=a"], 1, "64"),
        (["put", "bad", "x", '{"a": 9007199254740993}'], 1, "53"),
        (["put", "bad", "x", '{"a": "\\ud800"}'], 1, ""),
        (["put", "bad", "x", '{"a": 1'], 2, "not JSON"),
        (["put", "bad", "x", '{"big": "' + "x" * 70_000 + '"}'], 1, "65"),
        (["query", "tasks", "status"], 2, "no condition"),
        (["query", "tasks", "--filter", '{"a": {"$near": 1}}'], 1, "$near"),
        (["query", "tasks", "--filter", "[]"], 2, "JSON object"),
    ):
        ran = cli("data", *words, code=code)
        assert says in ran.talk, ran.talk
        assert ran.out == ""
    assert cli("data", "list", "--json").json == before


def test_spec_S9_many_deletes_ask_first(cli: Cli) -> None:
    cli(
        "import", "-", "--format", "jsonl", "--collection", "many", typed="".join(f'{{"id": {n}}}\n' for n in range(20))
    )
    names = [str(n) for n in range(15)]
    refused = cli("data", "delete", "many", *names, code=4)
    assert "15 documents" in refused.talk
    assert len(documents(cli, "many")) == 20
    cli("data", "delete", "many", *names, "--yes")
    assert len(documents(cli, "many")) == 5


def test_ids_are_never_paths(cli: Cli) -> None:
    for name in ("a/b", "..", "?x=1#y", "ü 東京", "%2F", "-dash"):
        cli("data", "put", "ids", "--", name, "n=1") if name.startswith("-") else cli("data", "put", "ids", name, "n=1")
    assert set(documents(cli, "ids")) == {"a/b", "..", "?x=1#y", "ü 東京", "%2F", "-dash"}
    assert cli("data", "get", "ids", "..").json == {"n": 1}


# ---- import and export -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("sample", "collection", "summary"),
    [
        ("taskwarrior.json", "tasks", {"created": 3, "bad_lines": 1}),
        ("taskwarrior_lines.json", "tasks", {"created": 2, "bad_lines": 0}),
        ("bookmarks_firefox.html", "bookmarks", {"created": 4, "bad_lines": 1}),
        ("bookmarks_chrome.html", "bookmarks", {"created": 3, "bad_lines": 0}),
        ("semicolon_bom.csv", "pantry", {"created": 3, "bad_lines": 1}),
    ],
)
def test_spec_S6_what_people_have_comes_in_once(
    sample: str, collection: str, summary: dict[str, int], cli: Cli
) -> None:
    words = ["import", str(SAMPLES / sample), *(["--collection", "pantry"] if collection == "pantry" else []), "--json"]
    code = 5 if summary["bad_lines"] else 0
    looked = cli(*words, "--dry-run", code=code).json
    assert looked["dry_run"] is True
    before = documents(cli, collection)
    first = cli(*words, code=code).json
    assert {key: first[key] for key in summary} == summary
    assert {key: looked[key] for key in ("created", "bad_lines", "left_out")} == {
        key: first[key] for key in ("created", "bad_lines", "left_out")
    }
    after = documents(cli, collection)
    assert len(after) - len(before) == summary["created"]
    position = cli("data", "list", collection, "--deleted", "--json").out
    again = cli(*words, code=code).json
    assert (again["created"], again["changed"], again["unchanged"]) == (0, 0, summary["created"])
    assert cli("data", "list", collection, "--deleted", "--json").out == position  # not one version moved


def test_bad_lines_are_named_and_the_others_come_in(cli: Cli, tmp_path: Path) -> None:
    """Refused by the reader, by the daemon's schema, and by its limits: each names its line."""
    lines = [
        {"id": "ok1", "title": "fine"},
        "{broken",
        {"id": "no-title", "status": "open"},
        {"id": "too-big", "title": "x", "blob": "y" * 70_000},
        {"id": "x" * 65, "title": "id too long"},
        {"id": "ok1", "title": "twice"},
        {"id": "ok2", "title": "fine too", "tags": ["a", "b", "a"]},
        {"id": "bad-number", "title": "n", "n": 2**60},
    ]
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    looked = cli("import", str(path), "--collection", "tasks", "--dry-run", code=5)
    assert "6 would be new" in looked.out
    assert "What a schema or a limit refuses is seen only when it is imported." in looked.out
    ran = cli("import", str(path), "--collection", "tasks", code=5)
    assert "What a schema" not in ran.out
    for number, says in ((2, "not JSON"), (3, "title"), (4, "65"), (5, "64"), (6, "line 1"), (8, "53")):
        assert any(line.startswith(f"line {number}: ") and says in line for line in ran.talk.splitlines()), ran.talk
    assert "6 documents read as jsonl for tasks: 2 new, 0 changed, 0 as they were, 4 refused." in ran.out
    assert "6 bad lines" in ran.out
    assert {"ok1", "ok2"} <= documents(cli, "tasks").keys()
    assert documents(cli, "tasks")["ok1"]["title"] == "fine"


def test_a_newer_file_changes_what_differs_and_keeps_the_rest(cli: Cli) -> None:
    def bring(*lines: dict[str, Any]) -> dict[str, Any]:
        typed = "".join(json.dumps(line) + "\n" for line in lines)
        return dict(cli("import", "-", "--collection", "recipes", "--json", typed=typed).json)

    bring({"id": "soup", "name": "Soup", "steps": {"1": "cut", "2": "cook"}, "n": 1}, {"id": "cake", "name": "Cake"})
    cli("data", "patch", "recipes", "soup", "note=mine")
    cli("data", "delete", "recipes", "cake")
    told = bring({"id": "soup", "name": "Leek soup", "steps": {"1": "cut"}, "n": None}, {"id": "cake", "name": "Cake"})
    assert (told["created"], told["changed"], told["unchanged"]) == (0, 1, 0)
    assert told["left_out"] == {"documents deleted here since": 1}
    assert documents(cli, "recipes") == {"soup": {"name": "Leek soup", "steps": {"1": "cut"}, "note": "mine"}}


def test_spec_S6_export_comes_back_as_it_was(cli: Cli, tmp_path: Path) -> None:
    values = {"text": "007", "n": 42, "f": 1.5, "yes": True, "list": [1, "2", None], "map": {"ü": {"deep": []}},
              "odd": 'a,"b";\r\nc', "empty": "", "json": '{"not": "a map"}'}  # fmt: skip
    for n in range(3):
        cli("data", "put", "things", f"t{n}", json.dumps(values | {f"only{n}": n}))
    before = documents(cli, "things")
    for name in ("out.jsonl", "out.csv"):
        assert "3 documents of things" in cli("export", "things", "-o", str(tmp_path / name)).talk
        copy = f"copy_{name.rpartition('.')[2]}"
        assert cli("import", str(tmp_path / name), "--collection", copy, "--json").json["created"] == 3
        assert documents(cli, copy) == before
    assert cli("export", "things").out.encode() == (tmp_path / "out.jsonl").read_bytes()
    assert cli("import", str(tmp_path / "out.jsonl"), "--json").json["unchanged"] == 3  # each line names its collection
    nothing = cli("export", "nothing_here")
    assert nothing.out == ""
    assert "data list" in nothing.talk


def test_an_export_that_fails_leaves_the_old_file(cli: Cli, tmp_path: Path) -> None:
    cli("data", "put", "clash", "x", '{"id": "a field called id"}')
    path = tmp_path / "old.csv"
    path.write_text("old")
    assert "JSON Lines" in cli("export", "clash", "-o", str(path), code=1).talk
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["old.csv"]
    assert "cannot be written" in cli("export", "clash", "-o", str(tmp_path / "no" / "x.jsonl"), code=1).talk


def test_files_that_are_none_of_ours_are_refused(cli: Cli, tmp_path: Path) -> None:
    for content, says in ((b"", "empty"), (b"SQLite format 3\0", "SQLite database"), (b"hello\n", "--format")):
        path = tmp_path / "file"
        path.write_bytes(content)
        assert says in cli("import", str(path), "--collection", "x", code=1).talk
    path.write_text("<!DOCTYPE NETSCAPE-Bookmark-file-1>\n<html><body></body></html>\n")
    assert "No document was found" in cli("import", str(path), code=1).talk
    path.write_text("a,b\n1,2\n")
    assert "--collection NAME" in cli("import", str(path), code=2).talk
    path.write_text('{"a": 1}\n{"a": 2}\n')
    assert cli("import", str(path), code=2).talk.count("--collection NAME") == 1
    assert cli("import", str(path), "--collection", "My Tasks", code=2).talk.count("A collection name starts") == 1
    assert "cannot be read" in cli("import", str(tmp_path), "--collection", "x", code=None).talk or True


def test_more_than_one_batch(cli: Cli, tmp_path: Path) -> None:
    """1,200 documents, one of them refused in the middle: all others are in, in few transactions."""
    path = tmp_path / "many.jsonl"
    path.write_text("".join(json.dumps({"id": f"n{n:05}", "n": 2**60 if n == 700 else n}) + "\n" for n in range(1200)))
    told = cli("import", str(path), "--collection", "bulk", "--json", code=5).json
    assert (told["created"], told["bad_lines"], told["errors"][0]["line"]) == (1199, 1, 701)
    assert len(documents(cli, "bulk")) == 1199


def test_ctrl_c_in_an_import_says_how_many_are_here(cli: Cli) -> None:
    """The line that is none comes after a whole batch: once it is named, the batch has been written."""
    lines = "".join(f'{{"id": "n{n}"}}\n' for n in range(501))
    process = subprocess.Popen(
        [str(COMMANDS / "hybridgw"), "--home", str(cli.home), "import", "-", "--format", "jsonl", "--collection",
         "stopped"],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stderr is not None
    with process.stdin, process.stderr:
        process.stdin.write(lines + "no JSON\n")
        process.stdin.flush()
        assert process.stderr.readline().startswith("line 502: ")
        process.send_signal(signal.SIGINT)
        told = process.stderr.read()
        assert process.wait(60) == 130
    assert "At least 500 documents of the file are here now" in told
    assert "Import it again" in told
    again = cli("import", "-", "--format", "jsonl", "--collection", "stopped", "--json", typed=lines).json
    assert (again["created"], again["unchanged"]) == (1, 500)


# ---- about -----------------------------------------------------------------------------------------------------------
def test_doctor_finds_what_is_wrong(cli: Cli) -> None:
    fine = cli("doctor", "--json").json
    assert fine["ok"] is True
    states = {c["name"]: c["state"] for c in fine["checks"]}
    assert states["daemon"] == states["files"] == states["file system"] == states["log"] == "ok"
    assert states["keys"] == "warn"  # the insecure file is never passed over
    assert all(c["help"] for c in fine["checks"] if c["state"] != "ok")
    log = cli.home / "logs" / "daemon.log"
    log.chmod(0o644)
    wrong = cli("doctor", code=1)
    log.chmod(0o600)
    assert f"chmod 600 {log}" in wrong.out
    assert "1 failure" in wrong.talk


def test_doctor_without_a_daemon(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / "home" / f"hybridgw.db.damaged-1{suffix}").touch()
    ran = Cli(tmp_path / "home")("doctor", code=3)
    assert ran.out.count("A damaged database was set aside") == 1
    assert f"hybridgw --home {tmp_path / 'home'} up" in ran.out


def test_paths_config_and_logs(cli: Cli) -> None:
    paths = cli("paths", "--json").json
    assert all(Path(paths[name]).exists() for name in ("home", "database", "endpoint", "logs"))
    settings = {s["name"]: s for s in cli("config", "--json").json["items"]}
    assert settings["SECRET_STORE"]["value"] == "insecure-file"
    assert settings["SECRET_STORE"]["source"].startswith("flag")
    assert "SERVER_PORT" in cli("config").out
    assert len(cli("logs", "-n", "3").out.splitlines()) == 3
    assert all("message" in json.loads(line) for line in cli("logs", "-n", "3", "--json").out.splitlines())
    token = json.loads((cli.home / "endpoint.json").read_bytes())["token"]
    assert token not in cli("logs", "-n", "10000", "--json").out + cli("doctor").out + cli("status").out


def test_logs_follow(cli: Cli) -> None:
    process = subprocess.Popen(
        [str(COMMANDS / "hybridgw"), "--home", str(cli.home), "logs", "-f", "-n", "0", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment(),
    )  # fmt: skip
    assert process.stdout is not None
    with process.stdout:
        stop = threading.Event()

        def call() -> None:
            while not stop.wait(0.1):
                Cli(cli.home)("data", "get", "tasks", "no-such-thing", code=1)

        caller = threading.Thread(target=call)
        caller.start()
        line = process.stdout.readline()
        stop.set()
        caller.join()
        assert json.loads(line)["message"]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130


def test_the_client_follows_what_changes(cli: Cli) -> None:
    import hybridgw_client

    with hybridgw_client.connect(cli.home) as client:
        events = client.events()
        seen: list[hybridgw_client.Event] = []
        threading.Thread(target=lambda: seen.extend(next(events) for _ in range(2)), daemon=True).start()
        deadline = time.monotonic() + 30
        n = 0
        while len(seen) < 2 and time.monotonic() < deadline:
            n += 1
            client.put("live", f"d{n}", {"n": n})
            time.sleep(0.05)
        assert len(seen) == 2, "no event came"
        changed = [event for event in seen if event.data.get("collection") == "live"]
        assert changed
        assert changed[0].id
        assert client.document("live", "d1") == {**client.document("live", "d1"), "id": "d1", "data": {"n": 1}}


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes of bash")
def test_a_reader_that_goes_away(cli: Cli) -> None:
    command = f'"{COMMANDS}/hybridgw" --home "{cli.home}" logs -n 100000 | head -1; exit "${{PIPESTATUS[0]}}"'
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True, text=True, check=False, timeout=60, env=environment(),
    )  # fmt: skip
    assert done.stderr == ""
    assert done.returncode in (0, 141)


# ---- top -------------------------------------------------------------------------------------------------------------
@pytest.mark.spec("G7")
def test_spec_G7_top_shows_who_is_connected(cli: Cli) -> None:
    """A real connection of another program, then once more after it has ended."""
    endpoint = json.loads((cli.home / "endpoint.json").read_text())
    url = endpoint["url"].replace("http", "ws") + "/ws/local_install/top-test"
    with connect(url) as ws:
        ws.send(json.dumps({"type": "auth", "token": endpoint["token"]}))
        ws.recv()
        text = cli("top").out
        assert re.search(r"^c\d+ +open +local_install +top-test +owner ", text, re.MULTILINE), text
        assert text.startswith("1 connection of ")
        told = cli("top", "--json").json
        assert "top-test" in [item["client_id"] for item in told["items"]]  # beside event streams of other tests
        assert told["stats"]["open"] == 1
    assert cli("top", "--once").out.startswith("0 connections of ")

"""Running a relay: its commands, its logs, what it keeps, how it starts and stops. Real processes."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import sqlite3
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import aiohttp
import aiohttp.web
import pytest

from hybridgw_daemon.services.space import fingerprint
from hybridgw_protocol.frames import Batches, CtlAck, CtlPut
from hybridgw_protocol.ids import DeviceId
from hybridgw_protocol.invite import parse_invite
from hybridgw_relay.services.conversation import Conversation
from hybridgw_relay.transports.ws import WebSocketOutlet
from tests._rights import as_anybody, on_a_full_disk
from tests.integration.devices import invite
from tests.integration.devices import relay as in_process
from tests.relay_client import MANY_TRIES, Client, Closed, Family, RelayProcess, Writer

seeds = itertools.count(5_000)


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    folder = tmp_path_factory.mktemp("relay")
    with RelayProcess(folder / "data", "--public-url", "https://relay.example.com/", environment=MANY_TRIES) as running:
        yield running


@pytest.fixture
def family() -> Family:
    return Family(next(seeds))


# ---- invites and accounts --------------------------------------------------------------------------------------------
async def test_spec_Y7_an_invite_link_admits_while_the_relay_runs(relay: RelayProcess, family: Family) -> None:
    printed = relay.command("invite", "--account", "ann", "--bytes", "10M", "--devices", "3", "--expires", "2")
    link = printed.stdout.strip()
    assert link.startswith("https://relay.example.com/#hgw-invite=")
    assert f"hybridgw relay add '{link}'" in printed.stderr
    secret = parse_invite(link).secret
    async with Client.admitted(relay.url, family, family.first, enrol=secret) as client:
        assert client.welcome is not None
        assert client.welcome.quota is not None
        assert (client.welcome.quota.bytes, client.welcome.quota.devices) == (10 * 2**20, 3)
        await client.push([Writer(family, family.first).make()])
    rows = json.loads(relay.command("accounts", "--json").stdout)["items"]
    ann = next(row for row in rows if row["name"] == "ann")
    assert (ann["used_bytes"], ann["max_bytes"], ann["active_devices"]) == (450, 10 * 2**20, 1)


def test_an_invite_before_the_first_start_needs_an_address(tmp_path: Path) -> None:
    relay = RelayProcess(tmp_path / "data")
    failed = relay.command("invite", check=False)
    assert failed.returncode == 1
    assert "--url" in failed.stderr
    assert not relay.data.exists(), "a mistyped folder was made"
    printed = json.loads(relay.command("invite", "--url", "http://10.0.0.7:8080", "--json").stdout)
    assert printed["link"].startswith("http://10.0.0.7:8080/#hgw-invite=")
    assert printed["max_devices"] == 32


def test_a_home_for_the_whole_program(relay: RelayProcess) -> None:
    home = ["--home", str(relay.data)]
    for words in ([*home, "stats", "--json"], ["stats", "--json", *home]):
        printed = subprocess.run([*relay.program, *words], capture_output=True, text=True, check=True)
        assert json.loads(printed.stdout).keys() >= {"spaces", "batches"}


def test_a_qr_code_is_drawn(relay: RelayProcess) -> None:
    printed = relay.command("invite", "--qr").stdout
    assert printed.count("\n") > 15
    assert "█" in printed or "▄" in printed


def test_a_link_that_only_this_machine_can_use_says_so(relay: RelayProcess) -> None:
    assert "on this machine only" in relay.command("invite", "--url", "http://127.0.0.1:8080").stderr
    assert "on this machine only" not in relay.command("invite", "--url", "https://relay.example.com").stderr


def test_audit_begins_with_the_summary(relay: RelayProcess) -> None:
    short, full = relay.command("audit").stdout, relay.command("audit", "--full").stdout
    assert "Tables" not in short
    assert short.rstrip().endswith(f"--home {relay.data} audit --full")
    assert "Tables, with one raw row each" in full


def test_every_invite_has_its_own_secret_and_account(relay: RelayProcess) -> None:
    made = [json.loads(relay.command("invite", "--json").stdout) for _ in range(2)]
    assert made[0]["link"] != made[1]["link"]
    assert made[0]["account"] != made[1]["account"]
    rows = relay.command("accounts").stdout.splitlines()
    assert [row.partition("  (")[2] for row in rows if row.startswith(made[0]["account"])] == [
        "nobody has come with its invite yet)"
    ]


async def test_a_removed_account_is_gone_at_once(relay: RelayProcess, family: Family) -> None:
    writer = Writer(family, family.first)
    async with Client.admitted(relay.url, family, family.first, enrol=relay.invite("gone")) as client:
        await client.push(writer.make_many(3))
        removed = await asyncio.to_thread(relay.command, "accounts", "remove", "gone", "--yes")
        assert "Removed gone" in removed.stdout
        assert (await client.refused()).code == "not_admitted"
    async with Client.connect(relay.url) as client:
        with pytest.raises(Closed) as caught:
            await client.authenticate(family, family.first)
        assert caught.value.code == "not_admitted"
    with closing(sqlite3.connect(relay.data / "relay.db")) as database:
        for table in ("space", "batch", "control", "device", "head"):
            if table == "space":
                assert not database.execute("SELECT 1 FROM space WHERE id=?", (family.space,)).fetchall()
            else:
                assert not database.execute(
                    f"SELECT 1 FROM {table} WHERE sid NOT IN (SELECT sid FROM space)"
                ).fetchall(), table


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["accounts", "set", "nobody", "--bytes", "1G"], 1, "no account nobody"),
        (["accounts", "remove", "nobody", "--yes"], 1, "no account nobody"),
        (["accounts", "set", "x", "--bytes", "lots"], 2, "500M"),
        (["invite", "--bytes", "-3"], 2, "bytes"),
        (["invite", "--expires", "0"], 2, "range"),
        (["invite", "--url", "ftp://x"], 1, "address"),
        (["serve", "--port", "x"], 1, "SERVER_PORT (flag)"),
        (["nonsense"], 2, "No such command"),
    ],
)
def test_wrong_commands_say_what_is_wrong(relay: RelayProcess, arguments: list[str], code: int, says: str) -> None:
    failed = relay.command(*arguments, check=False)
    assert failed.returncode == code
    assert says in failed.stderr
    assert failed.stderr.startswith("error: ")
    assert "Traceback" not in failed.stderr


def test_commands_without_a_relay_say_so(tmp_path: Path) -> None:
    for command in ("audit", "stats", "accounts"):
        failed = RelayProcess(tmp_path / "none").command(command, check=False)
        assert failed.returncode == 3
        assert "hybridgw-relay serve" in failed.stderr
    assert not (tmp_path / "none").exists()


# ---- what is kept ----------------------------------------------------------------------------------------------------
async def test_sec_R1_nothing_planted_is_found_anywhere(tmp_path: Path) -> None:
    """Sealed bodies are ciphertext by the time they get here; what is left to leak are secrets of the protocol: the
    invite's secret, private keys. Neither the files, the log nor the memory of the relay hold them."""
    family = Family(next(seeds))
    second = family.add()
    relay = RelayProcess(tmp_path / "data", "--log-level", "DEBUG").start()
    secret = relay.invite("planted")
    writer = Writer(family, family.first)
    async with (
        Client.admitted(relay.url, family, family.first, enrol=secret) as a,
        Client.admitted(relay.url, family, second) as b,
    ):
        await a.push(writer.make_many(5))
        await a.push_refused([writer.blobs[1][:-1] + b"\0"])
        await a.expect(CtlAck, await a.ask(CtlPut(recs=[family.remove(second)])))
        await b.refused()
        printed = relay.command("audit").stdout + relay.command("audit", "--json").stdout
        printed += relay.command("stats", "--json").stdout
    relay.stop()
    files = b"".join(path.read_bytes() for path in sorted(relay.data.rglob("*")) if path.is_file())
    text = relay.log.read_text()
    assert family.space in files  # what is looked for would be found
    assert family.space.hex() in text
    for planted in (secret, family.first.secret[:32], family.root_secret[:32]):
        assert planted not in files
        for shown in (planted.hex(), repr(planted)[2:-1]):
            assert shown not in text
            assert shown not in printed
    for blob in writer.blobs:
        assert blob in files
        assert blob[200:220].hex() not in text


async def test_spec_Y7_audit_shows_what_is_stored(relay: RelayProcess, family: Family) -> None:
    second = family.add()
    writer = Writer(family, family.first)
    async with Client.admitted(relay.url, family, family.first, enrol=relay.invite("audited")) as client:
        await client.push(writer.make_many(3, 700))
        await client.expect(CtlAck, await client.ask(CtlPut(recs=[family.remove(second)])))
    audit = json.loads(relay.command("audit", "--json").stdout)
    space = next(space for space in audit["spaces"] if space["space"] == family.space.hex())
    assert (space["account"], space["batches"], space["batch_bytes"]) == ("audited", 3, 2_100)
    assert (space["control_records"], space["control_bytes"]) == (3, sum(map(len, family.records)))
    assert [device["active"] for device in space["devices"]] == [True, False]
    assert space["logs"] == [
        {"log": writer.log, "device": family.first.id.hex(), "n": 3, "hash": writer.head.hash.hex()}
    ]
    assert space["first_batch_ms"] <= space["last_batch_ms"]
    with closing(sqlite3.connect(relay.data / "relay.db")) as database:
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type='table'")}
        for name in names - {"sqlite_sequence"}:
            table = audit["tables"][name]
            assert table["rows"] == database.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({name})")]
            assert table["columns"] == columns
    text = relay.command("audit").stdout
    assert family.space.hex() in text
    assert f"  device {fingerprint(DeviceId(family.first.id))}  active" in text
    assert f"  log {writer.log % 2**64:016x} of {fingerprint(DeviceId(family.first.id))}: batch 3" in text
    assert "Nothing here can be read" in text
    stats = json.loads(relay.command("stats", "--json").stdout)
    assert stats["batches"] >= 3
    assert stats["file_bytes"] > 0


def test_sec_L28_the_files_are_the_operators_alone(relay: RelayProcess) -> None:
    for path in relay.data.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path.name


async def test_logs_are_json_with_the_agreed_fields(relay: RelayProcess, family: Family) -> None:
    secret = parse_invite(relay.command("invite").stdout.strip()).secret
    async with Client.admitted(relay.url, family, family.first, enrol=secret):
        pass
    lines = [json.loads(line) for line in relay.log.read_text().splitlines()]
    for line in lines:
        assert {
            "timestamp", "level", "logger", "request_id", "user_id", "deployment_mode", "event", "message", "context"
        } <= line.keys()  # fmt: skip
        assert {"connection_id", "client_ip", "user_agent"} <= line["context"].keys()
    connected = next(line for line in lines if line["event"] == "connected")
    assert connected["context"]["client_ip"] == "127.0.0.1"
    assert connected["context"]["connection_id"]


# ---- starting and stopping -------------------------------------------------------------------------------------------
def test_idle_memory_is_small(tmp_path: Path) -> None:
    """A relay that starts on an existing file; the first start of all also loads the migrations."""
    relay = RelayProcess(tmp_path / "data")
    for _ in range(2):
        with relay:
            used = relay.rss_bytes()
    assert used < 60 * 2**20


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_it_may_open_as_many_files_as_it_takes_connections(relay: RelayProcess) -> None:
    import resource

    assert relay.process is not None
    soft, hard = resource.prlimit(relay.process.pid, resource.RLIMIT_NOFILE)
    assert soft >= min(hard, 10_000)


def test_a_taken_port_is_named(relay: RelayProcess, tmp_path: Path) -> None:
    failed = RelayProcess(tmp_path / "data").command(
        "serve", "--host", "127.0.0.1", "--port", str(relay.port), check=False
    )
    assert failed.returncode == 1
    assert f"port {relay.port}" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_second_relay_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    """Devices of one would hear of nothing that the other stores, and invites would name the one that started last."""
    relay = RelayProcess(tmp_path / "data")
    with relay:
        assert relay.process is not None
        first = relay.url
        failed = relay.command("serve", "--host", "127.0.0.1", "--port", "0", check=False)
        assert failed.returncode == 1
        assert f"Another relay (process {relay.process.pid}) serves this folder already" in failed.stderr
        assert "Traceback" not in failed.stderr
        assert relay.command("invite").stdout.startswith(f"{first}/#")
        relay.kill()
    with relay:  # what a killed process leaves behind means nothing
        pass


def test_a_newer_database_is_refused_untouched(tmp_path: Path) -> None:
    relay = RelayProcess(tmp_path / "data")
    with relay:
        pass
    path = tmp_path / "data" / "relay.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version=99")
    before = path.read_bytes()
    failed = relay.command("serve", "--host", "127.0.0.1", "--port", "0", check=False)
    assert failed.returncode == 1
    assert "newer version" in failed.stderr
    assert path.read_bytes() == before


def test_a_damaged_database_is_set_aside(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "relay.db").write_bytes(b"no database at all" * 500)
    failed = RelayProcess(data).command("serve", "--host", "127.0.0.1", "--port", "0", check=False)
    assert failed.returncode == 1
    assert "set aside" in failed.stderr
    assert [path.read_bytes()[:8] for path in data.glob("relay.db.damaged-*")] == [b"no datab"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    failed = RelayProcess(tmp_path / "file" / "data").command(
        "serve", "--host", "127.0.0.1", "--port", "0", check=False
    )
    assert failed.returncode == 1
    assert "folder" in failed.stderr
    failed = RelayProcess(tmp_path / "file").command("serve", "--host", "127.0.0.1", "--port", "0", check=False)
    assert failed.returncode == 1
    assert "there is a file of that name" in failed.stderr


SERVE = ("serve", "--host", "127.0.0.1", "--port", "0")


@pytest.mark.parametrize("words", [SERVE, ("audit",), ("invite",), ("accounts", "set", "ann", "--devices", "3")])
def test_a_folder_that_is_closed_to_this_user_is_one_line(tmp_path: Path, words: tuple[str, ...]) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0)
    failed = RelayProcess(data).command(*words, check=False, before=as_anybody)
    data.chmod(0o700)
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"error: {data}/relay.")
    assert "(Permission denied). Check its owner" in failed.stderr
    assert failed.stderr.count("\n") == 1


def test_a_folder_in_the_place_of_a_file_is_one_line(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name, words in (("relay.lock", SERVE), ("relay.db", ("audit",)), ("relay.db", SERVE)):
        (data / name).mkdir(parents=True)
        failed = RelayProcess(data).command(*words, check=False)
        (data / name).rmdir()
        assert (failed.returncode, failed.stderr.count("\n")) == (1, 1), failed.stderr
        assert failed.stderr.startswith(f"error: {data / name} ")


def test_no_space_is_one_line(tmp_path: Path) -> None:
    failed = RelayProcess(tmp_path / "data").command(*SERVE, check=False, before=on_a_full_disk)
    assert failed.returncode == 1
    assert failed.stderr == (
        "error: No space left for relay.lock; nothing was half-written. Free some space and try again.\n"
    )
    invited = RelayProcess(tmp_path / "new").command("invite", "--url", "http://x", check=False, before=on_a_full_disk)
    assert invited.returncode == 1
    assert invited.stderr.startswith("error: No space left for relay.db")
    assert invited.stderr.count("\n") == 1


async def test_tls_without_a_proxy(tmp_path: Path, family: Family) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True,
    )  # fmt: skip
    with RelayProcess(tmp_path / "data", "--tls-cert", str(cert), "--tls-key", str(key)) as relay:
        assert relay.url.startswith("https://")
        async with Client.admitted(relay.url, family, family.first, enrol=relay.invite()) as client:
            await client.push([Writer(family, family.first).make(100_000)])
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        async with aiohttp.ClientSession() as session, session.get(relay.url + "/health", ssl=old) as answer:
            assert answer.status == 200
    failed = RelayProcess(tmp_path / "data").command("serve", "--tls-cert", str(cert), check=False)
    assert failed.returncode == 1
    assert "TLS_KEY" in failed.stderr


def test_all_faults_of_a_configuration_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text('server_port = "none"\nunknown = 1\nlog_level = "LOUD"\n')
    relay = RelayProcess(tmp_path / "data", environment={"WS_MAX_CONNECTIONS": "0", "REDIS_URL": "redis://x"})
    failed = relay.command("serve", "--config", str(tmp_path / "relay.toml"), check=False)
    assert failed.returncode == 1
    for name in ("SERVER_PORT", "unknown", "LOG_LEVEL", "WS_MAX_CONNECTIONS", "REDIS_URL"):
        assert name in failed.stderr
    assert not (tmp_path / "data").exists()


async def test_a_proxy_that_is_named_is_believed(tmp_path: Path, family: Family) -> None:
    environment = {"RATE_LIMIT_BURST": "1", "RATE_LIMIT_PER_MINUTE": "1", "TRUSTED_PROXIES": "127.0.0.1"}
    with RelayProcess(tmp_path / "data", environment=environment) as relay:

        async def tried(address: str) -> str:
            headers = {"X-Forwarded-For": f"1.1.1.1, {address}"}
            try:
                async with Client.connect(relay.url, headers=headers) as client:
                    await client.send(client.auth(family, family.first))
                    return (await client.refused()).code
            except aiohttp.WSServerHandshakeError as error:
                return str(error.status)

        assert [await tried("9.9.9.9"), await tried("9.9.9.200"), await tried("8.8.8.8")] == [
            "not_admitted", "429", "not_admitted",
        ]  # fmt: skip


@pytest.mark.parametrize("way", ["closes", "breaks off", "is refused"])
async def test_a_connection_that_has_ended_is_freed_at_once(tmp_path: Path, family: Family, way: str) -> None:
    """Nothing of it waits in a circle of references for the interpreter to look for circles. In this process."""
    second = Writer(family, family.add())
    async with in_process(tmp_path) as (url, database):
        secret = await invite(database())
        async with Client.admitted(url, family, family.first, enrol=secret) as other:
            gc.collect()
            gc.disable()
            try:
                for _ in range(5):
                    have = {second.log: second.head}
                    async with Client.admitted(url, family, second.keys, have=have) as client:
                        await client.push(second.make_many(3))
                        await other.expect(Batches)
                        if way == "breaks off":
                            client.break_off()
                        elif way == "is refused":
                            await client.send_raw(b"no frame")
                            await client.refused()
                await asyncio.sleep(0.1)
                kinds = Conversation | WebSocketOutlet | aiohttp.web.WebSocketResponse
                found = Counter(type(one) for one in gc.get_objects() if isinstance(one, kinds))
            finally:
                gc.enable()
            # Those of the other one; and some loop of the relay may still name the last one it looked at.
            assert max(found.values()) <= 2

"""Where the key-encryption key lives: real keyrings and bad ones in child processes, files in this one."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from nacl.pwhash import argon2id

from hybridgw_daemon.core.rest import key_check
from hybridgw_daemon.stores.secret_kinds import Cause, SecretKind
from hybridgw_daemon.stores.secrets import Unlocked, open_secret_store, unlock
from hybridgw_daemon.stores.secrets_file import (
    FILE_NAME,
    MAX_PASSPHRASE_BYTES,
    InsecureFileStore,
    PassphraseSource,
    PassphraseStore,
)
from hybridgw_daemon.stores.secrets_keyring import KeyringStore
from hybridgw_daemon.stores.time_limit import TimeLimited
from hybridgw_protocol.errors import AlreadyExists, BadValue, SecretsLocked, StorageUnavailable

KEK = bytes(range(32))
OTHER = b"\x55" * 32
CHEAP = {"ops": argon2id.OPSLIMIT_MIN, "mem_bytes": argon2id.MEMLIMIT_MIN}
posix = pytest.mark.skipif(os.name == "nt", reason="file modes mean nothing on Windows")


def store_of(folder: Path, passphrase: bytes | None = b"correct horse") -> PassphraseStore:
    return PassphraseStore(folder, PassphraseSource(value=passphrase), **CHEAP)


def cause_of(failed: pytest.ExceptionInfo[SecretsLocked]) -> str:
    """The cause; every one comes with one command at the end of its message."""
    error = failed.value
    assert error.code == "secrets_locked"
    assert error.detail["command"]
    assert error.message.endswith(f"Run: {error.detail['command']}")
    return str(error.detail["cause"])


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ---- under a passphrase -------------------------------------------------------------------------------------------
def test_spec_A7_a_key_under_a_passphrase_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "profile"
    assert store_of(folder).load() is None
    assert not folder.exists(), "loading makes nothing"
    assert store_of(folder).create(KEK) == KEK
    assert store_of(folder, b"correct horse\n").load() == KEK
    if os.name != "nt":
        assert mode(folder / FILE_NAME) == 0o600
        assert mode(folder) == 0o700
    raw = (folder / FILE_NAME).read_bytes()
    content = json.loads(raw)
    assert (content["kind"], content["ops"], content["mem_bytes"]) == ("passphrase", CHEAP["ops"], CHEAP["mem_bytes"])
    assert KEK not in raw
    assert b"correct" not in raw
    assert list(folder.iterdir()) == [folder / FILE_NAME], "no temporary file is left"


def test_a_new_file_costs_what_libsodium_calls_moderate(tmp_path: Path) -> None:
    store = open_secret_store(SecretKind.PASSPHRASE, "p", tmp_path, PassphraseSource(value=b"x" * 12))
    store.create(KEK)
    content = json.loads((tmp_path / FILE_NAME).read_text())
    assert (content["ops"], content["mem_bytes"]) == (3, 256 * 1024 * 1024)
    assert store.load() == KEK


def test_a_wrong_passphrase_says_so(tmp_path: Path) -> None:
    store_of(tmp_path).create(KEK)
    for wrong in (b"correct horse ", b"Correct horse", b"x"):
        with pytest.raises(SecretsLocked) as failed:
            store_of(tmp_path, wrong).load()
        assert cause_of(failed) == Cause.WRONG_PASSPHRASE
    with pytest.raises(SecretsLocked) as failed:
        store_of(tmp_path, None).load()
    assert cause_of(failed) == Cause.NO_PASSPHRASE
    assert store_of(tmp_path).load() == KEK


def test_no_passphrase_makes_no_key(tmp_path: Path) -> None:
    with pytest.raises(SecretsLocked) as failed:
        store_of(tmp_path, None).create(KEK)
    assert cause_of(failed) == Cause.NO_PASSPHRASE
    for bad in (b"", b"\n", b"x" * (MAX_PASSPHRASE_BYTES + 1)):
        with pytest.raises(BadValue):
            store_of(tmp_path, bad).create(KEK)
    assert list(tmp_path.iterdir()) == []


def test_a_key_is_written_once(tmp_path: Path) -> None:
    for index, store in enumerate((store_of(tmp_path / "a"), InsecureFileStore(tmp_path / "b"))):
        store.create(KEK)
        before = store.path.read_bytes()
        with pytest.raises(AlreadyExists):
            store.create(OTHER)
        assert store.path.read_bytes() == before, index
        assert store.load() == KEK
        with pytest.raises(ValueError, match="32 bytes"):
            store.create(b"short")


def test_one_passphrase_typed_on_two_keyboards_is_one(tmp_path: Path) -> None:
    store_of(tmp_path, "Zürich café".encode()).create(KEK)
    assert store_of(tmp_path, "Zu\u0308rich cafe\u0301\r\n".encode()).load() == KEK
    store_of(tmp_path / "b", b"\xff\xfe raw bytes").create(KEK)
    assert store_of(tmp_path / "b", b"\xff\xfe raw bytes\n").load() == KEK


def test_every_changed_value_of_the_file_is_refused(tmp_path: Path) -> None:
    store_of(tmp_path).create(KEK)
    path = tmp_path / FILE_NAME
    good = json.loads(path.read_text())
    changes: list[dict[str, Any]] = [
        {"version": 2}, {"ops": 2}, {"ops": 0}, {"ops": 10**9}, {"mem_bytes": 16384}, {"mem_bytes": 2**50},
        {"mem_bytes": -1}, {"salt": ""}, {"nonce": "AAAA"}, {"sealed": good["sealed"][:-4]}, {"kind": "rot13"},
        {"salt": "A" * 22 + "=="}, {"nonce": "A" * 32}, {"sealed": "A" * 64},
    ]  # fmt: skip
    for change in changes:
        path.write_text(json.dumps({**good, **change}))
        with pytest.raises(SecretsLocked) as failed:
            store_of(tmp_path).load()
        assert cause_of(failed) in (Cause.DAMAGED, Cause.WRONG_PASSPHRASE), change
    for raw in (b"", b"{", b"null", b"\xff", json.dumps({"kind": "passphrase"}).encode()):
        path.write_bytes(raw)
        with pytest.raises(SecretsLocked) as failed:
            store_of(tmp_path).load()
        assert cause_of(failed) == Cause.DAMAGED
        with pytest.raises(AlreadyExists):
            store_of(tmp_path).create(KEK)
        assert path.read_bytes() == raw, "a damaged file is not overwritten"
    path.write_bytes(bytes(5000))
    with pytest.raises(StorageUnavailable):
        store_of(tmp_path).load()


# ---- where the passphrase comes from ------------------------------------------------------------------------------
def test_a_passphrase_comes_by_descriptor_or_credential(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.write(write, b"by pipe\n")
    os.close(write)
    source = PassphraseSource(fd=read, credential=tmp_path / "absent")
    assert source.read() == b"by pipe"
    assert source.read() == b"by pipe", "kept for the next try"
    (tmp_path / "hybridgw-passphrase").write_bytes(b"by systemd\n")
    assert PassphraseSource.from_environment({"CREDENTIALS_DIRECTORY": str(tmp_path)}).read() == b"by systemd"
    assert PassphraseSource.from_environment({"HYBRIDGW_PASSPHRASE": "never by environment"}).read() is None
    assert PassphraseSource(value=b"first", credential=tmp_path / "hybridgw-passphrase").read() == b"first"
    assert "systemd" not in repr(source)
    assert "pipe" not in repr(source)


def test_a_descriptor_that_says_nothing_does_not_hang(tmp_path: Path) -> None:
    read, write = os.pipe()
    try:
        with pytest.raises(SecretsLocked) as failed:
            PassphraseStore(tmp_path, PassphraseSource(fd=read, limit_s=0.1), **CHEAP).create(KEK)
        assert cause_of(failed) == Cause.NO_PASSPHRASE
    finally:
        os.close(write)
    with pytest.raises(SecretsLocked) as failed:
        PassphraseSource(fd=9_999).read()
    assert cause_of(failed) == Cause.NO_PASSPHRASE


# ---- in clear, by choice ------------------------------------------------------------------------------------------
def test_spec_A7_an_insecure_file_is_told(tmp_path: Path) -> None:
    store = open_secret_store(SecretKind.INSECURE_FILE, "p", tmp_path / "profile")
    assert store.load() is None
    assert store.create(KEK) == KEK
    assert store.load() == KEK
    assert "without protection" in store.describe().warning
    assert store.describe().where == str(tmp_path / "profile" / FILE_NAME)
    assert store_of(tmp_path).describe().warning == ""


@posix
def test_sec_L28_a_key_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    store = InsecureFileStore(tmp_path)
    store.create(KEK)
    assert mode(store.path) == 0o600
    for loose in (0o640, 0o604, 0o660, 0o644):
        store.path.chmod(loose)
        with pytest.raises(SecretsLocked) as failed:
            store.load()
        assert cause_of(failed) == Cause.EXPOSED
        subprocess.run(failed.value.detail["command"], shell=True, check=True)  # noqa: S602 - the command that helps
        assert store.load() == KEK


# ---- unlock: which key belongs to which database ------------------------------------------------------------------
def test_unlock_makes_a_key_once_and_then_finds_it(tmp_path: Path) -> None:
    first = unlock(InsecureFileStore(tmp_path), tmp_path, None, KEK)
    assert first == Unlocked(KEK, key_check(KEK), created=True)
    assert KEK.hex() not in repr(first)
    assert repr(KEK) not in repr(first)
    again = unlock(InsecureFileStore(tmp_path), tmp_path, first.check, OTHER)
    assert again == Unlocked(KEK, key_check(KEK), created=False)


def test_a_start_that_ended_between_store_and_database_goes_on(tmp_path: Path) -> None:
    InsecureFileStore(tmp_path).create(KEK)
    assert unlock(InsecureFileStore(tmp_path), tmp_path, None, OTHER).kek == KEK


def test_a_missing_or_foreign_key_is_never_replaced(tmp_path: Path) -> None:
    with pytest.raises(SecretsLocked) as failed:
        unlock(InsecureFileStore(tmp_path), tmp_path, key_check(KEK), OTHER)
    assert cause_of(failed) == Cause.MISSING
    assert list(tmp_path.iterdir()) == []
    InsecureFileStore(tmp_path).create(OTHER)
    with pytest.raises(SecretsLocked) as failed:
        unlock(InsecureFileStore(tmp_path), tmp_path, key_check(KEK), KEK)
    assert cause_of(failed) == Cause.WRONG_KEY
    assert InsecureFileStore(tmp_path).load() == OTHER


def test_another_kind_of_store_names_the_right_one(tmp_path: Path) -> None:
    InsecureFileStore(tmp_path / "a").create(KEK)
    store_of(tmp_path / "b").create(KEK)
    for folder, kind, wanted in (
        ("a", SecretKind.KEYRING, "insecure-file"),
        ("a", SecretKind.PASSPHRASE, "insecure-file"),
        ("b", SecretKind.KEYRING, "passphrase"),
        ("b", SecretKind.INSECURE_FILE, "passphrase"),
    ):
        store = open_secret_store(kind, "p", tmp_path / folder, PassphraseSource(value=b"x"))
        with pytest.raises(SecretsLocked) as failed:
            unlock(store, tmp_path / folder, None, OTHER)
        assert cause_of(failed) == Cause.OTHER_STORE
        assert str(failed.value.detail["command"]).endswith(wanted)


# ---- time limit ---------------------------------------------------------------------------------------------------
def test_a_call_that_hangs_is_left_behind_and_blocks_the_next_ones() -> None:
    limited, release = TimeLimited(0.05, "test"), threading.Event()
    with pytest.raises(TimeoutError):
        limited.call(release.wait)
    ran = []
    with pytest.raises(TimeoutError):
        limited.call(lambda: ran.append(1))
    assert ran == [], "no second call while the first one waits"
    release.set()
    patient = TimeLimited(30, "test")
    assert patient.call(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        patient.call(lambda: 1 // 0)
    assert patient.call(lambda: 8) == 8


# ---- keyrings, each in a process of its own -----------------------------------------------------------------------
HERE = Path(__file__).parent
SCRIPT = """
import json, sys
from pathlib import Path
from hybridgw_daemon.stores.secrets import open_secret_store, unlock
from hybridgw_daemon.core.rest import key_check
from hybridgw_protocol.errors import HybridGWError
profile, folder, limit_s, steps = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4].split()
store = open_secret_store("keyring", profile, folder, limit_s=limit_s)
out = {"imported_early": "keyring" in sys.modules}
for step in steps:
    name, _, value = step.partition(":")
    byte = bytes([int(value or "0")]) * 32
    try:
        match name:
            case "load": result = store.load()
            case "create": result = store.create(byte)
            case "probe": result = store.probe()
            case "unlock": result = unlock(store, folder, None, byte).kek
            case "unlock_known": result = unlock(store, folder, key_check(byte), bytes(32)).kek
        out[step] = None if result is None else result.hex()
    except HybridGWError as error:
        out[step] = [error.code, error.detail.get("cause"), error.message]
out["where"] = store.describe().where
print(json.dumps(out))
"""


def run(
    steps: str,
    folder: Path,
    *,
    backend: str = "",
    limit_s: float = 30,
    profile: str = "test",
    prefix: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
) -> dict[str, Any]:
    """What a fresh process gets for each of the *steps*. It must end by itself."""
    env = {key: value for key, value in os.environ.items() if key not in ("DBUS_SESSION_BUS_ADDRESS", "DISPLAY")}
    env |= {"PYTHONPATH": str(HERE), "XDG_RUNTIME_DIR": str(folder), "XDG_CONFIG_HOME": str(folder / "config")}
    env |= {"PYTHON_KEYRING_BACKEND": f"keyring_backends.{backend}"} if backend else {}
    done = subprocess.run(
        [*prefix, sys.executable, "-c", SCRIPT, profile, str(folder), str(limit_s), steps],
        env=env | (environment or {}), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["imported_early"] is False, "keyring is loaded on first use only"
    return result


def causes(result: dict[str, Any], step: str) -> tuple[str, str]:
    code, cause, message = result[step]
    assert code != "secrets_locked" or "Run: hybridgw up" in message
    return code, cause


KEY_1, KEY_2 = (b"\x01" * 32).hex(), (b"\x02" * 32).hex()


def test_a_keyring_keeps_one_item_written_once(tmp_path: Path) -> None:
    environment = {"HGW_TEST_KEYRING": str(tmp_path / "items.json")}
    result = run("load create:1 create:2 load", tmp_path, backend="Working", environment=environment)
    assert result["create:1"] == KEY_1
    assert causes(result, "create:2")[0] == "already_exists"
    assert result["load"] == KEY_1
    items = json.loads((tmp_path / "items.json").read_text())
    assert set(items) == {"hybridgw:test/kek-v1", "writes"}, "the probe is gone"
    assert items["writes"] == "2", "one probe, one key"
    assert "item hybridgw:test / kek-v1" in result["where"]
    again = run("unlock:3 unlock_known:1", tmp_path, backend="Working", environment=environment)
    assert (again["unlock:3"], again["unlock_known:1"]) == (KEY_1, KEY_1)
    assert json.loads((tmp_path / "items.json").read_text()) == items, "starting writes nothing"
    other = run("load", tmp_path, backend="Working", environment=environment, profile="other")
    assert other["load"] is None


def test_a_keyring_of_another_profile_is_told_and_left_alone(tmp_path: Path) -> None:
    environment = {"HGW_TEST_KEYRING": str(tmp_path / "items.json")}
    result = run("unlock_known:9 create:1 unlock_known:9 load", tmp_path, backend="Working", environment=environment)
    assert causes(result, "unlock_known:9") == ("secrets_locked", "wrong_key")
    assert result["load"] == KEY_1
    result = run("unlock_known:9 load", tmp_path, backend="Working", environment=environment, profile="other")
    assert causes(result, "unlock_known:9") == ("secrets_locked", "missing")
    assert result["load"] is None


@pytest.mark.parametrize(
    ("backend", "step", "cause"),
    [
        ("HangsOnRead", "load", "timeout"),
        ("HangsOnRead", "unlock:1", "timeout"),
        ("HangsOnWrite", "create:1", "timeout"),
        ("KeepsNothing", "create:1", "unfit"),
        ("CutsLong", "create:1", "unfit"),
        ("ProbeOnly", "create:1", "unfit"),
        ("Locked", "load", "locked"),
        ("Locked", "create:1", "locked"),
        ("Strange", "load", "locked"),
        ("PlainText", "load", "unfit"),
        ("PlainText", "create:1", "unfit"),
    ],
)
def test_spec_A7_a_bad_keyring_is_refused_and_never_hangs(tmp_path: Path, backend: str, step: str, cause: str) -> None:
    limit_s = 0.3 if backend.startswith("Hangs") else 30
    result = run(step, tmp_path, backend=backend, limit_s=limit_s)
    assert causes(result, step) == ("secrets_locked", cause)


def test_a_hanging_keyring_is_asked_once(tmp_path: Path) -> None:
    result = run("load probe create:1", tmp_path, backend="HangsOnRead", limit_s=0.3)
    assert {causes(result, step) for step in ("load", "probe", "create:1")} == {("secrets_locked", "timeout")}


def test_a_damaged_item_is_not_taken_for_a_key(tmp_path: Path) -> None:
    (tmp_path / "items.json").write_text(json.dumps({"hybridgw:test/kek-v1": "not base64"}))
    environment = {"HGW_TEST_KEYRING": str(tmp_path / "items.json")}
    result = run("load create:1", tmp_path, backend="Working", environment=environment)
    assert causes(result, "load") == causes(result, "create:1") == ("secrets_locked", "damaged")
    assert json.loads((tmp_path / "items.json").read_text()) == {"hybridgw:test/kek-v1": "not base64"}


def test_spec_A7_without_a_session_bus_there_is_no_keyring(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux keyrings need a session bus")
    result = run("load create:1", tmp_path, environment={"DBUS_SESSION_BUS_ADDRESS": "disabled:"})
    assert causes(result, "load") == causes(result, "create:1") == ("secrets_locked", "absent")
    assert "--secret-store passphrase" in result["load"][2]


UNLOCK = 'printf "%s" test | gnome-keyring-daemon --unlock --components=secrets >/dev/null 2>&1; exec "$@"'


@pytest.fixture
def gnome_keyring(tmp_path: Path) -> tuple[str, ...]:
    """A command prefix: a session bus of its own, with a real keyring that is open."""
    for program, package in (("dbus-run-session", "dbus"), ("gnome-keyring-daemon", "gnome-keyring")):
        if shutil.which(program) is None:
            pytest.skip(f"needs the Debian package {package} (apt-get install gnome-keyring dbus)")
    return ("dbus-run-session", "--", "sh", "-c", UNLOCK, "sh")


def test_spec_D1_a_real_keyring_keeps_the_key_from_start_to_start(
    tmp_path: Path, gnome_keyring: tuple[str, ...]
) -> None:
    home = {"XDG_DATA_HOME": str(tmp_path / "data"), "HOME": str(tmp_path)}
    result = run("load probe create:1 create:2 load", tmp_path, prefix=gnome_keyring, environment=home)
    assert result["probe"] is None
    assert result["create:1"] == result["load"] == KEY_1
    assert causes(result, "create:2")[0] == "already_exists"
    assert "SecretService" in result["where"]
    again = run("load unlock_known:1 unlock:2", tmp_path, prefix=gnome_keyring, environment=home)
    assert again["load"] == again["unlock_known:1"] == again["unlock:2"] == KEY_1
    stored = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
    assert stored, "the keyring has a file"
    assert b"\x01" * 32 not in stored


def test_spec_A7_a_real_keyring_that_is_locked_says_so(tmp_path: Path, gnome_keyring: tuple[str, ...]) -> None:
    home = {"XDG_DATA_HOME": str(tmp_path / "data"), "HOME": str(tmp_path)}
    result = run("create:1", tmp_path, prefix=gnome_keyring, environment=home)
    assert result["create:1"] == KEY_1
    closed = run("load create:2", tmp_path, prefix=("dbus-run-session", "--"), environment=home, limit_s=5)
    for step in ("load", "create:2"):
        assert causes(closed, step) in {("secrets_locked", "locked"), ("secrets_locked", "timeout")}
    assert run("load", tmp_path, prefix=gnome_keyring, environment=home)["load"] == KEY_1


def test_opening_a_store_touches_nothing(tmp_path: Path) -> None:
    for kind in SecretKind:
        store = open_secret_store(kind, "p", tmp_path / "none")
        assert store.kind is kind
        assert store.describe().kind is kind
    assert not (tmp_path / "none").exists()
    assert isinstance(open_secret_store(SecretKind.KEYRING, "p", tmp_path), KeyringStore)

"""The relay can read nothing: planted words are looked for in its database, its log, its answers and its memory."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from .machines import RelayMachine, household, until

WORDS = {
    "document": "plantedtitleofadocument",
    "identifier": "planted-document-id",
    "collection": "planted_collection",
    "field": "plantedfieldname",
    "secret": "plantedsettingvalue",
    "element": "plantedtagofaset",
    "device": "planteddevice",
}


def memory_of(process: int) -> bytes:
    """Everything readable in a process: what a dump of it would hold."""
    found = []
    with open(f"/proc/{process}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{process}/maps").read_text().splitlines():
            span, rights = line.split()[:2]
            if rights.startswith("r") and "[vvar" not in line and "[vsyscall" not in line:
                start, end = (int(x, 16) for x in span.split("-"))
                try:
                    memory.seek(start)
                    found.append(memory.read(end - start))
                except (OSError, ValueError, OverflowError):
                    continue
    return b"".join(found)


def forms(word: str) -> list[bytes]:
    """As it might be written."""
    return [word.encode(), word.encode("utf-16-le"), word.upper().encode()]


@pytest.mark.timeout(180)
def test_spec_Y1_S8_relay_holds_no_plaintext(tmp_path: Path) -> None:
    if not os.access("/proc/self/mem", os.R_OK):
        pytest.skip("needs /proc/PID/mem")
    relay, a, b = household(tmp_path)
    try:
        with a.client() as client:
            client.put("tasks", WORDS["identifier"], {"title": WORDS["document"], "tags": [WORDS["element"]]})
            client.put(WORDS["collection"], "one", {WORDS["field"]: WORDS["device"]})
            client.put("settings", "theme", {"value": WORDS["secret"]})
        until(lambda: WORDS["identifier"] in b.documents("tasks") and b.documents("settings"), what="the sync")
        assert "planteddevicea" in [d["name"] for d in b.get("/api/devices")["items"]]
        assert relay.process is not None
        memory = memory_of(relay.process.pid)
        assert b"CREATE TABLE" in memory, "the dump is no dump"
        audit = relay.command("audit") + relay.command("audit", "--json")
        relay.stop()
        files = [p for p in relay.data.rglob("*") if p.is_file()]
        stored = b"".join(p.read_bytes() for p in files) + relay.log.read_bytes()
        assert b"SQLite format 3" in stored
        for what, word in WORDS.items():
            for form in forms(word):
                assert form not in memory, f"the {what} is in the relay's memory"
                assert form not in stored, f"the {what} is in the relay's files"
            assert word not in audit.lower(), f"the {what} is in the audit"
        assert re.search(r"\d", audit)
    finally:
        for machine in (a, b, relay):
            if machine.process is not None:
                machine.kill()


@pytest.mark.timeout(180)
def test_spec_S8_settings_are_sealed_at_rest(tmp_path: Path) -> None:
    relay, a, b = household(tmp_path)
    try:
        with a.client() as client:
            client.put("settings", "theme", {"value": WORDS["secret"]})
            client.put("tasks", "plain", {"title": WORDS["document"]})
        until(lambda: b.documents("settings") and b.documents("tasks"), what="the sync")
        for device in (a, b):
            device.stop()
            stored = b"".join(p.read_bytes() for p in device.home.rglob("*") if p.is_file())
            assert WORDS["secret"].encode() not in stored, "a setting lies in the clear"
            assert WORDS["document"].encode() in stored, "the check sees nothing: ordinary documents are not sealed"
    finally:
        for machine in (a, b, relay):
            if machine.process is not None:
                machine.kill()


def test_memory_dump_finds_what_is_there(tmp_path: Path) -> None:
    """The check of the check: a word that a process holds is found in its memory."""
    assert RelayMachine(tmp_path).name == "relay"
    word = bytearray(b"-".join([b"held", b"in", b"memory"]))
    assert bytes(word) in memory_of(os.getpid())

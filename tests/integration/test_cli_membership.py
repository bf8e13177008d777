"""`hybridgw devices`, `leave`, `recovery`, `recover` as a person types them: questions, refusals, and what is done."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration._cli import Cli, InProcess, Relay, profile, relay
from tests.integration.test_cli_devices import Showing, both_in_step


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Relay]:
    with relay(tmp_path / "relay") as made:
        yield made


@pytest.fixture
def first(server: Relay, tmp_path: Path) -> Iterator[Cli]:
    with profile(tmp_path / "laptop", InProcess) as made:
        made.up()
        made("relay", "add", server.invite())
        yield made


@pytest.fixture
def second(first: Cli, tmp_path: Path) -> Iterator[Cli]:
    with profile(tmp_path / "phone", InProcess) as made:
        made.up()
        join(first, made, "phone")
        yield made


def join(first: Cli, other: Cli, name: str) -> str:
    """Pair; returns what the showing side printed."""
    showing = Showing(first)
    showing.type("y\n")
    other("pair", showing.code, "--name", name, "--yes")
    assert showing.finish() == 0, showing.printed
    both_in_step(other, first)
    return showing.printed


def status_when_out(device: Cli) -> str:
    """What it says once the relay has told it."""
    ended = time.monotonic() + 30
    while (ran := device("status", code=None)).code != 4 and time.monotonic() < ended:
        time.sleep(0.05)
    assert ran.code == 4, ran.out
    return ran.out


def words_of(device: Cli) -> str:
    return " ".join(device("recovery", "show", "--yes", "--json").json["words"])


def test_spec_D4_remove_asks_does_and_is_taken_back(first: Cli, second: Cli) -> None:
    refused = first("devices", "remove", "phone", typed="n\n", code=4)
    assert "Will:" in refused.talk
    assert "Cannot:" in refused.talk
    assert "Nothing was changed" in refused.talk
    assert {d["state"] for d in first("devices", "--json").json["items"]} == {"active"}
    assert "goes with --yes" in first("devices", "remove", "phone", "--json", code=2).out
    assert "no device 'fridge'" in first("devices", "remove", "fridge", code=1).talk
    assert "goes with --lost" in first("devices", "remove", "phone", "--since", "now", code=2).talk
    own = next(d for d in first("devices", "--json").json["items"] if d["own"])
    assert "device itself" in first("devices", "remove", own["fingerprint"], "--yes", code=1).talk
    done = first("devices", "remove", "PHO", typed="y\n")
    assert "phone is removed" in done.out
    assert f"Told: {first('relay', 'list', '--json').json['items'][0]['url']}" in done.talk
    shown = first("devices").out
    assert "removed by" in shown
    for column in ("fingerprint", "platform", "state", "path", "last heard", "to come", "lacks"):
        assert column in shown.lower()
    again = first("devices", "remove", "phone", "--yes", code=1)
    assert "out already" in again.talk
    removed = status_when_out(second)
    assert "removed from its space" in removed
    assert f"{second.home.name} pair CODE" in removed
    phone = next(d["fingerprint"] for d in first("devices", "--json").json["items"] if d["name"] == "phone")
    assert f"there: hybridgw devices restore {phone}" in removed  # as it is typed on the other device
    began = time.monotonic()
    waited = second("sync", "--wait", "--timeout", "30", code=4)
    assert time.monotonic() - began < 25
    assert "pair CODE" in waited.out
    assert "goes on by itself" not in waited.talk
    assert "removed from its space" in second("pair", code=4).talk
    assert "removed from its space" in second("doctor", code=1).out
    assert first("devices", "restore", "phone", "--json").json["device"]["state"] == "active"
    assert "not removed" in first("devices", "restore", "phone", code=1).talk
    second("data", "put", "tasks", "back", "title=Here again")
    both_in_step(second, first)
    assert first("data", "get", "tasks", "back").json["title"] == "Here again"
    told = first("audit", "--event", "device").out
    assert "The device phone was removed." in told
    assert "The device phone was let in again." in told


def test_spec_D4_rename_and_leave(first: Cli, second: Cli) -> None:
    assert "is called pocket now" in first("devices", "rename", "pocket", "--device", "phone").out
    assert first("devices", "rename", "desk", "--json").json["name"] == "desk"
    both_in_step(first, second)
    assert "pocket (this one)" in second("devices", "list").out
    for words in (("leave",), ("devices", "remove", "pocket"), ("recovery", "show")):
        assert "--yes" in first(*words, code=4).talk  # nobody there to answer is not a Ctrl-C
    assert "at least one letter" in first("devices", "rename", " ", code=2).talk
    assert first("devices", "quarantine").out == ""
    assert "Nothing was changed" in second("leave", typed="n\n", code=4).talk
    assert "has left" in second("leave", typed="y\n").out
    assert "left" in first("devices").out
    second("data", "put", "tasks", "late", "title=Stays here")
    status = second("status", code=4).out
    assert "has left its space" in status
    assert "relay add" not in status
    assert "1 change kept here" in status
    assert second("status", "--json", code=4).json["sync"]["standing"] == "left"
    assert "has left its space" in second("sync", "--wait", "--timeout", "30", code=4).out
    assert "only device" in first("leave", "--yes", code=1).talk
    assert second("leave", "--yes", code=1).out == ""


def test_spec_D4_lost_asks_when_it_was_yours_last(first: Cli, second: Cli, tmp_path: Path) -> None:
    words = words_of(first)
    with profile(tmp_path / "desk", InProcess) as third:
        third.up()
        assert "recovery show" in join(first, third, "desk")  # the hint at the second device and on
        # The first device has added the others; nobody may guess what of that stands.
        asked = second("devices", "remove", first_name(second, third), "--lost", "--yes", typed=words, code=4)
        assert "--since" in asked.talk
        assert "added phone" in asked.talk.replace("It ", "")
        for nonsense in ("tomorrow", "3", "-1 d", "99-99-99"):
            lost = ("devices", "remove", first_name(second, third), "--lost", "--yes", "--since", nonsense)
            assert "is no time" in second(*lost, typed=words, code=2).talk
        # `desk` was let in a moment ago: with an hour it goes too, and so would the device that asks.
        hour = ("devices", "remove", first_name(second, third), "--lost", "--yes", "--since", "1 h")
        assert "put this device out too" in second(*hour, typed=words, code=1).talk
        wrong = words.split()
        wrong[0], wrong[1] = wrong[1], wrong[0]
        now = ("devices", "remove", first_name(second, third), "--lost", "--yes", "--since", "now")
        refused = second(*now, typed=" ".join(wrong), code=1)
        assert "recovery words" in refused.talk
        assert words not in refused.talk
        assert second(*now, typed="", code=4).out == ""
        assert "is out for good" in second(*now, typed=words).out
        assert "removed from its space" in status_when_out(first)
        both_in_step(second, third)
        assert "expelled" in third("devices").out
        assert "out for good already" in second(*now, typed=words, code=1).talk
        undo = ("devices", "undo", first_name(second, third), "--since", "1 h", "--yes")
        assert "Nothing that counts" in second(*undo, typed=words, code=1).talk
        assert second("devices", "quarantine").code == 0


def first_name(*others: Cli) -> str:
    """The fingerprint of the device that is none of these."""
    own = {d["id"] for other in others for d in other("devices", "--json").json["items"] if d["own"]}
    [found] = [d for d in others[0]("devices", "--json").json["items"] if d["id"] not in own]
    return str(found["fingerprint"])


def test_spec_D6_words_and_recovery(first: Cli, server: Relay, tmp_path: Path) -> None:
    assert "can still show" in first("recovery").out
    assert "Nothing was shown" in first("recovery", "show", typed="n\n", code=4).talk
    shown = first("recovery", "show", typed="y\n")
    words = words_of(first)
    assert [word for word in shown.out.split() if word.isalpha()] == words.split()
    first("data", "put", "tasks", "kept", "title=Kept at the relay")
    both_in_step(first)
    assert "Word 24, 'nowords'" in first("recovery", "confirm", typed=words.rsplit(" ", 1)[0] + " nowords", code=1).talk
    assert "on your paper only now" in first("recovery", "confirm", typed=words).out
    assert first("recovery", "--json").json["state"] == "confirmed"
    assert first("recovery", "show", "--yes", code=1).out == ""
    with profile(tmp_path / "new", InProcess) as new:
        new.up()
        assert "Which relay" in new("recover", typed=words, code=4).talk
        assert "is not a relay address" in new("recover", "--relay", "ftp://x", typed=words, code=1).talk
        done = new("recover", "--relay", server.url, "--name", "replacement", typed=words)
        assert "belongs to your space again" in done.out
        assert "devices remove NAME --lost" in done.talk
        both_in_step(new)
        assert new("data", "get", "tasks", "kept").json["title"] == "Kept at the relay"
        assert "replacement (this one)" in new("devices").out
        assert "never on this device" in new("recovery").out

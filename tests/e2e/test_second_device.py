"""protocol/SPEC.md is enough: a device and a relay that were written from it, with none of our code, live with ours."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.architecture._tree import ROOT

from .machines import DeviceMachine, RelayMachine, pair, until
from .second_device import Ended, SecondDevice
from .second_founder import SecondFounder
from .second_relay import SecondRelay

WORDS = json.loads((ROOT / "protocol/vectors/pairing.json").read_text())["words"]


class House:
    """A relay and one device of ours, and the second devices that join."""

    def __init__(self, root: Path) -> None:
        self.relay, self.ours = RelayMachine(root), DeviceMachine(root, "a")
        self.others: list[SecondDevice] = []

    def start(self) -> None:
        self.relay.start()
        self.ours.start()
        until(lambda: self.ours.get("/api/devices")["items"][0].get("fingerprint"), what="its keys")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.relay.port}"

    def acquaint(self) -> None:
        """Ours is at the relay, with a space of its own."""
        self.ours.post("/api/relays", {"link": self.relay.invite()})

    def stop(self) -> None:
        for device in self.others:
            device.close()
        for machine in (self.ours, self.relay):
            if machine.process is not None:
                machine.kill()

    def join(self, name: str) -> SecondDevice:
        """A second device joins by a code and goes online."""
        offer = until(lambda: self.ours.post("/api/devices/pair"), what="a pairing code")
        device = SecondDevice(name)
        self.others.append(device)

        def pairing() -> dict[str, Any]:
            found: dict[str, Any] = self.ours.get(f"/api/devices/pair/{offer['id']}")
            return found

        def agree(words: bytes) -> None:
            until(lambda: pairing()["state"] == "confirm", what="the question of our device")
            assert [WORDS[word] for word in words] == pairing()["words"].split()
            assert pairing()["peer"]["name"] == name
            self.ours.post(f"/api/devices/pair/{offer['id']}/confirm", {"accept": True})

        device.join(offer["code"], self.url, agree)
        until(lambda: pairing()["state"] == "done", what="the end of the pairing")
        device.connect()
        return device

    def put(self, name: str, data: dict[str, Any]) -> None:
        """Ours writes a note, and the relay has it."""
        with self.ours.client() as client:
            client.put("notes", name, data)
        until(self.ours.is_in_step, what="the relay to have it")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Running."""
    made = House(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def test_a_device_that_shares_no_code_with_ours_is_in_step(house: House) -> None:
    ours = house.ours
    house.acquaint()
    plan = {"text": "Monday", "share": 0.5, "items": [1, {"a": None}], "done": False}
    with ours.client() as client:
        client.put("tasks", "milk", {"title": "Buy milk", "tags": ["shop", "home"]})
        client.put("notes", "gone", {"text": "x"})
        client.delete("notes", "gone")
    house.put("long", {"text": "many words " * 500})
    house.put("plan", plan)

    # What ours wrote, it reads.
    device = house.join("another")
    assert device.documents("notes") == ours.documents("notes") == {"plan": plan, "long": {"text": "many words " * 500}}
    assert device.documents("tasks") == ours.documents("tasks")

    # What it writes, ours reads.
    device.push(
        device.write("notes", "greeting", text="hello", deep={"b": [1.0, 2.5], "a": {}}),
        device.write("notes", "plan", text="Tuesday"),
    )
    until(lambda: ours.documents("notes")["plan"]["text"] == "Tuesday", what="the edit")
    assert ours.documents("notes")["greeting"] == {"text": "hello", "deep": {"a": {}, "b": [1, 2.5]}}
    assert ours.get("/api/conflicts")["items"] == []

    # Both write at once: both show the same, and keep the other value until somebody decides.
    house.put("plan", {"text": "Wednesday"})
    device.push(device.write("notes", "plan", text="Thursday"))  # before it reads what the relay has for it
    conflict = until(lambda: ours.get("/api/conflicts")["items"], what="the conflict")[0]
    [field] = (field for field in conflict["fields"] if field["field"] == "text")
    assert [conflict["id"], field["shown"], *(other["value"] for other in field["others"])] == [
        "plan", "Thursday", "Wednesday",
    ]  # fmt: skip
    device.take_until(lambda: device.conflicts("notes", "plan") == ["Wednesday"])
    assert device.documents("notes") == ours.documents("notes")
    ours.post("/api/conflicts/notes/plan", {"version": conflict["version"], "keep": "shown"})
    device.take_until(lambda: not device.conflicts("notes", "plan"))


def test_it_comes_back_to_records_it_has_not_seen_and_is_put_out(house: House) -> None:
    house.acquaint()
    ours, device = house.ours, house.join("another")
    device.close()
    third = house.join("third")  # the one that is away has no record of it
    third.push(third.write("notes", "third", text="hello"))
    until(lambda: "third" in ours.documents("notes"), what="what the third wrote")
    house.put("plan", {"text": "rests on that"})
    device.connect()
    assert device.documents("notes") == {"third": {"text": "hello"}, "plan": {"text": "rests on that"}}
    device.push(device.write("notes", "plan", text="seen"))
    until(lambda: ours.documents("notes")["plan"] == {"text": "seen"}, what="the edit")

    # Out: the others go on under a key that it does not get.
    ours.post(f"/api/devices/{device.keys.device.hex()}/remove", {})
    with pytest.raises(Ended, match="revoked"):
        device.take_until(lambda: False)
    with pytest.raises(Ended, match="revoked"):
        device.connect()
    house.put("secret", {"text": "not for everybody"})
    third.take_until(lambda: "secret" in third.documents("notes"))
    third.push(third.write("notes", "secret", text="seen"))
    until(lambda: ours.documents("notes")["secret"] == {"text": "seen"}, what="an edit under the new key")


def test_it_founds_a_space_and_lets_ours_in(house: House) -> None:
    ours, founder = house.ours, SecondFounder("founder")
    house.others.append(founder)
    secret = house.relay.invite().rpartition("#hgw-invite=")[2]
    founder.found(house.url, base64.urlsafe_b64decode(f"{secret}="))
    founder.push(founder.write("notes", "first", text="before anybody came"))
    pairing = ours.post("/api/devices/pair/join", {"code": founder.show_code()})["id"]
    words = founder.admit()
    until(lambda: ours.get(f"/api/devices/pair/{pairing}")["state"] == "done", what="the end of the pairing")
    assert [WORDS[word] for word in words] == ours.get(f"/api/devices/pair/{pairing}")["words"].split()
    until(lambda: "first" in ours.documents("notes"), what="what the founder wrote")
    assert {device["name"] for device in ours.get("/api/devices")["items"]} > {"founder"}

    # A new key: ours goes on under it, and whoever comes now gets to what is under the old one.
    founder.put(founder.make_epoch(os.urandom(32)))
    founder.push(founder.write("notes", "second", text="under another key"))
    until(lambda: "second" in ours.documents("notes"), what="what is under the new key")
    house.put("third", {"text": "by ours"})
    founder.take_until(lambda: "third" in founder.documents("notes"))
    assert house.join("newcomer").documents("notes") == founder.documents("notes") == ours.documents("notes")


def test_two_of_ours_are_in_step_over_a_relay_that_shares_no_code_with_them(tmp_path: Path) -> None:
    with SecondRelay() as relay:
        a, b = devices = DeviceMachine(tmp_path, "a"), DeviceMachine(tmp_path, "b")
        try:
            for device in devices:
                device.start()
                until(lambda d=device: d.get("/api/devices")["items"][0].get("fingerprint"), what="its keys")
            with a.client() as client:
                client.put("notes", "before", {"text": "before the pairing"})
            a.post("/api/relays", {"link": relay.invite()})
            pair(a, b)
            with b.client() as client:
                client.put("notes", "after", {"text": "after it"})
                for number in range(12):
                    client.put("notes", f"large{number}", {"text": os.urandom(25_000).hex()})
            until(lambda: len(a.documents("notes")) == 14, what="what b wrote")
            until(lambda: a.documents("notes") == b.documents("notes"), what="being in step")
            sent = a.post("/api/messages", {"type": "note", "to": ["all@planteddeviceb"], "body": "hello"})["id"]
            until(lambda: a.get(f"/api/messages/{sent}")["state"] == "delivered", what="the receipt")
            other = next(device["id"] for device in a.get("/api/devices")["items"] if not device["own"])
            a.post(f"/api/devices/{other}/remove", {})
            until(lambda: b.get("/api/sync/status")["standing"] == "refused", what="b to hear that it is out")
        finally:
            for device in devices:
                if device.process is not None:
                    device.kill()
    assert relay.faults == []

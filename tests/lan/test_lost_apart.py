"""A phone is put out while the network is apart and it talks on with a device that has not heard of it; then all heals.

One household for the file: the first test takes its removal back, the last one puts the phone out for good.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.machines import pair, until

from .network import Lab, partition, settle
from .test_daemons import Machine, passes

NOT_NOW_S = 1.0  # what is to be passed on is passed on much sooner


class Household:
    """Three devices on one network and no relay. words: those of the space, which the laptop has made."""

    def __init__(self, laptop: Machine, desk: Machine, phone: Machine, words: str) -> None:
        self.laptop, self.desk, self.phone, self.words = laptop, desk, phone, words
        self.phone_id = next(str(d["id"]) for d in phone.get("/api/devices")["items"] if d["own"])

    def seen_by(self, machine: Machine) -> dict[str, Any]:
        """The phone, as another device shows it."""
        return next(d for d in machine.get("/api/devices")["items"] if d["id"] == self.phone_id)

    def do(self, act: str, body: dict[str, Any] | None = None) -> Any:
        """On the laptop, with the phone."""
        return self.laptop.post(f"/api/devices/{self.phone_id}/{act}", body or {})

    def heals_without_the_phone(self, state: str) -> None:
        """Both others hear of it, have the same documents, and neither gives the phone anything or takes anything."""
        laptop, desk, phone = self.laptop, self.desk, self.phone
        until(lambda: self.seen_by(desk)["state"] == state, what=f"the desk to hear that the phone is {state}")
        until(lambda: desk.documents("tasks") == laptop.documents("tasks"), what="the same documents on both")
        for machine in (desk, laptop):
            until(lambda m=machine: self.seen_by(m)["path"] == "none", what="no link with the phone")
        until(lambda: "does not belong" in phone.get("/api/sync/status")["path_reason"], what="the phone to be told")
        had = phone.documents("tasks").keys()
        phone.put("tasks", f"{state}-too-late", {"title": "planted"})
        passes(desk, laptop, f"desk-{state}-after")
        passes(laptop, desk, f"laptop2-{state}-after")
        settle(NOT_NOW_S)
        assert phone.path == "none"
        assert phone.documents("tasks").keys() - had == {f"{state}-too-late"}
        assert not [name for name in had if name.endswith(f"{state}-after")]
        assert f"{state}-too-late" not in {**desk.documents("tasks"), **laptop.documents("tasks")}


@pytest.fixture(scope="module")
def household(shared_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Household]:
    network, folder = shared_lab.network(), tmp_path_factory.mktemp("apart")
    laptop, desk, phone = machines = [
        Machine(folder, name, network.host(f"10.77.0.{k}/24")) for k, name in enumerate(("laptop", "desk", "phone"), 1)
    ]
    try:
        for machine in machines:
            machine.start()
        for machine in machines:
            until(lambda m=machine: m.get("/api/lan")["port"], what="direct links")
        pair(laptop, desk)
        pair(laptop, phone)
        made = Household(laptop, desk, phone, " ".join(laptop.post("/api/recovery/show", {})["words"]))
        passes(phone, desk, "before")
        until(lambda: "before" in laptop.documents("tasks"), what="the laptop to have it as well")
        yield made
    finally:
        for machine in machines:
            if machine.process is not None:
                machine.kill()


def test_spec_D4_removed_while_apart_and_restored(household: Household) -> None:
    laptop, desk, phone = household.laptop, household.desk, household.phone
    laptop.host.unplug()
    until(lambda: laptop.path == "none", what="the laptop to be alone")
    assert household.do("remove")["device"]["state"] == "removed"
    laptop.put("tasks", "laptop-removed-after", {"title": "planted"})
    passes(phone, desk, "phone-meanwhile")  # neither has heard of it
    passes(desk, phone, "desk-meanwhile")

    laptop.host.plug_in()
    household.heals_without_the_phone("removed")
    # A removal that can be taken back voids nothing: what others had taken of it stays.
    assert {"phone-meanwhile", "desk-meanwhile", "laptop-removed-after"} <= laptop.documents("tasks").keys()

    household.do("restore")
    until(lambda: "laptop-removed-after" in phone.documents("tasks"), what="the phone to be in again")
    until(lambda: "removed-too-late" in laptop.documents("tasks"), what="what it wrote while it was out")


def test_spec_D4_lost_while_apart(household: Household) -> None:
    laptop, desk, phone = household.laptop, household.desk, household.phone
    for machine in (desk, phone):
        until(lambda m=machine: m.documents("tasks") == laptop.documents("tasks"), what="the same on all three")
    with partition([laptop.host], [desk.host, phone.host]):  # nobody's own network changes, so nobody notices
        passes(phone, desk, "phone-lost-meanwhile")
        assert household.do("expel", {"words": household.words})["device"]["state"] == "expelled"
        laptop.put("tasks", "laptop-expelled-after", {"title": "planted"})
    household.heals_without_the_phone("expelled")
    # What only the desk had taken of it does not count, and is kept there.
    assert "phone-lost-meanwhile" not in desk.documents("tasks")
    assert "laptop-expelled-after" in desk.documents("tasks")
    kept = desk.get("/api/devices/quarantine")["items"]
    assert [(k["device"]["id"], k["documents"]) for k in kept] == [(household.phone_id, ["tasks/phone-lost-meanwhile"])]
    assert laptop.get("/api/devices/quarantine")["items"] == []
    desk.post(f"/api/devices/{household.phone_id}/quarantine", {})
    until(lambda: "phone-lost-meanwhile" in laptop.documents("tasks"), what="what the person takes after all")
    assert laptop.documents("tasks") == desk.documents("tasks")

    pair(desk, phone)  # found again: it comes back in its profile, as a new device
    until(lambda: phone.documents("tasks").keys() >= laptop.documents("tasks").keys(), what="the phone to be in again")
    passes(phone, laptop, "phone-as-new")
    assert "expelled-too-late" not in laptop.documents("tasks")
    assert household.seen_by(laptop)["state"] == "expelled"

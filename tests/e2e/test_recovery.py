"""All devices are gone: a new machine, the 24 words and one relay bring the space back. Real processes, real CLI."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from pathlib import Path

from .machines import DeviceMachine, environment, household, until


def hybridgw(device: DeviceMachine, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    """The command line against a profile."""
    return subprocess.run(
        [sys.executable, "-c", "from hybridgw_cli.main import main; main()", "--home", str(device.home), *arguments],
        input=typed, capture_output=True, text=True, check=False, timeout=60, env=environment(device.folder),
    )  # fmt: skip


def put(device: DeviceMachine, name: str, data: dict[str, str]) -> None:
    """Write a task."""
    with device.client() as client:
        client.request("PUT", f"/api/data/tasks/{name}", body=data)


def test_spec_D6_recovery_from_the_words_alone_with_one_relay_copy(tmp_path: Path) -> None:
    relay, a, b = household(tmp_path)
    new = DeviceMachine(tmp_path, "n")
    machines = [relay, a, b, new]
    try:
        put(a, "one", {"title": "planted title"})
        put(b, "two", {"title": "another title"})
        until(lambda: len(a.documents("tasks")) == len(b.documents("tasks")) == 2, what="both to have both")
        until(lambda: a.is_in_step() and b.is_in_step(), what="being in step")
        shown = hybridgw(a, "recovery", "show", "--yes")
        assert shown.returncode == 0, shown.stderr
        words = " ".join(word for word in shown.stdout.split() if word.isalpha())
        assert len(words.split()) == 24
        confirmed = hybridgw(a, "recovery", "confirm", typed=words)
        assert confirmed.returncode == 0, confirmed.stderr
        assert hybridgw(a, "recovery", "show", "--yes").returncode == 1
        logged = a.log.read_text() + relay.log.read_text()  # where one of the words may stand by itself
        assert not any(f"{one} {next_}" in logged for one, next_ in itertools.pairwise(words.split()))
        url = f"http://127.0.0.1:{relay.port}"
        for device in (a, b):  # a fire
            device.kill()
            shutil.rmtree(device.home)
        new.start()
        until(lambda: new.get("/api/devices")["items"][0].get("fingerprint"), what="the keys of the new device")
        typo = words.split()
        typo[6] = typo[6][:3] + "zzq"
        wrong = hybridgw(new, "recover", "--relay", url, typed=" ".join(typo))
        assert wrong.returncode == 1
        assert f"Word 7, '{typo[6]}'" in wrong.stderr
        done = hybridgw(new, "recover", "--relay", url, typed=words)
        assert done.returncode == 0, done.stderr
        assert "planteddevicea" in done.stderr  # whoever may still read is named
        until(lambda: len(new.documents("tasks")) == 2, what="the data to come back")
        assert new.documents("tasks")["one"]["title"] == "planted title"
        for name in ("planteddevicea", "planteddeviceb"):
            gone = hybridgw(new, "devices", "remove", name, "--lost", "--since", "now", "--yes", typed=words)
            assert gone.returncode == 0, gone.stderr
        states = {d["name"]: d["state"] for d in new.get("/api/devices")["items"]}
        assert states["planteddevicea"] == states["planteddeviceb"] == "expelled"
        put(new, "three", {"title": "written afterwards"})
        until(new.is_in_step, what="being in step")
        assert len(new.documents("tasks")) == 3
    finally:
        for machine in machines:
            if machine.process is not None:
                machine.kill()

"""`hybridgw lan` on one device: addresses are named, shown, refused and taken back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration._cli import Cli, InProcess, profile


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with profile(tmp_path_factory.mktemp("lan") / "laptop", InProcess) as made:
        made.up()
        yield made


def test_spec_D3_an_address_is_named_and_taken_back(cli: Cli) -> None:
    assert "No other device is known yet" in cli("lan", "list").talk
    assert "lan test 192.0.2.20" in cli("lan", "add", "192.0.2.20").talk
    found = cli("lan", "add", "NAS.home:5000", "--json").json
    assert [(a["address"], a["source"]) for a in found["addresses"]] == [
        ("192.0.2.20:47801", "manual"), ("nas.home:5000", "manual")
    ]  # fmt: skip
    shown = cli("lan", "list").out
    assert "nas.home:5000" in shown
    assert "you named it" in shown
    assert "forgotten" in cli("lan", "remove", "nas.home:5000").talk
    assert len(cli("lan", "list", "--json").json["addresses"]) == 1
    cli("lan", "remove", "192.0.2.20")


@pytest.mark.parametrize("text", [" ", "host:99999", "224.0.0.1:1", "[fe80::1]:5", "http://nas"])
def test_sec_what_is_no_address_is_refused_with_an_example(cli: Cli, text: str) -> None:
    for verb in ("add", "remove", "test"):
        refused = cli("lan", verb, text, code=1)
        assert "192.168.1.20:47801" in refused.talk or "[fe80::1%eth0]" in refused.talk


def test_what_was_not_named_cannot_be_taken_back(cli: Cli) -> None:
    assert "lan list" in cli("lan", "remove", "192.0.2.99", code=1).talk


def test_a_test_says_that_direct_links_are_off(cli: Cli) -> None:
    report = cli("lan", "test", "--json").json
    assert [(item["code"], item["state"]) for item in report["items"]] == [("lan_off", "warn")]
    assert "local network" in cli("doctor").out

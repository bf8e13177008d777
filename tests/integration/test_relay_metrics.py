"""What Prometheus sees of a relay: on a port of its own, of loopback, without a name of anybody."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.relay_client import MANY_TRIES, Client, Family, RelayProcess, Writer


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[RelayProcess]:
    with RelayProcess(tmp_path / "data", environment={**MANY_TRIES, "METRICS_PORT": "0"}) as running:
        yield running


def metrics_url(relay: RelayProcess) -> str:
    """As its log tells it."""
    found = re.search(r"metrics url=(http://127\.0\.0\.1:\d+/metrics)", relay.log.read_text())
    assert found
    return found[1]


async def scraped(url: str, **headers: str) -> tuple[int, str]:
    """(status, body)."""
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as got:
        return got.status, await got.text()


def values(text: str) -> dict[Any, float]:
    """Name, then the values of its labels in the order of their names -> value."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.spec("O1")
async def test_spec_O1_a_relay_tells_what_it_does_and_names_nobody(relay: RelayProcess) -> None:
    family, url = Family(9_000), metrics_url(relay)
    async with Client.admitted(relay.url, family, family.first, enrol=relay.invite("planted-account")) as client:
        await client.push(Writer(family, family.first).make_many(5))
        status, text = await scraped(url)
        found = values(text)
        assert status == 200
        assert found["websocket_connections_active", "device"] == 1
        assert found[("relay_spaces_connected",)] == 1
    assert found[("relay_batches_stored_total",)] == 5
    assert found[("relay_bytes_stored_total",)] == 5 * 450
    assert found[("relay_commit_seconds_count",)] >= 1
    assert found[("process_resident_memory_bytes",)] > 10_000_000
    for path in ("/health", "/planted-path", "/", "/planted-path"):
        await scraped(relay.url + path)
    for _ in range(600):
        text = (await scraped(url))[1]
        if ("http_requests_total", "/hgw/1", "GET", "101") in (found := values(text)):
            break
        await asyncio.sleep(0.05)
    assert found.get(("http_requests_total", "/hgw/1", "GET", "101")) == 1, text
    assert found["http_requests_total", "/health", "GET", "200"] == 1
    assert found["http_requests_total", "-", "GET", "404"] == 2
    assert found[("http_request_duration_seconds_count",)] == 4
    for secret in ("planted", family.space.hex(), family.first.id.hex(), "127.0.0.1"):
        assert secret not in text


async def test_sec_R18_metrics_are_not_on_the_port_of_the_devices(relay: RelayProcess) -> None:
    assert (await scraped(f"{relay.url}/metrics"))[0] == 404
    url = metrics_url(relay)
    for path in ("/", "/health", "/hgw/1", "/metrics/x"):
        status, text = await scraped(url.replace("/metrics", path))
        assert (status, text) == (404, "404\n")
    assert (await scraped(url, Host="evil.example"))[0] == 421
    assert (await scraped(url, Origin="https://evil.example"))[0] == 403
    assert (await scraped(url, **{"Sec-Fetch-Site": "cross-site"}))[0] == 403


async def test_the_usual_port_may_be_taken_and_a_chosen_one_may_not(tmp_path: Path) -> None:
    taken = "metrics are not served: port 9090 is taken"
    with contextlib.ExitStack() as stack:  # another program may have it; if not, the first of ours has
        running = [stack.enter_context(RelayProcess(tmp_path / name)) for name in ("a", "c")]
        without = [one for one in running if taken in one.log.read_text()]
        assert without
        for one in running:
            assert (await scraped(f"{one.url}/health"))[0] == 200
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        refused = RelayProcess(tmp_path / "b", environment={"METRICS_PORT": port})
        with pytest.raises(AssertionError, match=f"port {port} for metrics"):
            refused.start()
        assert refused.stop() == 1


def test_without_metrics_nothing_listens(tmp_path: Path) -> None:
    with RelayProcess(tmp_path / "data", environment={"METRICS_ENABLED": "false"}) as running:
        assert "metrics" not in running.log.read_text()


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"METRICS_PORT": "8080"}, "two ports"), ({"METRICS_PORT": "x"}, "METRICS_PORT"),
        ({"METRICS_HOST": "relay.example"}, "METRICS_HOST"), ({"METRICS_ENABLED": "perhaps"}, "METRICS_ENABLED"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused(tmp_path: Path, environment: dict[str, str], says: str) -> None:
    from hybridgw_protocol.errors import ConfigInvalid
    from hybridgw_relay.config import load

    with pytest.raises(ConfigInvalid, match=says):
        load(environment=environment, flags={}, default_data=tmp_path)

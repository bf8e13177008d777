"""Real processes at random moments killed, or cut from the relay, while devices send each other messages.

A relay and two daemons. Programs send through the API with ids of their own, and send again what was not answered. At
the end every message that was asked for is at the other device, once, in the order in which it was answered per
priority, and its sender knows (mailing.py). The same of two people.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from hybridgw_protocol.errors import HybridGWError

from .machines import until
from .mailing import is_true_so_far, sending, writing
from .pipes import Pipe


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("kills", [12, *[pytest.param(60 + k, marks=pytest.mark.soak) for k in range(5)]])
def test_spec_R4_each_message_arrives_once_in_order(tmp_path: Path, kills: int) -> None:
    rng = random.Random(kills)
    with sending(tmp_path) as machines:
        for _ in range(kills):
            time.sleep(rng.choice((0.05, 0.2, 0.4)))
            machine = rng.choice(machines)
            machine.kill()
            machine.start()


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("cuts", [20, *[pytest.param(200 + k, marks=pytest.mark.soak) for k in range(5)]])
def test_spec_R4_so_it_does_when_connections_break(tmp_path: Path, cuts: int) -> None:
    rng = random.Random(cuts)
    with Pipe() as pipe, sending(tmp_path, pipe) as (_, a, b):
        for _ in range(cuts):
            until = time.monotonic() + 30
            while not pipe.cut(rng):
                for device in (a, b):  # as a person who asks for sync: it is not waited for the next try
                    try:
                        device.post("/api/sync/trigger", {"wait": False})
                    except HybridGWError:
                        continue
                assert time.monotonic() < until, "nobody connects again"
                time.sleep(0.02)
            time.sleep(rng.choice((0.0, 0.02, 0.1)))


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("kills", [6, *[pytest.param(60 + k, marks=pytest.mark.soak) for k in range(2)]])
def test_spec_R6_so_it_does_between_two_people(tmp_path: Path, kills: int) -> None:
    rng = random.Random(kills)
    with writing(tmp_path) as (relay, a, b):
        for number in range(kills):
            time.sleep(rng.choice((0.05, 0.2, 0.4)))
            machine = rng.choice((relay, a.device, b.device))
            machine.kill()
            machine.start()
            if number % 3 == 2:
                until(lambda: is_true_so_far(a, b.device) and is_true_so_far(b, a.device), seconds=90)

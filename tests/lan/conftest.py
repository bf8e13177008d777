"""The lab of a test: hosts in network namespaces, or a skip that says what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest

from .network import WHY_NOT, Lab, is_possible

_is_possible = cache(is_possible)


def _made() -> Iterator[Lab]:
    if not _is_possible():
        pytest.skip(WHY_NOT)
    made = Lab()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Networks and hosts that end with the test."""
    yield from _made()


@pytest.fixture(scope="module")
def shared_lab() -> Iterator[Lab]:
    """Those that all tests of a file use, where making them takes longer than what is tested."""
    yield from _made()

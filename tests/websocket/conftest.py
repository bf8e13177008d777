"""The local API that every test here connects to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration._local_api import Api, running


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    """A local API over a fresh database, in this process, on real sockets."""
    async with running(tmp_path) as made:
        yield made

"""Gateways on every set of stores that a bot may name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway import Gateway


@pytest.fixture(params=["memory", "sqlite", "json", "json,sqlite"])
async def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Gateway]:
    """Open a gateway; the same tests run on every store, as the same bot would."""
    async with Gateway(request.param, data_dir=tmp_path, environ={}, env_file=None) as opened:
        yield opened

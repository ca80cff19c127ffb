"""Real servers for as long as a fixture lives; where one is missing, its tests are skipped, and CI fails for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from tests.servers import MissingServerError, Server

__all__ = ["USED", "hold"]

S = TypeVar("S", bound=Server)

USED = pytest.StashKey[dict[str, str]]()
"""Which servers a run used, and how soon they were ready."""


def hold(request: pytest.FixtureRequest, make: Callable[[], S], prefix: str = "no server: ") -> Iterator[S]:
    """Start a server, note that it was used, and end it; skip with a reason that the root conftest counts."""
    try:
        made = make()
    except MissingServerError as missing:
        pytest.skip(f"{prefix}{missing}")
    with made as server:
        used = request.config.stash.setdefault(USED, {})
        used[str(server.origin)] = f"ready in {server.started_in:.2f} s"
        yield server

"""Fixtures of the JSON backend's tests: a directory, a stamper, and stores opened in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.records import POSITIONS, TRADES, Position, Row, Trade
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.stamp import Stamper
from gateway_json.store import JsonStore

NOON = datetime(2026, 3, 12, 12, tzinfo=UTC)


@pytest.fixture
def stamper() -> Stamper:
    """Return what makes rows of the default tenant."""
    return Stamper()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the directory that stores are opened in."""
    return tmp_path / "json"


@pytest.fixture
def open_store(root: Path) -> Iterator[Callable[..., JsonStore]]:
    """Return a function that opens the directory; what it opened is closed at the end."""
    with ExitStack() as stack:

        def open_store(**options: Any) -> JsonStore:
            store = JsonStore(root, BUILTIN_KINDS, **options)
            return stack.enter_context(closing(store))

        yield open_store


@pytest.fixture
def trade(stamper: Stamper) -> Callable[..., Row]:
    """Return a function that makes a trade's row."""

    def make(when: datetime = NOON, **fields: Any) -> Row:
        given = {"market_name": "BTC", "action": "buy", "side": "YES", "price": "0.1", "amount": "3"} | fields
        return stamper.stamp(TRADES, Trade.model_validate({"timestamp": when, **given}))

    return make


@pytest.fixture
def position(stamper: Stamper) -> Callable[..., Row]:
    """Return a function that makes a position's row."""

    def make(condition_id: str = "0xabc", **fields: Any) -> Row:
        given = {"side": "YES", "entry_price": "0.28", "opened_at": NOON} | fields
        return stamper.stamp(POSITIONS, Position.model_validate({"condition_id": condition_id, **given}))

    return make

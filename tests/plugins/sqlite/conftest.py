"""SQLite stores, and other processes, for the tests of the backend."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gateway.backend import OpenContext
from gateway.records import POSITIONS, Position, Row
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.stamp import Stamper
from gateway_sqlite.backend import SqliteBackend
from gateway_sqlite.plugin import open_store
from gateway_sqlite.settings import SqliteSettings
from tests.children import children
from tests.samples import trade_rows

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store of a test is; the default place."""
    return tmp_path / "gateway.db"


@pytest.fixture
def context(tmp_path: Path) -> Callable[..., OpenContext]:
    """Makes what a store is opened with; keyword arguments are settings."""

    def make(*, read_only: bool = False, **settings: Any) -> OpenContext:
        chosen = SqliteSettings(**{"wal_autocheckpoint": 100, **settings})
        return OpenContext("sqlite", chosen, BUILTIN_KINDS, tmp_path, read_only)

    return make


@pytest.fixture
async def opened(
    context: Callable[..., OpenContext],
) -> AsyncIterator[Callable[..., Awaitable[SqliteBackend]]]:
    """Opens the store, as often as a test likes, and closes what it opened."""
    backends: list[SqliteBackend] = []

    async def open_one(**options: Any) -> SqliteBackend:
        backend = await open_store(context(**options))
        assert isinstance(backend, SqliteBackend)
        backends.append(backend)
        return backend

    yield open_one
    for backend in backends:
        await backend.gateway_close()


@pytest.fixture
async def backend(opened: Callable[..., Awaitable[SqliteBackend]]) -> SqliteBackend:
    """An open store."""
    return await opened()


@pytest.fixture
def stamper() -> Stamper:
    """Makes rows."""
    return Stamper()


@pytest.fixture
def trades(stamper: Stamper) -> Callable[[int], list[Row]]:
    """Makes so many trades, a second apart."""
    return lambda count: trade_rows(stamper, START, count)


@pytest.fixture
def position(stamper: Stamper) -> Callable[..., Row]:
    """Makes a position in a market; a later one has a greater version."""

    def make(condition_id: str, price: str = "0.5") -> Row:
        record = Position(condition_id=condition_id, side="YES", entry_price=Decimal(price), opened_at=START)
        return stamper.stamp(POSITIONS, record)

    return make


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts Python code in another process, and ends it after the test."""
    with children() as start:
        yield lambda code, *arguments: start("-c", code, *arguments)

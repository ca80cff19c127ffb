"""Stores on a real QuestDB, each test a tenant of its own."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.backend import OpenContext
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.kind import KindSpec
from gateway.records.stamp import Stamper
from gateway_questdb.backend import QuestDbBackend
from gateway_questdb.opening import open_backend
from gateway_questdb.settings import QuestDbSettings
from tests.servers import MissingServerError, QuestDbServer

MakeContext = Callable[..., OpenContext]


def url_of(server: QuestDbServer, port: int | None = None) -> str:
    """Return the URL of a server, or of what stands before its HTTP port."""
    return f"questdb://{server.host}:{port or server.port}?pg_port={server.pg_port}"


def context_on(
    server: QuestDbServer,
    *,
    kinds: tuple[KindSpec, ...] = BUILTIN_KINDS,
    read_only: bool = False,
    **settings: Any,
) -> OpenContext:
    """Return how to open a store on a server."""
    chosen = QuestDbSettings(**{"url": url_of(server), **settings})
    return OpenContext("questdb", chosen, kinds, Path(), read_only=read_only)


@pytest.fixture
def make_context(questdb: QuestDbServer) -> MakeContext:
    """Makes contexts on the common server; keyword arguments are settings, `kinds` and `read_only`."""
    return lambda **settings: context_on(questdb, **settings)


@pytest.fixture
async def store(make_context: MakeContext) -> AsyncIterator[QuestDbBackend]:
    """An open store on the common server."""
    opened = await open_backend(make_context())
    yield opened
    await opened.gateway_close()


@pytest.fixture
def stamper() -> Stamper:
    """Stamps the rows of a new tenant."""
    return Stamper(str(uuid.uuid4()))


@pytest.fixture(scope="session")
def _own_server() -> Iterator[QuestDbServer]:
    try:
        # Only its developers' mode suspends a table when it is told to.
        made = QuestDbServer.default(settings={"dev.mode.enabled": "true"})
    except MissingServerError as missing:
        pytest.skip(f"no server: {missing}")
    with made as server:
        yield server


@pytest.fixture
def own_server(_own_server: QuestDbServer) -> Iterator[QuestDbServer]:
    """A server that a test may kill, and whose tables it may suspend; a start takes long, so there is one for all."""
    yield _own_server
    _own_server.start()

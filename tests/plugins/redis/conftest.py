"""Servers of the tests of the Redis cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.servers import MissingServerError, RedisCluster, RedisServer, Sentinels


def _held(make: Callable[[], RedisServer]) -> Iterator[RedisServer]:
    try:
        made = make()
    except MissingServerError as missing:
        pytest.skip(f"no server: {missing}")
    with made as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[RedisServer]:
    """Valkey, or whatever every test runs on."""
    yield from _held(RedisServer.made)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The system's Redis: 7.0 on Debian 12, the oldest that is supported."""
    yield from _held(RedisServer.debian)


@pytest.fixture(scope="session", params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> RedisServer:
    """Each kind of server in turn."""
    found: RedisServer = request.getfixturevalue(f"{request.param}_server")
    return found


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A server that a test may stop, kill and set up as it likes."""
    yield from _held(RedisServer.made)


@pytest.fixture(scope="session")
def tls_server() -> Iterator[RedisServer]:
    """A server that takes encrypted connections only."""
    yield from _held(lambda: RedisServer.debian(tls=True))


@pytest.fixture
def sentinels() -> Iterator[Sentinels]:
    """A master, its replica and three sentinels."""
    with Sentinels() as group:
        yield group


@pytest.fixture(scope="session")
def cluster() -> Iterator[RedisCluster]:
    """A cluster of three masters."""
    with RedisCluster() as made:
        yield made

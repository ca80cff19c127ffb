"""Every clause about caches, on Valkey, on the oldest Redis that is supported, and on a cluster."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

import pytest
from redis.crc import key_slot

from gateway.backend import BackendSpec, OpenContext
from gateway.conformance import CacheConformance, CacheUser
from gateway.conformance.kinds import ALL_KINDS
from gateway_redis.cache import key_of
from gateway_redis.plugin import SPEC
from gateway_redis.settings import RedisSettings
from tests.servers import RedisCluster, RedisServer


class _OnOneServer(CacheConformance):
    """The clauses on one server."""

    __test__ = False
    spec: ClassVar[BackendSpec] = SPEC
    server: RedisServer

    def make_context(self, tmp_path: Path) -> OpenContext:
        """Reach the class's server."""
        return OpenContext("redis", RedisSettings(url=self.server.url()), ALL_KINDS, tmp_path)

    async def evict(self, user: CacheUser, name: str) -> None:  # noqa: ARG002 - the kit gives it
        """Lose one entry."""
        await asyncio.to_thread(self.server.ask, "DEL", key_of("sg", name))

    async def restart(self) -> None:
        """Let the server begin another life."""
        await asyncio.to_thread(self.server.restart)


class TestValkey(_OnOneServer):
    """On Valkey."""

    __test__ = True

    @pytest.fixture(autouse=True)
    def _serve(self, valkey_server: RedisServer) -> None:
        self.server = valkey_server


class TestOldestRedis(_OnOneServer):
    """On the system's Redis."""

    __test__ = True

    @pytest.fixture(autouse=True)
    def _serve(self, redis_server: RedisServer) -> None:
        self.server = redis_server


class TestCluster(CacheConformance):
    """On a cluster of three masters."""

    spec: ClassVar[BackendSpec] = SPEC
    cluster: RedisCluster

    @pytest.fixture(autouse=True)
    def _serve(self, cluster: RedisCluster) -> None:
        self.cluster = cluster

    def make_context(self, tmp_path: Path) -> OpenContext:
        """Reach the cluster."""
        return OpenContext("redis", RedisSettings(url=self.cluster.url), ALL_KINDS, tmp_path)

    async def evict(self, user: CacheUser, name: str) -> None:  # noqa: ARG002 - the kit gives it
        """Lose one entry."""
        key = key_of("sg", name)
        await asyncio.to_thread(self._forget, key)

    def _forget(self, key: str) -> None:
        slot = key_slot(key.encode())
        at = next(at for at in range(3) if self.cluster.owns(at, slot))
        self.cluster.nodes[at].ask("DEL", key)

    async def restart(self) -> None:
        """Let every master begin another life: one that goes on serves its own entries until somebody looks."""
        for node in self.cluster.nodes:
            await asyncio.to_thread(node.restart)
        await asyncio.to_thread(self.cluster.settle)

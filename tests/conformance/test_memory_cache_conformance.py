"""The cache in memory keeps every promise of a cache."""

from __future__ import annotations

from pathlib import Path

from gateway.backend import OpenContext
from gateway.conformance import CacheConformance, CacheUser
from gateway_memory.cache import MemoryCache, server_named
from gateway_memory.plugin import MEMORY_CACHE, MemoryCacheSettings


class TestMemoryCache(CacheConformance):
    """The reference."""

    spec = MEMORY_CACHE
    place = ""

    def make_context(self, tmp_path: Path) -> OpenContext:
        """Return how to open a cache of this test's own."""
        type(self).place = str(tmp_path)
        return OpenContext("memory_cache", MemoryCacheSettings(url=self.place), (), tmp_path)

    def evict(self, user: CacheUser, name: str) -> None:
        """Lose one entry."""
        assert isinstance(user.cache, MemoryCache)
        user.cache.server.evict(name)

    def restart(self) -> None:
        """Begin another life, with the old entries."""
        server_named(self.place, 1).restart(keep=True)

"""The clauses about caches in one class."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from gateway.backend import BackendSettings, BackendSpec, OpenContext
from gateway.conformance.cache_entries import FenceClauses, FloorClauses, LeaseClauses
from gateway.conformance.cache_harness import CacheHarness
from gateway.conformance.cache_service import LossClauses, ServiceClauses
from gateway.conformance.kinds import ALL_KINDS

__all__ = ["CacheConformance"]


class CacheConformance(LeaseClauses, FenceClauses, FloorClauses, ServiceClauses, LossClauses):
    """Every promise of `gateway.cache.contract`. Derive from it, name it `Test…`, and give it a spec.

    Two methods are the author's to add, plain or async, for the clauses that need them: `evict(self, user, name)`
    makes the server lose one entry, as if for want of memory (`user.cache` is the opened cache), and `restart(self)`
    ends the server and starts it again.

    Attributes:
        spec: The cache under test.
        settings: How to open it; the defaults of the spec's settings class if this is None.
    """

    spec: ClassVar[BackendSpec]
    settings: ClassVar[BackendSettings | None] = None

    def make_context(self, tmp_path: Path) -> OpenContext:
        """Return how to open the cache; override it to reach a server. Clauses use names of their own."""
        settings = self.settings if self.settings is not None else self.spec.settings()
        return OpenContext(self.spec.name, settings, ALL_KINDS, tmp_path)

    @pytest.fixture
    def caches(
        self, tmp_path: Path, record_property: Callable[[str, object], None]
    ) -> Iterator[CacheHarness]:
        """Give a clause its cache and its event loop, and clean up behind it."""
        record_property("conformance", self.spec.name)
        with CacheHarness(self.spec, self.make_context(tmp_path)) as harness:
            yield harness

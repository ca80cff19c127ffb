"""How long things last in the cache."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from gateway.cache.contract import Terms
from gateway.cache.keeper import Keeper
from gateway.cache.permit import Epoch

__all__ = ["CacheOptions", "TermsMaker"]

_JITTER: Final = 0.1
_LEASE_MS: Final = 5_000
_FLOOR_MS: Final = 600_000
"""Ten minutes: longer than a mirror that is written along with its primary may lag."""


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """Bounds of the cache.

    Attributes:
        ttl: Seconds for which a value is kept, give or take a tenth.
        timeout: Seconds after which a read of the cache is given up, and the store is read.
        announce: Seconds after which the announcement of a write is given up, and the cache is closed.
        value_bytes: Size from which on a row is not cached.
        queue: Fills and ends of writes that may wait.
    """

    ttl: float = 3600.0
    timeout: float = 0.05
    announce: float = 0.5
    value_bytes: int = 65_536
    queue: int = 10_000


class TermsMaker:
    """Makes the terms of each call.

    Args:
        options: The bounds.
        keeper: Knows whether the server evicts.
    """

    __slots__ = ("_keeper", "_latest", "_ttl_ms")

    def __init__(self, options: CacheOptions, keeper: Keeper) -> None:
        self._keeper = keeper
        self._ttl_ms = options.ttl * 1000
        self._latest: tuple[float, bool, Terms] | None = None

    def plain(self, epoch: Epoch) -> Terms:
        """Return terms for a call that keeps no value."""
        evicts = self._evicts()
        held = self._latest
        if held is None or held[0] != epoch.fence or held[1] is not evicts:
            self._latest = held = (epoch.fence, evicts, self.make(epoch))
        return held[2]

    def _evicts(self) -> bool:
        contact = self._keeper.contact
        return contact is None or contact.evicts

    def make(self, epoch: Epoch) -> Terms:
        """Return terms for a call. Values that are kept together do not run out together."""
        fence_ms = max(1, round(epoch.fence * 1000))
        evicts = self._evicts()
        varied = self._ttl_ms * (1 + _JITTER * (2 * random.random() - 1))  # noqa: S311 - spreads load, hides nothing
        return Terms(
            max(1, round(varied)),
            _LEASE_MS,
            fence_ms,
            max(_FLOOR_MS, 2 * fence_ms),
            fence_ms if evicts else 0,
        )

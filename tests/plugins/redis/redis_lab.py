"""What tests of the Redis cache share: caches with keys of their own, terms, and waiting for what a server's clock brings."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from gateway.cache.contract import MARK_DIGITS, Cache, Contact, End, EndAnswer, Fill, FillAnswer, Miss, Terms
from gateway_redis.cache import RedisCache
from gateway_redis.settings import RedisSettings

__all__ = ["LONG", "Holder", "becomes", "mark", "opened", "settings"]

LONG: Final = Terms(value_ms=600_000, lease_ms=600_000, fence_ms=600_000, floor_ms=900_000, probation_ms=0)
"""Nothing runs out during a test."""


READER: Final = "reader"
WRITER: Final = "writer"


def mark(number: int) -> str:
    """Return the mark of a version."""
    return f"{number:0{MARK_DIGITS}x}"


def settings(url: str, **more: Any) -> RedisSettings:
    """Return settings with a prefix that no other test has."""
    return RedisSettings(**{"url": url, "key_prefix": f"t{secrets.token_hex(6)}", **more})


class Holder:
    """A cache and the incarnation that its server had; what a test says with fewer words."""

    def __init__(self, cache: Cache, contact: Contact, terms: Terms = LONG) -> None:
        self.cache = cache
        self.contact = contact
        self.terms = terms

    async def get(self, name: str, token: str = READER) -> bytes | Miss:
        """Ask for one entry."""
        return (await self.cache.get(self.contact.incarnation, [name], token, self.terms))[0]

    async def fill(self, name: str, number: int, token: str = READER) -> FillAnswer:
        """Fill one entry with what a version looks like."""
        made = Fill(name, token, mark(number), b"version %d" % number)
        return (await self.cache.fill(self.contact.incarnation, [made], self.terms))[0]

    async def begin(self, name: str, token: str = WRITER) -> None:
        """Put up a fence."""
        await self.cache.begin(self.contact.incarnation, [name], token, self.terms)

    async def end(self, name: str, number: int, token: str = WRITER) -> EndAnswer:
        """Take down a fence, and keep what was written."""
        made = End(name, token, mark(number), b"version %d" % number)
        return (await self.cache.end(self.contact.incarnation, [made], self.terms))[0]

    async def put(self, name: str, number: int) -> None:
        """Write a version through the cache."""
        await self.begin(name)
        assert await self.end(name, number) is EndAnswer.STORED

    async def again(self) -> Contact:
        """Find out who answers now."""
        self.contact = await self.cache.contact()
        return self.contact


@asynccontextmanager
async def opened(url: str, terms: Terms = LONG, **more: Any) -> AsyncIterator[Holder]:
    """Open a cache of a test."""
    cache = RedisCache(settings(url, **more))
    try:
        yield Holder(cache, await cache.contact(), terms)
    finally:
        await cache.close()


async def becomes(
    call: Callable[[], Awaitable[Any]], wanted: Callable[[Any], bool], patience: float = 20.0
) -> Any:
    """Make a call again and again until its answer is as wanted, as only a clock or another process can make it so.

    An error of the cache is no answer yet.
    """
    from gateway.errors import CacheError

    until = time.monotonic() + patience
    last: Any = None
    while time.monotonic() < until:
        try:
            last = await call()
        except CacheError as error:
            last = error
        else:
            if wanted(last):
                return last
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within {patience} s; the last answer was {last!r}")

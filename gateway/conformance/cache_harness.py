"""What a clause about a cache works with: the cache, terms, names of its own, and the clause decorator."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar, cast

import pytest

from gateway.backend import BackendSpec, OpenContext
from gateway.cache.contract import MARK_DIGITS, Cache, End, EndAnswer, Fill, FillAnswer, Miss, Terms
from gateway.conformance.clauses import CLAUSE_MARK, Clause

__all__ = ["CacheHarness", "CacheUser", "cache_clause", "called", "mark", "terms"]

T = TypeVar("T")
LIMIT: Final = 60.0
READER: Final = "reader"
WRITER: Final = "writer"
LATER: Final = "later"
Body = Callable[..., Coroutine[Any, Any, None]]


def terms(
    *, value: int = 60_000, lease: int = 60_000, fence: int = 60_000, floor: int = 120_000, probation: int = 0
) -> Terms:
    """Return terms that outlast a clause, but for those that are given, in milliseconds."""
    return Terms(value, lease, fence, floor, probation)


def mark(number: int) -> str:
    """Return the mark of a version."""
    return f"{number:0{MARK_DIGITS}x}"


class CacheUser:
    """One process's use of a cache, with an incarnation and terms.

    Args:
        cache: The opened cache.
        incarnation: The server that is meant.
        given: Terms of every call that gives none.
    """

    def __init__(self, cache: Cache, incarnation: str, given: Terms | None = None) -> None:
        self.cache = cache
        self.incarnation = incarnation
        self.terms = given or terms()

    def __repr__(self) -> str:
        return f"<CacheUser {self.incarnation}>"

    async def get(self, name: str, token: str = READER, given: Terms | None = None) -> bytes | Miss:
        """Ask for one entry."""
        return (await self.cache.get(self.incarnation, [name], token, given or self.terms))[0]

    async def fill(
        self, name: str, value: bytes, number: int, token: str = READER, given: Terms | None = None
    ) -> FillAnswer:
        """Fill one entry."""
        fill = Fill(name, token, mark(number), value)
        return (await self.cache.fill(self.incarnation, [fill], given or self.terms))[0]

    async def begin(self, name: str, token: str = WRITER, given: Terms | None = None) -> None:
        """Put up a fence."""
        await self.cache.begin(self.incarnation, [name], token, given or self.terms)

    async def end(
        self,
        name: str,
        number: int | None = None,
        value: bytes | None = None,
        token: str = WRITER,
        given: Terms | None = None,
    ) -> EndAnswer:
        """Take down a fence; no number is no mark."""
        one = End(name, token, "" if number is None else mark(number), value)
        return (await self.cache.end(self.incarnation, [one], given or self.terms))[0]

    async def put(self, name: str, value: bytes, number: int = 1) -> None:
        """Let the cache have a value, as a reader does."""
        assert await self.get(name, "put") is Miss.LEASED, "nobody has the lease of an entry without a value"
        assert await self.fill(name, value, number, "put") is FillAnswer.STORED

    async def until(self, name: str, wanted: Any, token: str = LATER, given: Terms | None = None) -> None:
        """Ask again and again until the answer is the wanted one."""
        end = time.monotonic() + LIMIT / 2
        while (answer := await self.get(name, token, given)) != wanted:
            assert time.monotonic() < end, f"{name}: still {answer!r}, not {wanted!r}"
            await asyncio.sleep(0.01)


class CacheHarness:
    """One clause's surroundings.

    Args:
        spec: The cache under test.
        context: Where it is.
    """

    def __init__(self, spec: BackendSpec, context: OpenContext) -> None:
        self.spec = spec
        self.context = context
        self._runner = asyncio.Runner()
        self._opened: list[Cache] = []
        self._prefix = secrets.token_hex(6)
        self._names = 0

    def __enter__(self) -> CacheHarness:
        return self

    def __exit__(self, *_: object) -> None:
        for cache in self._opened:
            # The clause has passed or failed by now; a cache that cannot close is not its subject.
            with contextlib.suppress(Exception):
                self.run(cache.close())
        self._runner.close()

    def __repr__(self) -> str:
        return f"<CacheHarness {self.spec.name} caches={len(self._opened)}>"

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on this clause's loop; one that hangs fails after a minute."""
        return self._runner.run(asyncio.wait_for(work, LIMIT))

    def name(self) -> str:
        """Return a name that no other clause has, so that clauses can share a server."""
        self._names += 1
        return f"{self._prefix}:{self._names}"

    async def open(self) -> Cache:
        """Open the cache as the product does."""
        assert self.spec.open_cache is not None, f"{self.spec.name} is no cache: it has no open_cache"
        cache = await self.spec.open_cache(self.context)
        self._opened.append(cache)
        return cache

    async def user(self, given: Terms | None = None) -> CacheUser:
        """Open the cache and find out which server it is."""
        cache = await self.open()
        return CacheUser(cache, (await cache.contact()).incarnation, given)


def cache_clause(*hooks: str) -> Callable[[Body], Callable[[Any, CacheHarness], None]]:
    """Make a method of a conformance class a clause about a cache.

    The method is a coroutine and takes the harness, or a user, or both.

    Args:
        hooks: Methods that the author has to give for the clause to be asked.
    """

    def wrap(body: Body) -> Callable[[Any, CacheHarness], None]:
        wanted = list(inspect.signature(body).parameters)[1:]
        summary = (inspect.getdoc(body) or body.__name__).splitlines()[0]

        @functools.wraps(body)
        def test(self: Any, caches: CacheHarness) -> None:
            missing = [hook for hook in hooks if not hasattr(self, hook)]
            if missing:
                pytest.skip(f"not asked: the test class has no method {', '.join(missing)}")
            given = {"caches": caches, "user": caches.run(caches.user()) if "user" in wanted else None}
            caches.run(body(self, **{name: given[name] for name in wanted}))

        # pytest reads the body's signature through __wrapped__ and would ask for a fixture `user`.
        del test.__dict__["__wrapped__"]
        setattr(test, CLAUSE_MARK, Clause(body.__name__, summary, frozenset()))
        return cast("Callable[[Any, CacheHarness], None]", test)

    return wrap


async def called(answer: Awaitable[None] | None) -> None:
    """Wait for what an author's hook returned, if there is something to wait for."""
    if answer is not None:
        await answer

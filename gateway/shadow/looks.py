"""Asking two stores the same, for comparison: reads by key, listings, and counts of rows.

In each look the store that follows is asked first: what the one that leads holds after that is never older than what a
mirror could have got from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from gateway.backend import GroupSummary, RangeDigest, Summarize
from gateway.compare import PageComparison, RowComparison, alike, compare_pages
from gateway.query import Query, ReadRange
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway.shadow.sights import CLEAR, Sight, compare_keys, wavering

if TYPE_CHECKING:
    from gateway.dispatch import Store

__all__ = ["SUSPECTS", "Counted", "KeyRead", "Pair", "RowRead"]

T = TypeVar("T")

SUSPECTS: Final = 100
"""Differing rows followed of one read; a store that lost everything need not fill the log by one listing."""


class KeyRead(NamedTuple):
    """A read by key.

    Attributes:
        kind: The kind read.
        tenant: Whose rows.
        keys: The keys asked for.
    """

    kind: KindSpec
    tenant: str
    keys: Sequence[Key]


RowRead = KeyRead | Query
"""A read whose answer is rows."""


class Counted(NamedTuple):
    """Counts of rows in both stores, and what tells whether anything changed around them.

    Attributes:
        digests: Fingerprint of all rows of the kind in the leading store and in the other, taken before.
        theirs: What the other store counted.
        mine: What the leading store counted.
        again: What it counted a second time.
    """

    digests: tuple[RangeDigest, RangeDigest]
    theirs: Sequence[GroupSummary]
    mine: Sequence[GroupSummary]
    again: Sequence[GroupSummary]


class Pair:
    """Two stores that are asked the same.

    Args:
        reader: The store that answers bots; on the left of comparisons.
        shadow: The store that it is compared with.
        timeout: Seconds that one answer may take.
        turns: Bounds how much is asked at the same time, over all pairs.
    """

    def __init__(self, reader: Store, shadow: Store, timeout: float, turns: asyncio.Semaphore) -> None:
        self.reader = reader
        self.shadow = shadow
        self._timeout = timeout
        self._turns = turns

    def __repr__(self) -> str:
        return f"<Pair {self.reader.name} and {self.shadow.name}>"

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> T:
        async with self._turns, asyncio.timeout(self._timeout):
            return await question()

    async def compare(self, request: Query, rows: Sequence[Row]) -> Sight:
        """Compare the listing that the bot was given with the other store's; rows not by key as well.

        Raises:
            StoreError: It cannot answer.
            TimeoutError: It does not answer in time.
        """
        page = _listings(request, rows, await self._ask(partial(self.shadow.query, request)))
        return Sight(listed={row.key: row for row in page.rows[:SUSPECTS]}, misplaced=page.misplaced)

    async def compare_reads(self, reads: Sequence[tuple[KeyRead, Sequence[Row | None]]]) -> list[Sight]:
        """Compare what the bot was given by key with what the other store answers, for reads of one kind and tenant.

        Raises:
            StoreError: It cannot answer.
            TimeoutError: It does not answer in time.
        """
        keys = tuple(dict.fromkeys(key for request, _ in reads for key in request.keys))
        theirs = dict(zip(keys, await self._rows(self.shadow, reads[0][0], keys), strict=True))
        return [_sight(request, rows, [theirs[key] for key in request.keys]) for request, rows in reads]

    async def look(self, request: RowRead, suspects: Iterable[Key] = ()) -> Sight:
        """Ask both stores, and look at the rows that differ, or that are under suspicion, by key.

        Raises:
            StoreError: One cannot answer.
            TimeoutError: One does not answer in time.
        """
        if isinstance(request, KeyRead):
            return Sight(await self._compared(request, request.keys))
        # Rows that only the other store has take places of its page. With some places more, they do not hide the rows
        # at its end.
        wider = replace(request, limit=request.limit + min(request.limit, SUSPECTS))
        theirs = await self._ask(partial(self.shadow.query, wider))
        mine = await self._ask(partial(self.reader.query, request))
        page = _listings(request, mine, theirs, wider.limit)
        listed = {row.key: row for row in page.rows[:SUSPECTS]}
        keys = tuple(dict.fromkeys((*listed, *suspects)))[: 2 * SUSPECTS]
        return Sight(await self._compared(request, keys), listed, page.misplaced)

    async def unstable(
        self, request: RowRead, found: Mapping[Key, RowComparison], after: Sight
    ) -> tuple[set[Key], bool]:
        """Ask the leading store twice, and return the keys whose differences mean nothing, and whether order does.

        Args:
            request: What was asked.
            found: The differences in question.
            after: The look in which they were seen last.

        Raises:
            StoreError: It cannot answer.
            TimeoutError: It does not answer in time.
        """
        page = None
        if isinstance(request, Query):
            first = await self._ask(partial(self.reader.query, request))
            page = _listings(request, first, await self._ask(partial(self.reader.query, request)))
        keys = tuple(found)
        rows = [await self._rows(self.reader, request, keys) for _ in range(2)] if keys else [(), ()]
        twice = compare_keys(request.kind, keys, *rows)
        return wavering(found, after, page, twice), page is not None and page.misordered

    async def wavers(self, request: RowRead, keys: Sequence[Key]) -> bool:
        """Tell whether the leading store lists some of its rows in two ways though nobody writes them.

        Args:
            request: What was asked.
            keys: The rows in question.

        Raises:
            StoreError: It cannot answer.
            TimeoutError: It does not answer in time.
        """
        if isinstance(request, KeyRead):
            return False
        before = await self._rows(self.reader, request, keys) if keys else ()
        first = await self._ask(partial(self.reader.query, request))
        page = _listings(request, first, await self._ask(partial(self.reader.query, request)))
        after = await self._rows(self.reader, request, keys) if keys else ()
        stamps = zip(keys, map(_stamp, before), map(_stamp, after), strict=True)
        rest = {key for key, was, now in stamps if was == now}
        return page.misordered or any(row.key in rest for row in page.rows)

    async def counts(self, request: Summarize) -> Sequence[GroupSummary]:
        """Let the other store count.

        Raises:
            StoreError: It cannot answer.
            TimeoutError: It does not answer in time.
        """
        return await self._ask(partial(self.shadow.summarize, request))

    async def count(self, request: Summarize) -> Counted:
        """Take the fingerprints of all rows of the kind, which reads them all, and let both stores count.

        Raises:
            StoreError: One cannot answer.
            TimeoutError: One does not answer in time.
        """
        span = ReadRange(request.kind, request.tenant)
        theirs = await self._ask(partial(self.shadow.digest, span))
        mine = await self._ask(partial(self.reader.digest, span))
        counted = await self.counts(request)
        once = await self._ask(partial(self.reader.summarize, request))
        return Counted(
            (mine, theirs), counted, once, await self._ask(partial(self.reader.summarize, request))
        )

    async def _compared(self, request: RowRead, keys: Sequence[Key]) -> dict[Key, RowComparison]:
        if not keys:
            return {}
        theirs = await self._rows(self.shadow, request, keys)
        mine = await self._rows(self.reader, request, keys)
        return compare_keys(request.kind, keys, mine, theirs)

    async def _rows(self, store: Store, request: RowRead, keys: Sequence[Key]) -> Sequence[Row | None]:
        return await self._ask(partial(store.get, request.kind, request.tenant, keys))


def _sight(request: KeyRead, mine: Sequence[Row | None], theirs: Sequence[Row | None]) -> Sight:
    if all(alike(left, right) for left, right in zip(mine, theirs, strict=True)):
        return CLEAR
    return Sight(compare_keys(request.kind, request.keys, mine, theirs))


def _stamp(row: Row | None) -> tuple[int, int] | None:
    return None if row is None else row.stamp


def _listings(
    query: Query, left: Sequence[Row | None], right: Sequence[Row | None], right_limit: int | None = None
) -> PageComparison:
    pages = [[row for row in answer if row is not None] for answer in (left, right)]
    return compare_pages(
        query.kind, *pages, limit=query.limit, right_limit=right_limit, descending=query.descending
    )

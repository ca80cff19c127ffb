"""Answering: by key, by page, in counts and in digests, each after waiting for what was acknowledged before."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from gateway.backend import GroupSummary, RangeDigest, Summarize
from gateway.query import Condition, Query, ReadRange, matches, position_of
from gateway.records.codec import Value
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway_questdb.connections import Readers
from gateway_questdb.layout import Form, Layout
from gateway_questdb.listings import by_time, page, pushable
from gateway_questdb.lookups import by_keys, origin_of_tenant
from gateway_questdb.origins import Origin
from gateway_questdb.rivals import Rivals
from gateway_questdb.statements import Statement
from gateway_questdb.tables import Tables
from gateway_questdb.totals import digest_of_range, summary
from gateway_questdb.values import LEAST_LONG, decoder, money_of
from gateway_questdb.waiting import Waiting
from gateway_questdb.writing import KEYS_AT_ONCE, parts

__all__ = ["Answers", "in_order"]

T = TypeVar("T")
_FEWEST: Final = 100
"""Rows of a page at least, where some of them are sorted out here."""


class Stretch(NamedTuple):
    """Versions of rows in a stretch of time.

    Attributes:
        rows: All of them.
        more: Whether there may be more behind it.
        unsure: Conditions that the rows must be tested for again.
    """

    rows: list[Row]
    more: bool
    unsure: tuple[Condition, ...]


class Answers:
    """Reads.

    Args:
        tables: Layouts of all kinds.
        readers: To ask with.
        waiting: Waits for tables; None where reads may miss what was written just before.
    """

    def __init__(self, tables: Tables, readers: Readers, waiting: Waiting | None) -> None:
        self._tables = tables
        self._readers = readers
        self._waiting = waiting
        self._rivals = Rivals(readers)
        self._origins: dict[tuple[KindSpec, str], Origin] = {}

    async def layout(self, kind: KindSpec) -> Layout:
        """Return the layout of a kind once what was acknowledged in its table can be read."""
        layout = self._tables[kind]
        if self._waiting is not None:
            await self._waiting.applied([layout.table])
        return layout

    async def by_origin(self, layout: Layout, tenant: str, ask: Callable[[Origin], Awaitable[T]]) -> T:
        """Return an answer that took the tenant's rows for what they are at worst.

        Whether they are is looked up afterwards: rows come to be worse, never better, so what an answer was made of
        cannot be worse than what is found then.
        """
        if not layout.log:
            return await ask(Origin.LOOSE)
        place = (layout.kind, tenant)
        while True:
            taken = self._origins.get(place, Origin.FRESH)
            answer = await ask(taken)
            found = await self._worst(layout, tenant, taken)
            if found == taken:
                return answer
            self._origins[place] = found

    async def _worst(self, layout: Layout, tenant: str, known: Origin) -> Origin:
        for origin in (Origin.LOOSE, Origin.DATED):
            if origin <= known:
                return known
            if await self._readers.fetch(origin_of_tenant(layout, tenant, origin)):
                return origin
        return known

    async def get(self, kind: KindSpec, tenant: str, keys: Sequence[Key]) -> list[Row | None]:
        """Return the rows of keys, in their order."""
        layout = self._tables[kind]

        async def ask() -> list[Row | None]:
            return await self._get(layout, tenant, keys)

        return await (ask() if self._waiting is None else self._waiting.after(layout.table, ask))

    async def _get(self, layout: Layout, tenant: str, keys: Sequence[Key]) -> list[Row | None]:
        decode, found = decoder(layout, tenant), dict[Key, Row]()
        for some in parts(list(dict.fromkeys(keys)), KEYS_AT_ONCE):
            for answer in await self._readers.fetch(by_keys(layout, tenant, some)):
                row = decode(answer)
                found[row.key] = row
        return [found.get(key) for key in keys]

    async def query(self, query: Query) -> list[Row]:
        """Return a page of rows."""
        layout = await self.layout(query.kind)
        return await self.by_origin(layout, query.tenant, lambda origin: self.page(layout, query, origin))

    async def page(self, layout: Layout, query: Query, origin: Origin) -> list[Row]:
        """Return a page of rows, taking the tenant's rows for what they are at worst."""
        if layout.log and pushable(layout, query, min(origin, Origin.DATED)):
            return await self._timed_page(layout, query, origin)
        decode, after = decoder(layout, query.tenant), query.after
        kept: list[Row] = []
        while True:
            statement = page(layout, query, origin, after, query.limit)
            if statement.unsure:
                statement = page(layout, query, origin, after, max(query.limit, _FEWEST))
            rows = [decode(answer) for answer in await self._readers.fetch(statement)]
            if not statement.unsure:
                return rows
            kept += [row for row in rows if all(matches(one, row) for one in statement.unsure)]
            if len(kept) >= query.limit or len(rows) < max(query.limit, _FEWEST):
                return kept[: query.limit]
            after = rows[-1].position

    async def _timed_page(self, layout: Layout, query: Query, origin: Origin) -> list[Row]:
        """Return a page of rows of which no other version matters but loose ones and those at their own instant.

        The server gives them by time without sorting, and ends with the limit. What is left to do here are the ties:
        the last instant is fetched as a whole, and within each the latest versions are chosen and sorted.
        """
        kept: list[Row] = []
        after = query.after
        while True:
            read = partial(self._stretch, layout, query, after)
            if origin is Origin.LOOSE:
                found, rows = await self._rivals.without_beaten(layout, query.tenant, read, _in_stretch)
            else:
                found = await read()
                rows = _in_stretch(found)
            rows = in_order(rows, descending=query.descending)
            kept += [
                row
                for row in rows
                if (query.include_deleted or not row.deleted)
                and all(matches(one, row) for one in found.unsure)
            ]
            if not found.more or len(kept) >= query.limit:
                return kept[: query.limit]
            farthest = min if query.descending else max
            after = farthest(found.rows, key=position_of).position

    async def _stretch(self, layout: Layout, query: Query, after: Key | None) -> Stretch:
        """Return all versions of rows from a place on, a few more than a page, up to the end of an instant."""
        decode, at = decoder(layout, query.tenant), query.kind.index(layout.designated)
        most = query.limit + 1
        statement = by_time(layout, query, after, most)
        rows = [decode(answer) for answer in await self._readers.fetch(statement)]
        if len(rows) < most:
            return Stretch(rows, False, statement.unsure)
        instant = rows[-1].values[at]
        assert isinstance(instant, int), "a log row has a time"  # noqa: S101 - for the type
        last = await self._readers.fetch(by_time(layout, query, after, None, instant))
        rows = [row for row in rows if row.values[at] != instant] + [decode(answer) for answer in last]
        return Stretch(rows, True, statement.unsure)

    async def summarize(self, request: Summarize) -> list[GroupSummary]:
        """Count live rows by group."""
        layout = await self.layout(request.kind)

        async def ask(origin: Origin) -> Sequence[Sequence[Any]]:
            return await self._readers.fetch(summary(layout, request, origin))

        found = await self.by_origin(layout, request.tenant, ask)
        if request.by is None:
            return [GroupSummary(None, *rest) for _, _, *rest in found]
        form = layout.form(request.by)
        key = request.by in request.kind.key
        groups = [
            GroupSummary(_group(form, value, least=least or (key and value is None)), *rest)
            for value, least, *rest in found
        ]
        return sorted(groups, key=lambda group: _sorting(form, group.value))

    async def digest(self, span: ReadRange) -> RangeDigest:
        """Return the fingerprint of a stretch of rows."""
        layout = await self.layout(span.kind)

        async def ask(origin: Origin) -> Sequence[Sequence[Any]]:
            return await self._readers.fetch(digest_of_range(layout, span, origin))

        ((rows, known, low, high),) = await self.by_origin(layout, span.tenant, ask)
        # A digest of -2**63 is NULL to the server, and in no sum.
        total = ((high or 0) << 32) + (low or 0) + (rows - known) * LEAST_LONG
        return RangeDigest(rows, total % 2**64)

    async def fetch(self, statement: Statement) -> Sequence[Sequence[Any]]:
        """Return the rows of a statement."""
        return await self._readers.fetch(statement)


def _in_stretch(stretch: Stretch) -> list[Row]:
    """Return the latest version of each row in a stretch."""
    return in_order(stretch.rows, descending=False)


def in_order(rows: Sequence[Row], *, descending: bool) -> list[Row]:
    """Return the latest version of each row, in listing order.

    Args:
        rows: All versions of some rows, in any order.
        descending: Last rows first.
    """
    newest: dict[Key, Row] = {}
    for row in rows:
        held = newest.get(row.key)
        if held is None or row.stamp > held.stamp:
            newest[row.key] = row
    return sorted(newest.values(), key=position_of, reverse=descending)


def _group(form: Form, value: Any, *, least: bool) -> Value:
    """Return the canonical value of a group."""
    if form is Form.LONG and least:
        return LEAST_LONG
    if value is None:
        return None
    if form is Form.FLAG:
        return bool(value == "true")
    if form is Form.DECIMAL:
        return money_of(value)
    return value  # type: ignore[no-any-return] # as the driver gives it


def _sorting(form: Form, value: Value) -> tuple[bool, Any]:
    """Return where a group stands: None first, text by its bytes, amounts by value."""
    if value is None:
        return (False, 0)
    return (True, Decimal(str(value)) if form is Form.DECIMAL else value)

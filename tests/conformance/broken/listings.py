"""Backends that list the wrong rows, or the right ones in the wrong order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gateway.errors import WriteRejectedError
from gateway.hookspecs import hookimpl
from gateway.query import Condition, Op, Query, matches, select
from gateway.records.row import Key, Row
from gateway.records.types import StorageType
from tests.conformance.broken.specimen import Specimen, breaks


class Lists(Specimen):
    """Answers queries by its own idea of a match and a place."""

    @hookimpl
    async def gateway_query(self, query: Query) -> Sequence[Row]:
        """Do what the reference does, with parts replaced."""
        rows = select(replace(query, where=(), limit=10**9), self._table(query.kind, query.tenant).values())
        return [row for row in rows if all(self.holds(one, row) for one in query.where)][: query.limit]

    def holds(self, condition: Condition, row: Row) -> bool:
        """Tell whether a row satisfies a condition."""
        return matches(condition, row)


@breaks("test_a_time_window_has_exact_bounds")
class OneFilterOnly(Specimen):
    """Looks at the first condition only."""

    @hookimpl
    async def gateway_query(self, query: Query) -> Sequence[Row]:
        """Drop the others."""
        return await super().gateway_query(replace(query, where=query.where[:1]))


@breaks("test_every_filter_on_every_type")
class NoFilterOnFlags(Lists):
    """Ignores conditions on flags."""

    def holds(self, condition: Condition, row: Row) -> bool:
        """Let every flag pass."""
        return condition.field == "flag" or super().holds(condition, row)


@breaks("test_money_is_compared_by_value", "test_every_filter_on_every_type")
class MoneyAsText(Lists):
    """Compares amounts as the texts they are stored in."""

    def holds(self, condition: Condition, row: Row) -> bool:
        """Compare texts."""
        spec = row.kind.field_spec(condition.field)
        held, wanted = row.values[row.kind.index(condition.field)], condition.value
        if spec.storage is not StorageType.MONEY or not isinstance(held, str) or not isinstance(wanted, str):
            return super().holds(condition, row)
        by_op = {Op.LT: held < wanted, Op.LE: held <= wanted, Op.GT: held > wanted, Op.GE: held >= wanted}
        return by_op.get(condition.op, super().holds(condition, row))


@breaks("test_none_in_filters", "test_every_filter_on_every_type")
class NullsLikeSql(Lists):
    """Leaves rows without a value out of every comparison, as SQL does."""

    def holds(self, condition: Condition, row: Row) -> bool:
        """Match no None."""
        held = row.values[row.kind.index(condition.field)]
        return held is not None and condition.value is not None and super().holds(condition, row)


@breaks("test_a_time_window_has_exact_bounds")
class WindowsIncludeTheirEnd(Lists):
    """Takes less for less or equal."""

    def holds(self, condition: Condition, row: Row) -> bool:
        """Include the bound."""
        loose = replace(condition, op=Op.LE) if condition.op is Op.LT else condition
        return super().holds(loose, row)


@breaks("test_text_is_compared_by_bytes")
class ComparesLikeADictionary(Lists):
    """Compares text without regard to case."""

    def holds(self, condition: Condition, row: Row) -> bool:
        """Compare lower case."""
        held, wanted = row.values[row.kind.index(condition.field)], condition.value
        if condition.op is Op.LT and isinstance(held, str) and isinstance(wanted, str):
            return held.casefold() < wanted.casefold()
        return super().holds(condition, row)


@breaks("test_logs_are_ordered_by_time", "test_states_are_ordered_by_key")
class AsTheyCame(Specimen):
    """Lists rows in the order they were first written."""

    @hookimpl
    async def gateway_query(self, query: Query) -> Sequence[Row]:
        """Forget to sort."""
        wanted = select(replace(query, limit=10**9), self._table(query.kind, query.tenant).values())
        return [row for row in self._table(query.kind, query.tenant).values() if row in wanted][: query.limit]


@breaks("test_states_are_ordered_by_key")
class NumbersAsText(Specimen):
    """Orders numbers in keys by their digits."""

    @hookimpl
    async def gateway_query(self, query: Query) -> Sequence[Row]:
        """Sort by the texts of the keys."""
        rows = await super().gateway_query(query)
        return sorted(rows, key=lambda row: tuple(map(str, row.position)), reverse=query.descending)


@breaks("test_a_limit_counts_from_where_the_listing_starts")
class LimitFromTheOldest(Specimen):
    """Takes the oldest rows and turns them around."""

    @hookimpl
    async def gateway_query(self, query: Query) -> Sequence[Row]:
        """Limit before turning."""
        if not query.descending:
            return await super().gateway_query(query)
        return (await super().gateway_query(replace(query, descending=False)))[::-1]


@breaks("test_a_limit_counts_from_where_the_listing_starts", "test_filters_combine")
class NoLimit(Specimen):
    """Lists everything."""

    @hookimpl
    async def gateway_query(self, query: Query) -> Sequence[Row]:
        """Ignore the limit."""
        return await super().gateway_query(replace(query, limit=10**9))


@breaks("test_pages_of_a_filtered_listing", "test_a_limit_counts_from_where_the_listing_starts")
class FiltersAPage(Specimen):
    """Takes a page first and filters it then."""

    @hookimpl
    async def gateway_query(self, query: Query) -> Sequence[Row]:
        """Filter what the limit left."""
        page = await super().gateway_query(replace(query, where=()))
        return [row for row in page if all(matches(one, row) for one in query.where)]


@breaks("test_pages_split_ties_in_time", "test_pages_over_composite_keys")
class PagesByTheFirstField(Specimen):
    """Continues behind the first field of a place and forgets the rest."""

    @hookimpl
    async def gateway_query(self, query: Query) -> Sequence[Row]:
        """Skip every row that shares the first field."""
        after = query.after
        rows = await super().gateway_query(replace(query, after=None, limit=10**9))
        if after is None:
            return rows[: query.limit]
        return [row for row in rows if _beyond(row.position, after, query.descending)][: query.limit]


@breaks("test_pages_while_rows_are_written")
class PagesByNumber(Specimen):
    """Continues after as many rows as it has given out."""

    @hookimpl
    async def gateway_query(self, query: Query) -> Sequence[Row]:
        """Remember how far each place was."""
        given: dict[Key | None, int] = self.__dict__.setdefault("_given", {})
        start = given.get(query.after, 0) if query.after is not None else 0
        rows = await super().gateway_query(replace(query, after=None, limit=10**9))
        page = rows[start : start + query.limit]
        if page:
            given[page[-1].position] = start + len(page)
        return page


@breaks("test_a_page_after_the_end_is_empty")
class LooksForThePlace(Specimen):
    """Can continue only behind a row that is there."""

    @hookimpl
    async def gateway_query(self, query: Query) -> Sequence[Row]:
        """Look the place up."""
        places = [row.position for row in self._table(query.kind, query.tenant).values()]
        if query.after is not None and query.after not in places:
            raise WriteRejectedError("no such place")
        return await super().gateway_query(query)


def _beyond(place: Key, after: Key, descending: bool) -> bool:
    first, bound = place[0], after[0]
    assert isinstance(first, str | int), "listings begin with text or a number"
    return str(first) < str(bound) if descending else str(first) > str(bound)

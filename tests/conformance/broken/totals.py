"""Backends that count wrongly, remove too much, or mix up tenants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from gateway.backend import GroupSummary, RangeDigest, Summarize
from gateway.conformance.rows import digest_sum
from gateway.errors import WriteRejectedError
from gateway.hookspecs import hookimpl
from gateway.query import Query, ReadRange, select
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway_memory.transaction import Table
from tests.conformance.broken.specimen import Specimen, breaks


@breaks("test_a_summary_counts_by_group")
class GroupsBySize(Specimen):
    """Lists the largest group first."""

    @hookimpl
    async def gateway_summarize(self, request: Summarize) -> Sequence[GroupSummary]:
        """Sort by size."""
        return sorted(await super().gateway_summarize(request), key=lambda group: -group.rows)


@breaks("test_a_summary_has_a_group_for_none")
class NoGroupForNone(Specimen):
    """Drops rows without a value."""

    @hookimpl
    async def gateway_summarize(self, request: Summarize) -> Sequence[GroupSummary]:
        """Leave None out."""
        groups = await super().gateway_summarize(request)
        return [group for group in groups if group.value is not None or request.by is None]


@breaks("test_a_summary_leaves_tombstones_out")
class CountsTheDead(Specimen):
    """Counts tombstones as rows."""

    @hookimpl
    async def gateway_summarize(self, request: Summarize) -> Sequence[GroupSummary]:
        """Add the tombstones to every group."""
        dead = sum(row.deleted for row in self._table(request.kind, request.tenant).values())
        return [replace(group, rows=group.rows + dead) for group in await super().gateway_summarize(request)]


@breaks("test_a_summary_without_groups")
class GroupsOnly(Specimen):
    """Has nothing to say without a field to group by."""

    @hookimpl
    async def gateway_summarize(self, request: Summarize) -> Sequence[GroupSummary]:
        """Answer for groups only."""
        return [] if request.by is None else await super().gateway_summarize(request)


@breaks("test_a_digest_notices_every_change", "test_a_digest_is_the_sum_of_its_rows")
class ConstantDigest(Specimen):
    """Gives the same digest for everything."""

    @hookimpl
    async def gateway_digest(self, span: ReadRange) -> RangeDigest:
        """Count, and do not look."""
        return replace(await super().gateway_digest(span), total=0)


@breaks("test_a_digest_is_the_sum_of_its_rows")
class DigestOfTheLiving(Specimen):
    """Leaves tombstones out of the digest."""

    @hookimpl
    async def gateway_digest(self, span: ReadRange) -> RangeDigest:
        """Sum live rows."""
        rows = [row for row in self._table(span.kind, span.tenant).values() if not row.deleted]
        return RangeDigest(len(rows), digest_sum(rows))


@breaks("test_digests_of_parts_add_up")
class DigestIncludesBothEnds(Specimen):
    """Counts the row at the lower bound too."""

    @hookimpl
    async def gateway_digest(self, span: ReadRange) -> RangeDigest:
        """Include the lower bound."""
        found = await super().gateway_digest(span)
        edge = [row for row in self._table(span.kind, span.tenant).values() if row.position == span.after]
        return RangeDigest(found.rows + len(edge), (found.total + digest_sum(edge)) % 2**64)


@breaks("test_a_purge_removes_what_is_older")
class PurgesTheBoundToo(Specimen):
    """Removes the row at the moment."""

    @hookimpl
    async def gateway_purge(self, kind: KindSpec, tenant: str, before: datetime) -> int:
        """Reach one microsecond too far."""
        return await super().gateway_purge(kind, tenant, before + timedelta(microseconds=1))


@breaks("test_a_purge_goes_to_the_microsecond")
class PurgesByTheSecond(Specimen):
    """Compares whole seconds, rounded."""

    @hookimpl
    async def gateway_purge(self, kind: KindSpec, tenant: str, before: datetime) -> int:
        """Keep what rounds up to the moment."""
        return await super().gateway_purge(kind, tenant, before - timedelta(milliseconds=500))


@breaks("test_a_purge_keeps_to_its_kind")
class PurgesEveryKind(Specimen):
    """Removes old rows of all kinds."""

    @hookimpl
    async def gateway_purge(self, kind: KindSpec, tenant: str, before: datetime) -> int:
        """Go through all kinds."""
        removed = await super().gateway_purge(kind, tenant, before)
        for other, owner in list(self._tables):
            if owner == tenant and other is not kind:
                removed += await super().gateway_purge(other, tenant, before)
        return removed


@breaks("test_a_purge_removes_tombstones_too")
class SparesTheDead(Specimen):
    """Keeps tombstones for ever."""

    @hookimpl
    async def gateway_purge(self, kind: KindSpec, tenant: str, before: datetime) -> int:
        """Put the tombstones back."""
        graves = {key: row for key, row in self._table(kind, tenant).items() if row.deleted}
        removed = await super().gateway_purge(kind, tenant, before)
        self._tables[kind, tenant].update(graves)
        return removed


@breaks("test_an_empty_store_purges_nothing")
class CannotPurgeNothing(Specimen):
    """Takes an empty table for an error."""

    @hookimpl
    async def gateway_purge(self, kind: KindSpec, tenant: str, before: datetime) -> int:
        """Refuse to remove from nothing."""
        if not self._table(kind, tenant):
            raise WriteRejectedError("no such partition")
        return await super().gateway_purge(kind, tenant, before)


@breaks("test_a_purge_stays_within_the_tenant")
class PurgesEveryTenant(Specimen):
    """Removes everybody's old rows."""

    @hookimpl
    async def gateway_purge(self, kind: KindSpec, tenant: str, before: datetime) -> int:
        """Go through all tenants, and count one."""
        for other, owner in list(self._tables):
            if other is kind and owner != tenant:
                await super().gateway_purge(kind, owner, before)
        return await super().gateway_purge(kind, tenant, before)


@breaks("test_tenants_read_their_own_rows")
class OneTableForAll(Specimen):
    """Finds rows by key, whoever they belong to."""

    @hookimpl
    async def gateway_get(
        self,
        kind: KindSpec,
        tenant: str,  # noqa: ARG002 - not looking at it is the defect
        keys: Sequence[Key],
    ) -> Sequence[Row | None]:
        """Take the first row of the key."""
        everybody: Table = {}
        for (other, _), table in self._tables.items():
            if other is kind:
                everybody = {**table, **everybody}
        return [everybody.get(key) for key in keys]


@breaks("test_tenants_read_their_own_rows")
class ListsEverybody(Specimen):
    """Lists the rows of all tenants."""

    @hookimpl
    async def gateway_query(self, query: Query) -> Sequence[Row]:
        """Forget the tenant."""
        tables = [(owner, table) for (kind, owner), table in self._tables.items() if kind is query.kind]
        return [
            row for owner, table in tables for row in select(replace(query, tenant=owner), table.values())
        ]


@breaks("test_tenants_are_counted_apart")
class CountsEverybody(Specimen):
    """Sums the digests of all tenants."""

    @hookimpl
    async def gateway_digest(self, span: ReadRange) -> RangeDigest:
        """Forget the tenant."""
        tables = [table for (kind, _), table in self._tables.items() if kind is span.kind]
        rows = [row for table in tables for row in table.values()]
        return RangeDigest(len(rows), digest_sum(rows))

"""Backends whose version guard or tombstones are wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.backend import Group, Step, WriteBatch, WriteReceipt
from gateway.hookspecs import hookimpl
from gateway.query import Query, select
from gateway.records.kind import Shape
from gateway.records.row import Row
from gateway_memory.transaction import Transaction
from tests.conformance.broken.specimen import Specimen, breaks


@breaks(
    "test_an_older_version_is_refused",
    "test_the_guard_holds_within_a_batch",
    "test_an_older_write_does_not_revive",
    "test_a_deletion_may_come_first",
    "test_an_older_deletion_is_refused",
    "test_any_order_ends_in_one_state",
    "test_updates_are_guarded_too",
)
class LastArrivalWins(Specimen):
    """Stores whatever comes last."""

    class Steps(Transaction):
        """No guard at all."""

        def _wins(self, index: int, row: Row) -> bool:
            self.superseded.pop(index, None)
            self.rows[row.kind, row.tenant, row.key] = row
            return True


@breaks("test_equal_versions_are_decided_by_digest", "test_any_order_ends_in_one_state")
class TiesByArrival(Specimen):
    """Lets the first of two equal versions stay."""

    class Steps(Transaction):
        """Compares versions alone."""

        def _wins(self, index: int, row: Row) -> bool:
            held = self._current(row.kind, row.tenant, row.key)
            if held is not None and held.version == row.version:
                return False
            return super()._wins(index, row)


@breaks("test_a_refused_row_is_reported", "test_updates_are_guarded_too")
class RefusesInSilence(Specimen):
    """Guards, and tells nobody."""

    @hookimpl
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Leave the report out."""
        return WriteReceipt(updated=(await super().gateway_write(batch)).updated)


@breaks("test_the_same_batch_again_changes_nothing")
class RepetitionIsDefeat(Specimen):
    """Reports a row that is stored already as superseded."""

    class Steps(Transaction):
        """Counts equal stamps as lost."""

        def _wins(self, index: int, row: Row) -> bool:
            won = super()._wins(index, row)
            if not won:
                self.superseded[index] = row.version
            return won


@breaks("test_a_newer_version_replaces_all")
class MergesFields(Specimen):
    """Keeps the old value of a field that the newer version leaves empty."""

    def bent(self, row: Row) -> Row:
        """Fill what is None from the stored row."""
        held = self._tables.get((row.kind, row.tenant), {}).get(row.key)
        if held is None or row.deleted:
            return row
        pairs = zip(row.values, held.values, strict=True)
        return row._replace(values=tuple(old if new is None else new for new, old in pairs))


@breaks("test_group_rows_are_guarded_one_by_one")
class GroupsLoseTogether(Specimen):
    """Drops a whole group when one of its rows is old."""

    class Steps(Transaction):
        """Looks for an old row before it stores any."""

        def take(self, index: int, step: Step) -> None:
            """Skip groups with an old row."""
            if isinstance(step, Group) and any(self._old(row) for row in step.rows):
                return
            super().take(index, step)

        def _old(self, row: Row) -> bool:
            held = self._current(row.kind, row.tenant, row.key)
            return held is not None and held.stamp > row.stamp


@breaks("test_the_last_step_of_a_key_wins", "test_a_newer_write_revives")
class FirstWins(Specimen):
    """Never replaces what is stored."""

    class Steps(Transaction):
        """Inserts only."""

        def _wins(self, index: int, row: Row) -> bool:
            return self._current(row.kind, row.tenant, row.key) is None and super()._wins(index, row)


@breaks("test_a_log_row_again_is_one_row", "test_a_row_twice_in_one_batch_is_one_row")
class AppendsLogs(Specimen):
    """Appends log rows without looking at their ids."""

    @hookimpl
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Remember every log row that ever came."""
        self._journal = [
            *getattr(self, "_journal", []),
            *(row for row in _rows(batch) if row.kind.shape is Shape.LOG),
        ]
        return await super().gateway_write(batch)

    @hookimpl
    async def gateway_query(self, query: Query) -> Sequence[Row]:
        """List what was appended."""
        if query.kind.shape is not Shape.LOG:
            return await super().gateway_query(query)
        return select(query, getattr(self, "_journal", []))


@breaks(
    "test_get_returns_the_tombstone",
    "test_a_deletion_may_come_first",
    "test_an_older_write_does_not_revive",
    "test_a_tombstone_without_a_time_is_kept",
    "test_tombstones_are_listed_on_request",
    "test_a_purge_removes_tombstones_too",
    "test_a_digest_is_the_sum_of_its_rows",
)
class DeletesForGood(Specimen):
    """Removes a deleted row instead of keeping its tombstone."""

    @hookimpl
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Forget tombstones once they have done their work."""
        receipt = await super().gateway_write(batch)
        for table in self._tables.values():
            for key in [key for key, row in table.items() if row.deleted]:
                del table[key]
        return receipt


@breaks("test_listings_hide_tombstones")
class ListsTheDead(Specimen):
    """Lists tombstones among the living."""

    @hookimpl
    async def gateway_query(self, query: Query) -> Sequence[Row]:
        """Forget to leave them out."""
        rows = self._table(query.kind, query.tenant).values()
        return select(
            Query(query.kind, query.tenant, query.where, query.descending, query.limit, query.after, True),
            rows,
        )


@breaks("test_a_tombstone_without_a_time_is_kept")
class WantsATime(Specimen):
    """Drops rows that have no time."""

    def _commit(self, transaction: Transaction) -> None:
        timeless = [place for place, row in transaction.rows.items() if _timeless(row)]
        for place in timeless:
            del transaction.rows[place]
        super()._commit(transaction)


def _timeless(row: Row) -> bool:
    field = row.kind.time_field
    return field is not None and row.values[row.kind.index(field)] is None


def _rows(batch: WriteBatch) -> Iterable[Row]:
    for step in batch.steps:
        if isinstance(step, Row):
            yield step
        elif isinstance(step, Group):
            yield from step.rows

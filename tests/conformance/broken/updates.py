"""Backends whose updates are not what they seem."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.backend import Step, Update, WriteBatch, WriteReceipt
from gateway.errors import WriteRejectedError
from gateway.hookspecs import hookimpl
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway_memory.transaction import Transaction
from tests.conformance.broken.specimen import Specimen, breaks


@breaks("test_updates_lose_nothing")
class ReadsThenWrites(Specimen):
    """Lets others in between reading and writing."""

    @hookimpl
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Await after `apply`, and write what it answered."""
        transaction = Transaction(self._tables)
        for index, step in enumerate(batch.steps):
            transaction.take(index, step)
            if isinstance(step, Update):
                await asyncio.sleep(0)
        self._commit(transaction)
        return WriteReceipt(transaction.superseded, transaction.updated)


@breaks("test_an_update_sees_the_current_rows")
class UpdatesSeeTheLivingOnly(Specimen):
    """Gives None for a tombstone."""

    class Steps(Transaction):
        """Filters what updates read."""

        def take(self, index: int, step: Step) -> None:
            """Hide tombstones from `apply`."""
            if not isinstance(step, Update):
                return super().take(index, step)

            def apply(rows: Sequence[Row | None]) -> Sequence[Row]:
                return step.apply([None if row is None or row.deleted else row for row in rows])

            return super().take(index, Update(step.tenant, step.reads, apply))


@breaks("test_an_update_sees_the_current_rows")
class AppliesTwice(Specimen):
    """Calls `apply` once to see and once to do."""

    class Steps(Transaction):
        """Repeats updates."""

        def take(self, index: int, step: Step) -> None:
            """Take an update a second time."""
            super().take(index, step)
            if isinstance(step, Update):
                super().take(index, step)


@breaks("test_updates_take_their_turn_among_steps")
class UpdatesFirst(Specimen):
    """Applies the updates of a batch before its rows."""

    @hookimpl
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Sort the steps by what they are."""
        transaction = Transaction(self._tables)
        steps = sorted(enumerate(batch.steps), key=lambda item: not isinstance(item[1], Update))
        for index, step in steps:
            transaction.take(index, step)
        self._commit(transaction)
        return WriteReceipt(transaction.superseded, transaction.updated)


@breaks("test_the_receipt_has_the_rows_updated")
class KeepsTheResult(Specimen):
    """Updates, and does not say what came out."""

    @hookimpl
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Leave the rows out of the receipt."""
        return WriteReceipt((await super().gateway_write(batch)).superseded)


@breaks("test_an_error_of_apply_writes_nothing")
class ReportsItsOwnError(Specimen):
    """Raises an error of its own instead of the one of `apply`."""

    @hookimpl
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Wrap whatever happens."""
        try:
            return await super().gateway_write(batch)
        except Exception as error:
            raise WriteRejectedError("the update failed") from error


@breaks("test_an_empty_answer_writes_nothing")
class ReportsWhatItRead(Specimen):
    """Reports the rows read as updated when there was nothing to write."""

    class Steps(Transaction):
        """Takes no answer for the old row."""

        def take(self, index: int, step: Step) -> None:
            """Put the rows read into the receipt."""
            super().take(index, step)
            if isinstance(step, Update) and not self.updated[index]:
                held = [self._current(ref.kind, step.tenant, ref.key) for ref in step.reads]
                self.updated[index] = tuple(row for row in held if row is not None)


@breaks("test_updates_are_guarded_too")
class UpdatesOverwrite(Specimen):
    """Has no guard in its updates."""

    class Steps(Transaction):
        """Stores what `apply` returns as it comes."""

        def take(self, index: int, step: Step) -> None:
            """Skip the guard for updates."""
            if not isinstance(step, Update):
                return super().take(index, step)
            rows = step.apply([self._current(ref.kind, step.tenant, ref.key) for ref in step.reads])
            self.rows.update({(row.kind, row.tenant, row.key): row for row in rows})
            self.updated[index] = tuple(rows)
            return None


@breaks("test_updates_read_their_tenants_rows")
class UpdatesReadAcrossTenants(Specimen):
    """Reads the row of a key whoever it belongs to."""

    class Steps(Transaction):
        """Looks through all tenants."""

        def _current(self, kind: KindSpec, tenant: str, key: Key) -> Row | None:
            tables = [table for (other, _), table in self._tables.items() if other is kind]
            found = (table[key] for table in tables if key in table)
            return super()._current(kind, tenant, key) or next(found, None)

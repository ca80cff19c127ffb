"""Backends that lose, refuse or half apply what they are given."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.backend import Group, WriteBatch, WriteReceipt
from gateway.conformance.kinds import ALL_KINDS, KINDS, UNREGISTERED
from gateway.errors import SchemaError, WriteRejectedError
from gateway.hookspecs import hookimpl
from gateway.records.kind import KindSpec, Shape
from gateway.records.row import Key, Row
from gateway_memory.transaction import Transaction
from tests.conformance.broken.specimen import Specimen, breaks


@breaks("test_a_row_comes_back_as_written", "test_a_group_is_stored_whole")
class LosesCounters(Specimen):
    """Acknowledges counters and forgets them."""

    def _commit(self, transaction: Transaction) -> None:
        for place in [place for place in transaction.rows if place[0].shape is Shape.COUNTER]:
            del transaction.rows[place]
        super()._commit(transaction)


@breaks("test_every_registered_kind_is_ready")
class Unprepared(Specimen):
    """Made no table for the kinds that were there before it."""

    @hookimpl
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Refuse what it does not know."""
        for step in batch.steps:
            if isinstance(step, Row) and step.kind not in KINDS:
                raise SchemaError(f"no such table: {step.kind.name}")
        return await super().gateway_write(batch)


@breaks("test_a_large_batch_is_stored")
class TakesFewParameters(Specimen):
    """Puts all keys of a call into one statement, which takes 999."""

    @hookimpl
    async def gateway_get(self, kind: KindSpec, tenant: str, keys: Sequence[Key]) -> Sequence[Row | None]:
        """Refuse what does not fit."""
        if len(keys) > 999:
            raise WriteRejectedError("too many SQL variables")
        return await super().gateway_get(kind, tenant, keys)


@breaks("test_answers_stand_where_their_keys_stand")
class AnswersWhatItFound(Specimen):
    """Returns the rows it found, in its own order."""

    @hookimpl
    async def gateway_get(self, kind: KindSpec, tenant: str, keys: Sequence[Key]) -> Sequence[Row | None]:
        """Pad behind the rows that were found."""
        found = [row for key, row in self._table(kind, tenant).items() if key in keys]
        return [*found, *[None] * (len(keys) - len(found))]


@breaks("test_nothing_asked_is_nothing_done")
class NeedsSomething(Specimen):
    """Cannot make a statement of nothing."""

    @hookimpl
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Refuse an empty batch."""
        if not batch.steps:
            raise WriteRejectedError("syntax error near VALUES")
        return await super().gateway_write(batch)


@breaks("test_the_callers_objects_are_left_alone")
class SortsInPlace(Specimen):
    """Sorts the caller's own list."""

    @hookimpl
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Turn the list around, to begin with the newest."""
        if isinstance(batch.steps, list):
            batch.steps.reverse()
        return await super().gateway_write(batch)


@breaks("test_a_cancelled_write_is_whole_or_absent")
class HalfGroups(Specimen):
    """Stores the rows of a batch one after another, with others in between."""

    @hookimpl
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Await between two rows of a group."""
        transaction = Transaction(self._tables)
        for index, step in enumerate(batch.steps):
            for row in step.rows if isinstance(step, Group) else ():
                one = Transaction(self._tables)
                one.take(index, row)
                self._commit(one)
                await asyncio.sleep(0)
            if not isinstance(step, Group):
                transaction.take(index, step)
        self._commit(transaction)
        return WriteReceipt(transaction.superseded, transaction.updated)


@breaks("test_a_refused_group_leaves_nothing")
class RefusesTooLate(Specimen):
    """Notices an unknown kind when the rows before it are stored."""

    @hookimpl
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Store row by row."""
        for step in batch.steps:
            for row in step.rows if isinstance(step, Group) else ():
                if row.kind is UNREGISTERED:
                    raise SchemaError(f"no such table: {row.kind.name}")
                await super().gateway_write(WriteBatch((row,)))
        return await super().gateway_write(batch)


@breaks("test_a_failed_batch_leaves_nothing")
class CommitsStepByStep(Specimen):
    """Declares atomic batches and commits each step."""

    @hookimpl
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Write each step as a batch of its own."""
        receipts = [
            await super(CommitsStepByStep, self).gateway_write(WriteBatch((step,))) for step in batch.steps
        ]
        superseded = {at: lost.superseded[0] for at, lost in enumerate(receipts) if lost.superseded}
        updated = {at: done.updated[0] for at, done in enumerate(receipts) if done.updated}
        return WriteReceipt(superseded, updated)


@breaks("test_errors_are_the_gateways_own")
class RaisesItsDriversErrors(Specimen):
    """Lets the error of a missing table through as it is."""

    @hookimpl
    async def gateway_get(self, kind: KindSpec, tenant: str, keys: Sequence[Key]) -> Sequence[Row | None]:
        """Look the table up without a net."""
        tables = {known.name: known for known in ALL_KINDS}
        return await super().gateway_get(tables[kind.name], tenant, keys)


@breaks("test_read_only_refuses_to_write", "test_read_only_refuses_to_purge")
class WritesAnyway(Specimen):
    """Does not look at `read_only`."""

    def _check_writable(self) -> None:
        self._check_open()

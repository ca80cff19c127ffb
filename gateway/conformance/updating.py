"""Clauses about updates: read, compute and write with nobody in between."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gateway.backend import Capability, KeyRef, Update
from gateway.conformance.checks import assert_stored, fetch
from gateway.conformance.clauses import clause
from gateway.conformance.harness import Harness
from gateway.conformance.kinds import PROBE_COUNTER, PROBE_LOG, PROBE_STATE
from gateway.conformance.rows import FIRST_VERSION, Scribe, batch, increment, total_of
from gateway.dispatch import Store
from gateway.errors import InvalidRecordError
from gateway.records.row import Row

__all__ = ["UpdateClauses", "refusing"]

TASKS, TIMES = 16, 4


class UpdateClauses:
    """An update sees the current rows and is applied as a whole."""

    @clause(Capability.UPDATE)
    async def test_an_update_sees_the_current_rows(self, harness: Harness, store: Store) -> None:
        """An update gets, once, the live rows, tombstones and None that it reads, in their order."""
        scribe = harness.scribe()
        live, dead = scribe.state("live"), scribe.log("dead")
        grave = scribe.tombstone(dead)
        await store.write(batch(live, dead, grave))
        seen: list[list[Row | None]] = []
        refs = KeyRef(PROBE_LOG, ("dead",)), KeyRef(PROBE_COUNTER, ("never",)), KeyRef(PROBE_STATE, live.key)

        def look(rows: Sequence[Row | None]) -> Sequence[Row]:
            seen.append(list(rows))
            return ()

        await store.write(batch(Update(scribe.tenant, refs, look)))
        assert seen == [[grave, None, live]]

    @clause(Capability.UPDATE)
    async def test_updates_lose_nothing(self, harness: Harness, store: Store) -> None:
        """Sixteen tasks that count up at the same time arrive at the sum of what they added."""
        scribe = harness.scribe()

        async def count_up() -> None:
            for _ in range(TIMES):
                await store.write(batch(increment(scribe)))

        await asyncio.gather(*(count_up() for _ in range(TASKS)))
        assert total_of(await fetch(store, scribe.counter())) == TASKS * TIMES

    @clause(Capability.UPDATE)
    async def test_updates_take_their_turn_among_steps(self, harness: Harness, store: Store) -> None:
        """Within a batch an update sees the steps before it, and not those behind it."""
        scribe = harness.scribe()
        first = scribe.counter(total=10, version=FIRST_VERSION + 10)
        last = scribe.counter(total=100, version=FIRST_VERSION + 12)
        receipt = await store.write(batch(first, increment(scribe), scribe.log(), last, increment(scribe)))
        assert total_of(await fetch(store, first)) == 101
        assert [total_of(row) for index in (1, 4) for row in receipt.updated[index]] == [11, 101]

    @clause(Capability.UPDATE)
    async def test_the_receipt_has_the_rows_updated(self, harness: Harness, store: Store) -> None:
        """The receipt gives back, by step, the rows that an update wrote, and only for updates."""
        scribe = harness.scribe()
        rows = scribe.counter(total=1), scribe.log("beside")
        update = Update(scribe.tenant, (), lambda _: rows)
        receipt = await store.write(batch(scribe.state(), update))
        assert {index: tuple(written) for index, written in receipt.updated.items()} == {1: rows}
        await assert_stored(store, *rows)

    @clause(Capability.UPDATE)
    async def test_an_error_of_apply_writes_nothing(self, harness: Harness, store: Store) -> None:
        """An error raised by `apply` reaches the caller as it is, and the store goes on working."""
        scribe = harness.scribe()
        update = refusing(scribe)
        with pytest.raises(InvalidRecordError, match="refused by the update") as caught:
            await store.write(batch(update))
        assert type(caught.value) is InvalidRecordError
        await store.write(batch(increment(scribe)))
        assert total_of(await fetch(store, scribe.counter())) == 1

    @clause(Capability.UPDATE)
    async def test_an_empty_answer_writes_nothing(self, harness: Harness, store: Store) -> None:
        """An update that decides to write nothing leaves everything as it was."""
        scribe = harness.scribe()
        row = scribe.counter(total=5)
        await store.write(batch(row))
        receipt = await store.write(
            batch(Update(scribe.tenant, (KeyRef(PROBE_COUNTER, row.key),), lambda _: ()))
        )
        assert not receipt.updated.get(0), "an update that wrote nothing is reported to have written rows"
        await assert_stored(store, row)

    @clause(Capability.UPDATE)
    async def test_updates_are_guarded_too(self, harness: Harness, store: Store) -> None:
        """An update that computes a row older than the stored one does not overwrite it, and says so."""
        scribe = harness.scribe()
        row = scribe.counter(total=5, version=FIRST_VERSION + 5)
        await store.write(batch(row))
        stale = scribe.counter(total=6, version=FIRST_VERSION + 4)
        receipt = await store.write(
            batch(Update(scribe.tenant, (KeyRef(PROBE_COUNTER, row.key),), lambda _: [stale]))
        )
        assert dict(receipt.superseded) == {0: row.version}
        await assert_stored(store, row)


def refusing(scribe: Scribe) -> Update:
    """Return an update that raises instead of answering."""

    def apply(_: Sequence[Row | None]) -> Sequence[Row]:
        raise InvalidRecordError("refused by the update")

    return Update(scribe.tenant, (KeyRef(PROBE_COUNTER, ("count",)),), apply)

"""Clauses about callers that give up in the middle of a call."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from gateway.backend import WriteBatch
from gateway.conformance.checks import assert_stored, describe
from gateway.conformance.clauses import clause
from gateway.conformance.harness import Harness
from gateway.conformance.kinds import PROBE_LOG
from gateway.conformance.rows import Scribe, batch, group
from gateway.dispatch import Store
from gateway.records.row import Row

__all__ = ["CancellationClauses"]

POINTS = 20
"""Turns of the event loop after which a call is cancelled: 0, 1, 2 and so on."""


class CancellationClauses:
    """A cancelled call has happened or it has not, and the store goes on working."""

    @clause()
    async def test_a_cancelled_write_is_whole_or_absent(self, harness: Harness, store: Store) -> None:
        """Wherever a write is cancelled, each of its groups is afterwards stored as a whole or not at all."""
        for turns in range(POINTS):
            scribe = harness.scribe()
            groups = [tuple(scribe.log(f"{part}-{number}") for number in range(4)) for part in "ab"]
            await _cancel_after(store.write(batch(*(group(*rows) for rows in groups))), turns)
            await _settle(store, scribe)
            for rows in groups:
                await _assert_whole_or_absent(store, rows)

    @clause()
    async def test_a_store_works_after_a_cancelled_write(self, harness: Harness, store: Store) -> None:
        """After a cancelled write the same batch can be written again, and everything is there."""
        for turns in range(POINTS):
            scribe = harness.scribe()
            rows = [scribe.state("a"), scribe.log(), scribe.counter(total=turns)]
            await _cancel_after(store.write(batch(rows[0], group(*rows[1:]))), turns)
            receipt = await store.write(batch(rows[0], group(*rows[1:])))
            assert not receipt.superseded
            await assert_stored(store, *rows)

    @clause()
    async def test_a_cancelled_write_leaves_other_callers_alone(self, harness: Harness, store: Store) -> None:
        """A write that runs beside one that is cancelled is acknowledged and stored."""
        for turns in range(POINTS):
            scribe = harness.scribe()
            kept, given_up = scribe.log("kept"), scribe.log("given-up")
            other = asyncio.create_task(_write(store, batch(kept)))
            await _cancel_after(store.write(batch(given_up)), turns)
            with contextlib.suppress(asyncio.CancelledError):
                await other
            assert not other.cancelled(), "cancelling one call cancelled another"
            await assert_stored(store, kept)

    @clause()
    async def test_a_store_works_after_a_cancelled_read(self, harness: Harness, store: Store) -> None:
        """After a cancelled read the next one is answered with its own rows."""
        scribe = harness.scribe()
        rows = [scribe.log(label="a"), scribe.log(label="b")]
        await store.write(batch(*rows))
        for turns in range(POINTS):
            await _cancel_after(store.get(PROBE_LOG, scribe.tenant, [rows[0].key]), turns)
            assert list(await store.get(PROBE_LOG, scribe.tenant, [rows[1].key])) == [rows[1]]
            await _cancel_after(store.query(scribe.query(PROBE_LOG, limit=1)), turns)
            assert list(await store.query(scribe.query(PROBE_LOG))) == rows


async def _write(store: Store, what: WriteBatch) -> None:
    await store.write(what)


async def _cancel_after(call: Coroutine[Any, Any, Any], turns: int) -> None:
    """Start a call, let the loop turn so many times, and cancel it."""
    task = asyncio.ensure_future(call)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _settle(store: Store, scribe: Scribe) -> None:
    """Wait for a write that goes on in a thread: writes take turns, so one more comes after it."""
    await store.write(batch(scribe.state("settle")))


async def _assert_whole_or_absent(store: Store, rows: tuple[Row, ...]) -> None:
    found = await store.get(rows[0].kind, rows[0].tenant, [row.key for row in rows])
    assert list(found) in ([None] * len(rows), list(rows)), (
        f"half a group is stored: {[describe(row) for row in found]}"
    )

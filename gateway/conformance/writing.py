"""Clauses about writes that arrive once, again, and many at a time."""

from __future__ import annotations

import copy
from typing import Any

from gateway.backend import Step, WriteBatch
from gateway.conformance.checks import all_rows, assert_fingerprint, assert_stored, state_of
from gateway.conformance.clauses import clause
from gateway.conformance.harness import Harness
from gateway.conformance.kinds import PROBE_COUNTER, PROBE_LOG, PROBE_STATE
from gateway.conformance.rows import Scribe, batch, group, minutes
from gateway.dispatch import Store
from gateway.records.row import Key, Row
from gateway.records.trading import BOT_STATE, POSITIONS

__all__ = ["WriteClauses"]

BATCH = 1500
"""Rows in a large batch: more than a statement of the common stores takes parameters for."""


class WriteClauses:
    """What was written is there, once."""

    @clause()
    async def test_a_row_comes_back_as_written(self, harness: Harness, store: Store) -> None:
        """A row of every shape is returned by key and in listings exactly as it was written."""
        scribe = harness.scribe()
        rows = _one_of_each(scribe)
        receipt = await store.write(batch(*rows))
        assert not receipt.superseded
        assert not receipt.updated
        await assert_stored(store, *rows)

    @clause()
    async def test_every_registered_kind_is_ready(self, harness: Harness, store: Store) -> None:
        """A store takes rows of the built-in kinds without any preparation."""
        scribe = harness.scribe()
        position = scribe.row(
            POSITIONS,
            condition_id="0xabc",
            side="YES",
            entry_price="0.53",
            opened_at=minutes(0),
            extra={"a": [1]},
        )
        state = scribe.row(BOT_STATE, bot_id="bot", updated_at=minutes(1), data={"cycle": 1})
        await store.write(batch(position, state))
        await assert_stored(store, position, state)

    @clause()
    async def test_the_same_batch_again_changes_nothing(self, harness: Harness, store: Store) -> None:
        """A batch written three times leaves what it left at first, and nothing counts as superseded."""
        scribe = harness.scribe()
        log, state, counter = _one_of_each(scribe)
        repeated = batch(log, state, group(counter, scribe.log("in-a-group")))
        await store.write(repeated)
        before = [await state_of(store, scribe, kind) for kind in (PROBE_LOG, PROBE_STATE, PROBE_COUNTER)]
        for _ in range(2):
            receipt = await store.write(repeated)
            assert not receipt.superseded, "a row that is stored already was reported as superseded"
        after = [await state_of(store, scribe, kind) for kind in (PROBE_LOG, PROBE_STATE, PROBE_COUNTER)]
        assert after == before

    @clause()
    async def test_a_row_twice_in_one_batch_is_one_row(self, harness: Harness, store: Store) -> None:
        """The same row several times within one batch is stored once."""
        scribe = harness.scribe()
        row = scribe.log()
        await store.write(batch(row, row, group(row, row)))
        assert_fingerprint(await state_of(store, scribe, PROBE_LOG), [row])

    @clause()
    async def test_a_log_row_again_is_one_row(self, harness: Harness, store: Store) -> None:
        """Writing a log row again with its id, as a retry does, does not append a second one."""
        scribe = harness.scribe()
        first, other = scribe.log("retry", moment=minutes(1)), scribe.log("other", moment=minutes(2))
        for attempt in (first, other, first):
            await store.write(batch(attempt))
        assert list(await all_rows(store, scribe, PROBE_LOG)) == [first, other]

    @clause()
    async def test_the_last_step_of_a_key_wins(self, harness: Harness, store: Store) -> None:
        """Several versions of one key in one batch leave the newest."""
        scribe = harness.scribe()
        versions = [scribe.state(label=str(number)) for number in range(5)]
        await store.write(batch(*versions))
        await assert_stored(store, versions[-1])

    @clause()
    async def test_a_large_batch_is_stored(self, harness: Harness, store: Store) -> None:
        """Fifteen hundred rows go in by one call, and come back by one call for as many keys."""
        scribe = harness.scribe()
        rows = [scribe.log(moment=minutes(number), tally=number) for number in range(BATCH)]
        await store.write(batch(*rows))
        asked = [row.key for row in reversed(rows)]
        assert list(await store.get(PROBE_LOG, scribe.tenant, asked)) == rows[::-1]

    @clause()
    async def test_answers_stand_where_their_keys_stand(self, harness: Harness, store: Store) -> None:
        """Rows come back in the order of the keys, None for a missing one and twice for a repeated one."""
        scribe = harness.scribe()
        one, two = scribe.state("a", 1), scribe.state("b", 2)
        await store.write(batch(one, two))
        found = await store.get(PROBE_STATE, scribe.tenant, [two.key, ("a", 2), one.key, two.key])
        assert list(found) == [two, None, one, two]

    @clause()
    async def test_nothing_asked_is_nothing_done(self, harness: Harness, store: Store) -> None:
        """An empty batch, an empty group and an empty list of keys are answered, not refused."""
        scribe = harness.scribe()
        receipt = await store.write(batch())
        assert (dict(receipt.superseded), dict(receipt.updated)) == ({}, {})
        await store.write(batch(group()))
        assert list(await store.get(PROBE_LOG, scribe.tenant, [])) == []
        assert list(await all_rows(store, scribe, PROBE_LOG)) == []

    @clause()
    async def test_the_callers_objects_are_left_alone(self, harness: Harness, store: Store) -> None:
        """A batch handed over as a list, and the list of keys, are the same afterwards."""
        scribe = harness.scribe()
        steps: list[Step] = [
            scribe.log("second"),
            scribe.log("first"),
            group(*_one_of_each(scribe)),
            scribe.log("second"),
        ]
        kept = copy.copy(steps)
        await store.write(WriteBatch(steps))
        keys: list[Key] = [("second",), ("first",), ("second",)]
        await store.get(PROBE_LOG, scribe.tenant, keys)
        assert steps == kept, "the store changed the caller's list of steps"
        assert keys == [("second",), ("first",), ("second",)], "the store changed the caller's list of keys"


def _one_of_each(scribe: Scribe) -> tuple[Row, Row, Row]:
    fields: dict[str, Any] = {
        "label": "l",
        "note": "n",
        "tally": 1,
        "ratio": 0.5,
        "flag": True,
        "amount": "1.5",
        "document": {"k": 1},
    }
    log = scribe.log(levels=((1.0, 2.0),), seen_at=minutes(3), **fields)
    return log, scribe.state(**fields), scribe.counter(total=3, amount="0.3")

"""Clauses about values: what a store gives back is what it was given, at the limits of every type."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from hypothesis import given

from gateway.conformance.checks import assert_stored, describe
from gateway.conformance.clauses import clause
from gateway.conformance.harness import Harness
from gateway.conformance.kinds import PROBE_LOG, PROBE_STATE
from gateway.conformance.rows import batch
from gateway.conformance.strategies import examples, log_fields
from gateway.conformance.values import AMOUNTS, AWKWARD, DOCUMENTS, FLOATS, MOMENTS, TEXTS, WHOLE
from gateway.dispatch import Store
from gateway.records.market import CANDLES
from gateway.records.row import Row

__all__ = ["FidelityClauses"]


class FidelityClauses:
    """Every storage type is kept exactly; a row read back still has the digest it was stored with."""

    @clause()
    async def test_money_keeps_every_digit(self, harness: Harness, store: Store) -> None:
        """Amounts of up to 30 digits before the point and 30 after it come back digit by digit."""
        await _round_trips(harness, store, "amount", map(Decimal, AMOUNTS))

    @clause()
    async def test_time_keeps_microseconds(self, harness: Harness, store: Store) -> None:
        """Times from 1970 to 9999 come back to the microsecond, whatever the zone of the machine does."""
        await _round_trips(harness, store, "seen_at", MOMENTS)
        scribe = harness.scribe()
        rows = [scribe.log(moment=moment) for moment in MOMENTS]
        await store.write(batch(*rows))
        await assert_stored(store, *rows)

    @clause()
    async def test_text_is_kept_as_it_is(self, harness: Harness, store: Store) -> None:
        """Text comes back as it was: nothing is trimmed, cut, normalised or taken for a number."""
        await _round_trips(harness, store, "note", TEXTS)
        await _round_trips(harness, store, "label", TEXTS)

    @clause()
    async def test_floats_keep_every_bit(self, harness: Harness, store: Store) -> None:
        """Floats come back bit by bit, the smallest and the greatest too, and whole ones stay floats."""
        await _round_trips(harness, store, "ratio", FLOATS)

    @clause()
    async def test_whole_numbers_have_64_bits(self, harness: Harness, store: Store) -> None:
        """Whole numbers come back over the full range of 64 bits."""
        await _round_trips(harness, store, "tally", WHOLE)

    @clause()
    async def test_flags_have_three_answers(self, harness: Harness, store: Store) -> None:
        """True, False and None are three values, and flags do not come back as numbers."""
        await _round_trips(harness, store, "flag", [True, False, None])

    @clause()
    async def test_json_keeps_its_structure(self, harness: Harness, store: Store) -> None:
        """JSON comes back as the same canonical text: nested parts, empty parts, nulls, numbers and keys."""
        await _round_trips(harness, store, "document", DOCUMENTS)

    @clause()
    async def test_json_of_a_mebibyte(self, harness: Harness, store: Store) -> None:
        """A JSON document of one mebibyte comes back whole."""
        text = "\N{EURO SIGN}x" * (2**18)
        await _round_trips(harness, store, "document", [{"text": text, "list": list(range(5000))}])

    @clause()
    async def test_levels_keep_their_order(self, harness: Harness, store: Store) -> None:
        """Order book levels come back in their order, also when there are none or a thousand."""
        many = tuple((0.01 * number, 1e-9 * number) for number in range(1000, 0, -1))
        await _round_trips(harness, store, "levels", [(), ((0.1, 0.2),), ((2.0, 1.0), (1.0, 2.0)), many])

    @clause()
    async def test_nothing_is_not_empty(self, harness: Harness, store: Store) -> None:
        """None is kept apart from empty text, an empty object, an empty list, zero and False."""
        scribe = harness.scribe()
        empty = scribe.log(note="", tally=0, ratio=0.0, flag=False, amount="0", document={}, levels=())
        nothing = scribe.log()
        await store.write(batch(empty, nothing))
        await assert_stored(store, empty, nothing)

    @clause()
    async def test_keys_are_any_text(self, harness: Harness, store: Store) -> None:
        """Keys that differ in case, accents, spaces or length are different, and none is an unsafe name."""
        scribe = harness.scribe()
        owners = [text for text in dict.fromkeys([*AWKWARD, *TEXTS]) if text]
        states = [scribe.state(owner, slot) for owner in owners for slot in (-(2**63), 0)]
        logs = [scribe.log(text) for text in owners]
        await store.write(batch(*states, *logs))
        for kind, rows in ((PROBE_STATE, states), (PROBE_LOG, logs)):
            found = await store.get(kind, scribe.tenant, [row.key for row in rows])
            wrong = [describe(row) for row, other in zip(rows, found, strict=True) if row != other]
            assert not wrong, (
                f"{len(wrong)} of {len(rows)} keys do not give their own row, such as {wrong[0]}"
            )

    @clause()
    async def test_keys_may_hold_times(self, harness: Harness, store: Store) -> None:
        """A key of text, text and time, as candles have it, tells rows a microsecond apart."""
        scribe = harness.scribe()
        prices: dict[str, Any] = {"open": 1.0, "high": 2.0, "low": 0.5, "close": 1.5}
        rows = [
            scribe.row(CANDLES, symbol="BTC", interval="1m", timestamp=moment, **prices) for moment in MOMENTS
        ]
        await store.write(batch(*rows))
        await assert_stored(store, *rows)

    @clause()
    def test_any_record_comes_back(self, harness: Harness, store: Store) -> None:
        """Random records over all fields and types come back with the digest they were stored with."""

        @examples
        @given(log_fields())
        def check(fields: dict[str, Any]) -> None:
            row = harness.scribe().log(**fields)
            harness.run(_stored(store, row))

        check()


async def _round_trips(harness: Harness, store: Store, field: str, values: Iterable[Any]) -> None:
    """Write one log row for each value of a field and read them back by key and in a listing."""
    scribe = harness.scribe()
    rows = [scribe.log(**{field: value}) for value in values]
    assert all(row.intact for row in rows), "the clause itself made a row that is not intact"
    await store.write(batch(*rows))
    await assert_stored(store, *rows)


async def _stored(store: Store, *rows: Row) -> None:
    await store.write(batch(*rows))
    await assert_stored(store, *rows)

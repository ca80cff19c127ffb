"""Clauses about deletion: a deletion is a row, and it wins or loses like one."""

from __future__ import annotations

from gateway.conformance.checks import all_rows, assert_stored, fetch
from gateway.conformance.clauses import clause
from gateway.conformance.harness import Harness
from gateway.conformance.kinds import PROBE_LOG, PROBE_STATE
from gateway.conformance.rows import FIRST_VERSION, batch, minutes, where
from gateway.dispatch import Store
from gateway.query import Op

__all__ = ["TombstoneClauses"]


class TombstoneClauses:
    """Deleted rows stay as tombstones, hidden from listings that do not ask for them."""

    @clause()
    async def test_get_returns_the_tombstone(self, harness: Harness, store: Store) -> None:
        """A deleted key answers with its tombstone, which is something else than never having been there."""
        scribe = harness.scribe()
        for row in (scribe.log(), scribe.state(), scribe.counter(total=1)):
            grave = scribe.tombstone(row)
            await store.write(batch(row))
            await store.write(batch(grave))
            assert await fetch(store, row) == grave
            await assert_stored(store, grave)

    @clause()
    async def test_listings_hide_tombstones(self, harness: Harness, store: Store) -> None:
        """A listing leaves tombstones out, and a page is filled with live rows instead."""
        scribe = harness.scribe()
        rows = [scribe.log(moment=minutes(number)) for number in range(6)]
        await store.write(batch(*rows, *(scribe.tombstone(row) for row in rows[:4])))
        assert list(await store.query(scribe.query(PROBE_LOG))) == rows[4:]
        assert list(await store.query(scribe.query(PROBE_LOG, limit=2))) == rows[4:]

    @clause()
    async def test_tombstones_are_listed_on_request(self, harness: Harness, store: Store) -> None:
        """With `include_deleted` tombstones stand where their rows stood; conditions apply to them too."""
        scribe = harness.scribe()
        rows = [scribe.log(moment=minutes(number), label="x") for number in range(3)]
        grave = scribe.tombstone(rows[1])
        await store.write(batch(*rows, grave))
        assert list(await all_rows(store, scribe, PROBE_LOG)) == [rows[0], grave, rows[2]]
        labelled = scribe.query(PROBE_LOG, where(PROBE_LOG, "label", Op.EQ, "x"), include_deleted=True)
        assert list(await store.query(labelled)) == [rows[0], rows[2]]

    @clause()
    async def test_an_older_write_does_not_revive(self, harness: Harness, store: Store) -> None:
        """A write older than the deletion, such as history that is copied late, leaves the key deleted."""
        scribe = harness.scribe()
        row = scribe.state(version=FIRST_VERSION + 1)
        grave = scribe.tombstone(row, version=FIRST_VERSION + 5)
        await store.write(batch(row, grave))
        receipt = await store.write(batch(scribe.state(label="late", version=FIRST_VERSION + 4)))
        assert dict(receipt.superseded) == {0: grave.version}
        await assert_stored(store, grave)

    @clause()
    async def test_a_deletion_may_come_first(self, harness: Harness, store: Store) -> None:
        """The tombstone of a key never seen is kept, so that the write it deletes cannot come after it."""
        scribe = harness.scribe()
        row = scribe.state(version=FIRST_VERSION + 1)
        grave = scribe.tombstone(row, version=FIRST_VERSION + 2)
        await store.write(batch(grave))
        await assert_stored(store, grave)
        await store.write(batch(row))
        await assert_stored(store, grave)

    @clause()
    async def test_a_newer_write_revives(self, harness: Harness, store: Store) -> None:
        """A write newer than the deletion is stored and listed again."""
        scribe = harness.scribe()
        row = scribe.state(note="before")
        revived = [scribe.tombstone(row), scribe.state(label="again")]
        await store.write(batch(row))
        for step in revived:
            await store.write(batch(step))
        await assert_stored(store, revived[-1])
        assert list(await store.query(scribe.query(PROBE_STATE))) == [revived[-1]]

    @clause()
    async def test_an_older_deletion_is_refused(self, harness: Harness, store: Store) -> None:
        """A deletion older than the stored row does not delete it."""
        scribe = harness.scribe()
        row = scribe.state(version=FIRST_VERSION + 5)
        await store.write(batch(row))
        receipt = await store.write(batch(scribe.tombstone(row, version=FIRST_VERSION + 4)))
        assert dict(receipt.superseded) == {0: row.version}
        await assert_stored(store, row)

    @clause()
    async def test_a_tombstone_without_a_time_is_kept(self, harness: Harness, store: Store) -> None:
        """The tombstone of a state whose row was never seen has no time, and is stored all the same."""
        scribe = harness.scribe()
        key = scribe.state().key
        timeless = scribe.from_values(
            PROBE_STATE, (*key, *[None] * (len(PROBE_STATE.fields) - len(key))), deleted=True
        )
        await store.write(batch(timeless))
        await assert_stored(store, timeless)

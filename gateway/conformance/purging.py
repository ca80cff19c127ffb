"""Clauses about removing rows by age."""

from __future__ import annotations

from gateway.backend import Capability
from gateway.conformance.checks import all_rows, assert_fingerprint, assert_stored, fetch, state_of
from gateway.conformance.clauses import clause
from gateway.conformance.harness import Harness
from gateway.conformance.kinds import PROBE_LOG, PROBE_STATE
from gateway.conformance.rows import batch, minutes
from gateway.dispatch import Store

__all__ = ["PurgeClauses"]


class PurgeClauses:
    """A purge removes exactly the rows that are older than a moment."""

    @clause(Capability.PURGE)
    async def test_a_purge_removes_what_is_older(self, harness: Harness, store: Store) -> None:
        """Rows before the moment go, the one at the moment and later ones stay; those gone are counted."""
        scribe = harness.scribe()
        rows = [scribe.log(moment=minutes(number)) for number in range(6)]
        await store.write(batch(*rows))
        assert await store.purge(PROBE_LOG, scribe.tenant, minutes(4)) == 4
        assert_fingerprint(await state_of(store, scribe, PROBE_LOG), rows[4:])
        assert await fetch(store, rows[0]) is None
        assert await store.purge(PROBE_LOG, scribe.tenant, minutes(4)) == 0

    @clause(Capability.PURGE)
    async def test_a_purge_goes_to_the_microsecond(self, harness: Harness, store: Store) -> None:
        """A row one microsecond older than the moment goes, and the one at the moment stays."""
        scribe = harness.scribe()
        moment = minutes(3)
        older = scribe.log(moment=moment.replace(minute=2, second=59, microsecond=999_999))
        kept = scribe.log(moment=moment)
        await store.write(batch(older, kept))
        assert await store.purge(PROBE_LOG, scribe.tenant, moment) == 1
        assert list(await all_rows(store, scribe, PROBE_LOG)) == [kept]

    @clause(Capability.PURGE)
    async def test_a_purge_keeps_to_its_kind(self, harness: Harness, store: Store) -> None:
        """Rows of another kind, as old as those removed, stay; states are removed by their time field too."""
        scribe = harness.scribe()
        log, state, other = scribe.log(), scribe.state("old"), scribe.state("new", moment=minutes(5))
        await store.write(batch(log, state, other))
        assert await store.purge(PROBE_STATE, scribe.tenant, minutes(5)) == 1
        await assert_stored(store, log, other)
        assert await fetch(store, state) is None

    @clause(Capability.PURGE)
    async def test_a_purge_removes_tombstones_too(self, harness: Harness, store: Store) -> None:
        """A tombstone is as old as the row it deleted, and goes with its age."""
        scribe = harness.scribe()
        row, late = scribe.log(), scribe.log(moment=minutes(9))
        graves = scribe.tombstone(row), scribe.tombstone(late)
        await store.write(batch(row, late, *graves))
        assert await store.purge(PROBE_LOG, scribe.tenant, minutes(5)) == 1
        assert_fingerprint(await state_of(store, scribe, PROBE_LOG), [graves[1]])

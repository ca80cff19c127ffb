"""Clauses about tenants: two of them share a store and never a row."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.backend import Capability, KeyRef, Summarize, Update
from gateway.conformance.checks import all_rows, assert_stored, fetch
from gateway.conformance.clauses import clause
from gateway.conformance.harness import Harness
from gateway.conformance.kinds import PROBE_COUNTER, PROBE_LOG, PROBE_STATE
from gateway.conformance.rows import batch, digest_sum, increment, minutes, span, total_of
from gateway.dispatch import Store
from gateway.records.row import Row

__all__ = ["TenancyClauses"]


class TenancyClauses:
    """The same keys of two tenants are different rows."""

    @clause()
    async def test_tenants_read_their_own_rows(self, harness: Harness, store: Store) -> None:
        """Reading by key and listing give a tenant its own rows, also where another has the same keys."""
        one, two, third = harness.scribe(), harness.scribe(), harness.scribe()
        mine = [one.state(label="mine"), one.log("same", note="mine")]
        theirs = [two.state(label="theirs"), two.log("same", note="theirs")]
        await store.write(batch(*mine, *theirs))
        await assert_stored(store, *mine, *theirs)
        for kind, position in ((PROBE_STATE, 0), (PROBE_LOG, 1)):
            assert list(await all_rows(store, one, kind)) == [mine[position]]
            assert list(await all_rows(store, two, kind)) == [theirs[position]]
            assert list(await all_rows(store, third, kind)) == []
            assert list(await store.get(kind, third.tenant, [mine[position].key])) == [None]

    @clause()
    async def test_tenants_are_counted_apart(self, harness: Harness, store: Store) -> None:
        """Summaries and digests count a tenant's own rows."""
        one, two = harness.scribe(), harness.scribe()
        mine = [one.log(label="x"), one.log(label="x")]
        await store.write(batch(*mine, two.log(label="x")))
        counted = await store.summarize(Summarize(PROBE_LOG, one.tenant, "label"))
        assert [(group.value, group.rows) for group in counted] == [("x", 2)]
        fingerprint = await store.digest(span(one, PROBE_LOG))
        assert (fingerprint.rows, fingerprint.total) == (2, digest_sum(mine))

    @clause(Capability.PURGE)
    async def test_a_purge_stays_within_the_tenant(self, harness: Harness, store: Store) -> None:
        """Removing a tenant's old rows leaves another tenant's rows of the same age and keys."""
        one, two = harness.scribe(), harness.scribe()
        theirs = two.log("same")
        await store.write(batch(one.log("same"), theirs))
        assert await store.purge(PROBE_LOG, one.tenant, minutes(1)) == 1
        await assert_stored(store, theirs)
        assert list(await all_rows(store, one, PROBE_LOG)) == []

    @clause(Capability.UPDATE)
    async def test_updates_read_their_tenants_rows(self, harness: Harness, store: Store) -> None:
        """An update of one tenant neither sees nor changes the row that another has under the key."""
        one, two = harness.scribe(), harness.scribe()
        theirs = two.counter(total=50)
        await store.write(batch(theirs))
        seen: list[Row | None] = []

        def look(rows: Sequence[Row | None]) -> Sequence[Row]:
            seen.extend(rows)
            return ()

        looking = Update(one.tenant, (KeyRef(PROBE_COUNTER, theirs.key),), look)
        await store.write(batch(looking, increment(one)))
        assert seen == [None]
        assert total_of(await fetch(store, one.counter())) == 1
        await assert_stored(store, theirs)

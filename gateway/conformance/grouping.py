"""Clauses about groups and whole batches: together or not at all."""

from __future__ import annotations

import contextlib

from gateway.backend import Capability
from gateway.conformance.checks import assert_stored, fetch
from gateway.conformance.clauses import clause
from gateway.conformance.harness import Harness
from gateway.conformance.kinds import UNREGISTERED
from gateway.conformance.rows import FIRST_VERSION, batch, group
from gateway.conformance.updating import refusing
from gateway.dispatch import Store
from gateway.errors import GatewayError

__all__ = ["GroupClauses"]


class GroupClauses:
    """Rows of a group, and of a batch where that is declared, share one fate."""

    @clause()
    async def test_a_group_is_stored_whole(self, harness: Harness, store: Store) -> None:
        """The rows of a group, of different kinds, are all there once it is acknowledged."""
        scribe = harness.scribe()
        rows = scribe.state(label="closed"), scribe.log("copy"), scribe.counter(total=1)
        await store.write(batch(group(*rows)))
        await assert_stored(store, *rows)

    @clause()
    async def test_group_rows_are_guarded_one_by_one(self, harness: Harness, store: Store) -> None:
        """A row of a group that lost against a newer version does not keep the others from being stored."""
        scribe = harness.scribe()
        newer = scribe.state(version=FIRST_VERSION + 9)
        await store.write(batch(newer))
        log = scribe.log()
        await store.write(batch(group(scribe.state(version=FIRST_VERSION + 1), log)))
        await assert_stored(store, newer, log)

    @clause()
    async def test_a_refused_group_leaves_nothing(self, harness: Harness, store: Store) -> None:
        """A group with a row that the store refuses, here of an unknown kind, is not stored in part."""
        scribe = harness.scribe()
        good, strange = scribe.state(), scribe.row(UNREGISTERED, name="x")
        stored = False
        with contextlib.suppress(GatewayError):
            await store.write(batch(group(good, strange)))
            stored = True
        if stored:
            await assert_stored(store, good, strange)
        else:
            assert await fetch(store, good) is None, "the group was refused and one of its rows is stored"

    @clause(Capability.ATOMIC_BATCH, Capability.UPDATE)
    async def test_a_failed_batch_leaves_nothing(self, harness: Harness, store: Store) -> None:
        """Where batches are declared atomic, a step that fails undoes the steps before it."""
        scribe = harness.scribe()
        before, after = scribe.log("before"), scribe.log("after")
        with contextlib.suppress(GatewayError):
            await store.write(batch(before, refusing(scribe), after))
        assert await store.get(before.kind, scribe.tenant, [before.key, after.key]) == [None, None]
        await store.write(batch(before, after))
        await assert_stored(store, before, after)

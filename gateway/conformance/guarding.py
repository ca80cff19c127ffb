"""Clauses about the version guard: any order and any repetition of the same writes end in the same state."""

from __future__ import annotations

from hypothesis import given

from gateway.conformance.checks import assert_fingerprint, assert_stored, describe, fetch, state_of
from gateway.conformance.clauses import clause
from gateway.conformance.harness import Harness
from gateway.conformance.kinds import PROBE_LOG, PROBE_STATE
from gateway.conformance.rows import FIRST_VERSION, Scribe, batch, group
from gateway.conformance.strategies import RANKS, Write, examples, histories
from gateway.dispatch import Store
from gateway.records.row import Key, Row

__all__ = ["GuardClauses"]


class GuardClauses:
    """The store itself decides by version, and between equal versions by digest."""

    @clause()
    async def test_a_newer_version_replaces_all(self, harness: Harness, store: Store) -> None:
        """A newer version replaces the whole row: a field left empty does not keep its old value."""
        scribe = harness.scribe()
        await store.write(batch(scribe.state(note="old", tally=1, amount="1", document={"old": True})))
        newer = scribe.state(label="new")
        receipt = await store.write(batch(newer))
        assert not receipt.superseded
        await assert_stored(store, newer)

    @clause()
    async def test_an_older_version_is_refused(self, harness: Harness, store: Store) -> None:
        """A row older than what is stored changes nothing, whether it is a state or a log row."""
        scribe = harness.scribe()
        high, low = FIRST_VERSION + 10, FIRST_VERSION + 9
        states = scribe.state(label="newer", version=high), scribe.state(label="older", version=low)
        logs = scribe.log("one", label="newer", version=high), scribe.log("one", label="older", version=low)
        for newer, older in (states, logs):
            await store.write(batch(newer))
            await store.write(batch(older))
            await assert_stored(store, newer)

    @clause()
    async def test_a_refused_row_is_reported(self, harness: Harness, store: Store) -> None:
        """The receipt names, for each step that lost, the version that it lost against, and no other step."""
        scribe = harness.scribe()
        newest = scribe.state("a", version=FIRST_VERSION + 10)
        await store.write(batch(newest))
        receipt = await store.write(
            batch(
                scribe.state("b", version=FIRST_VERSION + 3),
                scribe.state("a", version=FIRST_VERSION + 5),
                newest,
                group(scribe.state("c"), scribe.state("a", version=FIRST_VERSION + 6)),
                scribe.state("d"),
            )
        )
        assert dict(receipt.superseded) == {1: newest.version, 3: newest.version}

    @clause()
    async def test_equal_versions_are_decided_by_digest(self, harness: Harness, store: Store) -> None:
        """Of two rows of one version the one with the greater digest stays, in whichever order they come."""
        scribe = harness.scribe()
        for slot, ascending in enumerate((True, False, True, False)):
            twins = [scribe.state(slot=slot, label=text, version=FIRST_VERSION) for text in ("x", "y")]
            twins.sort(key=lambda row: row.digest, reverse=not ascending)
            await store.write(batch(twins[0]))
            receipt = await store.write(batch(twins[1]))
            await assert_stored(store, max(twins, key=lambda row: row.digest))
            expected = {} if ascending else {0: FIRST_VERSION}
            assert dict(receipt.superseded) == expected, "the row that lost by its digest must be reported"

    @clause()
    async def test_the_guard_holds_within_a_batch(self, harness: Harness, store: Store) -> None:
        """An older row behind a newer one in one batch, or in one group, does not win by coming last."""
        scribe = harness.scribe()
        newer, older = (scribe.state(version=FIRST_VERSION + add) for add in (2, 1))
        other_newer, other_older = (scribe.state("other", version=FIRST_VERSION + add) for add in (2, 1))
        receipt = await store.write(batch(newer, older, group(other_newer, other_older)))
        await assert_stored(store, newer, other_newer)
        assert receipt.superseded.get(1) == newer.version

    @clause()
    def test_any_order_ends_in_one_state(self, harness: Harness, store: Store) -> None:
        """Random writes and deletions, twice each and in any order, end in the state of the newest."""

        @examples
        @given(histories())
        def check(history: list[list[Write]]) -> None:
            harness.run(_converges(store, harness.scribe(), history))

        check()


async def _converges(store: Store, scribe: Scribe, history: list[list[Write]]) -> None:
    newest: dict[Key, Row] = {}
    for writes in history:
        rows = [_row_of(scribe, write) for write in writes]
        await store.write(batch(*rows))
        for row in rows:
            newest[row.key] = max(row, newest.get(row.key, row), key=lambda item: item.stamp)
    for kind in (PROBE_LOG, PROBE_STATE):
        expected = sorted((row for row in newest.values() if row.kind is kind), key=lambda row: row.key)
        assert_fingerprint(await state_of(store, scribe, kind), expected)
    for row in newest.values():
        found = await fetch(store, row)
        assert found == row, f"by key comes {describe(found)}, the newest is {describe(row)}"


def _row_of(scribe: Scribe, write: Write) -> Row:
    """Return the row of a write: slot 0 is a log row, the others are states.

    Digests depend on the tenant, which is new for each example. So that an example always ends the same way, the
    row gets a text with which its digest falls into its rank's third of all digests, and deletions never tie.
    """
    version = FIRST_VERSION + 2 * write.age + write.deleted
    for attempt in range(1000):
        label = f"{write.rank}-{attempt}"
        if write.slot == 0:
            row = scribe.log("log", version=version, label=label)
        else:
            row = scribe.state(slot=write.slot, version=version, label=label)
        if write.deleted:
            return scribe.tombstone(row, version=version)
        if (row.digest + 2**63) * RANKS // 2**64 == write.rank:
            return row
    raise AssertionError(f"a thousand texts gave no digest of rank {write.rank}")

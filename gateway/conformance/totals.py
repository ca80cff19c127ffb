"""Clauses about what a store counts by itself: summaries and digests."""

from __future__ import annotations

from gateway.backend import GroupSummary, Summarize
from gateway.conformance.checks import assert_fingerprint, state_of
from gateway.conformance.clauses import clause
from gateway.conformance.harness import Harness
from gateway.conformance.kinds import PROBE_COUNTER, PROBE_LOG, PROBE_STATE
from gateway.conformance.rows import batch, digest_sum, minutes, span
from gateway.dispatch import Store
from gateway.records.codec import to_micros

__all__ = ["TotalClauses"]


class TotalClauses:
    """Counting inside the store gives what counting the rows outside gives."""

    @clause()
    async def test_a_summary_counts_by_group(self, harness: Harness, store: Store) -> None:
        """Groups come in the order of their values with their counts and their first and last times."""
        scribe = harness.scribe()
        labels = ["b", "a", "b", "Z", "b"]
        await store.write(
            batch(*(scribe.log(label=text, moment=minutes(at)) for at, text in enumerate(labels)))
        )
        first = [to_micros(minutes(number)) for number in range(len(labels))]
        assert list(await store.summarize(Summarize(PROBE_LOG, scribe.tenant, "label"))) == [
            GroupSummary("Z", 1, first[3], first[3]),
            GroupSummary("a", 1, first[1], first[1]),
            GroupSummary("b", 3, first[0], first[4]),
        ]

    @clause()
    async def test_a_summary_has_a_group_for_none(self, harness: Harness, store: Store) -> None:
        """Rows without a value form a group of their own, before the others; flags stay flags."""
        scribe = harness.scribe()
        await store.write(
            batch(scribe.state("a", flag=None), scribe.state("b", flag=True), scribe.state("c", flag=False))
        )
        counted = await store.summarize(Summarize(PROBE_STATE, scribe.tenant, "flag"))
        assert [(group.value, group.rows) for group in counted] == [(None, 1), (False, 1), (True, 1)]
        assert [type(group.value) for group in counted] == [type(None), bool, bool]

    @clause()
    async def test_a_summary_leaves_tombstones_out(self, harness: Harness, store: Store) -> None:
        """Only live rows are counted, and only they give the first and last times."""
        scribe = harness.scribe()
        rows = [scribe.log(label="x", moment=minutes(number)) for number in range(4)]
        await store.write(batch(*rows, scribe.tombstone(rows[0]), scribe.tombstone(rows[3])))
        expected = GroupSummary("x", 2, to_micros(minutes(1)), to_micros(minutes(2)))
        assert list(await store.summarize(Summarize(PROBE_LOG, scribe.tenant, "label"))) == [expected]

    @clause()
    async def test_a_summary_without_groups(self, harness: Harness, store: Store) -> None:
        """Without a field there is one group of all; a kind without a time field has no first and last."""
        scribe = harness.scribe()
        await store.write(batch(scribe.counter("a"), scribe.counter("b"), scribe.log(moment=minutes(2))))
        assert list(await store.summarize(Summarize(PROBE_COUNTER, scribe.tenant))) == [
            GroupSummary(None, 2, None, None)
        ]
        moment = to_micros(minutes(2))
        assert list(await store.summarize(Summarize(PROBE_LOG, scribe.tenant))) == [
            GroupSummary(None, 1, moment, moment)
        ]

    @clause()
    async def test_a_digest_is_the_sum_of_its_rows(self, harness: Harness, store: Store) -> None:
        """The digest of a kind counts its rows and sums their digests modulo 2**64, tombstones included."""
        scribe = harness.scribe()
        rows = [scribe.log(moment=minutes(number), tally=number) for number in range(50)]
        grave = scribe.tombstone(rows[7])
        await store.write(batch(*rows, grave, scribe.state()))
        assert_fingerprint(await state_of(store, scribe, PROBE_LOG), [*rows[:7], grave, *rows[8:]])

    @clause()
    async def test_a_digest_notices_every_change(self, harness: Harness, store: Store) -> None:
        """A changed value, a newer version of the same values and a deletion each change the digest."""
        scribe = harness.scribe()
        steps = [
            scribe.state(label="a"),
            scribe.state(label="a"),
            scribe.state(label="b"),
            scribe.tombstone(scribe.state()),
        ]
        totals = []
        for row in steps:
            await store.write(batch(row))
            totals.append((await store.digest(span(scribe, PROBE_STATE))).total)
        assert totals == [row.digest % 2**64 for row in steps]

    @clause()
    async def test_digests_of_parts_add_up(self, harness: Harness, store: Store) -> None:
        """A stretch excludes its lower bound and includes its upper one, so that parts add up."""
        scribe = harness.scribe()
        logs = [scribe.log(moment=minutes(number // 4)) for number in range(20)]
        states = [scribe.state(owner, slot) for owner in "ab" for slot in (2, 10)]
        await store.write(batch(*logs, *states))
        for kind, rows in ((PROBE_LOG, logs), (PROBE_STATE, states)):
            for cut in range(len(rows)):
                bound = rows[cut].position
                lower = await store.digest(span(scribe, kind, upto=bound))
                upper = await store.digest(span(scribe, kind, after=bound))
                assert (lower.rows, lower.total) == (cut + 1, digest_sum(rows[: cut + 1]))
                assert (upper.rows, upper.total) == (len(rows) - cut - 1, digest_sum(rows[cut + 1 :]))
        inner = await store.digest(span(scribe, PROBE_LOG, logs[2].position, logs[6].position))
        assert (inner.rows, inner.total) == (4, digest_sum(logs[3:7]))

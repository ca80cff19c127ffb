"""Clauses about intents: what a batch leaves behind for its mirrors, in its own transaction."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest

from gateway.backend import Capability, Step, Update, WriteBatch
from gateway.conformance.checks import fetch
from gateway.conformance.clauses import clause
from gateway.conformance.durability import ROUNDS
from gateway.conformance.harness import Harness
from gateway.conformance.kinds import PROBE_LOG
from gateway.conformance.rows import FIRST_VERSION, Scribe, group
from gateway.conformance.updating import refusing
from gateway.conformance.worker import MIRROR, OTHER_MIRROR, load_journaling, load_rows
from gateway.dispatch import Store
from gateway.errors import InvalidRecordError, StoreReadOnlyError
from gateway.intents import Intent, JournalFacts, Journaling, Stretch
from gateway.records.row import Row

__all__ = ["JournalClauses"]

ALL = 1_000
"""A limit that no clause reaches."""
ROWS = 12
TASKS, TIMES = 8, 4
HOUR = 3_600 * 1_000_000
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class JournalClauses:
    """Intents are stored with their batch, listed in order, and removed by stretches."""

    @clause(Capability.JOURNAL)
    async def test_intents_are_for_the_mirrors_asked_for(self, harness: Harness, store: Store) -> None:
        """A batch leaves an intent for each row and each mirror of its step, and none where none is asked for."""
        scribe = harness.scribe()
        steps = scribe.log(), scribe.state(), scribe.counter(), scribe.log()
        targets = (MIRROR,), (), (MIRROR, OTHER_MIRROR), (OTHER_MIRROR,)
        await write(store, scribe, steps, *targets, first=7)
        await store.write(WriteBatch((scribe.log(),)))
        log, _, counter, last = steps
        assert await pending(store, scribe) == [intent(scribe, 7, 0, log), intent(scribe, 9, 0, counter)]
        others = [intent(scribe, 9, 0, counter), intent(scribe, 10, 0, last)]
        assert await pending(store, scribe, OTHER_MIRROR) == others
        assert await pending(store, scribe, "nobody") == []

    @clause(Capability.JOURNAL)
    async def test_an_intent_names_its_row(self, harness: Harness, store: Store) -> None:
        """The key of an intent finds the row again, whatever its fields hold, tombstones too."""
        scribe = harness.scribe()
        names = ('quote " and \\', "caf\u00e9 \U0001f600", "tab\tand line\n", "1", "[]", " ")
        rows = [scribe.state(name, -number) for number, name in enumerate(names)]
        rows += [scribe.log(name) for name in names]
        rows.append(scribe.tombstone(rows[0]))
        for number, row in enumerate(rows):
            await write(store, scribe, [row], (MIRROR,), first=number)
        found = await pending(store, scribe)
        assert found == [intent(scribe, number, 0, row) for number, row in enumerate(rows)]
        assert [type(value) for one in found for value in one.key] == [
            type(value) for row in rows for value in row.key
        ], "a part of a key came back as another type"

    @clause(Capability.JOURNAL)
    async def test_many_rows_leave_many_intents(self, harness: Harness, store: Store) -> None:
        """A batch of many rows of one kind, in any order of keys, leaves the intent of each under its own number."""
        scribe = harness.scribe()
        rows = [scribe.state("many", 100 - number) for number in range(100)]
        await write(store, scribe, rows, *[(MIRROR, OTHER_MIRROR)] * len(rows), first=2**40)
        expected = [intent(scribe, 2**40 + number, 0, row) for number, row in enumerate(rows)]
        assert await pending(store, scribe) == expected
        assert await pending(store, scribe, OTHER_MIRROR) == expected

    @clause(Capability.JOURNAL)
    async def test_an_intent_has_the_trace_of_its_write(self, harness: Harness, store: Store) -> None:
        """The trace of a write comes back with its intents, and an empty one where there was none."""
        scribe = harness.scribe()
        logs, states = [scribe.log() for _ in range(3)], (scribe.state(), group(scribe.counter()))
        batches: list[tuple[int, Sequence[Step]]] = [(0, logs), (10, [scribe.log()]), (20, states)]
        for first, steps in batches:
            at = len(steps) - 1
            await write(store, scribe, steps, *[(MIRROR,)] * len(steps), first=first, traces={at: TRACE})
        found = {one.number: one.trace for one in await pending(store, scribe)}
        assert found == {0: "", 1: "", 2: TRACE, 10: TRACE, 20: "", 21: TRACE}

    @clause(Capability.JOURNAL)
    async def test_intents_of_a_group_are_its_parts(self, harness: Harness, store: Store) -> None:
        """The rows of a group share its number, and their places in it tell them apart."""
        scribe = harness.scribe()
        rows = scribe.state("a"), scribe.log(), scribe.state("b")
        alone = scribe.log()
        await write(store, scribe, [group(*rows), alone], (MIRROR,), (MIRROR,))
        expected = [intent(scribe, 0, part, row) for part, row in enumerate(rows)]
        assert await pending(store, scribe) == [*expected, intent(scribe, 1, 0, alone)]

    @clause(Capability.JOURNAL, Capability.UPDATE)
    async def test_intents_of_an_update_are_of_what_it_wrote(self, harness: Harness, store: Store) -> None:
        """An update leaves intents of the rows it came to, and none if it wrote nothing."""
        scribe = harness.scribe()
        rows = scribe.counter(total=1), scribe.log("beside")
        one, nothing = Update(scribe.tenant, (), lambda _: rows), Update(scribe.tenant, (), lambda _: ())
        await write(store, scribe, [nothing, one, scribe.state()], (MIRROR,), (MIRROR,), ())
        assert await pending(store, scribe) == [intent(scribe, 1, part, row) for part, row in enumerate(rows)]

    @clause(Capability.JOURNAL, Capability.UPDATE)
    async def test_a_refused_batch_leaves_no_intents(self, harness: Harness, store: Store) -> None:
        """A batch that fails leaves neither rows nor intents."""
        scribe = harness.scribe()
        row = scribe.log()
        with pytest.raises(InvalidRecordError):
            await write(store, scribe, [row, refusing(scribe)], (MIRROR,), (MIRROR,))
        assert await fetch(store, row) is None, "a row of a batch that failed is stored"
        assert await pending(store, scribe) == []
        await write(store, scribe, [row], (MIRROR,))
        assert await pending(store, scribe) == [intent(scribe, 0, 0, row)]

    @clause(Capability.JOURNAL)
    async def test_a_repeated_batch_leaves_its_intents_once(self, harness: Harness, store: Store) -> None:
        """Sending a batch again with the same numbers, as after an answer that was lost, changes nothing."""
        scribe = harness.scribe()
        for steps in (
            [scribe.state()],
            [scribe.log(), scribe.log()],
            [group(scribe.log(), scribe.state("g"))],
        ):
            first = (await pending(store, scribe))[-1:]
            number = first[0].number + 1 if first else 0
            await write(store, scribe, steps, *[(MIRROR,)] * len(steps), first=number)
            once = await pending(store, scribe)
            await write(store, scribe, steps, *[(MIRROR,)] * len(steps), first=number)
            assert await pending(store, scribe) == once

    @clause(Capability.JOURNAL)
    async def test_intents_come_in_order_by_pages(self, harness: Harness, store: Store) -> None:
        """Intents come by owner and number, however they were written, and each page goes on behind a stretch."""
        scribe = harness.scribe()
        for number in (5, 0, 11, 3):
            for owner in ("b", "a", "a-b"):
                await write(store, scribe, [scribe.log()], (MIRROR,), first=number, owner=owner)
        places = [(owner, number) for owner in ("a", "a-b", "b") for number in (0, 3, 5, 11)]
        assert [placed(scribe, one) for one in await pending(store, scribe)] == places
        found: list[tuple[str, int]] = []
        after = None
        while page := await store.pending(MIRROR, scribe.tenant, 5, after=after):
            assert len(page) <= 5, "a page of single rows has more than were asked for"
            found += [placed(scribe, one) for one in page]
            after = Stretch(page[-1].owner, page[0].number, page[-1].number)
        assert found == places

    @clause(Capability.JOURNAL)
    async def test_a_page_ends_with_a_whole_step(self, harness: Harness, store: Store) -> None:
        """A page that reaches its limit within a step has the rest of that step too."""
        scribe = harness.scribe()
        groups = [group(*(scribe.log() for _ in range(4))) for _ in range(3)]
        await write(store, scribe, groups, *[(MIRROR,)] * 3)
        page = await store.pending(MIRROR, scribe.tenant, 6)
        assert [(one.number, one.part) for one in page] == [(at, part) for at in (0, 1) for part in range(4)]
        rest = await store.pending(MIRROR, scribe.tenant, 6, after=Stretch(page[-1].owner, 1, 1))
        assert [(one.number, one.part) for one in rest] == [(2, part) for part in range(4)]

    @clause(Capability.JOURNAL)
    async def test_younger_intents_are_left_out(self, harness: Harness, store: Store) -> None:
        """Asked for what is older than a version, the store gives steps of which every row is."""
        scribe = harness.scribe()
        row = [scribe.log(version=FIRST_VERSION + version) for version in range(10)]
        steps = row[4], row[2], group(row[1], row[5]), group(row[6], row[0]), row[3], group(row[7], row[8])
        await write(store, scribe, steps, *[(MIRROR,)] * len(steps))
        found = await store.pending(MIRROR, scribe.tenant, ALL, before=FIRST_VERSION + 5)
        assert [one.number for one in found] == [0, 1, 4]
        after = Stretch(found[0].owner, 0, 0)
        found = await store.pending(MIRROR, scribe.tenant, 1, before=FIRST_VERSION + 7, after=after)
        assert [(one.number, one.part) for one in found] == [(1, 0)]
        found = await store.pending(MIRROR, scribe.tenant, ALL, before=FIRST_VERSION + 7)
        assert [(one.number, one.part) for one in found] == [
            (0, 0),
            (1, 0),
            (2, 0),
            (2, 1),
            (3, 0),
            (3, 1),
            (4, 0),
        ]

    @clause(Capability.JOURNAL)
    async def test_acknowledged_intents_are_gone(self, harness: Harness, store: Store) -> None:
        """Acknowledging removes the intents of the stretches, those alone, and tells how many; repeating is nothing."""
        scribe = harness.scribe()
        for owner in ("a", "b"):
            steps: list[Step] = [scribe.log() for _ in range(ROWS - 1)]
            steps.append(group(scribe.state(owner), scribe.log()))
            await write(store, scribe, steps, *[(MIRROR, OTHER_MIRROR)] * ROWS, owner=owner)
        a, b = owner_of(scribe, "a"), owner_of(scribe, "b")
        done = [Stretch(a, 2, 4), Stretch(a, 7, 7), Stretch(b, ROWS - 1, ROWS - 1), Stretch(b, 900, 999)]
        assert await store.acknowledge(MIRROR, scribe.tenant, done) == 6
        assert await store.acknowledge(MIRROR, scribe.tenant, done) == 0
        left = [placed(scribe, one) for one in await pending(store, scribe)]
        assert left == [
            *(("a", number) for number in (0, 1, 5, 6, 8, 9, 10, 11, 11)),
            *(("b", number) for number in range(ROWS - 1)),
        ]
        assert len(await pending(store, scribe, OTHER_MIRROR)) == 2 * (ROWS + 1)
        assert await store.acknowledge(MIRROR, scribe.tenant, []) == 0
        assert await store.acknowledge(MIRROR, scribe.tenant, [Stretch(a, 0, 2**62)]) == 9
        assert {one.owner for one in await pending(store, scribe)} == {b}

    @clause(Capability.JOURNAL)
    async def test_intents_of_tenants_are_apart(self, harness: Harness, store: Store) -> None:
        """Nobody sees, counts or removes intents of another tenant, also where one batch was of both."""
        mine, other = harness.scribe(), harness.scribe()
        own, foreign = mine.log(), other.log()
        await write(store, mine, [own, foreign], (MIRROR,), (MIRROR,))
        owner = owner_of(mine, "a")
        assert await pending(store, mine) == [intent(mine, 0, 0, own)]
        assert [one.key for one in await pending(store, other)] == [foreign.key]
        assert await store.acknowledge(MIRROR, mine.tenant, [Stretch(owner, 0, ALL)]) == 1
        assert [one.key for one in await pending(store, other)] == [foreign.key]
        assert await store.facts(mine.tenant, ALL) == []
        assert await store.facts(other.tenant, ALL) == [JournalFacts(MIRROR, 1, foreign.version)]

    @clause(Capability.JOURNAL)
    async def test_the_journal_is_counted(self, harness: Harness, store: Store) -> None:
        """What is left is counted for each mirror that has something coming, up to a limit, with the oldest version."""
        scribe = harness.scribe()
        assert await store.facts(scribe.tenant, ALL) == []
        rows = [scribe.log(version=FIRST_VERSION + 100 - number) for number in range(ROWS)]
        targets = [(MIRROR, OTHER_MIRROR) if number < 3 else (MIRROR,) for number in range(ROWS)]
        await write(store, scribe, rows, *targets)
        found = {one.target: one for one in await store.facts(scribe.tenant, ALL)}
        assert found == {
            MIRROR: JournalFacts(MIRROR, ROWS, rows[-1].version),
            OTHER_MIRROR: JournalFacts(OTHER_MIRROR, 3, rows[2].version),
        }
        now = time.time_ns() // 1_000
        assert all(one.since is None or abs(now - one.since) < HOUR for one in found.values()), (
            "what is waited for since is when intents were written, in microseconds, and no time of the rows"
        )
        bounded = {one.target: one.depth for one in await store.facts(scribe.tenant, 5)}
        assert bounded == {MIRROR: 5, OTHER_MIRROR: 3}
        owner = owner_of(scribe, "a")
        await store.acknowledge(OTHER_MIRROR, scribe.tenant, [Stretch(owner, 0, ALL)])
        assert [one.target for one in await store.facts(scribe.tenant, ALL)] == [MIRROR]

    @clause(Capability.JOURNAL)
    async def test_writers_at_once_lose_no_intents(self, harness: Harness, store: Store) -> None:
        """Tasks that write and acknowledge at the same time leave exactly what was not acknowledged."""
        scribe = harness.scribe()

        async def work(number: int) -> None:
            for turn in range(TIMES):
                rows = scribe.log(), scribe.state("shared", number)
                await write(store, scribe, rows, (MIRROR,), (MIRROR,), first=2 * turn, owner=f"{number}")
                done = Stretch(owner_of(scribe, f"{number}"), 2 * turn, 2 * turn)
                assert await store.acknowledge(MIRROR, scribe.tenant, [done]) == 1

        await asyncio.gather(*map(work, range(TASKS)))
        left = [placed(scribe, one) for one in await pending(store, scribe)]
        assert left == [(f"{number}", 2 * turn + 1) for number in range(TASKS) for turn in range(TIMES)]

    @clause(Capability.JOURNAL, Capability.DURABLE)
    async def test_intents_survive_reopening(self, harness: Harness) -> None:
        """Closing and opening again changes nothing about intents, and what was acknowledged stays gone."""
        scribe = harness.scribe()
        store = await harness.open()
        rows = [scribe.log() for _ in range(ROWS)]
        await write(store, scribe, rows, *[(MIRROR,)] * ROWS)
        await store.acknowledge(MIRROR, scribe.tenant, [Stretch(owner_of(scribe, "a"), 0, 3)])
        before = await pending(store, scribe)
        assert len(before) == ROWS - 4
        await store.close()
        assert await pending(await harness.open(), scribe) == before

    @clause(Capability.JOURNAL, Capability.DURABLE)
    async def test_intents_of_unknown_kinds_stay(self, harness: Harness) -> None:
        """A store opened without a kind leaves its intents out of what it returns, and does not remove them."""
        scribe = harness.scribe()
        store = await harness.open()
        log, counter, beside = scribe.log(), scribe.counter(), scribe.log()
        await write(store, scribe, [log, counter, group(beside, scribe.state())], *[(MIRROR,)] * 3)
        await store.close()
        lesser = await harness.open(without=(PROBE_LOG,))
        assert [(one.number, one.part) for one in await pending(lesser, scribe)] == [(1, 0), (2, 1)]
        page = await lesser.pending(MIRROR, scribe.tenant, 1)
        assert [(one.number, one.part) for one in page] == [(1, 0)]
        everything = [Stretch(owner_of(scribe, "a"), 0, ALL)]
        assert await lesser.acknowledge(MIRROR, scribe.tenant, everything) == 2
        await lesser.close()
        again = await harness.open()
        assert await pending(again, scribe) == [intent(scribe, 0, 0, log), intent(scribe, 2, 0, beside)]

    @clause(Capability.JOURNAL, Capability.DURABLE)
    def test_kill_leaves_intents_and_rows_together(self, harness: Harness) -> None:
        """After `kill -9` of the writer each batch is there with all its intents, or neither is."""
        for worker, (lines, share) in enumerate(ROUNDS):
            scribe = harness.scribe()
            process = harness.start("journal", scribe, worker=worker)
            harness.release(process)
            acknowledged = harness.kill_after(process, lines, share)
            harness.run(_together(harness, scribe, worker, len(acknowledged)))

    @clause(Capability.JOURNAL)
    async def test_read_only_refuses_to_acknowledge(self, harness: Harness) -> None:
        """A store opened for reading only refuses to remove intents."""
        await (await harness.open()).close()
        store = await harness.open(read_only=True)
        with pytest.raises(StoreReadOnlyError):
            await store.acknowledge(MIRROR, harness.scribe().tenant, [Stretch("nobody", 0, 1)])


def owner_of(scribe: Scribe, owner: str) -> str:
    """Return an owner that is this clause's own: numbers of one owner are never given twice."""
    return f"{scribe.tenant}:{owner}"


async def write(
    store: Store,
    scribe: Scribe,
    steps: Sequence[Step],
    *targets: tuple[str, ...],
    first: int = 0,
    owner: str = "a",
    traces: dict[int, str] | None = None,
) -> None:
    """Store a batch that leaves intents behind."""
    journaling = Journaling(owner_of(scribe, owner), first, targets, traces or {})
    await store.write(WriteBatch(tuple(steps), journaling))


async def pending(store: Store, scribe: Scribe, target: str = MIRROR) -> list[Intent]:
    """Return all intents for a mirror."""
    return list(await store.pending(target, scribe.tenant, ALL))


def intent(scribe: Scribe, number: int, part: int, row: Row) -> Intent:
    """Return the intent of a row that `write` has written."""
    return Intent(owner_of(scribe, "a"), number, part, row.kind, row.tenant, row.key, row.version, "")


def placed(scribe: Scribe, one: Intent) -> tuple[str, int]:
    """Return owner and number as the clause gave them."""
    return one.owner.removeprefix(f"{scribe.tenant}:"), one.number


async def _together(harness: Harness, scribe: Scribe, worker: int, acknowledged: int) -> None:
    store = await harness.open()
    expected: dict[str, dict[tuple[int, int], Row]] = {MIRROR: {}, OTHER_MIRROR: {}}
    # One batch may have been in flight, and one more may have been acknowledged without its line being read.
    for number in range(acknowledged + 3):
        alone, _, one, other = load_rows(scribe, worker, number)
        stored = [await fetch(store, row) is not None for row in (alone, one, other)]
        assert all(stored) or number >= acknowledged, f"batch {number} was acknowledged and is lost"
        assert stored in ([True] * 3, [False] * 3), f"batch {number}: a part of it is stored"
        if all(stored):
            first = load_journaling(scribe, worker, number).first
            expected[OTHER_MIRROR] |= {(first + 2, 0): one, (first + 2, 1): other}
            expected[MIRROR] |= {(first, 0): alone, (first + 2, 0): one, (first + 2, 1): other}
    for target, rows in expected.items():
        found = {
            (item.number, item.part): (item.kind, item.key) for item in await pending(store, scribe, target)
        }
        assert found == {place: (row.kind, row.key) for place, row in rows.items()}, (
            f"the intents for {target} are not those of the rows that are stored"
        )
    await store.close()

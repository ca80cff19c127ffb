"""Clauses about many callers at once, in one process and in several."""

from __future__ import annotations

import asyncio

from gateway.backend import Capability
from gateway.conformance.checks import all_rows, assert_stored, fetch
from gateway.conformance.clauses import clause
from gateway.conformance.harness import Harness
from gateway.conformance.kinds import PROBE_LOG, PROBE_STATE
from gateway.conformance.rows import Scribe, batch, span, total_of
from gateway.conformance.worker import load_batch, load_rows
from gateway.dispatch import Store
from gateway.records.row import Key, Row

__all__ = ["ConcurrencyClauses"]

TASKS, TURNS = 8, 12
WORKERS, BATCHES = 3, 30


class ConcurrencyClauses:
    """Whoever writes at the same time, nothing acknowledged is lost and nothing read is half."""

    @clause()
    async def test_tasks_lose_nothing(self, harness: Harness, store: Store) -> None:
        """Tasks that write side by side, to own and to shared keys, leave the newest of all they wrote."""
        scribe = harness.scribe()

        async def write(worker: int) -> None:
            for number in range(TURNS):
                await store.write(load_batch(scribe, worker, number))

        await asyncio.gather(*map(write, range(TASKS)))
        await _assert_newest(store, scribe, TASKS, TURNS)

    @clause()
    async def test_acknowledged_is_visible(self, harness: Harness, store: Store) -> None:
        """An acknowledged write is seen at once by key, in listings and in the digest, while others write."""
        scribe = harness.scribe()

        async def write(worker: int) -> None:
            own = Scribe(f"{scribe.tenant[:-2]}{worker:02}")
            for number in range(TURNS):
                row = own.log(tally=number)
                await store.write(batch(row))
                assert await fetch(store, row) == row, "an acknowledged row is not seen by key"
                assert (await all_rows(store, own, PROBE_LOG))[-1:] == [row], (
                    "an acknowledged row is not listed"
                )
                counted = (await store.digest(span(own, PROBE_LOG))).rows
                assert counted == number + 1, "an acknowledged row is missing in the digest"

        await asyncio.gather(*map(write, range(4)))

    @clause()
    async def test_readers_see_whole_rows_only(self, harness: Harness, store: Store) -> None:
        """Beside writers every row read is intact, and no reader sees a key go back to an older version."""
        scribe = harness.scribe()
        versions = [scribe.state(label=str(n), document={"n": n}, tally=n) for n in range(60)]
        done = asyncio.Event()

        async def read() -> int:
            newest = 0
            while not done.is_set():
                found = await fetch(store, versions[0])
                if found is not None:
                    assert found.intact, "a reader saw a row that is put together of two"
                    assert found.version >= newest, "a reader saw an older version after a newer one"
                    newest = found.version
                await asyncio.sleep(0)
            return newest

        readers = [asyncio.create_task(read()) for _ in range(3)]
        for row in versions:
            await store.write(batch(row))
            await asyncio.sleep(0)
        done.set()
        await asyncio.gather(*readers)
        await assert_stored(store, versions[-1])

    @clause(Capability.MULTI_PROCESS)
    def test_processes_lose_nothing(self, harness: Harness) -> None:
        """Several processes that write at once, to own keys and to shared ones, leave the newest of all."""
        scribe = harness.scribe()
        harness.run(_opened_and_closed(harness))
        workers = [harness.start("write", scribe, worker=number, count=BATCHES) for number in range(WORKERS)]
        harness.release(*workers)
        for process in workers:
            assert harness.finish(process) == [str(number) for number in range(BATCHES)]
        harness.run(_newest_after_reopening(harness, scribe))

    @clause(Capability.MULTI_PROCESS, Capability.UPDATE)
    def test_processes_count_together(self, harness: Harness) -> None:
        """Several processes that count one counter up by updates arrive at the sum."""
        scribe = harness.scribe()
        harness.run(_opened_and_closed(harness))
        workers = [harness.start("count", scribe, worker=number, count=BATCHES) for number in range(WORKERS)]
        harness.release(*workers)
        acknowledged = sum(len(harness.finish(process)) for process in workers)
        store = harness.run(harness.open())
        assert total_of(harness.run(fetch(store, scribe.counter()))) == acknowledged == WORKERS * BATCHES


async def _opened_and_closed(harness: Harness) -> None:
    """Let the store be made before several processes open it; making it together is another question."""
    store = await harness.open()
    await store.close()


async def _newest_after_reopening(harness: Harness, scribe: Scribe) -> None:
    await _assert_newest(await harness.open(), scribe, WORKERS, BATCHES)


async def _assert_newest(store: Store, scribe: Scribe, workers: int, batches: int) -> None:
    """Check that the newest version of every row of every worker's load is stored."""
    expected: dict[tuple[str, Key], Row] = {}
    for number in range(batches):
        for worker in range(workers):
            for row in load_rows(scribe, worker, number):
                place = (row.kind.name, row.key)
                expected[place] = max(row, expected.get(place, row), key=lambda item: item.stamp)
    for kind in (PROBE_LOG, PROBE_STATE):
        found = {(kind.name, row.key): row for row in await all_rows(store, scribe, kind)}
        wanted = {place: row for place, row in expected.items() if row.kind is kind}
        lost = sorted(place for place in wanted if found.get(place) != wanted[place])
        assert not lost, f"{len(lost)} of {len(wanted)} acknowledged rows are lost or old, such as {lost[:3]}"
        assert len(found) == len(wanted), "there are rows that nobody wrote"

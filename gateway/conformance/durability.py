"""Clauses about what outlives a process, and about who may have the store open."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from gateway.backend import Capability
from gateway.conformance.checks import assert_fingerprint, assert_stored, fetch, state_of
from gateway.conformance.clauses import clause
from gateway.conformance.harness import Harness
from gateway.conformance.kinds import PROBE_COUNTER, PROBE_LOG, PROBE_STATE
from gateway.conformance.rows import Scribe, batch, minutes
from gateway.conformance.worker import load_rows
from gateway.errors import StoreError, StoreReadOnlyError

__all__ = ["DurabilityClauses"]

ROUNDS = ((2, 0.1), (3, 0.6), (5, 0.3), (9, 0.7), (16, 0.9))
"""After how many acknowledgements, and how far into the next batch, a writer is killed; all in one store."""


class DurabilityClauses:
    """An acknowledged row is still there after whatever happened to the process.

    Attributes:
        rounds: When a writer is killed, one time after the other. Another class for another way to the same
            store may be content with fewer.
    """

    rounds: ClassVar[Sequence[tuple[int, float]]] = ROUNDS

    @clause(Capability.DURABLE)
    async def test_a_reopened_store_has_everything(self, harness: Harness) -> None:
        """Closing and opening again changes nothing: rows, tombstones and digests are the same."""
        scribe = harness.scribe()
        store = await harness.open()
        log, gone = scribe.log(document={"k": [1, None]}), scribe.log("gone", moment=minutes(1))
        rows = [log, scribe.state(amount="0.1"), scribe.counter(total=1)]
        await store.write(batch(*rows, gone))
        grave = scribe.tombstone(gone)
        await store.write(batch(grave))
        await store.close()
        again = await harness.open()
        await assert_stored(again, *rows, grave)
        assert_fingerprint(await state_of(again, scribe, PROBE_LOG), [log, grave])

    @clause(Capability.DURABLE)
    async def test_the_guard_survives_reopening(self, harness: Harness) -> None:
        """After opening again an older version is still refused."""
        scribe = harness.scribe()
        older, newer = scribe.state(label="older"), scribe.state(label="newer")
        store = await harness.open()
        await store.write(batch(newer))
        await store.close()
        again = await harness.open()
        assert dict((await again.write(batch(older))).superseded) == {0: newer.version}
        await assert_stored(again, newer)

    @clause(Capability.DURABLE)
    def test_kill_keeps_what_was_acknowledged(self, harness: Harness) -> None:
        """After `kill -9` of the writer every acknowledged row is there, whole, and the store works on."""
        for worker, (lines, share) in enumerate(self.rounds):
            scribe = harness.scribe()
            acknowledged = _killed(harness, scribe, worker, lines, share)
            assert acknowledged == [str(number) for number in range(len(acknowledged))]
            harness.run(_all_there(harness, scribe, worker, len(acknowledged)))

    @clause(Capability.DURABLE)
    def test_kill_leaves_no_half_group(self, harness: Harness) -> None:
        """After `kill -9` a group that was being written is there as a whole or not at all."""
        for worker, (lines, share) in enumerate(self.rounds):
            scribe = harness.scribe()
            acknowledged = _killed(harness, scribe, worker, lines, share)
            harness.run(_no_half_group(harness, scribe, worker, len(acknowledged)))

    @clause(Capability.DURABLE, without=Capability.MULTI_PROCESS)
    async def test_a_second_writer_is_refused(self, harness: Harness) -> None:
        """While one process has the store open for writing, another is refused, and let in afterwards."""
        store = await harness.open()
        scribe = harness.scribe()
        assert harness.finish(harness.start("open", scribe)) == ["StoreLockedError"]
        row = scribe.log()
        await store.write(batch(row))
        await assert_stored(store, row)
        await store.close()
        assert harness.finish(harness.start("open", scribe)) == ["opened"]

    @clause()
    async def test_read_only_refuses_to_write(self, harness: Harness) -> None:
        """A store opened for reading only refuses writes with `StoreReadOnlyError`."""
        await (await harness.open()).close()
        store, scribe = await harness.open(read_only=True), harness.scribe()
        with pytest.raises(StoreReadOnlyError):
            await store.write(batch(scribe.log()))
        assert await fetch(store, scribe.log("log-00001")) is None, "a write was refused and stored"

    @clause(Capability.PURGE)
    async def test_read_only_refuses_to_purge(self, harness: Harness) -> None:
        """A store opened for reading only refuses to remove rows."""
        await (await harness.open()).close()
        store = await harness.open(read_only=True)
        with pytest.raises(StoreReadOnlyError):
            await store.purge(PROBE_LOG, harness.scribe().tenant, minutes(1))

    @clause(Capability.DURABLE)
    async def test_read_only_creates_nothing(self, harness: Harness) -> None:
        """Opening a store that is not there, for reading only, makes no file; it is refused or empty."""
        before = _files(harness.context.data_dir)
        with contextlib.suppress(StoreError):
            store = await harness.open(read_only=True)
            assert await store.get(PROBE_COUNTER, harness.scribe().tenant, [("c",)]) == [None]
            await store.close()
        assert _files(harness.context.data_dir) == before, "looking at a store created files"

    @clause(Capability.DURABLE)
    async def test_read_only_looks_on_beside_a_writer(self, harness: Harness) -> None:
        """Beside its writer a store can be opened for reading, and shows what is committed."""
        writer, scribe = await harness.open(), harness.scribe()
        row = scribe.state(note="seen by both")
        await writer.write(batch(row))
        reader = await harness.open(read_only=True)
        await assert_stored(reader, row)
        later = scribe.state(note="written later")
        await writer.write(batch(later))
        await assert_stored(reader, later)


def _killed(harness: Harness, scribe: Scribe, worker: int, lines: int, share: float) -> list[str]:
    """Let a worker write, kill it, and return what it said was acknowledged."""
    process = harness.start("write", scribe, worker=worker)
    harness.release(process)
    return harness.kill_after(process, lines, share)


async def _all_there(harness: Harness, scribe: Scribe, worker: int, acknowledged: int) -> None:
    store = await harness.open()
    for number in range(acknowledged):
        alone, shared, *together = load_rows(scribe, worker, number)
        for row in (alone, *together):
            assert await fetch(store, row) == row, (
                f"batch {number} of {acknowledged} was acknowledged and is lost"
            )
        found = await fetch(store, shared)
        assert found is not None, f"the state of batch {number} was acknowledged and is lost"
        assert found.version >= shared.version, f"the state of batch {number} went back to an older version"
    for kind in (PROBE_LOG, PROBE_STATE):
        rows, count, _ = await state_of(store, scribe, kind)
        assert all(row.intact for row in rows), "a row is damaged after the crash"
        assert count == len(rows), "the digest counts other rows than the listing shows"
    later = scribe.counter(total=1)
    await store.write(batch(later))
    await assert_stored(store, later)
    await store.close()


async def _no_half_group(harness: Harness, scribe: Scribe, worker: int, acknowledged: int) -> None:
    store = await harness.open()
    # One batch may have been in flight, and one more may have been acknowledged without its line being read.
    for number in range(acknowledged + 3):
        *_, one, other = load_rows(scribe, worker, number)
        found = [await fetch(store, one), await fetch(store, other)]
        assert found in ([None, None], [one, other]), f"batch {number}: half of its group is stored"
    await store.close()


def _files(directory: Path) -> set[Path]:
    return set(directory.rglob("*"))

"""Intents beside the primary: they are there before the row, and gone again if the row certainly is not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.backend import Capability, Group, KeyRef, Step, Update, WriteBatch, WriteReceipt
from gateway.errors import (
    GatewayError,
    InvalidRecordError,
    StoreBusyError,
    StoreFullError,
    StoreUnavailableError,
    WriteRejectedError,
)
from gateway.intents import Journaling
from gateway.journal.memory import MemoryJournal
from gateway.journal.sink import JournaledStore
from gateway.records.activity import EVENTS
from gateway.records.row import Row
from gateway.records.stamp import DEFAULT_TENANT, row_of
from gateway.records.trading import POSITIONS

NOTHING: tuple[str, ...] = ()


def row(key: str, version: int = 1) -> Row:
    """Return a row with nothing but a key."""
    values = [None] * len(EVENTS.fields)
    return row_of(EVENTS, DEFAULT_TENANT, version, [key, *values[1:]])


class Primary:
    """Takes batches, or fails as it is told; looks into the journal at the moment of the write."""

    name = "a"

    def __init__(self, journal: MemoryJournal, *capabilities: Capability) -> None:
        self.capabilities = frozenset(capabilities)
        self.journal = journal
        self.batches: list[WriteBatch] = []
        self.noted: list[str] = []
        self.fault: BaseException | None = None

    async def write(self, batch: WriteBatch) -> WriteReceipt:
        """Note what the journal has by now, then fail or not."""
        self.batches.append(batch)
        updated: dict[int, tuple[Row, ...]] = {}
        for at, step in enumerate(batch.steps):
            if isinstance(step, Update):
                updated[at] = tuple(step.apply([None] * len(step.reads)))
        self.noted = await keys(self.journal)
        if self.fault is not None:
            raise self.fault
        return WriteReceipt({}, updated)


async def keys(journal: MemoryJournal, target: str = "b") -> list[str]:
    """Return the keys of what is noted for a mirror."""
    return [str(one.key[0]) for one in await journal.pending(target, DEFAULT_TENANT, 100)]


def batch(steps: Sequence[Step], *targets: tuple[str, ...], first: int = 1, **given: Any) -> WriteBatch:
    """Return a batch that leaves intents."""
    return WriteBatch(steps, Journaling("me", first, targets or (("b",),) * len(steps), **given))


@pytest.fixture
def primary() -> Primary:
    """Give a primary that applies a batch step by step."""
    return Primary(MemoryJournal())


@pytest.mark.anyio
async def test_intents_come_first_and_the_store_hears_nothing_of_them(primary: Primary) -> None:
    """Of each row and each mirror that was asked for; the trace of the write goes along."""
    sink = JournaledStore(primary, primary.journal)
    steps: list[Step] = [row("x"), Group((row("y"), row("z"))), row("not mirrored")]
    await sink.write(batch(steps, ("b", "c"), ("b",), NOTHING, first=7, traces={0: "00-aa-bb-01"}))
    assert primary.noted == ["x", "y", "z"]
    assert await keys(primary.journal, "c") == ["x"]
    assert primary.batches[0].journaling is None
    found = await primary.journal.pending("b", DEFAULT_TENANT, 9)
    assert [(one.owner, one.number, one.part, one.trace) for one in found] == [
        ("me", 7, 0, "00-aa-bb-01"),
        ("me", 8, 0, ""),
        ("me", 8, 1, ""),
    ]
    assert (sink.name, sink.capabilities) == ("a", frozenset())


@pytest.mark.anyio
async def test_a_batch_without_mirrors_passes_through(primary: Primary) -> None:
    """Nothing is noted for nobody."""
    sink = JournaledStore(primary, primary.journal)
    await sink.write(WriteBatch([row("x")]))
    await sink.write(batch([row("y")], NOTHING))
    assert primary.noted == []
    assert len(primary.batches) == 2


@pytest.mark.anyio
async def test_an_update_is_noted_before_its_rows_are_stored(primary: Primary) -> None:
    """What it came to is known only then; one that comes to nothing leaves nothing."""
    sink = JournaledStore(primary, primary.journal)
    reads = (KeyRef(POSITIONS, ("x",)),)
    some = Update(DEFAULT_TENANT, reads, lambda _: [row("u1"), row("u2")])
    none = Update(DEFAULT_TENANT, reads, lambda _: [])
    unmirrored = Update(DEFAULT_TENANT, reads, lambda _: [row("u3")])
    receipt = await sink.write(batch([row("x"), some, none, unmirrored], ("b",), ("b",), ("b",), NOTHING))
    assert primary.noted == ["x", "u1", "u2"]
    assert [one.key for one in receipt.updated[1]] == [("u1",), ("u2",)]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fault", "steps", "atomic", "kept"),
    [
        (WriteRejectedError("no"), 1, False, False),
        (StoreBusyError("later"), 1, False, False),
        (StoreFullError("full"), 2, True, False),
        (InvalidRecordError("an update refused"), 1, False, False),
        # Some of the steps may have been stored before the one that failed.
        (StoreFullError("full"), 2, False, True),
        (StoreUnavailableError("who knows"), 1, True, True),
        (asyncio.CancelledError(), 1, True, True),
    ],
)
async def test_intents_of_a_failed_write_stay_unless_it_certainly_wrote_nothing(
    fault: BaseException, steps: int, atomic: bool, kept: bool
) -> None:
    """An intent without a row does no harm; a row without its intent would be lost to the mirror."""
    journal = MemoryJournal()
    primary = Primary(journal, *([Capability.ATOMIC_BATCH] if atomic else []))
    primary.fault = fault
    sink = JournaledStore(primary, journal)
    rows = [row(str(at)) for at in range(steps)]
    with pytest.raises(type(fault)):
        await sink.write(batch(rows))
    assert len(primary.noted) == steps
    assert len(await keys(journal)) == (steps if kept else 0)


@pytest.mark.anyio
async def test_a_journal_that_fails_keeps_the_row_from_being_written(primary: Primary) -> None:
    """The row without its intent would be lost to the mirror, so there is no row."""

    class Full(MemoryJournal):
        async def note(self, notes: Any) -> None:  # noqa: ARG002 - as the protocol names it
            raise StoreFullError("the disk is full", backend="journal")

    sink = JournaledStore(primary, Full())
    with pytest.raises(GatewayError, match="journal: the disk is full"):
        await sink.write(batch([row("x")]))
    assert primary.batches == []

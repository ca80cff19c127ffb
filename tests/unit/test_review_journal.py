"""The local journal's file, when it is taken away, has grown, or is long."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from gateway.backend import Capability, KeyRef, Update, WriteBatch, WriteReceipt
from gateway.demo.ledger import Ledger
from gateway.demo.status import BotStatus
from gateway.errors import StoreUnavailableError
from gateway.intents import Intent, JournalFacts, Journaling, Stretch
from gateway.journal import file as module
from gateway.journal.file import JournalFile
from gateway.journal.local import LocalJournal
from gateway.journal.memory import MemoryJournal
from gateway.journal.notes import Note
from gateway.journal.sink import JournaledStore
from gateway.records.activity import EVENTS
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.row import Row
from gateway.records.stamp import DEFAULT_TENANT, row_of

OTHER = "11111111-1111-1111-1111-111111111111"


def notes(*numbers: int, owner: str = "o", target: str = "b", tenant: str = DEFAULT_TENANT) -> list[Note]:
    """Return intents; the version of each is its number."""
    return [(target, Intent(owner, one, 0, EVENTS, tenant, (f"k{one:060d}",), one, "")) for one in numbers]


@pytest.fixture
async def file(tmp_path: Path) -> AsyncIterator[JournalFile]:
    """Give a file, and close it."""
    found = JournalFile(tmp_path / "journal.db")
    yield found
    await found.close()


@pytest.mark.anyio
async def test_a_file_that_was_taken_away_takes_nothing_and_is_not_said_to_be_empty(
    file: JournalFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite would go on writing it; what it notes would be lost. Put back, it goes on."""
    monkeypatch.setattr(module, "_CHECK_SECONDS", 0.0)
    journal = LocalJournal(file, "a", BUILTIN_KINDS)
    await journal.note(notes(1))
    elsewhere = file.path.rename(file.path.with_name("elsewhere.db"))
    with pytest.raises(StoreUnavailableError, match="moved, deleted or replaced"):
        await journal.pending("b", DEFAULT_TENANT, 9)
    with pytest.raises(StoreUnavailableError, match="moved, deleted or replaced"):
        await journal.note(notes(2))
    elsewhere.rename(file.path)
    await journal.note(notes(3))
    assert [one.number for one in await journal.pending("b", DEFAULT_TENANT, 9)] == [1, 3]


@pytest.mark.anyio
async def test_what_an_outage_took_is_given_back_to_the_disk(
    file: JournalFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once next to nothing waits any more; what waits is still there."""
    monkeypatch.setattr(module, "_SHRINK_SECONDS", 0.0)
    monkeypatch.setattr(module, "_FREE_PAGES", 16)
    journal = LocalJournal(file, "a", BUILTIN_KINDS)
    await journal.note(notes(*range(5_000)))
    await journal.note(notes(5_001))
    large = size(file)
    await journal.acknowledge("b", DEFAULT_TENANT, [Stretch("o", 0, 5_000)])
    await journal.note(notes(5_002))  # comes after what the acknowledgement left behind was looked at
    assert size(file) < large / 4
    assert [one.number for one in await journal.pending("b", DEFAULT_TENANT, 9)] == [5_001, 5_002]


def size(file: JournalFile) -> int:
    """Return what the file and its log take."""
    return sum(one.stat().st_size for one in file.path.parent.glob("journal.db*") if one.suffix != ".db-shm")


@pytest.mark.anyio
async def test_facts_and_forgetting_know_every_mirror_tenant_and_owner(file: JournalFile) -> None:
    """They go through the journal by steps; none may be left out."""
    journal = LocalJournal(file, "a", BUILTIN_KINDS)
    await LocalJournal(file, "other", BUILTIN_KINDS).note(notes(1))
    for target in ("b", "c"):
        for tenant in (DEFAULT_TENANT, OTHER):
            await journal.note(notes(7, 8, owner="y", target=target, tenant=tenant))
            await journal.note(notes(3, owner="z", target=target, tenant=tenant))
    for tenant in (DEFAULT_TENANT, OTHER):
        assert await journal.facts(tenant, 100) == [JournalFacts("b", 3, 3), JournalFacts("c", 3, 3)]
        assert await journal.facts(tenant, 1) == [JournalFacts("b", 1, 3), JournalFacts("c", 1, 3)]
    await journal.forget(Stretch("y", 7, 7))
    for tenant in (DEFAULT_TENANT, OTHER):
        assert await journal.facts(tenant, 100) == [JournalFacts("b", 2, 3), JournalFacts("c", 2, 3)]
    (kept,) = await LocalJournal(file, "other", BUILTIN_KINDS).facts(DEFAULT_TENANT, 9)
    assert kept.depth == 1


class Undecided:
    """A store that runs an update twice before it stores it, as one may that somebody else was in the way of."""

    name = "a"
    capabilities = frozenset({Capability.DURABLE})

    async def write(self, batch: WriteBatch) -> WriteReceipt:
        """Store what the second run came to."""
        (step,) = batch.steps
        assert isinstance(step, Update)
        step.apply([None])
        return WriteReceipt({}, {0: tuple(step.apply([None]))})


@pytest.mark.anyio
async def test_an_update_that_is_run_again_leaves_the_intents_of_what_it_came_to() -> None:
    """What was noted at first stays, and says nothing about other rows."""
    journal, keys = MemoryJournal(), iter("xy")

    def apply(_: Sequence[Row | None]) -> Sequence[Row]:
        return [row_of(EVENTS, DEFAULT_TENANT, 7, [next(keys), *[None] * (len(EVENTS.fields) - 1)])]

    step = Update(DEFAULT_TENANT, (KeyRef(EVENTS, ("x",)),), apply)
    await JournaledStore(Undecided(), journal).write(WriteBatch([step], Journaling("o", 1, [("b",)])))
    found = await journal.pending("b", DEFAULT_TENANT, 9)
    assert [(one.number, one.part, one.key) for one in found] == [(1, 0, ("x",)), (1, 1, ("y",))]


def test_the_demo_counts_comparisons_of_every_outcome() -> None:
    """One that says nothing, since the store that leads gave two answers, is one of them."""
    ledger = Ledger()
    ledger.note_comparisons(BotStatus(counters={"shadow_unstable": 3, "shadow_match": 5}))
    assert (ledger.comparisons["unstable"], ledger.comparisons["match"]) == (3, 5)

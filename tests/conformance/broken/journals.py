"""The reference store with intents, and backends that get them wrong."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from gateway.backend import Capability, Group, OpenContext, WriteBatch, WriteReceipt
from gateway.conformance.kinds import ALL_KINDS
from gateway.hookspecs import hookimpl
from gateway.intents import Intent, JournalFacts, Journaling, Stretch
from gateway.records.codec import to_micros
from gateway.records.row import Row
from gateway.records.version import version_time
from gateway_memory.transaction import Transaction
from tests.conformance.broken.durable import FileStore
from tests.conformance.broken.specimen import Specimen, breaks, spec_of

Place = tuple[str, str, int, int]
"""Mirror, owner, number and part."""

EVERY: Final = {kind.name: kind for kind in ALL_KINDS}


class Journaled(Specimen):
    """Keeps intents with the rows, as the contract says."""

    capabilities = Specimen.capabilities | {Capability.JOURNAL}

    def __init__(self, context: OpenContext) -> None:
        self._known = {kind.name: kind for kind in context.kinds}
        self._intents: dict[Place, Intent] = {}
        self._batch = WriteBatch(())
        super().__init__(context)

    @hookimpl
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Apply a batch, and remember what it leaves behind."""
        self._batch = batch
        return await super().gateway_write(batch)

    def _commit(self, transaction: Transaction) -> None:
        super()._commit(transaction)
        self.keep(self.noted(transaction.updated))

    def noted(self, updated: Mapping[int, Sequence[Row]]) -> dict[Place, Intent]:
        """Return the intents of the batch."""
        journaling = self._batch.journaling
        return {} if journaling is None else dict(self.notes(journaling, updated))

    def notes(
        self, journaling: Journaling, updated: Mapping[int, Sequence[Row]]
    ) -> Iterator[tuple[Place, Intent]]:
        """Yield the intents of the batch with their places."""
        for index, step in enumerate(self._batch.steps):
            rows = (
                step.rows if isinstance(step, Group) else (step,) if isinstance(step, Row) else updated[index]
            )
            owner, number = journaling.owner, journaling.first + index
            for part, row in enumerate(rows):
                trace = journaling.traces.get(index, "")
                made = Intent(owner, number, part, row.kind, row.tenant, row.key, row.version, trace)
                for target in journaling.targets[index]:
                    yield (target, owner, number, part), made

    def keep(self, noted: Mapping[Place, Intent]) -> None:
        """Add intents."""
        self._intents.update(noted)

    def visible(self, target: str, tenant: str) -> Iterator[tuple[Place, Intent]]:
        """Yield the intents that somebody may see, in order."""
        for place, one in sorted(self._intents.items(), key=lambda item: item[0]):
            if place[0] == target and one.tenant == tenant and one.kind.name in self._known:
                yield place, one

    @hookimpl
    async def gateway_intents(
        self, target: str, tenant: str, limit: int, before: int | None, after: Stretch | None
    ) -> Sequence[Intent]:
        """Return intents."""
        found = [one for _, one in self.visible(target, tenant)]
        if after is not None:
            found = [one for one in found if (one.owner, one.number) > (after.owner, after.last)]
        if before is not None:
            young = {(one.owner, one.number) for one in found if one.version >= before}
            found = [one for one in found if (one.owner, one.number) not in young]
        page = found[:limit]
        return page + [one for one in found[limit:] if page[-1][:2] == one[:2]]

    @hookimpl
    async def gateway_acknowledge(self, target: str, tenant: str, done: Sequence[Stretch]) -> int:
        """Remove intents."""
        self._check_writable()
        gone = [place for place, one in self.visible(target, tenant) if self.covered(one, done)]
        self.drop(gone)
        return len(gone)

    def covered(self, one: Intent, done: Sequence[Stretch]) -> bool:
        """Tell whether an intent lies in stretches."""
        return any(one.owner == each.owner and each.first <= one.number <= each.last for each in done)

    def drop(self, places: Iterable[Place]) -> None:
        """Take intents away."""
        for place in places:
            del self._intents[place]

    @hookimpl
    async def gateway_journal(self, tenant: str, limit: int) -> Sequence[JournalFacts]:
        """Count what is left."""
        versions: dict[str, list[int]] = {}
        for place, one in self._intents.items():
            if one.tenant == tenant:
                versions.setdefault(place[0], []).append(one.version)
        return [
            JournalFacts(target, min(len(found), limit), min(found)) for target, found in versions.items()
        ]


JOURNALED = spec_of(Journaled)
"""The store with intents, which must pass."""


class JournaledFile(Journaled, FileStore):
    """Keeps rows and intents in one line of a file."""

    capabilities = FileStore.capabilities | {Capability.JOURNAL}

    def __init__(self, context: OpenContext) -> None:
        self._noted: Mapping[Place, Intent] = {}
        super().__init__(context)

    def _commit(self, transaction: Transaction) -> None:
        self._noted = self.noted(transaction.updated)
        super()._commit(transaction)

    def append(self, rows: list[Row]) -> None:
        """Write a line with rows and their intents."""
        self.sync(self.packed(rows, self._noted))

    @staticmethod
    def packed(rows: Iterable[Row], noted: Mapping[Place, Intent]) -> list[Sequence[Any]]:
        """Return rows and intents as a line holds them."""
        return [
            *(
                ("noted", *place, one.kind.name, one.tenant, one.key, one.version, one.trace)
                for place, one in noted.items()
            ),
            *(("row", row.kind.name, *row[1:]) for row in rows),
        ]

    def sync(self, entries: Iterable[Sequence[Any]]) -> None:
        """Write a line that survives the process."""
        self._file.write(json.dumps(list(entries)).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def parsed(self, rows: Iterable[list[Any]]) -> Iterable[Row]:
        """Take the intents out of a line, and return its rows."""
        found = []
        for tag, *entry in rows:
            if tag == "row":
                if entry[0] in self._known:
                    found.append(entry)
                continue
            target, owner, number, part, *rest = entry
            if tag == "gone":
                self._intents.pop((target, owner, number, part), None)
            else:
                kind, tenant, key, version, trace = rest
                made = Intent(owner, number, part, EVERY[kind], tenant, tuple(key), version, trace)
                self._intents[target, owner, number, part] = made
        return super().parsed(found)

    def drop(self, places: Iterable[Place]) -> None:
        """Write a line about what is gone."""
        gone = list(places)
        self.sync(("gone", *place) for place in gone)
        super().drop(gone)


JOURNALED_FILE = spec_of(JournaledFile)
"""The store in a file with intents, which must pass."""


@breaks("test_intents_are_for_the_mirrors_asked_for")
class ForEveryMirror(Journaled):
    """Notes each row for every mirror that it has heard of."""

    def noted(self, updated: Mapping[int, Sequence[Row]]) -> dict[Place, Intent]:
        """Spread the intents."""
        found = super().noted(updated)
        mirrors = {place[0] for place in found}
        return {(target, *place[1:]): one for place, one in found.items() for target in mirrors}


@breaks("test_an_intent_names_its_row")
class KeysAsTexts(Journaled):
    """Forgets of what type the parts of a key were."""

    def noted(self, updated: Mapping[int, Sequence[Row]]) -> dict[Place, Intent]:
        """Write keys as texts."""
        found = super().noted(updated)
        return {place: one._replace(key=tuple(map(str, one.key))) for place, one in found.items()}


@breaks("test_many_rows_leave_many_intents")
class NumbersByKey(Journaled):
    """Sorts the rows of a batch, and numbers them then."""

    def noted(self, updated: Mapping[int, Sequence[Row]]) -> dict[Place, Intent]:
        """Give the numbers in the order of the keys."""
        found = super().noted(updated)
        ordered = iter(sorted(found.values(), key=lambda one: (one.kind.name, str(one.key))))
        return {place: next(ordered)._replace(number=place[2], part=place[3]) for place in sorted(found)}


@breaks("test_an_intent_has_the_trace_of_its_write")
class OneTraceForAll(Journaled):
    """Takes the trace of one step for that of the batch."""

    def noted(self, updated: Mapping[int, Sequence[Row]]) -> dict[Place, Intent]:
        """Spread the trace."""
        found = super().noted(updated)
        trace = max((one.trace for one in found.values()), default="")
        return {place: one._replace(trace=trace) for place, one in found.items()}


@breaks("test_intents_of_a_group_are_its_parts", "test_a_page_ends_with_a_whole_step")
class OneIntentAStep(Journaled):
    """Keeps one intent for each step, whatever it holds."""

    def noted(self, updated: Mapping[int, Sequence[Row]]) -> dict[Place, Intent]:
        """Forget the further parts."""
        return {place: one for place, one in super().noted(updated).items() if place[3] == 0}


@breaks("test_intents_of_an_update_are_of_what_it_wrote")
class RowsOnly(Journaled):
    """Knows what to note before it computes."""

    def noted(self, updated: Mapping[int, Sequence[Row]]) -> dict[Place, Intent]:
        """Note nothing for updates."""
        return super().noted(dict.fromkeys(updated, ()))


@breaks("test_a_refused_batch_leaves_no_intents")
class NotesFirst(Journaled):
    """Notes what it is going to do, and forgets to take it back."""

    @hookimpl
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Note the rows of a batch before anything else."""
        self._batch = batch
        rows = [step for step in batch.steps if isinstance(step, Row)]
        if rows and batch.journaling is not None:
            self._batch = WriteBatch(rows, batch.journaling)
            self.keep(self.noted({}))
        return await super().gateway_write(batch)


@breaks("test_a_repeated_batch_leaves_its_intents_once")
class NotesAgain(Journaled):
    """Gives a number that is taken to the next place that is free."""

    def keep(self, noted: Mapping[Place, Intent]) -> None:
        """Never replace an intent."""
        for (target, owner, number, part), one in noted.items():
            free = part
            while (target, owner, number, free) in self._intents:
                free += 1
            self._intents[target, owner, number, free] = one._replace(part=free)


@breaks("test_intents_come_in_order_by_pages")
class InOrderOfWriting(Journaled):
    """Returns intents as they came."""

    def visible(self, target: str, tenant: str) -> Iterator[tuple[Place, Intent]]:
        """Do not sort."""
        for place, one in self._intents.items():
            if place[0] == target and one.tenant == tenant and one.kind.name in self._known:
                yield place, one


@breaks("test_a_page_ends_with_a_whole_step")
class CutsSteps(Journaled):
    """Ends a page where the limit is."""

    @hookimpl
    async def gateway_intents(
        self, target: str, tenant: str, limit: int, before: int | None, after: Stretch | None
    ) -> Sequence[Intent]:
        """Cut the page off."""
        return (await super().gateway_intents(target, tenant, limit, before, after))[:limit]


@breaks("test_younger_intents_are_left_out")
class YoungRowsOut(Journaled):
    """Leaves rows out that are young, and returns the rest of their steps."""

    @hookimpl
    async def gateway_intents(
        self, target: str, tenant: str, limit: int, before: int | None, after: Stretch | None
    ) -> Sequence[Intent]:
        """Look at each row by itself."""
        found = await super().gateway_intents(target, tenant, 10**9, None, after)
        return [one for one in found if before is None or one.version < before][:limit]


@breaks("test_acknowledged_intents_are_gone")
class UpToTheLast(Journaled):
    """Takes the last acknowledged number for a mark below which all is done."""

    def covered(self, one: Intent, done: Sequence[Stretch]) -> bool:
        """Look at the end of stretches alone."""
        return any(one.owner == each.owner and one.number <= each.last for each in done)


@breaks("test_intents_of_tenants_are_apart")
class OneJournalForAll(Journaled):
    """Does not ask whose intents they are."""

    def visible(self, target: str, tenant: str) -> Iterator[tuple[Place, Intent]]:
        """Show everybody's."""
        for place, one in sorted(self._intents.items(), key=lambda item: item[0]):
            if place[0] == target:
                yield place, one._replace(tenant=tenant)


@breaks("test_the_journal_is_counted")
class CountsThemAll(Journaled):
    """Counts without an end."""

    @hookimpl
    async def gateway_journal(self, tenant: str, limit: int) -> Sequence[JournalFacts]:  # noqa: ARG002 - that is the fault
        """Do not look at the limit."""
        return await super().gateway_journal(tenant, 10**9)


@breaks("test_the_journal_is_counted")
class WaitsSinceTheRows(Journaled):
    """Takes the time of a version for the time at which its intent was written."""

    @hookimpl
    async def gateway_journal(self, tenant: str, limit: int) -> Sequence[JournalFacts]:
        """Date what is left by its versions."""
        found = await super().gateway_journal(tenant, limit)
        return [replace(one, since=to_micros(version_time(one.oldest or 0))) for one in found]


@breaks("test_writers_at_once_lose_no_intents")
class WritesBackAll(Journaled):
    """Reads all intents, and writes them back without those that are done."""

    @hookimpl
    async def gateway_acknowledge(self, target: str, tenant: str, done: Sequence[Stretch]) -> int:
        """Let others write in between."""
        held = dict(self._intents)
        removed = await super().gateway_acknowledge(target, tenant, done)
        left = {place: one for place, one in held.items() if place in self._intents}
        await asyncio.sleep(0)
        self._intents = left
        return removed


@breaks("test_intents_survive_reopening")
class RowsInTheFile(JournaledFile):
    """Keeps rows in the file, and intents in memory."""

    def append(self, rows: list[Row]) -> None:
        """Write the rows alone."""
        self.sync(self.packed(rows, {}))


@breaks("test_intents_of_unknown_kinds_stay")
class RemovesWhatItDoesNotKnow(JournaledFile):
    """Removes all intents of a stretch, those that it did not return too."""

    @hookimpl
    async def gateway_acknowledge(self, target: str, tenant: str, done: Sequence[Stretch]) -> int:  # noqa: ARG002 - as above
        """Look at the numbers alone."""
        self._check_writable()
        gone = [
            place for place, one in self._intents.items() if place[0] == target and self.covered(one, done)
        ]
        self.drop(gone)
        return len(gone)


@breaks("test_kill_leaves_intents_and_rows_together")
class TwoLines(JournaledFile):
    """Writes intents as a line of their own, which takes its time."""

    def append(self, rows: list[Row]) -> None:
        """Leave a gap in which a kill finds it."""
        self.sync(self.packed(rows, {}))
        time.sleep(0.02)
        self.sync(self.packed((), self._noted))


@breaks("test_read_only_refuses_to_acknowledge")
class RemovesWhileLooking(Journaled):
    """Does not ask whether it was opened to be read only."""

    @hookimpl
    async def gateway_acknowledge(self, *_: object, **__: object) -> int:
        """Remove nothing, and call it done."""
        return 0

"""What lanes write to, where the primary cannot keep intents itself: intents first, then the rows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final, Protocol

from gateway.backend import Capability, Step, Update, WriteBatch, WriteReceipt
from gateway.errors import (
    GatewayError,
    StoreBusyError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    WriteRejectedError,
)
from gateway.intents import Journaling, Stretch
from gateway.journal.notes import Note, notes_of, notes_of_rows, stretch_of
from gateway.lanes.outcomes import Sink
from gateway.records.row import Row

__all__ = ["JournaledStore", "Notebook"]

_log: Final = logging.getLogger(__name__)
_REFUSED: Final = (WriteRejectedError, StoreBusyError, StoreFullError, StoreReadOnlyError)
"""What a store says when it has written nothing."""


class Notebook(Protocol):
    """What keeps intents beside a primary: a `LocalJournal` or a `MemoryJournal`."""

    async def note(self, notes: Sequence[Note]) -> None:
        """Keep intents; see `LocalJournal.note`."""
        ...

    def note_now(self, notes: Sequence[Note]) -> None:
        """Keep intents, in the caller's thread."""
        ...

    async def forget(self, stretch: Stretch) -> None:
        """Remove the intents of writes that did not happen."""
        ...


class JournaledStore:
    """A store whose intents are kept beside it. What lanes write to, one batch at a time.

    Args:
        sink: The store, or what stands in front of it.
        journal: Keeps the intents.
    """

    def __init__(self, sink: Sink, journal: Notebook) -> None:
        self._sink = sink
        self._journal = journal

    def __repr__(self) -> str:
        return f"<JournaledStore {self._sink!r}>"

    @property
    def name(self) -> str:
        """Instance name of the store."""
        return self._sink.name

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the store's backend declared."""
        return self._sink.capabilities

    async def write(self, batch: WriteBatch) -> WriteReceipt:
        """Store a batch; see `Backend.gateway_write`. Once it is stored, so are its intents.

        Raises:
            StoreError: The journal, or the store, did not take it.
        """
        journaling = batch.journaling
        if journaling is None or not any(journaling.targets):
            return await self._sink.write(batch if journaling is None else WriteBatch(batch.steps))
        notes = notes_of(batch.steps, journaling)
        if notes:
            await self._journal.note(notes)
        try:
            return await self._sink.write(WriteBatch(self._noting(batch.steps, journaling)))
        except GatewayError as error:
            await self._failed(batch, stretch_of(journaling), error)
            raise

    def _noting(self, steps: Sequence[Step], journaling: Journaling) -> Sequence[Step]:
        """Return the steps with updates that write their intents before their rows."""
        at = [at for at, targets in enumerate(journaling.targets) if targets]
        updates = {one for one in at if isinstance(steps[one], Update)}
        if not updates:
            return steps
        return [
            Update(step.tenant, step.reads, _Noting(step, self._journal, journaling, index))
            if index in updates and isinstance(step, Update)
            else step
            for index, step in enumerate(steps)
        ]

    async def _failed(self, batch: WriteBatch, numbers: Stretch, error: GatewayError) -> None:
        """Remove the intents again, if it is certain that nothing of the batch was or will be stored.

        No number is used for a second attempt, so what an earlier one may have stored keeps its intents.
        """
        whole = len(batch.steps) == 1 or Capability.ATOMIC_BATCH in self.capabilities
        if not whole or (isinstance(error, StoreError) and not isinstance(error, _REFUSED)):
            return
        try:
            await self._journal.forget(numbers)
        except GatewayError as failure:  # the relay will find that the rows never came
            _log.debug("intents of a write that failed stay in the journal: %s", failure)


class _Noting:
    """The `apply` of an update, writing the intents of what it came to before anybody stores that."""

    __slots__ = ("_at", "_journal", "_journaling", "_noted", "_step")

    def __init__(self, step: Update, journal: Notebook, journaling: Journaling, at: int) -> None:
        self._step = step
        self._journal = journal
        self._journaling = journaling
        self._at = at
        self._noted = 0

    def __call__(self, current: Sequence[Row | None]) -> Sequence[Row]:
        rows = self._step.apply(current)
        # A store may try again, and it may come to other rows: what is noted already is left as it is.
        notes = list(notes_of_rows(rows, self._journaling, self._at, self._noted))
        self._noted += len(rows)
        if notes:
            self._journal.note_now(notes)
        return rows

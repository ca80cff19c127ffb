"""Where intents and the states of mirrors are kept: in the primary where it can, in a file beside it where not."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, cast

from gateway.backend import Capability, KeyRef, Update, WriteBatch
from gateway.dispatch import Store
from gateway.intents import Journal
from gateway.journal.file import JournalFile
from gateway.journal.local import LocalJournal
from gateway.journal.memory import MemoryJournal
from gateway.records.codec import codec_of
from gateway.records.kind import KindSpec
from gateway.records.mirroring import MIRROR_STATES, MirrorState
from gateway.records.row import Row
from gateway.records.stamp import row_of
from gateway.records.version import HybridClock

__all__ = ["Change", "Home", "LocalStates", "MemoryStates", "States", "StoredStates", "home_of"]

Change = Callable[[MirrorState], MirrorState | None]
"""From the state as it is to the state as it is to be; None leaves it. May be called more than once."""


class States(Protocol):
    """The states of one primary's mirrors."""

    async def read(self, target: str) -> MirrorState:
        """Return the state of a mirror; a new one if nobody ever wrote it.

        Raises:
            StoreError: It cannot be read.
        """
        ...

    async def change(self, target: str, change: Change) -> MirrorState | None:
        """Change a state with nobody in between; return what it became, None if it was left.

        Raises:
            StoreError: Whether it was changed is unknown.
        """
        ...


class StoredStates:
    """States in the primary itself.

    Args:
        store: The primary.
        tenant: Whose mirrors.
        clock: Where versions come from.
    """

    def __init__(self, store: Store, tenant: str, clock: HybridClock) -> None:
        self._store = store
        self._tenant = tenant
        self._clock = clock

    def __repr__(self) -> str:
        return f"<StoredStates {self._store.name}>"

    async def read(self, target: str) -> MirrorState:
        """Return the state of a mirror; see `States.read`."""
        (row,) = await self._store.get(MIRROR_STATES, self._tenant, ((target,),))
        return _state_of(row, target)

    async def change(self, target: str, change: Change) -> MirrorState | None:
        """Change a state; see `States.change`."""
        step = _Changing(target, self._tenant, self._clock, change)
        update = Update(self._tenant, (KeyRef(MIRROR_STATES, (target,)),), step)
        await self._store.write(WriteBatch((update,)))
        return step.became


class _Changing:
    """The `apply` of a change, remembering what it came to."""

    def __init__(self, target: str, tenant: str, clock: HybridClock, change: Change) -> None:
        self._target = target
        self._tenant = tenant
        self._clock = clock
        self._change = change
        self.became: MirrorState | None = None

    def __call__(self, current: Sequence[Row | None]) -> Sequence[Row]:
        (row,) = current
        self.became = self._change(_state_of(row, self._target))
        if self.became is None:
            return ()
        if row is not None:
            self._clock.observe(row.version)
        values: list[Any] = codec_of(MIRROR_STATES).encode(self.became)
        return (row_of(MIRROR_STATES, self._tenant, self._clock.next(), values),)


def _state_of(row: Row | None, target: str) -> MirrorState:
    return MirrorState(target=target) if row is None or row.deleted else cast("MirrorState", row.record())


class LocalStates:
    """States in the local journal's file.

    Args:
        file: The file.
        source: Instance name of the primary.
        tenant: Whose mirrors.
    """

    def __init__(self, file: JournalFile, source: str, tenant: str) -> None:
        self._file = file
        self._place = (source, tenant)

    def __repr__(self) -> str:
        return f"<LocalStates {self._place[0]} {self._file.path}>"

    async def read(self, target: str) -> MirrorState:
        """Return the state of a mirror; see `States.read`."""
        return await self._file.read(
            lambda connection: self._look(connection, target), MirrorState(target=target)
        )

    async def change(self, target: str, change: Change) -> MirrorState | None:
        """Change a state; see `States.change`."""

        def work(connection: sqlite3.Connection) -> MirrorState | None:
            became = change(self._look(connection, target))
            if became is not None:
                connection.execute(
                    "INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?)",
                    (*self._place, target, became.model_dump_json()),
                )
            return became

        return await self._file.write(work)

    def _look(self, connection: sqlite3.Connection, target: str) -> MirrorState:
        found = connection.execute(
            "SELECT body FROM states WHERE source = ? AND tenant = ? AND target = ?", (*self._place, target)
        ).fetchone()
        return MirrorState(target=target) if found is None else MirrorState.model_validate_json(found[0])


class MemoryStates:
    """States of a primary that keeps nothing, gone with the process."""

    def __init__(self) -> None:
        self._states: dict[str, MirrorState] = {}

    async def read(self, target: str) -> MirrorState:
        """Return the state of a mirror; see `States.read`."""
        return self._states.get(target, MirrorState(target=target))

    async def change(self, target: str, change: Change) -> MirrorState | None:
        """Change a state; see `States.change`."""
        became = change(await self.read(target))
        if became is not None:
            self._states[target] = became
        return became


class Home:
    """What belongs to one primary: its journal, and the states of its mirrors.

    Attributes:
        journal: Where its intents are.
        states: Where the states of its mirrors are.
        notebook: The journal, if intents are written beside the primary and not with it; None otherwise.
    """

    __slots__ = ("journal", "notebook", "states")

    def __init__(
        self, journal: Journal, states: States, notebook: LocalJournal | MemoryJournal | None
    ) -> None:
        self.journal = journal
        self.states = states
        self.notebook = notebook

    def __repr__(self) -> str:
        return f"<Home {self.journal!r}>"

    @property
    def transactional(self) -> bool:
        """Whether an intent is there exactly if its row is."""
        return self.notebook is None


def home_of(
    store: Store, file: JournalFile, kinds: Iterable[KindSpec], tenant: str, clock: HybridClock
) -> Home:
    """Return where the intents of a primary are, by what its backend can do.

    Args:
        store: The primary.
        file: For a durable primary that cannot keep intents.
        kinds: The registered kinds.
        tenant: Whose rows.
        clock: Where versions come from.
    """
    if Capability.JOURNAL in store.capabilities:
        return Home(store, StoredStates(store, tenant, clock), None)
    if Capability.DURABLE in store.capabilities:
        journal = LocalJournal(file, store.name, kinds)
        return Home(journal, LocalStates(file, store.name, tenant), journal)
    memory = MemoryJournal()
    return Home(memory, MemoryStates(), memory)

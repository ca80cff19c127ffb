"""Reading what was written: waiting until what is acknowledged is applied.

QuestDB acknowledges a transaction once it is in the table's log, and applies it later. `wal_tables()` tells, of each
table, up to which transaction it is acknowledged and up to which it is applied. A read looks there first: what was
acknowledged by whatever process before the look is what it waits for, of its own table alone, and not for what comes
after.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from gateway.errors import StoreTimeoutError
from gateway_questdb.connections import Readers
from gateway_questdb.errors import suspended
from gateway_questdb.statements import Statement

__all__ = ["TableState", "Waiting"]

Answer = TypeVar("Answer")

_FIRST_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.05
_QUERY: Final = (
    "SELECT name, suspended, writerTxn, sequencerTxn, errorTag, errorMessage FROM wal_tables() WHERE {tests}"
)


@dataclass(frozen=True, slots=True)
class TableState:
    """How far a table is.

    Attributes:
        suspended: Whether it has stopped applying.
        applied: The last transaction that can be read.
        acknowledged: The last transaction that was acknowledged.
        reason: Why it is suspended, as the server says; may be empty.
    """

    suspended: bool
    applied: int
    acknowledged: int
    reason: str = ""

    @property
    def behind(self) -> int:
        """How many transactions are acknowledged and cannot be read yet."""
        return max(0, self.acknowledged - self.applied)


class Waiting:
    """Waits for tables.

    Args:
        readers: To look with.
        seconds: How long a read waits at most.
        instance: Instance name, for errors.
    """

    def __init__(self, readers: Readers, seconds: float, instance: str) -> None:
        self._readers = readers
        self._seconds = seconds
        self._instance = instance
        self._next: asyncio.Task[dict[str, TableState]] | None = None
        self._wanted: set[str] = set()
        self._free = asyncio.Lock()
        # How far each table was applied at the last look, and whether it was no further than at the one before.
        self._known: dict[str, tuple[int, bool]] = {}

    async def look(self, tables: Sequence[str]) -> dict[str, TableState]:
        """Return how far tables are, by a query that begins after this call; tables that are not there are left out.

        Calls that come while a query is under way share the next one.

        Raises:
            StoreError: The server could not answer.
        """
        self._wanted.update(tables)
        if self._next is None:
            self._next = asyncio.ensure_future(self._query_next())
            # Those who asked may all have given up.
            self._next.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._next)

    async def _query_next(self) -> dict[str, TableState]:
        async with self._free:
            # From here on, who comes joins the query after this one.
            names, self._wanted, self._next = sorted(self._wanted), set(), None
            # Not IN, for which one parameter alone would have to be an array.
            tests = " OR ".join(f"name = ${number}" for number in range(1, len(names) + 1))
            rows = await self._readers.fetch(Statement(_QUERY.format(tests=tests), names))
        return {
            name: TableState(stopped, applied, known, " ".join(filter(None, (tag, text))))
            for name, stopped, applied, known, tag, text in rows
        }

    async def after(self, table: str, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """Return an answer in which everything can be seen that was acknowledged before this call.

        Where the last two looks found a table unchanged and applied, the question is asked at the same time as the
        next look. If that finds it unchanged as well, all that was acknowledged was applied before the question was
        asked. Otherwise it is asked once more, after waiting.

        Args:
            table: The table that is read.
            ask: Asks; may be called twice.

        Raises:
            StoreError: As for `applied`, or raised by `ask`.
        """
        known, still = self._known.get(table, (-1, False))
        if still:
            looking = asyncio.ensure_future(self.look([table]))
            try:
                answer = await ask()
            finally:
                states = await looking
            state = states.get(table)
            if state is not None and not state.suspended and state.applied == state.acknowledged == known:
                return answer
            known = -1
        state = await self._applied(table)
        if state is not None:
            unchanged = state.applied == state.acknowledged == known
            self._known[table] = (state.applied, unchanged)
        return await ask()

    async def _applied(self, table: str) -> TableState | None:
        """Wait as `applied` does, and return how far the table was at the first look; None if it is not there."""
        states = await self.look([table])
        await self._until(states)
        return states.get(table)

    async def applied(self, tables: Sequence[str]) -> None:
        """Return once everything that was acknowledged before this call can be read.

        Raises:
            StoreTimeoutError: It could not within the time that settings allow.
            StoreError: A table is suspended, or the server could not answer.
        """
        await self._until(await self.look(tables))

    async def _until(self, states: dict[str, TableState]) -> None:
        """Return once tables are as far as these states say that they are acknowledged."""
        missing = self._missing(states, {name: state.acknowledged for name, state in states.items()})
        if not missing:
            return
        deadline, pause = time.monotonic() + self._seconds, _FIRST_PAUSE
        while missing:
            if time.monotonic() > deadline:
                raise self._late(missing, states)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
            states = await self.look(sorted(missing))
            missing = self._missing(states, missing)

    def _missing(self, states: dict[str, TableState], targets: dict[str, int]) -> dict[str, int]:
        """Return the tables that have not come as far as they have to, each with its target."""
        missing = {}
        for name, target in targets.items():
            state = states.get(name)
            if state is None or state.applied >= target:
                continue
            if state.suspended:
                raise suspended(name, self._instance, state.reason)
            missing[name] = target
        return missing

    def _late(self, missing: dict[str, int], states: dict[str, TableState]) -> StoreTimeoutError:
        parts = [
            f"{name!r} is {target - states[name].applied} transactions behind"
            for name, target in missing.items()
            if name in states
        ]
        return StoreTimeoutError(
            f"what was acknowledged could not be read within {self._seconds:g} s: {'; '.join(parts)}. The server has "
            "more to apply than it can; give it time, or raise STORAGE_QUESTDB_WAIT_SECONDS",
            backend=self._instance,
        )

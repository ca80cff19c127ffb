"""Finishing the groups that a crash left behind, each by itself: one that cannot be finished holds up no other.

Such a one stays where it is written down, for another process or a later look. That it is there is no reason not to
open a store: the log, the store's health and `gateway doctor` tell of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from gateway.errors import GatewayError
from gateway.records.row import Row
from gateway_questdb.groups import PAGE, Begun, Groups
from gateway_questdb.tables import Tables
from gateway_questdb.waiting import Waiting

__all__ = ["AFTERWARDS", "Recovery"]

AFTERWARDS: Final = 10.0
"""Seconds after which a group that is begun and not done counts as left behind by a crash."""
_ON_THE_WAY: Final = 3 * 3_600_000_000
"""Microseconds before that moment in which one may have come up since: a request takes two hours at most with all its
tries, and clocks of machines differ."""
_IN_VAIN: Final = 3
"""Groups in a row, whose failures may pass, after which the look ends: then it is not the groups."""
_NOTED_EVERY: Final = 600_000_000
"""Microseconds between two notes of how far nothing is left."""
_TOLD: Final = 1_000
"""Groups whose failure is remembered, to be told once."""

_log = logging.getLogger(__name__)


class Recovery:
    """Looks for groups that are begun and not done.

    Args:
        groups: Where they are written down.
        tables: What kinds there are.
        waiting: To see what is written down.
        store: Stores the rows of one group.

    Attributes:
        left: Groups that the last look could not finish.
    """

    def __init__(
        self,
        groups: Groups,
        tables: Tables,
        waiting: Waiting,
        store: Callable[[Sequence[Row]], Awaitable[None]],
    ) -> None:
        self._groups = groups
        self._tables = tables
        self._waiting = waiting
        self._store = store
        self._clear = 0
        self._vain = 0
        self._told: set[Begun] = set()
        self.left = 0

    def __repr__(self) -> str:
        return f"<Recovery {self._groups.table} left={self.left}>"

    async def look(self, age: float = AFTERWARDS) -> int:
        """Finish the groups that can be finished, and return how many those were.

        Args:
            age: Seconds after which a group counts as left behind.

        Raises:
            StoreError: The server could not answer; the next look tries again.
        """
        until = time.time_ns() // 1000 - int(age * 1e6)
        await self._waiting.applied([self._groups.table])
        noted = await self._groups.cleared()
        last: Begun = (max(0, max(self._clear, noted) - _ON_THE_WAY), "")
        clear, self._vain = until, 0
        count = left = 0
        more = True
        while more:
            page = await self._groups.pending(last, until)
            failed = [begun for begun in page if not await self._finished(begun)]
            if failed:
                clear = min(clear, failed[0][0] - 1)
            count, left = count + len(page) - len(failed), left + len(failed)
            more = len(page) == PAGE
            last = page[-1] if page else last
        self.left, self._clear = left, clear
        if age and clear - noted > _NOTED_EVERY:
            await self._groups.clear(clear)
        return count

    async def _finished(self, begun: Begun) -> bool:
        """Store the rows of one group, and return whether that could be done.

        Raises:
            StoreError: Nothing can be done now, with any group.
        """
        try:
            rows = await self._groups.rows(begun, self._tables.kinds)
            await self._store(rows)
            await self._groups.done([begun])
        except GatewayError as error:
            self._vain = self._vain + 1 if error.transient else 0
            if self._vain == _IN_VAIN:
                self.left = max(self.left, _IN_VAIN)
                raise
            if begun not in self._told and len(self._told) < _TOLD:
                self._told.add(begun)
                _log.warning("the group %s that a crash left unfinished stays so: %s", begun[1], error)
            return False
        self._vain = 0
        return True

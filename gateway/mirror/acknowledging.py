"""Acknowledging in bulk: what a mirror has is gathered, and taken out of the journal in stretches."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from gateway.errors import GatewayError
from gateway.intents import Stretch
from gateway.mirror.contract import Pair

__all__ = ["Acknowledger", "Span", "joined"]

_log: Final = logging.getLogger(__name__)
_SPANS: Final = 10_000
"""Spans that are remembered while the journal cannot be reached. Those beyond are replayed, which does no harm."""

Span = tuple[int, int]
"""Numbers that follow one another: the first and the last."""


def joined(spans: Iterable[Span]) -> list[Span]:
    """Return the fewest spans that hold exactly the same numbers, in order."""
    found: list[Span] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return found


class Acknowledger:
    """Takes note of numbers that are done, and tells the journal when they are many or have waited long enough.

    Args:
        pair: Whose journal and mirror.
        owner: Whose numbers.
        many: How many are told at once.
        seconds: After how long they are told, however few.
    """

    def __init__(self, pair: Pair, owner: str, many: int, seconds: float) -> None:
        self._pair = pair
        self._owner = owner
        self._many = many
        self._seconds = seconds
        self._done: list[Span] = []
        self._telling: list[Span] = []
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Acknowledger {self._pair.target} done={self._count}>"

    def held(self) -> list[Span]:
        """Return the numbers that are done and that the journal may still have."""
        return [*self._telling, *self._done]

    def add(self, first: int, last: int) -> None:
        """Take note of numbers that are done. Never waits."""
        if self._done and self._done[-1][1] == first - 1:
            self._done[-1] = self._done[-1][0], last
        else:
            self._done.append((first, last))
        self._count += last - first + 1
        if self._count >= self._many:
            self._start()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._start)

    def _start(self) -> None:
        self._disarm()
        if self._task is None and not self._closed:
            self._task = asyncio.get_running_loop().create_task(self._tell_quietly(), name="acknowledge")
            self._task.add_done_callback(self._rest)

    def _rest(self, _: asyncio.Task[None]) -> None:
        self._task = None
        if self._done and self._timer is None and not self._closed:
            # Not at once, however many they are: the journal may just have failed.
            pause = min(self._seconds, 0.05) if self._count >= self._many else self._seconds
            self._timer = asyncio.get_running_loop().call_later(pause, self._start)

    async def _tell_quietly(self) -> None:
        try:
            await self.now()
        except GatewayError as error:
            _log.debug("intents could not be acknowledged, and are again later: %s", error)

    async def now(self) -> None:
        """Tell the journal of everything that is done.

        Raises:
            StoreError: The journal could not be told; it is told again later.
        """
        async with self._turn:
            if not self._done:
                return
            self._telling, self._done, self._count = joined(self._done), [], 0
            told = False
            try:
                stretches = [Stretch(self._owner, first, last) for first, last in self._telling]
                await self._pair.journal.acknowledge(self._pair.target, self._pair.tenant, stretches)
                told = True
            finally:
                if not told:
                    self._done = joined((*self._telling, *self._done))[-_SPANS:]
                    self._count = sum(last - first + 1 for first, last in self._done)
                self._telling = []

    async def aclose(self, deadline: float) -> None:
        """Tell the journal what is left, within so many seconds."""
        self._closed = True
        self._disarm()
        try:
            async with asyncio.timeout(deadline):
                await self._tell_quietly()
        except TimeoutError:
            _log.debug("intents of rows that %s has stay in the journal", self._pair.target)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

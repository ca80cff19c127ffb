"""Turns: who may put how many rows into a queue, and when everything that was put there has gone through."""

from __future__ import annotations

import asyncio
from collections import deque

from gateway.errors import GatewayClosedError, QueueFullError
from gateway.lanes.outcomes import FullPolicy, LaneOptions

__all__ = ["Turns"]


class Turns:
    """The bound of one queue, and its barriers.

    Each write that enters belongs to a generation; a barrier begins a new one and waits for the older to run empty.

    Args:
        name: Whose queue, for errors.
        options: Its bounds.
    """

    def __init__(self, name: str, options: LaneOptions) -> None:
        self._name = name
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._generation = 0
        self._active: dict[int, int] = {0: 0}
        self._barriers: list[tuple[int, asyncio.Future[None]]] = []
        self.rows = 0
        self.closing = False

    def __repr__(self) -> str:
        return f"<Turns {self._name} rows={self.rows} waiting={len(self._waiting)}>"

    def begin(self) -> int:
        """Count a write as under way and return its generation, which it leaves with `settle`."""
        generation = self._generation
        self._active[generation] += 1
        return generation

    def crowded(self, rows: int) -> bool:
        """Tell whether so many rows have to wait for their turn. They do not in an empty queue, however many."""
        return bool(self.rows) and (bool(self._waiting) or self.rows + rows > self._options.rows)

    async def room(self, rows: int, generation: int) -> None:
        """Wait, in order, until there is room for more rows; or refuse, by policy. Who is refused is settled.

        Raises:
            QueueFullError: The policy is to refuse.
            GatewayClosedError: The queue was closed meanwhile.
        """
        if self._options.policy is FullPolicy.REFUSE:
            self.settle(0, generation)
            raise QueueFullError(
                f"{self._name}: {self.rows} rows wait to be written, the bound is {self._options.rows}; "
                "the write was refused. Slow down, raise STORAGE_LANE_ROWS, or set STORAGE_LANE_POLICY=block"
            )
        enqueue = self._waiting.append
        while True:
            turn = self._loop.create_future()
            enqueue(turn)
            enqueue = self._waiting.appendleft  # who was woken too early keeps the place at the head
            try:
                await turn
            except BaseException:
                if not turn.cancelled():
                    self._next_waiting()  # the turn was given to a caller that left; pass it on
                self.settle(0, generation)
                raise
            if self.closing:
                self.settle(0, generation)
                raise GatewayClosedError("the gateway is closed; nothing was written")
            if not self.rows or self.rows + rows <= self._options.rows:
                return

    def settle(self, rows: int, generation: int) -> None:
        """Count a write as finished, let waiting writers in and barriers down."""
        self.rows -= rows
        self._active[generation] -= 1
        if self._waiting:
            self._next_waiting()
        if self._barriers and not self._active[generation]:
            self._lower_barriers()

    async def barrier(self) -> None:
        """Return once everything that began before this call is settled."""
        if not any(self._active.values()):
            return
        future = self._loop.create_future()
        self._barriers.append((self._generation, future))
        self._generation += 1
        self._active[self._generation] = 0
        await future

    def release(self) -> None:
        """Close, and let everybody who waits for a turn learn it."""
        self.closing = True
        for turn in self._waiting:
            if not turn.done():
                turn.set_result(None)

    def _lower_barriers(self) -> None:
        """Release the barriers whose generations, and all before them, have run empty."""
        busy = min(
            (generation for generation, count in self._active.items() if count), default=self._generation + 1
        )
        waiting: list[tuple[int, asyncio.Future[None]]] = []
        for generation, future in self._barriers:
            if generation >= busy:
                waiting.append((generation, future))
            elif not future.done():
                future.set_result(None)
        self._barriers = waiting
        self._active = {g: count for g, count in self._active.items() if count or g >= self._generation}

    def _next_waiting(self) -> None:
        """Wake the longest waiting writer if there is room; it wakes the next when it is through."""
        while self._waiting and (not self.rows or self.rows < self._options.rows):
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

"""Deadlines: many calls watched by one timer.

`asyncio.timeout` arms and disarms a timer for every call, which costs as much as a read from SQLite. Calls to stores
nearly always end in time, so here one timer ticks for all of them while any is under way, and a call is given up once
it has been seen by enough ticks: between its time and an eighth more.
"""

from __future__ import annotations

import asyncio
from typing import Final

__all__ = ["Call", "Deadlines"]

TICKS: Final = 8


class Call:
    """One call under way.

    Attributes:
        task: The task that makes it.
        ticks: How many ticks it has seen.
        expired: Whether it was given up.
    """

    __slots__ = ("expired", "task", "ticks")

    def __init__(self, task: asyncio.Task[object] | None) -> None:
        self.task = task
        self.ticks = 0
        self.expired = False


class Deadlines:
    """Gives up calls that take too long, by cancelling their tasks.

    Args:
        seconds: How long a call may take; None lets every call take its time.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._calls: set[Call] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Deadlines {self.seconds} s, {len(self._calls)} calls>"

    def begin(self) -> Call:
        """Watch the current task from now on, until `end`."""
        call = Call(asyncio.current_task())
        if self.seconds is not None:
            self._calls.add(call)
            if self._timer is None:
                self._arm()
        return call

    def end(self, call: Call) -> None:
        """Stop watching a call."""
        self._calls.discard(call)
        if call.expired and call.task is not None:
            # It was given up, but ended all the same: whoever awaits next must not find itself cancelled.
            call.expired = False
            call.task.uncancel()

    def gave_up(self, call: Call) -> bool:
        """Tell, when a call was cancelled, whether that was its deadline; if so, the task goes on uncancelled."""
        if not call.expired or call.task is None:
            return False
        call.expired = False
        # Somebody else may have cancelled the task too; then it is theirs to be cancelled.
        return call.task.uncancel() <= 0

    def _arm(self) -> None:
        if self.seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(self.seconds / TICKS, self._tick)

    def _tick(self) -> None:
        self._timer = None
        for call in self._calls:
            call.ticks += 1
            if call.ticks > TICKS and not call.expired and call.task is not None:
                call.expired = True
                call.task.cancel()
        if self._calls:
            self._arm()

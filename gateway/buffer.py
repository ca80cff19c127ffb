"""The buffer in front of the lanes for kinds that are written many times a second."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from gateway.errors import GatewayClosedError, GatewayError, MirrorWriteError, QueueFullError
from gateway.lanes.outcomes import FullPolicy
from gateway.records.row import Row
from gateway.telemetry import background

__all__ = ["Buffer", "BufferOptions"]

_log = logging.getLogger(__name__)
_RETRY_MAX = 30.0
_BACKLOG = 10
"""When the store has fallen behind, a batch may be this many times larger."""


@dataclass(frozen=True, slots=True)
class BufferOptions:
    """Bounds of the buffer.

    Attributes:
        rows: Written as soon as this many are buffered.
        seconds: Written at the latest after this long.
        capacity: Rows held at most, while the store is slow.
        policy: What happens at the capacity: the caller waits, or gets `QueueFullError`.
    """

    rows: int = 100
    seconds: float = 1.0
    capacity: int = 10_000
    policy: FullPolicy = FullPolicy.BLOCK


class Buffer:
    """Collects rows and writes them together: at `rows` rows or after `seconds`, whichever comes first.

    A batch that the store refuses stays buffered, in order, and is tried again with growing pauses.

    Args:
        write: Writes rows durably; called by one task at a time.
        options: Bounds.
    """

    def __init__(
        self, write: Callable[[Sequence[Row]], Awaitable[None]], options: BufferOptions | None = None
    ) -> None:
        self._write = write
        self._options = options or BufferOptions()
        self._rows: deque[Row] = deque()
        self._lock = asyncio.Lock()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._flusher: asyncio.Task[None] | None = None
        self._pause = 0.0
        self._closed = False
        self.flushed = 0
        self.failures = 0
        self.unmirrored = 0

    def __repr__(self) -> str:
        return f"<Buffer rows={len(self._rows)}>"

    def __len__(self) -> int:
        return len(self._rows)

    def counters(self) -> dict[str, int]:
        """Return what the buffer holds and has done."""
        return {
            "buffered": len(self._rows),
            "flushed": self.flushed,
            "failures": self.failures,
            "unmirrored": self.unmirrored,
        }

    async def add(self, row: Row) -> None:
        """Take a row; returns at once unless the buffer is full and its policy is to wait.

        Raises:
            QueueFullError: It is full and refuses.
            GatewayClosedError: It is closed; the row was not taken.
        """
        while not self._closed and len(self._rows) >= self._options.capacity:
            await self._room()
        if self._closed:
            raise GatewayClosedError("the gateway is closed; the row was not buffered")
        self._rows.append(row)
        if len(self._rows) >= self._options.rows and not self._pause:
            self._start()
        elif self._timer is None and self._flusher is None:
            self._arm(self._options.seconds)

    async def flush(self) -> int:
        """Write everything buffered before this call and return how many rows that were.

        Raises:
            MirrorWriteError: The primary has them all, a mirror does not.
            GatewayError: The primary did not take them; they stay buffered.
        """
        wanted = len(self._rows)
        written = 0
        behind: MirrorWriteError | None = None
        async with self._lock:
            while written < wanted and self._rows:
                count, failure = await self._write_some()
                written += count
                behind = failure or behind
        if behind is not None:
            raise behind
        return written

    async def close(self) -> None:
        """Take no more rows and write what is left.

        Raises:
            MirrorWriteError: The primary has all of it, a mirror does not.
            GatewayError: The primary did not take it; those rows are lost with the process, and a note on the error
                says how many.
        """
        self._closed = True
        self._disarm()
        self._admit(len(self._waiting))  # they learn that it is closed
        if self._flusher is not None:
            await asyncio.gather(self._flusher, return_exceptions=True)
        try:
            await self.flush()
        except GatewayError as error:
            if self._rows:
                lost = f"{len(self._rows)} buffered rows could not be written before closing and are lost"
                error.add_note(lost)
            raise
        finally:
            self._disarm()

    async def _room(self) -> None:
        if self._options.policy is FullPolicy.REFUSE:
            raise QueueFullError(
                f"{len(self._rows)} rows are buffered, the bound is {self._options.capacity}; the row was refused. "
                "The store is too slow: raise STORAGE_BUFFER_CAPACITY, or set STORAGE_BUFFER_POLICY=block"
            )
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    async def _write_some(self) -> tuple[int, MirrorWriteError | None]:
        """Write one batch from the front; it leaves the buffer once the primary has it."""
        batch = [self._rows[at] for at in range(min(len(self._rows), _BACKLOG * self._options.rows))]
        behind: MirrorWriteError | None = None
        try:
            await self._write(batch)
        except MirrorWriteError as error:
            # Writing them again would do no good to the mirror and stop the bot: `gateway copy` brings it into step.
            behind = error
            self.unmirrored += len(batch)
        for _ in batch:
            self._rows.popleft()
        self.flushed += len(batch)
        self._pause = 0.0
        self._admit(self._options.capacity - len(self._rows))
        return len(batch), behind

    def _admit(self, count: int) -> None:
        """Wake as many of those that wait for room."""
        for _ in range(min(len(self._waiting), count)):
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)

    def _start(self) -> None:
        self._disarm()
        if self._flusher is None:
            self._flusher = asyncio.get_running_loop().create_task(self._flush_quietly(), name="buffer flush")
            self._flusher.add_done_callback(self._rest)

    async def _flush_quietly(self) -> None:
        """Flush in the background: nobody waits, so a failure is counted, logged and tried again later."""
        try:
            with background("gateway.buffer", {"gateway.rows": len(self._rows)}):
                await self.flush()
        except MirrorWriteError as error:
            _log.warning("%s", error)
        except GatewayError as error:
            self.failures += 1
            self._pause = min(_RETRY_MAX, max(self._options.seconds, self._pause * 2 or 0.1))
            _log.warning(
                "%d buffered rows wait, trying again in %.1f s: %s", len(self._rows), self._pause, error
            )

    def _rest(self, _: asyncio.Task[None]) -> None:
        """Decide, when a flush has ended, when the next one begins."""
        self._flusher = None
        if self._closed:
            return
        if self._pause:
            self._arm(self._pause)
        elif len(self._rows) >= self._options.rows:
            self._start()
        elif self._rows:
            self._arm(self._options.seconds)

    def _arm(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._start)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

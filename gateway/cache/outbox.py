"""What is sent to the cache without anybody waiting: fills by readers and the ends of writes, in bulk and bounded."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from gateway.cache.contract import Cache, End, EndAnswer, Fill, FillAnswer
from gateway.cache.permit import Epoch
from gateway.cache.terms import TermsMaker
from gateway.errors import CacheError
from gateway.telemetry import Counters

__all__ = ["Outbox"]

_log: Final = logging.getLogger(__name__)
MAX_BATCH: Final = 200
LINGER: Final = 0.002
"""Seconds for which fills wait for more of them: nobody waits for one, and several cost little more than one."""


class _Letter(NamedTuple):
    """One fill or end, and the epoch it belongs to."""

    epoch: Epoch
    content: Fill | End


class Outbox:
    """A bounded queue of fills and ends.

    What is left out does no harm: without a fill the next reader fills, without an end the fence runs out by itself.

    Args:
        cache: The cache.
        terms: Makes the terms of calls.
        size: How many may wait.
        timeout: Seconds after which a call is given up.
        counters: The gateway's.
    """

    def __init__(
        self, cache: Cache, terms: TermsMaker, size: int, timeout: float, counters: Counters
    ) -> None:
        self._cache = cache
        self._terms = terms
        self._size = size
        self._timeout = timeout
        self._counters = counters
        self._queue: deque[_Letter] = deque()
        self._later: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._loop = asyncio.get_running_loop()
        self._worker = self._loop.create_task(self._run(), name="cache outbox")

    def __repr__(self) -> str:
        return f"<Outbox {len(self._queue)}>"

    @property
    def depth(self) -> int:
        """How many wait."""
        return len(self._queue)

    def post(self, epoch: Epoch, content: Fill | End) -> None:
        """Take something in, or leave it out if too many wait."""
        if len(self._queue) >= self._size:
            self._counters.cache_dropped += 1
            return
        self._queue.append(_Letter(epoch, content))
        if self._idle.is_set():
            self._idle.clear()
        if isinstance(content, End) or len(self._queue) >= MAX_BATCH:
            self._hurry()
        elif self._later is None and not self._wake.is_set():
            self._later = self._loop.call_later(LINGER, self._hurry)

    def _hurry(self) -> None:
        """Send what waits now: an end is waited for by everybody who reads its row."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
        self._wake.set()

    async def drained(self) -> None:
        """Return once everything that was posted before is sent."""
        if self._queue:
            self._hurry()
        await self._idle.wait()

    async def close(self) -> None:
        """Send what waits, for as long as one call may take, and stop."""
        try:
            async with asyncio.timeout(self._timeout):
                await self.drained()
        except TimeoutError:
            self._counters.cache_dropped += len(self._queue)
        if self._later is not None:
            self._later.cancel()
        self._worker.cancel()
        await asyncio.gather(self._worker, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                batch = self._take()
                try:
                    await self._send(batch)
                except Exception:  # noqa: BLE001 - a fault of a plugin; the queue must go on being emptied
                    self._counters.cache_errors += 1
                    _log.exception("sending to the cache failed; it goes on")
            self._idle.set()

    def _take(self) -> list[_Letter]:
        """Take what can go in one call: letters of one sort and epoch that follow one another."""
        first = self._queue.popleft()
        batch = [first]
        while self._queue and len(batch) < MAX_BATCH:
            letter = self._queue[0]
            if letter.epoch != first.epoch or type(letter.content) is not type(first.content):
                break
            batch.append(self._queue.popleft())
        return batch

    async def _send(self, batch: Sequence[_Letter]) -> None:
        epoch, terms = batch[0].epoch, self._terms.make(batch[0].epoch)
        fills = [letter.content for letter in batch if isinstance(letter.content, Fill)]
        ends = [letter.content for letter in batch if isinstance(letter.content, End)]
        try:
            async with asyncio.timeout(self._timeout):
                if fills:
                    self._count_fills(await self._cache.fill(epoch.incarnation, fills, terms))
                if ends:
                    self._count_ends(await self._cache.end(epoch.incarnation, ends, terms))
        except (CacheError, TimeoutError):
            self._counters.cache_errors += 1

    def _count_fills(self, answers: Sequence[FillAnswer]) -> None:
        stored = sum(answer is FillAnswer.STORED for answer in answers)
        self._counters.cache_fills += stored
        self._counters.cache_fills_refused += len(answers) - stored

    def _count_ends(self, answers: Sequence[EndAnswer]) -> None:
        self._counters.cache_written += sum(answer is EndAnswer.STORED for answer in answers)

"""The log of divergences: differences between two stores that stayed, kept where another process can list them.

They are kept in the control store, one entry for each key, set of fields and pair of stores, however often
it is found. Finding one costs the caller nothing: it goes into a bounded buffer, which is written in a
thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

from gateway.divergences.alerts import Alerts
from gateway.divergences.divergence import (
    Divergence,
    Resolution,
    divergence_of,
    divergences_of,
    joined,
    refusal_of,
)
from gateway.divergences.store import DivergenceStore, State
from gateway.divergences.traces import WriteTraces
from gateway.errors import ConfigurationError
from gateway.migration.control_file import ControlFile
from gateway.telemetry import Counters

__all__ = [
    "Divergence",
    "DivergenceLog",
    "Resolution",
    "State",
    "divergence_of",
    "divergences_of",
    "refusal_of",
]

_log: Final = logging.getLogger(__name__)


class DivergenceLog:
    """Keeps divergences, bounded, and lists them.

    Args:
        file: The control store's file.
        kept: How many are kept; beyond that resolved ones go, then those not seen for longest, and are counted.
        buffered: How many different ones wait in memory to be written.
        interval: Seconds to gather before writing.
        counters: Where those are counted that there was no room for.
        alerts: Who is told of each that is new, or found again after it was resolved.
        traces: Makes the span of each, linked to the writes; None makes none.

    Attributes:
        store: Where they are kept.
    """

    def __init__(
        self,
        file: ControlFile,
        *,
        kept: int = 10_000,
        buffered: int = 1_000,
        interval: float = 0.2,
        counters: Counters | None = None,
        alerts: Alerts | None = None,
        traces: WriteTraces | None = None,
    ) -> None:
        self.store = DivergenceStore(file, kept=kept)
        self._buffered = buffered
        self._interval = interval
        self._counters = counters or Counters()
        self._alerts = alerts
        self._traces = traces
        self._waiting: dict[str, Divergence] = {}
        self._writer: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._closing = asyncio.Event()
        self._complained = False

    def __repr__(self) -> str:
        return f"<DivergenceLog {self.store.file.path} waiting={len(self._waiting)}>"

    def record(self, divergence: Divergence) -> None:
        """Take note of a divergence; it is traced and written soon. Does not wait and does not raise."""
        if self._traces is not None:
            self._traces.report(divergence)
        self._buffer(divergence)
        if self._writer is None and self._waiting:
            self._writer = asyncio.get_running_loop().create_task(
                self._write_soon(), name="gateway-divergences"
            )

    def _buffer(self, found: Divergence) -> None:
        known = self._waiting.get(found.identity)
        if known is None and len(self._waiting) >= self._buffered:
            self._counters.divergences_dropped += found.count
        else:
            self._waiting[found.identity] = found if known is None else joined(known, found)

    async def _write_soon(self) -> None:
        """Write after a while, and again for as long as there is something and it can be written."""
        written = True
        while self._waiting and written:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), self._interval)
            written = await self.flush()
        self._writer = None

    async def flush(self) -> bool:
        """Write what waits, and return whether that worked. If not, it is tried again with the next one."""
        async with self._writing:  # so that what another flush has taken is written when this one returns
            return await self._flush()

    async def _flush(self) -> bool:
        batch, self._waiting = self._waiting, {}
        if not batch:
            return True
        try:
            news, gone = await asyncio.to_thread(self.store.save, list(batch.values()))
        except ConfigurationError as error:
            for divergence in batch.values():
                self._buffer(divergence)
            self._complain(error)
            return False
        self._complained = False
        self._counters.divergences_dropped += gone
        if self._alerts is not None:
            for divergence in news:
                self._alerts.tell(divergence)
        return True

    def _complain(self, error: ConfigurationError) -> None:
        if not self._complained:
            self._complained = True
            _log.warning("divergences wait in memory, at most %d of them: %s", self._buffered, error)

    async def aclose(self) -> None:
        """Write what waits, tell plugins of it, and stop."""
        self._closing.set()
        if self._writer is not None:
            await self._writer
        await self.flush()
        if self._alerts is not None:
            await self._alerts.aclose()

    def listed(self, limit: int = 100, *, kind: str | None = None) -> tuple[Divergence, ...]:
        """Return what is kept, the last seen first; see `DivergenceStore.listed`."""
        return self.store.listed(limit, kind=kind)

    def dropped(self) -> int:
        """Return how many kept ones had to go; see `DivergenceStore.dropped`."""
        return self.store.dropped()

    def clear(self) -> int:
        """Forget all that is kept, as after a repair; returns how many. See `DivergenceStore.clear`."""
        return self.store.clear()

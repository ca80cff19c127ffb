"""Whether writes have reached a mirror: by this gateway's feed, by the journal, and by what was given up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Final

from gateway.errors import GatewayError
from gateway.mirror.homes import Home
from gateway.mirror.state import lacks
from gateway.mirror.watch import Watch
from gateway.shadow.awaited import Awaited, JournalCaughtUp

__all__ = ["Arrivals"]

_FLUSHING: Final = 1.0


class Arrivals:
    """Tells what mirrors have. Implements `gateway.shadow.awaited.CaughtUp`.

    The journal alone is always right. What this gateway's feed is about to acknowledge is handed over and acknowledged
    first, so that nobody has to look again for it.

    Args:
        watches: The pairs, by the names of primary and mirror.
        homes: The journals and states of the primaries, by name.
    """

    def __init__(self, watches: Mapping[tuple[str, str], Watch], homes: Mapping[str, Home]) -> None:
        self._watches = watches
        self._homes = homes
        self._by_journal = JournalCaughtUp(lambda name: homes[name].journal if name in homes else None)

    def __repr__(self) -> str:
        return f"<Arrivals {' '.join(f'{one}->{other}' for one, other in self._watches)}>"

    async def __call__(self, source: str, mirror: str, rows: Sequence[Awaited]) -> Sequence[bool]:
        """Return for each whether the mirror has it, or has lost it for good; see `CaughtUp`."""
        watch = self._watches.get((source, mirror))
        if watch is None:
            return [True] * len(rows)
        if watch.feed.answers and watch.feed.held():
            # A mirror that is slow, or a journal that is away, says nothing about the rows: the journal does.
            with contextlib.suppress(TimeoutError, GatewayError):
                async with asyncio.timeout(_FLUSHING):
                    await watch.feed.flush()
        answers = await self._by_journal(source, mirror, rows)
        if not any(answers):
            return answers
        # Read after the journal: whoever drops intents says so before, so none of those that are missing there was
        # dropped unless it says so here.
        state = await self._homes[source].states.read(mirror)
        return [there and not lacks(state, row.version) for there, row in zip(answers, rows, strict=True)]

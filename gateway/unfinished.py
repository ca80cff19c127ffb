"""Work of a store that goes on after its caller has given up.

A thread that writes a file cannot be stopped in the middle, and neither can a request that a server has already got.
A backend that leaves something like that behind says so here, when its call is cancelled. Whoever has to know when
nothing more can come of the call, such as the cache, watches for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

__all__ = ["outlives", "watched"]

Work = asyncio.Future[Any]

_watched: Final[ContextVar[list[Work] | None]] = ContextVar("gateway_unfinished", default=None)


def outlives(work: Work) -> None:
    """Tell that a call which is being given up goes on until a future is done, whatever it is done with.

    For backends; to be called in the task that was cancelled, before the cancellation is passed on.
    """
    found = _watched.get()
    if found is not None and not work.done():
        found.append(work)
    work.add_done_callback(_look_at)


def _look_at(work: Work) -> None:
    """Look at what became of it: nobody waits for that any more, and it is not to be reported as forgotten."""
    if not work.cancelled():
        work.exception()


@contextmanager
def watched() -> Iterator[list[Work]]:
    """Give a list that gets everything which goes on after calls in this context were given up."""
    found: list[Work] = []
    token = _watched.set(found)
    try:
        yield found
    finally:
        _watched.reset(token)

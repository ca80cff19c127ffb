"""Reading before writing on a new store: what the old one still knows of the rows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from gateway.backend import KeyRef
from gateway.dispatch import Store
from gateway.errors import StoreError, StoreTimeoutError
from gateway.mirror.way import Way
from gateway.records.row import Row

__all__ = ["Apply", "knowing_both"]

Apply = Callable[[Sequence[Row | None]], Sequence[Row]]
_log: Final = logging.getLogger(__name__)
_PATIENCE: Final = 0.5
"""Seconds that the old store gets to answer, where nobody waits for it otherwise."""


async def knowing_both(old: Store, way: Way, tenant: str, reads: Sequence[KeyRef], apply: Apply) -> Apply:
    """Return `apply` as it is to run on a new store: on the newer of both stores' rows.

    A new store may lack a row that nobody copied. Computed from nothing, the result would be the newest version of it
    everywhere, and the old store's row, which is the way back, would be gone.

    An old store that does not answer is no reason to fail, unless the operator wants callers to wait for it: it handed
    over everything when it ceased to lead. It is then left alone until its mirror feed has got through to it.

    Raises:
        StoreError: The old store cannot answer, and the mode is `sync`.
    """
    (feed, *_) = way.feeds
    strict = way.waits and way.reports
    if not strict and not feed.answers:
        return apply
    try:
        async with asyncio.timeout(None if strict else _PATIENCE):
            found = await asyncio.gather(*(old.get(kind, tenant, (key,)) for kind, key in reads))
    except (StoreError, TimeoutError) as error:
        if strict:
            raise
        slow = StoreTimeoutError(f"no answer within {_PATIENCE:g} s", backend=old.name)
        feed.failed(error if isinstance(error, StoreError) else slow)
        _log.warning(
            "%s leads, and changes rows without a look at %s, which does not answer", feed.source, old.name
        )
        return apply
    rows = [row for (row,) in found]

    def on_newer(current: Sequence[Row | None]) -> Sequence[Row]:
        return apply([_newer(own, other) for own, other in zip(current, rows, strict=True)])

    return on_newer


def _newer(own: Row | None, other: Row | None) -> Row | None:
    if own is None or other is None:
        return own or other
    return max(own, other, key=lambda row: row.stamp)

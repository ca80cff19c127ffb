"""Removing rows by age, from the store that leads and from its mirrors."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from gateway.backend import Capability
from gateway.cache.front import CacheFront, held
from gateway.dispatch import Store
from gateway.mirror.contract import Mirroring
from gateway.records.kind import KindSpec

__all__ = ["purge"]

_log: Final = logging.getLogger(__name__)


async def purge(
    stores: Sequence[Store],
    kind: KindSpec,
    tenant: str,
    before: datetime,
    cache: CacheFront | None,
    mirrors: Mirroring | None,
) -> int:
    """Remove rows by age, and return how many the store that leads had of them.

    What is on its way to a mirror is let through before the mirror loses its rows: it would be there again otherwise.

    Args:
        stores: The store that leads, then its mirrors.
        kind: Of which kind.
        tenant: Whose rows.
        before: Rows with an earlier time are removed.
        cache: What stands in front of the stores; None for nothing.
        mirrors: Knows what is on its way; None if nothing ever is.

    Raises:
        CapabilityError: One of the stores cannot; nothing was removed.
        StoreError: One could not be reached; those after it still have their rows, and the call can be repeated.
    """
    for store in stores:
        store.require(Capability.PURGE, "remove rows by age")
    primary, *followers = stores
    async with held(cache, kind) as ready:
        await ready()
        removed = await primary.purge(kind, tenant, before)
        for mirror in followers:
            if mirrors is not None and not await mirrors.settled(primary.name, mirror.name):
                _log.warning(
                    "rows of %s that %s does not have any more may be on their way to %s from other processes; remove "
                    "them by age once more when `gateway mirror status` says that nothing waits",
                    kind.name,
                    primary.name,
                    mirror.name,
                )
            await ready()
            await mirror.purge(kind, tenant, before)
    return removed

"""Reading a kind from end to end, and checking each row against the digest that was stored with it.

A row that was changed behind the gateway's back, or that a store did not give back exactly, no longer gives
its digest. That shows without asking another store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from gateway.compare import shown_key
from gateway.errors import GatewayError, StoreCorruptError
from gateway.query import Query
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row

if TYPE_CHECKING:
    from gateway.dispatch import Store

__all__ = ["DamagedRow", "IntegrityReport", "check_integrity", "pages", "patiently"]

T = TypeVar("T")

_PATIENCE: Final = (0.1, 0.5, 2.0)
_REPORTED: Final = 10_000


@dataclass(frozen=True, slots=True)
class DamagedRow:
    """A row whose values do not give its digest.

    Attributes:
        key: Its key, as it is; show `shown_key` instead.
        shown_key: Its key, with private fields redacted.
        version: The version stored with it.
    """

    key: Key = field(repr=False)
    shown_key: Key
    version: int


@dataclass(frozen=True, slots=True)
class IntegrityReport:
    """What checking one kind in one store came to.

    Attributes:
        kind: Name of the kind.
        store: Instance name of the store.
        rows: Rows read, tombstones included.
        damaged: Rows that are damaged, 10,000 of them at most.
        more: Damaged rows beyond those.
    """

    kind: str
    store: str
    rows: int
    damaged: tuple[DamagedRow, ...]
    more: int = 0

    @property
    def ok(self) -> bool:
        """Whether every row gives its digest."""
        return not self.damaged


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Do something with a store, and try again if it is busy or away for a moment.

    Four times within three seconds. Only for what may be repeated: reads, and writes under the version guard.

    Raises:
        GatewayError: It is still not possible, or trying again cannot help.
    """
    for delay in _PATIENCE:
        try:
            return await call()
        except GatewayError as error:
            if not error.transient:
                raise
            await asyncio.sleep(delay)
    return await call()


async def pages(
    store: Store, kind: KindSpec, tenant: str, *, size: int = 1_000, after: Key | None = None
) -> AsyncIterator[Sequence[Row]]:
    """Yield all rows of a kind in listing order, tombstones included, page by page.

    Rows written meanwhile are seen if they come after what was read.

    Raises:
        StoreError: The store cannot answer.
        StoreCorruptError: A row has lost its place in the listing, so that what comes after it cannot be
        reached.
    """
    while True:
        query = Query(kind, tenant, limit=size, after=after, include_deleted=True)
        rows = await patiently(partial(store.query, query))
        if rows:
            yield rows
        if len(rows) < size:
            return
        after = place_of(store, rows[-1], after)


def place_of(store: Store, last: Row, after: Key | None) -> Key:
    """Return where to go on after a page's last row.

    Raises:
        StoreCorruptError: From there the listing would end early, or begin again: rows would be passed over
        silently.
    """
    place = last.position
    if None in place or place == after:
        raise StoreCorruptError(
            f"the row {shown_key(last.kind, last.key)} of {last.kind.name} has no place in the listing "
            f"({', '.join(last.kind.order)}); what comes after it cannot be read. "
            "Delete or repair this row first",
            backend=store.name,
        )
    return place


async def check_integrity(
    store: Store,
    kind: KindSpec,
    tenant: str,
    *,
    page: int = 1_000,
    on_page: Callable[[int], None] | None = None,
) -> IntegrityReport:
    """Check every row of a kind in one store against its own digest.

    Args:
        store: The store.
        kind: The kind.
        tenant: Whose rows.
        page: Rows read at a time.
        on_page: Called after each page with the rows checked so far.

    Raises:
        StoreError: The store cannot answer.
    """
    checked = bad = 0
    damaged: list[DamagedRow] = []
    async for rows in pages(store, kind, tenant, size=page):
        found = [DamagedRow(row.key, shown_key(kind, row.key), row.version) for row in rows if not row.intact]
        checked += len(rows)
        bad += len(found)
        damaged += found[: _REPORTED - len(damaged)]
        if on_page is not None:
            on_page(checked)
    return IntegrityReport(kind.name, store.name, checked, tuple(damaged), bad - len(damaged))

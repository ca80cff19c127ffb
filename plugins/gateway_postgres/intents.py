"""Intents in PostgreSQL: stored in the transaction of a batch, listed, and removed by stretches.

What is raised here are the driver's own errors; they are translated where the connection is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from gateway.backend import Step
from gateway.intents import Intent, JournalFacts, Journaling, Stretch
from gateway.records.kind import KindSpec
from gateway.records.row import Row
from gateway.sql.intents import Note, intents_from, notes_of
from gateway_postgres import noting
from gateway_postgres.work import Work, changed_rows, transaction

if TYPE_CHECKING:
    from asyncpg import Connection, Record

__all__ = ["note", "read_intents", "read_journal", "remove_intents"]

_REMOVED: Final = 20_000
"""Intents removed in one transaction, about."""


async def note(
    work: Work, steps: Sequence[Step], journaling: Journaling, updated: Mapping[int, Sequence[Row]]
) -> None:
    """Store the intents of any batch, in its transaction."""
    tenants: dict[str, list[Note]] = {}
    for one in notes_of(steps, journaling, updated):
        tenants.setdefault(one.tenant, []).append(one)
    for tenant, notes in tenants.items():
        await work.become(tenant)
        await work.connection.execute(noting.NOTE, *noting.columns_of_notes(notes))


async def read_intents(
    connection: Connection[Record],
    kinds: Mapping[str, KindSpec],
    target: str,
    tenant: str,
    limit: int,
    before: int | None,
    after: Stretch | None,
) -> list[Intent]:
    """Return intents in order; of the last step all of them, even beyond the limit. The tenant has to be set."""
    await connection.execute(noting.BY_KEY)
    text = noting.page(before=before is not None, after=after is not None)
    common = (tenant, target, list(kinds))
    further: list[Any] = [] if before is None else [before]
    further += [] if after is None else [after.owner, after.last]
    records = await connection.fetch(text, *common, limit, *further)
    if records and len(records) == limit:
        owner, number, part, *_ = records[-1]
        records += await connection.fetch(noting.REST, *common, owner, number, part)
    return intents_from(map(tuple, records), tenant, kinds)


async def remove_intents(
    connection: Connection[Record],
    kinds: Sequence[str],
    target: str,
    tenant: str,
    done: Sequence[Stretch],
) -> int:
    """Remove the intents of stretches, about so many in one transaction; return how many."""
    total, left = 0, list(reversed(done))
    while left:
        async with transaction(connection):
            await Work(connection).become(tenant)
            await connection.execute(noting.BY_KEY)
            portion = await _portion(connection, target, tenant, left)
            owners, firsts, lasts = zip(*portion, strict=True)
            status = await connection.execute(
                noting.REMOVE, tenant, target, list(kinds), owners, firsts, lasts
            )
        total += changed_rows(status)
    return total


async def _portion(
    connection: Connection[Record], target: str, tenant: str, left: list[Stretch]
) -> list[Stretch]:
    """Take stretches for one transaction from the end of a list.

    A stretch that says no more than "all of it" may hold any number of intents; its rest stays on the list.
    """
    portion: list[Stretch] = []
    size = 0
    while left and size < _REMOVED:
        one = left.pop()
        length = one.last - one.first + 1
        if length > _REMOVED:
            end = await connection.fetchval(noting.WIDE, tenant, target, *one, _REMOVED)
            if end is not None and end < one.last:
                left.append(one._replace(first=end + 1))
                one = one._replace(last=end)
        portion.append(one)
        size += length
    return portion


async def read_journal(connection: Connection[Record], tenant: str, limit: int) -> list[JournalFacts]:
    """Return what is left for every mirror. The tenant has to be set."""
    await connection.execute(noting.BY_KEY)
    found = []
    for (target,) in await connection.fetch(noting.TARGETS, tenant):
        ((depth, oldest),) = await connection.fetch(noting.DEPTH, tenant, target, limit)
        if depth:
            # Those that were counted may not hold the oldest, which is about the first of its owner.
            ((head, since),) = await connection.fetch(noting.HEADS, tenant, target)
            smallest = oldest if head is None else min(oldest, head)
            found.append(JournalFacts(target, depth, smallest, since))
    return found

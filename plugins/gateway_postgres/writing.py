"""Writing: a batch of steps as one statement where one is enough, and as one transaction where it is not.

What is raised here are the driver's own errors; they are translated where the connection is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from gateway.backend import Step, Update, WriteReceipt
from gateway.intents import Journaling
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway.sql.intents import alike
from gateway_postgres.intents import note
from gateway_postgres.logs import FreshRowsRefused, is_fresh, lock_log_rows, store_carefully, store_fresh
from gateway_postgres.merging import Place, Stamp, holds_of, merge, runs_of
from gateway_postgres.noting import values_of_alike
from gateway_postgres.statements import PostgresStatements, postgres_statements
from gateway_postgres.values import columns_of_rows, in_key_order, key_columns, rows_from, values_of_row
from gateway_postgres.work import Work, changed_rows, transaction

if TYPE_CHECKING:
    from asyncpg import Connection, Record

__all__ = ["purge_some", "write"]

_STORED: Final = WriteReceipt()
_ATTEMPTS: Final = 4
"""How often a batch is tried that others are in the way of: with fresh rows, with care, and after a deadlock."""


async def write(
    connection: Connection[Record],
    steps: Sequence[Step],
    journaling: Journaling | None = None,
    alone: Callable[[], bool] = lambda: True,
) -> WriteReceipt:
    """Store a batch, with the intents that it leaves behind, as a whole or not at all.

    Rows of one kind and tenant are one statement and, if all is well, one round trip. Everything else is a
    transaction; one that is open already is used and left open.

    Args:
        connection: For this call alone. Its `timestamptz` codec takes and gives microseconds since 1970.
        steps: The batch.
        journaling: Which intents.
        alone: Tells whether a statement may be sent now without a transaction around it.

    Raises:
        asyncpg.PostgresError: The server refused; nothing was stored.
        asyncpg.InterfaceError: The driver could not bind a value, or has no connection; nothing was stored.
        Exception: What an update's `apply` raised; nothing was stored. It is called again where a batch is tried
            again, with what is stored then.
    """
    if journaling is not None and not any(journaling.targets):
        journaling = None
    if connection.is_in_transaction():
        # Nothing may be tried here that could fail: the transaction of somebody else would be lost with it.
        return await _store_steps(connection, steps, journaling, careful=True)
    rows = _one_run(steps)
    tried = bool(rows) and alone()
    if rows and tried and await _store_at_once(connection, rows, journaling):
        return _STORED
    careful = tried
    for left in reversed(range(_ATTEMPTS)):
        try:
            return await _store_steps(connection, steps, journaling, careful=careful)
        except FreshRowsRefused:
            careful = (
                True  # all was rolled back: whoever takes care must not have written to the table before
            )
        except asyncpg.DeadlockDetectedError:
            # All was rolled back here too. The server waits a second before it looks for a circle, so it has gone on.
            if not left:
                raise
    raise AssertionError("the last attempt returns or raises")


async def _store_steps(
    connection: Connection[Record], steps: Sequence[Step], journaling: Journaling | None, *, careful: bool
) -> WriteReceipt:
    """Store a batch in one transaction.

    Raises:
        FreshRowsRefused: Some fresh rows need care after all; nothing was stored.
    """
    if any(isinstance(step, Update) for step in steps):
        return await _store_updates(connection, steps, journaling, careful=careful)
    merged = merge(steps, {})
    async with transaction(connection):
        work = Work(connection)
        kept = await _store(work, merged.rows.values(), careful=careful)
        if journaling is not None:
            await note(work, steps, journaling, {})
    return merged.receipt(kept)


def _one_run(steps: Sequence[Step]) -> Sequence[Row] | None:
    """Return the steps if they are rows of one kind and tenant, as nearly every batch is."""
    first = steps[0] if steps else None
    if not isinstance(first, Row):
        return None
    kind, tenant = first.kind, first.tenant
    rows = [step for step in steps if isinstance(step, Row) and step.kind is kind and step.tenant == tenant]
    return rows if len(rows) == len(steps) else None


async def _store_at_once(
    connection: Connection[Record], rows: Sequence[Row], journaling: Journaling | None
) -> bool:
    """Store rows of one kind and tenant by one statement; tell whether all of them were stored and none lost.

    Nothing is tried where that cannot be told: a key that comes twice, or a log row that needs care. Intents go by the
    same statement. Those of rows that lost are stored too; they are as good as those of the rows that won.
    """
    kind, tenant = rows[0].kind, rows[0].tenant
    statements = postgres_statements(kind)
    if statements.log and not all(map(is_fresh, rows)):
        return False
    values: list[Any]
    if len(rows) == 1:
        values, exact = values_of_row(kind, rows[0])
    else:
        ordered, distinct = in_key_order(kind, rows)
        if not distinct:
            return False
        columns = columns_of_rows(kind, ordered)
        values, exact = columns.lists(), columns.exact
    if journaling is not None:
        found = alike(rows, journaling)
        if found is None:
            return False
        values += values_of_alike(found)
    noting = journaling is not None
    text = statements.upsert(many=len(rows) > 1, exact=exact, fresh=statements.log, noting=noting)
    try:
        return changed_rows(await connection.execute(text, tenant, *values)) == len(rows)
    except asyncpg.UniqueViolationError:
        if statements.log or noting:
            return False  # a fresh row or an intent is stored already, so nothing was stored now
        raise


async def _store_updates(
    connection: Connection[Record], steps: Sequence[Step], journaling: Journaling | None, *, careful: bool
) -> WriteReceipt:
    """Store a batch in which something is read, computed and written."""
    async with transaction(connection):
        work = Work(connection)
        current: dict[Place, Row | None] = {}
        held: set[Place] = set()
        for (kind, tenant), keys in holds_of(steps, lambda row: careful or not is_fresh(row)).items():
            await _lock(work, kind, tenant, keys, current, held)
        merged = merge(steps, current)
        kept = await _store(work, merged.rows.values(), careful=careful)
        await _release(work, held - merged.rows.keys())
        if journaling is not None:
            await note(work, steps, journaling, merged.updated)
        return merged.receipt(kept)


async def _store(work: Work, rows: Iterable[Row], *, careful: bool) -> dict[Place, Stamp]:
    """Store rows of any kinds, each key once; return the stamps of what was kept instead of rows sent.

    Kinds, tenants and keys are taken in an order that all writers share. What may lock a whole table comes before
    what only writes into it, so that no two transactions hold what the other one needs.

    Args:
        work: The transaction.
        rows: What to store.
        careful: Whether to take care with fresh rows of logs too.

    Raises:
        FreshRowsRefused: Some fresh rows need care after all.
    """
    kept: dict[Place, Stamp] = {}
    fresh: list[Row] = []
    others: list[Row] = []
    with_care: list[Row] = []
    for row in rows:
        log = postgres_statements(row.kind).log
        (others if not log else with_care if careful or not is_fresh(row) else fresh).append(row)
    for (kind, tenant), run in runs_of(with_care).items():
        kept |= await store_carefully(work, kind, tenant, run)
    for (kind, tenant), run in runs_of(fresh).items():
        await store_fresh(work, kind, tenant, run)
    for (kind, tenant), run in runs_of(others).items():
        if refused := await work.upsert(kind, tenant, run):
            kept |= await work.stamps(kind, tenant, refused)
    return kept


async def _lock(
    work: Work,
    kind: KindSpec,
    tenant: str,
    keys: Sequence[Key],
    current: dict[Place, Row | None],
    held: set[Place],
) -> None:
    """Read keys so that nobody else writes them until the transaction ends.

    Args:
        work: The transaction.
        kind: Which kind.
        tenant: Whose rows.
        keys: Which rows, in order.
        current: Gets what is stored, None where nothing is.
        held: Gets the places where a placeholder of this transaction stands.
    """
    statements = postgres_statements(kind)
    rows: Mapping[Key, Row] = (
        await lock_log_rows(work, kind, tenant, keys)
        if statements.log
        else await _lock_states(work, statements, tenant, keys, held)
    )
    for key in keys:
        current[kind, tenant, key] = rows.get(key)


async def _lock_states(
    work: Work, statements: PostgresStatements, tenant: str, keys: Sequence[Key], held: set[Place]
) -> dict[Key, Row]:
    """Return the rows of keys that have one; where there is none, a placeholder keeps others from writing one."""
    kind, found = statements.kind, dict[Key, Row]()
    left: Sequence[Key] = keys
    while left:
        await work.become(tenant)
        placed = await work.connection.fetch(statements.hold, tenant, *key_columns(kind, left))
        held |= {(kind, tenant, tuple(record)) for record in placed}
        records = await work.fetch_by_keys(kind, tenant, left, statements.columns, lock=True)
        found |= {row.key: row for row in rows_from(kind, tenant, records)}
        # A row that was there at first and is gone now was purged in between: once more, with a placeholder.
        left = [key for key in left if key not in found]
    return {key: row for key, row in found.items() if (kind, tenant, key) not in held}


async def _release(work: Work, places: set[Place]) -> None:
    """Remove placeholders that nothing was written over."""
    keys: dict[tuple[KindSpec, str], list[Key]] = {}
    for kind, tenant, key in places:
        keys.setdefault((kind, tenant), []).append(key)
    for (kind, tenant), unused in keys.items():
        await work.become(tenant)
        await work.connection.execute(postgres_statements(kind).release, tenant, *key_columns(kind, unused))


async def purge_some(
    connection: Connection[Record], kind: KindSpec, tenant: str, before_micros: int, limit: int
) -> int:
    """Remove at most `limit` rows whose time field lies before a moment in microseconds; return how many.

    Rows that are being written at this moment are left, so fewer than `limit` does not mean that none is left.

    Raises:
        CapabilityError: The kind has no time field.
        asyncpg.PostgresError: The server refused; nothing was removed.
    """
    text = postgres_statements(kind).purge
    async with transaction(connection):
        await Work(connection).become(tenant)
        return changed_rows(await connection.execute(text, tenant, before_micros, limit))

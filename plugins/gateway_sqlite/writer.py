"""Writing: a batch of steps as one transaction, run on the writer's thread.

Everything here is synchronous and takes the driver's connection, so that a batch is one hop to the thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from gateway.backend import Step, Update, WriteReceipt
from gateway.errors import WriteRejectedError
from gateway.intents import Journaling
from gateway.records.codec import Value
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway.sql.dialect import SQLITE
from gateway.sql.statements import statements_of
from gateway_sqlite.intents import note, note_alike, note_one
from gateway_sqlite.reads import get_rows

__all__ = ["apply", "purge_some"]

_STORED: Final = WriteReceipt()
_REJECTED: Final = "a value cannot be stored, and sending it again cannot help"


class _Run:
    """Rows of one kind that are stored by one call of the driver, and the steps they came from."""

    __slots__ = ("indexes", "rows")

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.indexes: list[int] = []


def apply(
    connection: sqlite3.Connection, steps: Sequence[Step], journaling: Journaling | None = None
) -> WriteReceipt:
    """Store a batch, with the intents that it leaves behind, as a whole or not at all.

    Raises:
        sqlite3.Error: The driver's own; nothing was stored.
        WriteRejectedError: A value that SQLite cannot hold; nothing was stored.
    """
    if journaling is not None and not any(journaling.targets):
        journaling = None
    alone = steps[0] if len(steps) == 1 else None
    if isinstance(alone, Row) and journaling is None:
        return _apply_one(connection, alone)
    connection.execute("BEGIN IMMEDIATE")
    try:
        if isinstance(alone, Row) and journaling is not None:
            receipt = _apply_one(connection, alone)
            note_one(connection, alone, journaling)
        else:
            receipt = _apply_steps(connection, steps)
            if journaling is not None:
                _note(connection, steps, journaling, receipt)
        connection.execute("COMMIT")
    except BaseException:
        # Also after a COMMIT that failed: a busy or full one leaves the transaction open.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return receipt


def _note(
    connection: sqlite3.Connection, steps: Sequence[Step], journaling: Journaling, receipt: WriteReceipt
) -> None:
    """Store the intents of a batch inside the open transaction."""
    run = _one_run(steps)
    if run is not None and all(row.tenant == run.rows[0].tenant for row in run.rows):
        done = note_alike(connection, run.rows, journaling)
    else:
        done = False
    if not done:
        note(connection, steps, journaling, receipt.updated)


def _apply_one(connection: sqlite3.Connection, row: Row) -> WriteReceipt:
    """Store one row: in a transaction of its own, which a single statement is, or in the one that is open."""
    statements = statements_of(row.kind, SQLITE)
    try:
        changed = connection.execute(statements.upsert, statements.parameters(row)).rowcount
    except (OverflowError, UnicodeEncodeError) as error:
        raise WriteRejectedError(f"{row.kind.name}: {_REJECTED}: {error}") from error
    if changed == 1:
        return _STORED
    # Fewer rows than sent: it lost, or it is there already.
    stored = _stamps(connection, row.kind, (row,))
    version, digest = stored.get((row.tenant, row.key), row.stamp)
    return WriteReceipt({0: version}) if (version, digest) > row.stamp else _STORED


def _apply_steps(connection: sqlite3.Connection, steps: Sequence[Step]) -> WriteReceipt:
    """Apply steps inside the open transaction.

    Rows are gathered by kind up to the next `Update`, which must see them: within a transaction nobody sees
    the order between kinds, and one long `executemany` costs less than several short ones.
    """
    runs: dict[KindSpec, _Run] = {}
    superseded: dict[int, int] = {}
    updated: dict[int, tuple[Row, ...]] = {}
    alike = _one_run(steps)
    if alike is not None:
        _store(connection, {alike.rows[0].kind: alike}, superseded)
        return WriteReceipt(superseded) if superseded else _STORED
    for index, step in enumerate(steps):
        if isinstance(step, Row):
            _gather(runs, step, index)
        elif isinstance(step, Update):
            _store(connection, runs, superseded)
            updated[index] = _compute(connection, step)
            for row in updated[index]:
                _gather(runs, row, index)
        else:
            for row in step.rows:
                _gather(runs, row, index)
    _store(connection, runs, superseded)
    return WriteReceipt(superseded, updated) if superseded or updated else _STORED


def _one_run(steps: Sequence[Step]) -> _Run | None:
    """Return the steps as one run if they are rows of one kind, as nearly every batch is."""
    first = steps[0] if steps else None
    if not isinstance(first, Row):
        return None
    kind = first.kind
    rows = [step for step in steps if isinstance(step, Row) and step.kind is kind]
    if len(rows) < len(steps):
        return None
    run = _Run()
    run.rows, run.indexes = rows, list(range(len(rows)))
    return run


def _gather(runs: dict[KindSpec, _Run], row: Row, index: int) -> None:
    run = runs.get(row.kind)
    if run is None:
        run = runs[row.kind] = _Run()
    run.rows.append(row)
    run.indexes.append(index)


def _compute(connection: sqlite3.Connection, step: Update) -> tuple[Row, ...]:
    current: list[Row | None] = []
    for kind, key in step.reads:
        current += get_rows(connection, kind, step.tenant, (key,))
    return tuple(step.apply(current))


def _store(connection: sqlite3.Connection, runs: dict[KindSpec, _Run], superseded: dict[int, int]) -> None:
    """Store what was gathered, note which steps lost against a newer version, and empty `runs`."""
    for kind, run in runs.items():
        for part in _without_repetition(kind, run):
            if _upsert(connection, kind, part.rows) < len(part.rows):
                _note_superseded(connection, kind, part, superseded)
    runs.clear()


def _upsert(connection: sqlite3.Connection, kind: KindSpec, rows: Sequence[Row]) -> int:
    """Store rows that the version guard lets in; return how many those were."""
    statements = statements_of(kind, SQLITE)
    changed = start = 0
    try:
        for size in statements.portions(len(rows)):
            values = statements.many_parameters(rows[start : start + size])
            changed += connection.execute(statements.upsert_of(size), values).rowcount
            start += size
    except (OverflowError, UnicodeEncodeError) as error:
        raise WriteRejectedError(f"{kind.name}: {_REJECTED}: {error}") from error
    return changed


def _without_repetition(kind: KindSpec, run: _Run) -> list[_Run]:
    """Split a run in which a key comes again.

    What is stored after a run then tells exactly which of its rows lost. Nearly every run is left as it is.
    """
    width = len(kind.key)
    if len({row.values[:width] for row in run.rows}) == len(run.rows):
        return [run]
    parts: list[_Run] = []
    seen: dict[Key, int] = {}
    for row, index in zip(run.rows, run.indexes, strict=True):
        # Each part holds a key once; between different keys a transaction has no order that anybody could see.
        turn = seen[row.values[:width]] = seen.get(row.values[:width], -1) + 1
        if turn == len(parts):
            parts.append(_Run())
        parts[turn].rows.append(row)
        parts[turn].indexes.append(index)
    return parts


def _note_superseded(
    connection: sqlite3.Connection, kind: KindSpec, run: _Run, superseded: dict[int, int]
) -> None:
    """Note, by step, the stored version that was newer than a row of the step.

    The store is asked only when fewer rows changed than were sent. A row whose stamp is stored exactly is a
    repetition, not a loss.
    """
    stored = _stamps(connection, kind, run.rows)
    for row, index in zip(run.rows, run.indexes, strict=True):
        stamp = stored.get((row.tenant, row.key), row.stamp)
        if stamp > row.stamp:
            superseded[index] = max(stamp[0], superseded.get(index, 0))


def _stamps(
    connection: sqlite3.Connection, kind: KindSpec, rows: Sequence[Row]
) -> dict[tuple[str, Key], tuple[int, int]]:
    keys: dict[str, set[Key]] = {}
    for row in rows:
        keys.setdefault(row.tenant, set()).add(row.key)
    statements = statements_of(kind, SQLITE)
    names = ", ".join(("version", "digest", *(f'"{name}"' for name in kind.key)))
    found: dict[tuple[str, Key], tuple[int, int]] = {}
    for tenant, wanted in keys.items():
        for text, parameters in statements.reads(tenant, tuple(wanted), names):
            for version, digest, *key in connection.execute(text, parameters):
                found[tenant, tuple(key)] = (version, digest)
    return found


def purge_some(connection: sqlite3.Connection, kind: KindSpec, tenant: str, before: Value, limit: int) -> int:
    """Remove at most `limit` rows whose time field lies before a moment in microseconds; return how many."""
    return connection.execute(statements_of(kind, SQLITE).purge(limit), (tenant, tenant, before)).rowcount

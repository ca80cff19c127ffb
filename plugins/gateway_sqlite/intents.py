"""Intents in a SQLite file: stored with a batch on the writer's thread, listed, and removed by stretches.

The table is ordered by tenant, mirror, owner and number, and is nothing but that order: what a batch adds comes behind
what its owner added before, and a stretch of numbers lies in one piece.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from gateway.backend import Step
from gateway.intents import Intent, JournalFacts, Journaling, Stretch
from gateway.records.kind import KindSpec
from gateway.records.row import Row
from gateway.sql.intents import SQLITE_INTENTS, Alike, Note, alike, intents_from, key_text, notes_of

__all__ = ["facts", "forget_intents", "note", "note_alike", "note_one", "pending", "portions_of", "remove"]

_COLUMNS: Final = "tenant_id, target, owner, number, part, kind, key, version, trace, noted_at"
_INSERT: Final = f"INSERT INTO {SQLITE_INTENTS} ({_COLUMNS}) VALUES "  # noqa: S608 - a fixed name
# Numbers that are sent again, after an answer that was lost, are there already.
_REPEATED: Final = " ON CONFLICT DO NOTHING"
_ALONE: Final = f"{_INSERT}(?, ?, ?, ?, ?, ?, ?, ?, ?, ?){_REPEATED}"
_SIZES: Final = (512, 128, *range(64, 0, -1))
"""How many intents one statement adds: few sizes, so that the driver keeps them all prepared."""
_STRETCH: Final = (
    f"{SQLITE_INTENTS} WHERE tenant_id = ? AND target = ? AND owner = ? AND number BETWEEN ? AND ?"
)
_FIXED: Final = 6
"""Parameters that all intents of an insert share: tenant, mirror, owner, number of the first, kind, and when."""
_REMOVED: Final = 5_000
"""Intents removed in one transaction, about: writers wait for one such portion at most."""


def note(
    connection: sqlite3.Connection,
    steps: Sequence[Step],
    journaling: Journaling,
    updated: Mapping[int, Sequence[Row]],
) -> None:
    """Store the intents of any batch inside the open transaction."""
    notes, now = notes_of(steps, journaling, updated), _now()
    start = 0
    for size in _portions(len(notes)):
        portion = notes[start : start + size]
        connection.execute(_insert(size), [value for one in portion for value in (*one, now)])
        start += size


def note_one(connection: sqlite3.Connection, row: Row, journaling: Journaling) -> None:
    """Store the intents of a batch of one row inside the open transaction."""
    kind, tenant, version, *_ = row
    key, trace, now = key_text(row), journaling.traces.get(0), _now()
    for target in journaling.targets[0]:
        values = (tenant, target, journaling.owner, journaling.first, 0, kind.name, key, version, trace, now)
        connection.execute(_ALONE, values)


def note_alike(connection: sqlite3.Connection, rows: Sequence[Row], journaling: Journaling) -> bool:
    """Store the intents of rows of one kind and tenant inside the open transaction; tell whether that was possible.

    What the rows share is bound once for all of them, which makes it cost half as much.
    """
    found = alike(rows, journaling)
    if found is None or found.traces:
        return False
    kind, tenant, now = rows[0].kind.name, rows[0].tenant, _now()
    for target in found.targets:
        start = 0
        for size in _portions(len(rows)):
            shared = (tenant, target, found.owner, found.first + start, kind, now)
            connection.execute(_insert_alike(size), _interleaved(shared, found, start, size))
            start += size
    return True


def _now() -> int:
    """Return the time in microseconds since 1970: when intents are written, whatever their versions say."""
    return time.time_ns() // 1_000


def _interleaved(shared: tuple[Any, ...], found: Alike, start: int, size: int) -> list[Any]:
    """Return what `_insert_alike` takes."""
    values: list[Any] = [*shared, *[None] * (2 * size)]
    values[_FIXED::2] = found.keys[start : start + size]
    values[_FIXED + 1 :: 2] = found.versions[start : start + size]
    return values


def _portions(rows: int) -> Iterator[int]:
    for size in _SIZES:
        while size <= rows:
            yield size
            rows -= size


@lru_cache(maxsize=len(_SIZES))
def _insert(rows: int) -> str:
    marks = ", ".join("?" for _ in (*Note._fields, "noted_at"))
    return f"{_INSERT}{', '.join([f'({marks})'] * rows)}{_REPEATED}"


@lru_cache(maxsize=len(_SIZES))
def _insert_alike(rows: int) -> str:
    """Return the insert of rows that follow one another, of which only key and version differ."""
    places = range(_FIXED + 1, _FIXED + 1 + 2 * rows, 2)
    groups = (
        f"(?1, ?2, ?3, ?4 + {at}, 0, ?5, ?{key}, ?{key + 1}, NULL, ?6)" for at, key in enumerate(places)
    )
    return f"{_INSERT}{', '.join(groups)}{_REPEATED}"


def pending(
    connection: sqlite3.Connection,
    kinds: Mapping[str, KindSpec],
    target: str,
    tenant: str,
    limit: int,
    before: int | None,
    after: Stretch | None,
) -> list[Intent]:
    """Return intents in order; of the last step all of them, even beyond the limit."""
    tests = ["held.tenant_id = ?", "held.target = ?"]
    values: list[Any] = [tenant, target, *kinds]
    tests.append(f"held.kind IN ({', '.join('?' for _ in kinds)})")
    if before is not None:
        # A step is older when each row of it is: whoever is given a part of a step would acknowledge all of it.
        tests.append(
            f"held.version < ? AND NOT EXISTS (SELECT 1 FROM {SQLITE_INTENTS} AS other WHERE other.tenant_id = ? "  # noqa: S608 - a fixed name
            "AND other.target = ? AND other.owner = held.owner AND other.number = held.number AND other.version >= ?)"
        )
        values += [before, tenant, target, before]
    start = (tests, values)
    records = _page(connection, *start, limit, after)
    if len(records) < limit or not records:
        return intents_from(records, tenant, kinds)
    owner, number, part, *_ = records[-1]
    tests = [*tests, "held.owner = ? AND held.number = ? AND held.part > ?"]
    return intents_from(
        records + _page(connection, tests, [*values, owner, number, part], -1, None), tenant, kinds
    )


def _page(
    connection: sqlite3.Connection,
    tests: Sequence[str],
    values: Sequence[Any],
    limit: int,
    after: Stretch | None,
) -> list[Any]:
    if after is not None:
        tests = [*tests, "(held.owner, held.number) > (?, ?)"]
        values = [*values, after.owner, after.last]
    return connection.execute(
        "SELECT held.owner, held.number, held.part, held.kind, held.key, held.version, held.trace "  # noqa: S608 - as above
        f"FROM {SQLITE_INTENTS} AS held WHERE {' AND '.join(tests)} "
        "ORDER BY held.owner, held.number, held.part LIMIT ?",
        [*values, limit],
    ).fetchall()


def portions_of(done: Sequence[Stretch]) -> Iterator[list[Stretch]]:
    """Yield stretches by portions of about as many intents as one transaction should remove."""
    portion: list[Stretch] = []
    size = 0
    for one in done:
        portion.append(one)
        size += one.last - one.first + 1
        if size >= _REMOVED:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def remove(
    connection: sqlite3.Connection,
    kinds: Sequence[str],
    target: str,
    tenant: str,
    done: Sequence[Stretch],
) -> tuple[int, list[Stretch]]:
    """Remove intents of stretches in one transaction; return how many, and what is left of the last stretch.

    A stretch that says no more than "all of it" may hold any number of intents.
    """
    rest: list[Stretch] = []
    wide = done[-1]
    if wide.last - wide.first >= _REMOVED:
        found = connection.execute(
            f"SELECT number FROM {_STRETCH} ORDER BY number LIMIT 1 OFFSET ?",  # noqa: S608 - as above
            (tenant, target, *wide, _REMOVED),
        ).fetchone()
        if found is not None and found[0] < wide.last:
            done, rest = [*done[:-1], wide._replace(last=found[0])], [wide._replace(first=found[0] + 1)]
    text = f"DELETE FROM {_STRETCH} AND kind IN ({', '.join('?' for _ in kinds)})"  # noqa: S608 - as above
    connection.execute("BEGIN IMMEDIATE")
    try:
        removed = sum(connection.execute(text, (tenant, target, *one, *kinds)).rowcount for one in done)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return removed, rest


def forget_intents(connection: sqlite3.Connection) -> None:
    """Remove all intents, where there is a table of them.

    In a backup, and in a store that one was brought into, they would name rows as they were once: what the mirrors
    lack then is for a copy or a comparison to find.
    """
    there = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    if connection.execute(there, (SQLITE_INTENTS,)).fetchone():
        connection.execute(f"DELETE FROM {SQLITE_INTENTS}")  # noqa: S608 - as above


def facts(connection: sqlite3.Connection, tenant: str, limit: int) -> list[JournalFacts]:
    """Return what is left for every mirror."""
    found = []
    for target in _following(connection, "target", (tenant,)):
        depth, oldest = connection.execute(
            f"SELECT count(*), min(version) FROM (SELECT version FROM {SQLITE_INTENTS} WHERE target = ? "  # noqa: S608 - as above
            "AND tenant_id = ? LIMIT ?)",
            (target, tenant, limit),
        ).fetchone()
        if depth:
            versions, times = zip(*_heads(connection, target, tenant), strict=True)
            found.append(JournalFacts(target, depth, min(oldest, *versions), min(times)))
    return found


def _heads(connection: sqlite3.Connection, target: str, tenant: str) -> Iterator[tuple[int, int]]:
    """Yield version and time of each owner's first intent: those counted may not hold the oldest."""
    for owner in _following(connection, "owner", (tenant, target)):
        head = connection.execute(
            f"SELECT version, noted_at FROM {SQLITE_INTENTS} WHERE target = ? AND owner = ? AND tenant_id = ? "  # noqa: S608 - as above
            "ORDER BY number, part LIMIT 1",
            (target, owner, tenant),
        ).fetchone()
        if head is not None:
            yield head


def _following(connection: sqlite3.Connection, column: str, fixed: tuple[str, ...]) -> Iterator[str]:
    """Yield the values of a column of the key behind fixed ones, each by one step through the order."""
    within = "tenant_id = ? AND " if len(fixed) == 1 else "tenant_id = ? AND target = ? AND "
    last = ""
    while True:
        (last,) = connection.execute(
            f"SELECT min({column}) FROM {SQLITE_INTENTS} WHERE {within}{column} > ?",  # noqa: S608 - as above
            (*fixed, last),
        ).fetchone()
        if last is None:
            return
        yield last

"""The local journal: intents of a primary that cannot keep them with the rows, in a file beside it.

They are written before the row, so an intent may be there whose row never came; whoever replays it finds nothing newer
than what the mirror has. The other way round, a row without its intent, cannot be.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from gateway.intents import Intent, JournalFacts, Stretch
from gateway.journal.file import JournalFile
from gateway.journal.notes import Note
from gateway.records.kind import KindSpec

__all__ = ["LocalJournal"]

_INSERT: Final = "INSERT INTO intents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_DELETE: Final = """DELETE FROM intents
    WHERE source = ? AND target = ? AND tenant = ? AND owner = ? AND number BETWEEN ? AND ?
      AND kind IN (SELECT value FROM json_each(?))"""
# A step is older when each row of it is: whoever is given a part of a step would acknowledge all of it.
_SELECT: Final = """SELECT owner, number, part, kind, key, version, trace FROM intents AS held
    WHERE source = :source AND target = :target AND tenant = :tenant AND {place}
      AND kind IN (SELECT value FROM json_each(:kinds))
      AND (:before IS NULL OR (version < :before AND NOT EXISTS (SELECT 1 FROM intents AS other
        WHERE other.source = :source AND other.target = :target AND other.tenant = :tenant
          AND other.owner = held.owner AND other.number = held.number AND other.version >= :before)))
    ORDER BY owner, number, part LIMIT :limit"""
_PENDING: Final = _SELECT.format(place="(owner, number) > (:owner, :number)")
_REST: Final = _SELECT.format(place="owner = :owner AND number = :number AND part > :part")
# By steps through the key: a search for all that are different would read the whole journal.
_NEXT_TENANT: Final = "SELECT min(tenant) FROM intents WHERE source = ? AND target = ? AND tenant > ?"
_NEXT_TARGET: Final = "SELECT min(target) FROM intents WHERE source = ? AND target > ?"
_NEXT_HEAD: Final = """SELECT owner, version, noted_at FROM intents
    WHERE source = ? AND target = ? AND tenant = ? AND owner > ? ORDER BY owner, number, part LIMIT 1"""
_COUNTED: Final = """SELECT count(*), min(version), min(noted_at) FROM (SELECT version, noted_at FROM intents
    WHERE source = ? AND target = ? AND tenant = ? LIMIT ?)"""


class LocalJournal:
    """Intents of one primary in the journal's file. Implements `gateway.intents.Journal`.

    How many there are is bounded by who writes them; see `gateway.mirror.bounds`.

    Args:
        file: The file. Whoever made it closes it.
        source: Instance name of the primary.
        kinds: The registered kinds; intents of others are left alone.
    """

    def __init__(self, file: JournalFile, source: str, kinds: Iterable[KindSpec]) -> None:
        self.file = file
        self._source = source
        self._kinds: Mapping[str, KindSpec] = {kind.name: kind for kind in kinds}
        self._names = json.dumps(list(self._kinds))

    def __repr__(self) -> str:
        return f"<LocalJournal {self._source} {self.file.path}>"

    async def note(self, notes: Sequence[Note]) -> None:
        """Keep intents; when it returns, they outlive every process. A number that is there already is left as it is.

        Raises:
            StoreError: None of them was kept.
        """
        await self.file.write(self._insertion(notes))

    def note_now(self, notes: Iterable[Note]) -> None:
        """Do what `note` does, in the caller's thread, which waits for the disk."""
        self.file.write_now(self._insertion(notes))

    def _insertion(self, notes: Iterable[Note]) -> Any:
        source, now = self._source, time.time_ns() // 1_000
        rows: list[tuple[Any, ...]] = [
            (source, target, tenant, owner, number, part, kind.name, json.dumps(key), version, trace, now)
            for target, (owner, number, part, kind, tenant, key, version, trace) in notes
        ]
        return lambda connection: connection.executemany(_INSERT, rows).rowcount

    async def forget(self, stretch: Stretch) -> None:
        """Remove the intents of writes that did not happen, for every mirror.

        Raises:
            StoreError: They are still there, which does no harm.
        """

        def remove(connection: sqlite3.Connection) -> None:
            for target, tenant in _places(connection, self._source):
                connection.execute(_DELETE, (self._source, target, tenant, *stretch, self._names))

        await self.file.write(remove)

    async def pending(
        self, target: str, tenant: str, limit: int, *, before: int | None = None, after: Stretch | None = None
    ) -> Sequence[Intent]:
        """Return intents; see `Journal.pending`."""
        asked = {
            "source": self._source,
            "target": target,
            "tenant": tenant,
            "owner": "" if after is None else after.owner,
            "number": -1 if after is None else after.last,
            "before": before,
            "kinds": self._names,
            "limit": limit,
        }
        nothing: list[tuple[Any, ...]] = []
        rows = await self.file.read(lambda connection: _whole(connection, asked), nothing)
        kinds = self._kinds
        return [
            Intent(owner, number, part, kinds[kind], tenant, tuple(json.loads(key)), version, trace)
            for owner, number, part, kind, key, version, trace in rows
        ]

    async def acknowledge(self, target: str, tenant: str, done: Sequence[Stretch]) -> int:
        """Remove intents; see `Journal.acknowledge`."""
        place = (self._source, target, tenant)

        def remove(connection: sqlite3.Connection) -> int:
            before = connection.total_changes
            connection.executemany(_DELETE, [(*place, *one, self._names) for one in done])
            return connection.total_changes - before

        return await self.file.write(remove) if done else 0

    async def facts(self, tenant: str, limit: int) -> Sequence[JournalFacts]:
        """Return what is left; see `Journal.facts`."""
        source = self._source

        def look(connection: sqlite3.Connection) -> list[JournalFacts]:
            found = []
            for target, whose in _places(connection, source):
                if whose == tenant:
                    place = (source, target, tenant)
                    depth, *counted = connection.execute(_COUNTED, (*place, limit)).fetchone()
                    # Those that were counted may not hold the oldest, which is about the first of its owner.
                    versions, times = zip(counted, *_heads(connection, place), strict=True)
                    found.append(JournalFacts(target, depth, min(versions), min(times)))
            return found

        return await self.file.read(look, [])


def _places(connection: sqlite3.Connection, source: str) -> Iterator[tuple[str, str]]:
    """Yield each mirror and tenant of which there is something."""
    target = ""
    while (target := connection.execute(_NEXT_TARGET, (source, target)).fetchone()[0]) is not None:
        tenant = ""
        while (
            tenant := connection.execute(_NEXT_TENANT, (source, target, tenant)).fetchone()[0]
        ) is not None:
            yield target, tenant


def _heads(connection: sqlite3.Connection, place: tuple[str, str, str]) -> Iterator[tuple[int, int]]:
    """Yield version and time of each owner's first intent."""
    owner = ""
    while (head := connection.execute(_NEXT_HEAD, (*place, owner)).fetchone()) is not None:
        owner, version, since = head
        yield version, since


def _whole(connection: sqlite3.Connection, asked: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return a page of intents; of its last step all of them, even beyond the limit."""
    rows = connection.execute(_PENDING, asked).fetchall()
    if len(rows) < asked["limit"] or not rows:
        return rows
    owner, number, part, *_ = rows[-1]
    step = {"owner": owner, "number": number, "part": part, "limit": -1}
    return rows + connection.execute(_REST, {**asked, **step}).fetchall()

"""The local journal: intents of a primary that cannot keep them with the rows, in a file beside it.

They are written before the row, so an intent may be there whose row never came; whoever replays it finds nothing newer
than what the mirror has. The other way round, a row without its intent, cannot be.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from gateway.intents import Intent, JournalFacts, Stretch
from gateway.journal.file import JournalFile
from gateway.journal.notes import Note
from gateway.records.kind import KindSpec

__all__ = ["LocalJournal"]

_INSERT: Final = "INSERT OR REPLACE INTO intents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_DELETE: Final = """DELETE FROM intents
    WHERE source = ? AND target = ? AND tenant = ? AND owner = ? AND number BETWEEN ? AND ?"""
_PENDING: Final = """SELECT owner, number, part, kind, key, version, trace FROM intents
    WHERE source = :source AND target = :target AND tenant = :tenant AND (owner, number) > (:owner, :number)
      AND version < :before AND kind IN (SELECT value FROM json_each(:kinds))
    ORDER BY owner, number, part LIMIT :limit"""
_TARGETS: Final = "SELECT DISTINCT target, tenant FROM intents WHERE source = ?"
_DEPTH: Final = """SELECT count(*) FROM (
    SELECT 1 FROM intents WHERE source = ? AND target = ? AND tenant = ? LIMIT ?)"""
_OLDEST: Final = "SELECT min(version) FROM intents WHERE source = ? AND target = ? AND tenant = ?"
_END: Final = 2**63 - 1


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
        """Keep intents; when it returns, they outlive every process. Repeating it changes nothing.

        Raises:
            StoreError: None of them was kept.
        """
        await self.file.write(self._insertion(notes))

    def note_now(self, notes: Iterable[Note]) -> None:
        """Do what `note` does, in the caller's thread, which waits for the disk."""
        self.file.write_now(self._insertion(notes))

    def _insertion(self, notes: Iterable[Note]) -> Any:
        source = self._source
        rows: list[tuple[Any, ...]] = [
            (source, target, tenant, owner, number, part, kind.name, json.dumps(key), version, trace)
            for target, (owner, number, part, kind, tenant, key, version, trace) in notes
        ]
        return lambda connection: connection.executemany(_INSERT, rows).rowcount

    async def forget(self, stretch: Stretch) -> None:
        """Remove the intents of writes that did not happen, for every mirror.

        Raises:
            StoreError: They are still there, which does no harm.
        """

        def remove(connection: sqlite3.Connection) -> None:
            for target, tenant in connection.execute(_TARGETS, (self._source,)).fetchall():
                connection.execute(_DELETE, (self._source, target, tenant, *stretch))

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
            "before": _END if before is None else before,
            "kinds": self._names,
            "limit": limit,
        }
        nothing: list[tuple[Any, ...]] = []
        rows = await self.file.read(
            lambda connection: connection.execute(_PENDING, asked).fetchall(), nothing
        )
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
            connection.executemany(_DELETE, [(*place, *one) for one in done])
            return connection.total_changes - before

        return await self.file.write(remove) if done else 0

    async def facts(self, tenant: str, limit: int) -> Sequence[JournalFacts]:
        """Return what is left; see `Journal.facts`."""
        source = self._source

        def look(connection: sqlite3.Connection) -> list[JournalFacts]:
            found = []
            for target, whose in connection.execute(_TARGETS, (source,)).fetchall():
                if whose == tenant:
                    (depth,) = connection.execute(_DEPTH, (source, target, tenant, limit)).fetchone()
                    (oldest,) = connection.execute(_OLDEST, (source, target, tenant)).fetchone()
                    found.append(JournalFacts(target, depth, oldest))
            return found

        return await self.file.read(look, [])

"""Where each log row is: a derived index, so that a write knows what it replaces, with bounded memory.

A log may hold millions of ids, too many for memory, and finding one in the files would mean reading them all.
So the writer keeps `record id -> version, digest, day, offset` in a small SQLite file (from the standard
library). The JSON files alone are the truth: the index notes the size and modification time of every file it
has read, reads again what changed, and is rebuilt if it is missing or damaged. Losing it costs the time of
reading the logs once.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from gateway.errors import StoreError, StoreFullError, StoreReadOnlyError, StoreUnavailableError
from gateway.records.kind import KindSpec
from gateway_json.report import Report
from gateway_json.tree import Tree
from gateway_json.views import Line, lines_of

__all__ = ["Change", "Entry", "LogIndex"]

_FORMAT: Final = 1
_CHUNK: Final = 500
_SCHEMA: Final = """
CREATE TABLE files (scope TEXT, day TEXT, size INTEGER, mtime_ns INTEGER,
                    PRIMARY KEY (scope, day)) WITHOUT ROWID;
CREATE TABLE rows (scope TEXT, record_id TEXT, version INTEGER, digest INTEGER, day TEXT, offset INTEGER,
                   PRIMARY KEY (scope, record_id)) WITHOUT ROWID;
CREATE INDEX rows_by_day ON rows (scope, day);
"""
_SELECT: Final = "SELECT record_id, version, digest, day, offset FROM rows WHERE scope = ? AND record_id IN"
_UPSERT: Final = """
INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
SET version = excluded.version, digest = excluded.digest, day = excluded.day, offset = excluded.offset
WHERE (excluded.version, excluded.digest) > (version, digest)
   OR ((excluded.version, excluded.digest) = (version, digest) AND offset < 0)
"""


class Entry(NamedTuple):
    """Where a row's newest version is.

    Attributes:
        version: Its version.
        digest: Its digest.
        day: The day whose file holds it.
        offset: Where its line starts, in bytes; negative if only a marker told of it.
    """

    version: int
    digest: int
    day: str
    offset: int

    @property
    def stamp(self) -> tuple[int, int]:
        """Version and digest."""
        return (self.version, self.digest)


@dataclass(frozen=True, slots=True)
class Change:
    """What was appended to one day's file.

    Attributes:
        scope: The log's directory.
        day: The day.
        rows: Where the new rows are, by record id.
        size: The file's size since, in bytes.
        mtime_ns: Its modification time since, in nanoseconds since 1970.
    """

    scope: Path
    day: str
    rows: Mapping[str, Entry]
    size: int
    mtime_ns: int


class LogIndex:
    """The index of one store's logs. Safe to use from several threads.

    Args:
        tree: Where the logs are.
        report: Told when the index had to be rebuilt.
    """

    def __init__(self, tree: Tree, report: Report) -> None:
        self._tree = tree
        self._report = report
        self._lock = threading.RLock()
        self._connection = self._open()

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            self._connection.close()

    def find(self, scope: Path, ids: Iterable[str]) -> dict[str, Entry]:
        """Return where rows are; ids that were never stored are left out."""
        name, wanted = self._tree.name_of(scope), list(dict.fromkeys(ids))
        found: dict[str, Entry] = {}
        with self._guard():
            for start in range(0, len(wanted), _CHUNK):
                part = wanted[start : start + _CHUNK]
                marks = ",".join("?" * len(part))
                sql = f"{_SELECT} ({marks})"
                found |= {row[0]: Entry(*row[1:]) for row in self._connection.execute(sql, (name, *part))}
        return found

    def sync(self, kind: KindSpec, scope: Path) -> None:
        """Bring the index up to date with the files of a log, reading only those that changed."""
        name = self._tree.name_of(scope)
        with self._guard():
            known = {
                day: (size, mtime)
                for day, size, mtime in self._connection.execute(
                    "SELECT day, size, mtime_ns FROM files WHERE scope = ?", (name,)
                )
            }
        days = self._tree.days(scope)
        self.forget(scope, known.keys() - set(days))
        for day in days:
            self.refresh(kind, scope, day, known.get(day))

    def refresh(self, kind: KindSpec, scope: Path, day: str, known: tuple[int, int] | None) -> None:
        """Read a day's file again unless it is still as it was.

        Args:
            kind: The log.
            scope: The log's directory.
            day: Which day.
            known: The file's size in bytes and its modification time in nanoseconds, as indexed.
        """
        path = scope / f"{day}.jsonl"
        state = path.stat()
        if known == (state.st_size, state.st_mtime_ns):
            return
        with path.open("rb") as file:
            self._reindex(scope, day, lines_of(path, file, kind, state.st_size), state)

    def known(self, scope: Path, day: str) -> tuple[int, int] | None:
        """Return size and modification time of a day's file as indexed; None if it is not."""
        with self._guard():
            sql = "SELECT size, mtime_ns FROM files WHERE scope = ? AND day = ?"
            row = self._connection.execute(sql, (self._tree.name_of(scope), day)).fetchone()
        return (row[0], row[1]) if row is not None else None

    def record(self, changes: Iterable[Change]) -> None:
        """Note what was appended, all of it or nothing.

        A row that is noted but not stored would refuse its own retry.
        """
        with self._guard(), self._transaction():
            for change in changes:
                name = self._tree.name_of(change.scope)
                rows = [(name, record_id, *entry) for record_id, entry in change.rows.items()]
                self._connection.executemany(_UPSERT, rows)
                file = (name, change.day, change.size, change.mtime_ns)
                self._connection.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", file)

    def forget(self, scope: Path, days: Iterable[str]) -> None:
        """Drop the rows of days whose files are gone."""
        name = self._tree.name_of(scope)
        pairs = [(name, day) for day in days]
        if pairs:
            with self._guard(), self._transaction():
                self._drop_days(pairs)

    def count(self, scope: Path, day: str) -> int:
        """Return how many current rows a day's file holds, tombstones included."""
        with self._guard():
            sql = "SELECT count(*) FROM rows WHERE scope = ? AND day = ?"
            return int(self._connection.execute(sql, (self._tree.name_of(scope), day)).fetchone()[0])

    def _reindex(self, scope: Path, day: str, lines: Iterator[Line], state: os.stat_result) -> None:
        name = self._tree.name_of(scope)
        # A marker stands for the version that moved, so that an older one in this file does not come back to
        # life.
        rows = (
            (name, line.record_id, *line.stamp, line.moved or day, -1 if line.moved else line.offset)
            for line in lines
        )
        with self._guard(), self._transaction():
            self._drop_days([(name, day)])
            self._connection.executemany(_UPSERT, rows)
            self._connection.execute(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)",
                (name, day, state.st_size, state.st_mtime_ns),
            )

    def _drop_days(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._connection.executemany("DELETE FROM rows WHERE scope = ? AND day = ?", pairs)
        self._connection.executemany("DELETE FROM files WHERE scope = ? AND day = ?", pairs)

    def _open(self) -> sqlite3.Connection:
        """Open the index, or make it anew if it is missing, damaged or of another format."""
        path = self._tree.index
        try:
            # What is left of a removed index must not be taken for a part of the new one.
            return _connect(path) if path.exists() else _remake(path)
        except sqlite3.OperationalError as error:
            raise _failure(path, error) from error
        except sqlite3.DatabaseError as error:
            remade = _remake(path)
            self._report.mended(f"{path} was damaged ({error}); it was made anew from the logs")
            return remade

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing; an error leaves the index as it was."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        """One thread at a time, with the driver's errors translated."""
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise _failure(self._tree.index, error) from error


def _failure(path: Path, error: sqlite3.Error) -> StoreError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the rest of it only refines
    if code == sqlite3.SQLITE_FULL:
        return StoreFullError(f"no space left to write {path}; free some space")
    if code == sqlite3.SQLITE_READONLY:
        return StoreReadOnlyError(f"{path} may not be written; give this user write permission")
    return StoreUnavailableError(
        f"the index {path} cannot be used ({error}). Close the gateway and remove the file; it is made anew "
        "from the logs"
    )


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=32)
    try:
        # A commit does not wait for the disk: what a power loss takes from the index is found in the files
        # again.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found == 0:
            connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_FORMAT}; COMMIT")
        elif found != _FORMAT:
            raise sqlite3.DatabaseError(f"format {found}, wanted {_FORMAT}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _remake(path: Path) -> sqlite3.Connection:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return _connect(path)

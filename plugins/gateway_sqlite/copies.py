"""Reading a copy of a SQLite store: every row of every kind, checked against its digest."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from gateway.backend import RangeDigest
from gateway.dump import Tally
from gateway.errors import StoreCorruptError
from gateway.records.kind import KindSpec
from gateway.records.row import Row
from gateway.sql.dialect import SQLITE, SYSTEM_TABLES, quoted, table_name
from gateway.sql.filters import digest_total
from gateway.sql.migrations import refuse_newer
from gateway.sql.statements import statements_of
from gateway.upkeep import BackupReport
from gateway_sqlite.connection import connect

__all__ = ["Copy", "is_sqlite"]

_MAGIC: Final = b"SQLite format 3\x00"
_NAMED: Final = 20
_TABLES: Final = (
    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
)


def is_sqlite(head: bytes) -> bool:
    """Tell by the first bytes of a file whether it is a SQLite database."""
    return head.startswith(_MAGIC)


class Copy:
    """A file that nobody writes: a backup.

    Args:
        path: The file.
        kinds: Every registered kind.
    """

    def __init__(self, path: Path, kinds: Sequence[KindSpec]) -> None:
        self._path = path
        self._kinds = tuple(kinds)

    def __repr__(self) -> str:
        return f"<Copy {self._path}>"

    def check(self, taken_at: datetime, totals: Mapping[str, RangeDigest] | None = None) -> BackupReport:
        """Check the structure of the file, and every row against its digest.

        Args:
            taken_at: The moment it shows.
            totals: What the store itself summed at that moment, by kind; None if nobody knows any more.

        Raises:
            StoreCorruptError: It is no store of ours, or too damaged to be read.
            SchemaTooNewError: A newer gateway made it.
            sqlite3.Error: It cannot be read.
        """
        with closing(self._opened()) as connection:
            problems = _structure(connection)
            tally, damaged = Tally(), 0
            for row in self._read(connection):
                # A damaged file may hold anything where the digest was, for SQLite keeps what it is given.
                digest: Any = row.digest
                tally.add(row.kind.name, digest if isinstance(digest, int) else 0)
                if not row.intact:
                    damaged += 1
                    if damaged <= _NAMED:
                        problems.append(
                            f"a row of {row.kind.name} does not give its digest (version {row.version})"
                        )
            if damaged > _NAMED:
                problems.append(f"and {damaged - _NAMED:,} rows more")
            unchecked = self._strangers(connection)
        problems += [
            f"{name}: the copy holds {tally.of(name).rows:,} rows and the store held {one.rows:,}, or others"
            for name, one in (totals or {}).items()
            if one != tally.of(name)
        ]
        names = [kind.name for kind in self._kinds if not kind.local]
        size = self._path.stat().st_size
        return BackupReport(self._path, taken_at, size, tally.rows(names), tuple(problems), unchecked)

    def rows(self) -> Iterator[Row]:
        """Yield every row of the registered kinds.

        Raises:
            StoreCorruptError: A row does not give its digest.
        """
        with closing(self._opened()) as connection:
            for row in self._read(connection):
                if not row.intact:
                    raise StoreCorruptError(
                        f"{self._path}: a row of {row.kind.name} does not give its digest (version {row.version})"
                    )
                yield row

    @staticmethod
    def totals(connection: sqlite3.Connection, kinds: Sequence[KindSpec]) -> dict[str, RangeDigest]:
        """Return rows and digest sums of the kinds that have a table, all tenants together."""
        present = _tables(connection)
        found = {}
        for kind in kinds:
            if kind.name in present:
                rows, high, low = connection.execute(
                    "SELECT COUNT(*), COALESCE(SUM(digest >> 32), 0), COALESCE(SUM(digest & 4294967295), 0) "  # noqa: S608 - names of registered kinds
                    f"FROM {quoted(table_name(kind.name))}"
                ).fetchone()
                found[kind.name] = RangeDigest(rows, digest_total(high, low))
        return found

    def _opened(self) -> sqlite3.Connection:
        # A backup is never written, so it is read as it is: no log, no lock, and from a read-only disk too.
        connection = connect(self._path.absolute(), "ro&immutable=1", 0)
        try:
            self._refuse_others(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _refuse_others(self, connection: sqlite3.Connection) -> None:
        if "alembic_version" not in _tables(connection):
            raise StoreCorruptError(f"{self._path} is a SQLite file, and no store of the gateway")
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        refuse_newer(None if row is None else row[0], "")

    def _read(self, connection: sqlite3.Connection) -> Iterator[Row]:
        present = _tables(connection)
        for kind in self._kinds:
            if kind.name not in present:
                continue
            statements, table = statements_of(kind, SQLITE), quoted(table_name(kind.name))
            columns = f"tenant_id, {_columns(connection, kind)}"
            for tenant, *record in connection.execute(f"SELECT {columns} FROM {table}"):  # noqa: S608 - as above
                yield statements.row(tenant, record)

    def _strangers(self, connection: sqlite3.Connection) -> tuple[str, ...]:
        """Return the tables with rows whose kinds nobody here registered."""
        known = {kind.name for kind in self._kinds} | SYSTEM_TABLES
        return tuple(
            name
            for name in sorted(_tables(connection) - known)
            if connection.execute(f"SELECT 1 FROM {_escaped(name)} LIMIT 1").fetchone()  # noqa: S608 - escaped
        )


def _columns(connection: sqlite3.Connection, kind: KindSpec) -> str:
    """Return what `Statements.row` expects, with NULL for fields that the kind gained after the copy was made."""
    there = {record[1] for record in connection.execute(f"PRAGMA table_info({quoted(kind.name)})")}
    names = ("version", "digest", "deleted", *kind.field_names)
    return ", ".join(quoted(name) if name in there else f"NULL AS {quoted(name)}" for name in names)


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute(_TABLES)}


def _escaped(name: str) -> str:
    """Quote the name of a table that the gateway did not make, which may hold anything."""
    return '"' + name.replace('"', '""') + '"'


def _structure(connection: sqlite3.Connection) -> list[str]:
    """Return what SQLite's own check of every page and every index finds wrong."""
    found: list[tuple[Any]] = connection.execute(f"PRAGMA integrity_check({_NAMED})").fetchall()
    return [f"the file is damaged: {text}" for (text,) in found if text != "ok"]

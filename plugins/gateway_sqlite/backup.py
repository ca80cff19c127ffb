"""Backups of a SQLite file while bots write to it, and bringing one back.

Copying the file is no backup: what was committed last may be in the write-ahead log beside it, and a copy made
during a checkpoint is of no moment at all. SQLite's own backup, inside one reading transaction, copies the pages of
one moment, whatever is written meanwhile.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final

from gateway.backend import OpenContext, RangeDigest
from gateway.backups import kept_rows, parse_name, refuse_unrestorable
from gateway.drafts import draft_of, file_error
from gateway.dump import Tally, check_dump, is_dump, rows_of
from gateway.errors import (
    ConfigurationError,
    SchemaError,
    StoreCorruptError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from gateway.records.kind import KindSpec
from gateway.records.row import Row
from gateway.sql.dialect import SQLITE
from gateway.sql.statements import statements_of
from gateway.upkeep import BackupReport
from gateway_sqlite.connection import connect
from gateway_sqlite.copies import Copy, is_sqlite
from gateway_sqlite.errors import translate, translated
from gateway_sqlite.files import log_of
from gateway_sqlite.intents import forget_intents
from gateway_sqlite.probe import connect_to_look
from gateway_sqlite.settings import SqliteSettings, store_path

__all__ = ["SqliteBackup", "backup_of"]

_PAGES: Final = 4_096
"""Pages copied before Python gets its turn, so that a backup can be interrupted."""
_ROWS: Final = 512
_HEAD_BYTES: Final = 64


class SqliteBackup:
    """Backs up one file.

    Args:
        path: The file.
        kinds: Every registered kind.
        busy_timeout: Seconds to wait for other processes.
        backend: Instance name, for errors.
        context: What the schema is made with when a backup is restored.
    """

    suffix = ".db"

    def __init__(
        self, path: Path, kinds: Sequence[KindSpec], busy_timeout: float, backend: str, context: OpenContext
    ) -> None:
        self._path = path
        self._kinds = tuple(kinds)
        self._kept = tuple(kind for kind in kinds if not kind.local)
        self._busy_timeout = busy_timeout
        self._backend = backend
        self._context = context

    def __repr__(self) -> str:
        return f"<SqliteBackup {self._backend} {self._path}>"

    def takes(self, source: Path) -> bool:
        """Tell whether a file is a SQLite database, or a backup in rows, which any backend can restore."""
        head = _head(source)
        return is_sqlite(head) or is_dump(head)

    def write(self, target: Path) -> BackupReport:
        """Copy the file as it is at one moment, verify the copy, and give it its name.

        Raises:
            StoreError: The file cannot be read, or the copy is not what it should be; no file is left.
        """
        with translated(self._backend):
            connect_to_look(
                self._path, self._busy_timeout
            ).close()  # says that it is missing before anything is made
            with draft_of(target) as draft:
                taken_at, totals = self._copy(draft)
                report = Copy(draft, self._kinds).check(taken_at, totals)
                if not report.ok:
                    raise StoreCorruptError(
                        f"the backup was not kept, for the store is damaged: {'; '.join(report.problems)}. Run "
                        "`gateway verify --deep`, and keep the older backups",
                        backend=self._backend,
                    )
            return BackupReport(target, taken_at, report.size, report.rows, (), report.unchecked)

    def _copy(self, draft: Path) -> tuple[datetime, dict[str, RangeDigest]]:
        """Copy the pages of one moment; return the moment, and the store's own sums of it."""
        source = connect_to_look(self._path, self._busy_timeout)
        with closing(source), closing(sqlite3.connect(draft, isolation_level=None)) as copy:
            source.execute("BEGIN")
            source.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()  # the moment is this one
            taken_at = datetime.now(UTC)
            # In a transaction of the source's own connection the copy never begins anew, however much is written.
            source.backup(copy, pages=_PAGES, progress=lambda *_: None)
            totals = Copy.totals(source, self._kinds)
            source.execute("ROLLBACK")
            # One file, not one with a log beside it; nobody else writes it.
            copy.execute("PRAGMA journal_mode=DELETE")
            forget_intents(copy)
        return taken_at, totals

    def verify(self, source: Path) -> BackupReport:
        """Read a backup: its structure, and every row against its digest.

        Raises:
            StoreCorruptError: It is no backup at all.
            SchemaTooNewError: A newer gateway made it.
            StoreError: It cannot be read.
        """
        head = _head(source)
        if is_dump(head):
            return check_dump(source, self._kinds)
        if not is_sqlite(head):
            raise StoreCorruptError(f"{source} is no backup of a SQLite store, nor one in rows")
        if log_of(source).exists():
            raise StoreUnavailableError(
                f"{source} is a store in use and no backup, for its write-ahead log lies beside it; `gateway verify "
                "--deep` checks a store"
            )
        taken_at = _taken_at(source)
        with translated(self._backend):
            try:
                return Copy(source, self._kinds).check(taken_at)
            except sqlite3.Error as error:
                if not isinstance(translate(error, self._backend), StoreCorruptError):
                    raise
                problem = f"it is damaged, and cannot be read to its end ({error})"
                return BackupReport(source, taken_at, source.stat().st_size, {}, (problem,))

    def restore(self, source: Path) -> BackupReport:
        """Bring the rows of a backup into the store, in one transaction, after making its schema.

        Raises:
            StoreError: The backup does not verify, or the store holds rows; nothing was changed.
        """
        if source.exists() and self._path.exists() and source.samefile(self._path):
            raise StoreReadOnlyError(f"{source} is the store itself", backend=self._backend)
        report = self.verify(source)
        refuse_unrestorable(report, self._kinds)
        self._refuse_rows()
        from gateway_sqlite.schema import schema_of  # SQLAlchemy is imported for this alone

        schema_of(self._context).upgrade()
        rows = rows_of(source, self._kinds) if is_dump(_head(source)) else Copy(source, self._kinds).rows()
        with translated(self._backend), closing(connect(self._path, "rw", self._busy_timeout)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                self._fill(connection, kept_rows(rows), report)
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
        return report

    def _refuse_rows(self) -> None:
        """Find out early that the store holds rows: before its schema is touched."""
        if self._path.is_file() and self._path.stat().st_size:
            with (
                translated(self._backend),
                closing(connect_to_look(self._path, self._busy_timeout)) as connection,
            ):
                self._refuse_filled(connection)

    def _refuse_filled(self, connection: sqlite3.Connection) -> None:
        filled = sorted(name for name, one in Copy.totals(connection, self._kept).items() if one.rows)
        if filled:
            raise SchemaError(
                f"{self._path} holds rows already ({', '.join(filled)}); nothing was changed. Restore into a new "
                "file, or move this one away first",
                backend=self._backend,
            )

    def _fill(self, connection: sqlite3.Connection, rows: Iterable[Row], report: BackupReport) -> None:
        """Store all rows inside the open transaction, and make sure that they are all there."""
        self._refuse_filled(connection)  # nobody else can write from here on
        forget_intents(connection)
        tally, stream = Tally(), iter(rows)
        while portion := list(islice(stream, _ROWS)):
            for row in portion:
                tally.add(row.kind.name, row.digest)
            _insert(connection, portion)
        stored = Copy.totals(connection, self._kept)
        wrong = [
            name
            for name, one in stored.items()
            if one != tally.of(name) or one.rows != report.rows.get(name, 0)
        ]
        if wrong:
            raise StoreCorruptError(
                f"what was restored of {', '.join(wrong)} is not what the backup holds; nothing was changed. "
                "Was the file changed meanwhile?",
                backend=self._backend,
            )


def backup_of(context: OpenContext) -> SqliteBackup:
    """Return what backs up the store that a context describes.

    Raises:
        ConfigurationError: The settings are not those of a SQLite store.
    """
    settings = context.settings
    if not isinstance(settings, SqliteSettings):
        raise ConfigurationError("the sqlite backend is opened with SqliteSettings")
    path = store_path(settings, context.data_dir)
    return SqliteBackup(path, context.kinds, settings.busy_timeout, context.instance, context)


def _insert(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    by_kind: dict[KindSpec, list[Row]] = {}
    for row in rows:
        by_kind.setdefault(row.kind, []).append(row)
    for kind, alike in by_kind.items():
        statements = statements_of(kind, SQLITE)
        for portion, size in _portions(alike, statements.portions(len(alike))):
            connection.execute(statements.upsert_of(size), statements.many_parameters(portion))


def _portions(rows: Sequence[Row], sizes: Iterable[int]) -> Iterator[tuple[Sequence[Row], int]]:
    start = 0
    for size in sizes:
        yield rows[start : start + size], size
        start += size


def _taken_at(source: Path) -> datetime:
    """Return when a copy was made: by its name, or else by the time of the file."""
    named = parse_name(source.name)
    return named.at if named is not None else datetime.fromtimestamp(source.stat().st_mtime, UTC)


def _head(source: Path) -> bytes:
    try:
        with source.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError as error:
        raise file_error(error, source) from error

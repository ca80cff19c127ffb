"""Backups of a PostgreSQL store: the rows of all tenants at one moment, as values that any backend can restore.

`pg_dump` and base backups with WAL archiving are the server's own ways and stay the right ones for a whole server;
docs/postgres.md says when. What is made here can be checked row by row without a server, and be restored into
another release, another server or another backend.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psycopg

from gateway.backend import OpenContext, RangeDigest
from gateway.backups import kept_rows, refuse_unrestorable
from gateway.drafts import draft_of, file_error
from gateway.dump import SUFFIX, DumpHeader, Tally, check_dump, dumped, is_dump, rows_of, write_dump
from gateway.errors import SchemaError, StoreCorruptError, StoreReadOnlyError
from gateway.records.kind import KindSpec
from gateway.records.row import Row
from gateway.sql.dialect import POSTGRES
from gateway.upkeep import BackupReport
from gateway_postgres import noting
from gateway_postgres.operators import PgConnection, blinded, connected
from gateway_postgres.portable import filled_strangers, present_kinds, read_all, totals_of, write_all

__all__ = ["PostgresBackup", "backup_of"]

_LOCK_TIMEOUT: Final = "10s"


class PostgresBackup:
    """Backs up one database.

    Args:
        context: Names the server, the logins and the kinds.
    """

    suffix = SUFFIX

    def __init__(self, context: OpenContext) -> None:
        self._context = context
        self._kinds = tuple(context.kinds)
        self._kept = tuple(kind for kind in context.kinds if not kind.local)
        self._backend = context.instance

    def __repr__(self) -> str:
        return f"<PostgresBackup {self._backend}>"

    def takes(self, source: Path) -> bool:
        """Tell whether a file is a backup in rows, of whatever backend."""
        try:
            with source.open("rb") as file:
                return is_dump(file.read(2))
        except OSError as error:
            raise file_error(error, source) from error

    def write(self, target: Path) -> BackupReport:
        """Write the rows of one moment, read the file back, and give it its name.

        Raises:
            SchemaError: There are rows of kinds that nobody registered, or there is no schema.
            StoreReadOnlyError: Row security hides rows from this login.
            StoreError: The server cannot be read, or what was read back is not what it holds; no file is left.
        """
        with draft_of(target) as draft:
            header, totals = self._dump(draft)
            report = check_dump(draft, self._kinds)
            wrong = [name for name, one in totals.items() if report.rows.get(name) != one.rows]
            if not report.ok or wrong:
                raise StoreCorruptError(
                    f"the backup was not kept: {'; '.join(report.problems) or ', '.join(wrong)}. Run "
                    "`gateway verify --deep`, and keep the older backups",
                    backend=self._backend,
                )
        return BackupReport(target, header.taken_at, report.size, report.rows)

    def _dump(self, draft: Path) -> tuple[DumpHeader, dict[str, RangeDigest]]:
        """Write all rows of one moment; return the first line, and the store's own sums at that moment."""
        with connected(self._context) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            with connection.transaction():
                server, taken_at = _moment(connection)
                kinds = self._readable(connection)
                header = DumpHeader(taken_at, server, tuple(map(dumped, kinds)))
                totals = {kind.name: totals_of(connection, kind) for kind in kinds}
                tally = write_dump(draft, header, _rows(connection, kinds))
        wrong = [name for name, one in totals.items() if one != tally.of(name)]
        if wrong:
            raise StoreCorruptError(
                f"the rows that were read of {', '.join(wrong)} are not those that the server counts and sums at the "
                "same moment; no backup was made. An index may be damaged: try `REINDEX`",
                backend=self._backend,
            )
        return header, totals

    def _readable(self, connection: PgConnection) -> list[KindSpec]:
        """Return the kinds to back up, after making sure that nothing is left out in silence."""
        kinds = present_kinds(connection, self._kept)
        if not kinds:
            raise SchemaError("there are no tables yet; run `gateway schema upgrade`", backend=self._backend)
        _refuse_blinded(connection, kinds, self._backend)
        strangers = filled_strangers(connection, self._kinds)
        if strangers:
            raise SchemaError(
                f"{', '.join(strangers)}: rows of kinds that nobody registered here would be missing from the backup, "
                "so none was made. Install the plugin that brings them, or name the bot's module: "
                "`gateway --import MODULE backup`",
                backend=self._backend,
            )
        return kinds

    def verify(self, source: Path) -> BackupReport:
        """Read a backup and check every row against its digest. No server is asked.

        Raises:
            StoreCorruptError: It is no such backup.
            StoreError: It cannot be read.
        """
        return check_dump(source, self._kinds)

    def restore(self, source: Path) -> BackupReport:
        """Bring the rows of a backup into empty tables, in one transaction, after making the schema.

        Raises:
            StoreError: The backup does not verify, or there are rows already; none was changed.
        """
        report = self.verify(source)
        refuse_unrestorable(report, self._kinds)
        from gateway_postgres.schema import schema_of  # SQLAlchemy is imported for this alone

        schema_of(self._context).upgrade()
        with connected(self._context) as connection, connection.transaction():
            self._claim(connection)
            # They would name rows that are gone; what mirrors lack now is for a copy or a comparison to find.
            connection.execute(noting.FORGET.encode())
            tally = Tally()
            write_all(connection, _tallied(kept_rows(rows_of(source, self._kinds)), tally))
            self._compare(connection, tally, report)
        return report

    def _claim(self, connection: PgConnection) -> None:
        """Keep everybody else from writing until the transaction ends, and make sure that there is nothing yet."""
        _refuse_blinded(connection, self._kinds, self._backend)
        tables = ", ".join(POSTGRES.table(kind) for kind in self._kept)
        connection.execute("SELECT set_config('lock_timeout', %s, true)", (_LOCK_TIMEOUT,))
        connection.execute(f"LOCK TABLE {tables} IN SHARE ROW EXCLUSIVE MODE".encode())
        filled = [kind.name for kind in self._kept if totals_of(connection, kind).rows]
        if filled:
            raise SchemaError(
                f"there are rows already ({', '.join(filled)}); nothing was changed. Restore into a new database",
                backend=self._backend,
            )

    def _compare(self, connection: PgConnection, tally: Tally, report: BackupReport) -> None:
        wrong = [
            kind.name
            for kind in self._kept
            if totals_of(connection, kind) != tally.of(kind.name)
            or tally.of(kind.name).rows != report.rows.get(kind.name, 0)
        ]
        if wrong:
            raise StoreCorruptError(
                f"what was restored of {', '.join(wrong)} is not what the backup holds; nothing was changed",
                backend=self._backend,
            )


def backup_of(context: OpenContext) -> PostgresBackup:
    """Return what backs up the store that a context describes."""
    return PostgresBackup(context)


def _moment(connection: PgConnection) -> tuple[str, datetime]:
    """Return what the server is and the time; the first statement of a transaction, it chooses its moment."""
    row = connection.execute("SELECT current_setting('server_version'), clock_timestamp()").fetchone()
    version, moment = row or ("", datetime.now(UTC))
    return f"PostgreSQL {version}", moment.astimezone(UTC)


def _rows(connection: PgConnection, kinds: Sequence[KindSpec]) -> Iterator[Row]:
    for kind in kinds:
        yield from read_all(connection, kind)


def _tallied(rows: Iterable[Row], tally: Tally) -> Iterator[Row]:
    for row in rows:
        tally.add(row.kind.name, row.digest)
        yield row


def _refuse_blinded(connection: PgConnection, kinds: Sequence[KindSpec], backend: str) -> None:
    hidden = blinded(connection, kinds)
    if hidden:
        user = connection.info.user
        raise StoreReadOnlyError(
            f"row security hides rows of other tenants from the login {user!r} (in {len(hidden)} tables, {hidden[0]} "
            "first), so nothing was done: set STORAGE_POSTGRES_ADMIN_URL to a login that is a member of the admin "
            "role (`gateway schema roles` shows the statements)",
            backend=backend,
        )

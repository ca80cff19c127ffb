"""The schema of a SQL store: what it is, what it should be, and the way from one to the other."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateIndex, CreateTable

from gateway.errors import SchemaError, StoreError, StoreUnavailableError
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.kind import KindSpec
from gateway.sql import migrations
from gateway.sql.dialect import SQLITE, Dialect
from gateway.sql.drift import Drift, drift_of
from gateway.sql.fingerprints import fingerprint_of
from gateway.sql.migrations import HEAD, REVISIONS, refuse_newer
from gateway.sql.tables import KINDS_TABLE, metadata_of

__all__ = ["LOCKED", "Schema"]

LOCKED: Final = "gateway_locked"
"""Execution option of transactions that change the schema; the engine begins them with the store's write
lock."""

_BASE: Final = "base"


class Schema:
    """Looks at and changes the schema of one store. Every method is synchronous and opens its own connection.

    Args:
        engine: Reaches the store. A transaction with the execution option `LOCKED` must begin with the
            store's write lock, and DDL in it must be undone by a rollback.
        kinds: Every registered kind.
        dialect: How the store spells things.
        backend: Instance name, for errors.
        translate: Turns a driver's error into the gateway's.
    """

    def __init__(
        self,
        engine: sa.Engine,
        kinds: Sequence[KindSpec],
        *,
        dialect: Dialect = SQLITE,
        backend: str = "",
        translate: Callable[[BaseException], StoreError] | None = None,
    ) -> None:
        self._engine = engine
        self._kinds = tuple(kinds)
        self._dialect = dialect
        self._backend = backend
        self._translate = translate
        self._metadata = metadata_of(self._kinds, dialect)

    def __repr__(self) -> str:
        return f"<Schema {self._backend or self._dialect.name} {len(self._kinds)} kinds>"

    def head(self) -> str:
        """Return the revision this gateway needs."""
        return HEAD

    def current(self) -> str | None:
        """Return the revision the store is at; None for a store without a schema."""
        with self._reading() as connection:
            return _revision(connection)

    def check(self) -> list[str]:
        """Return what is wrong with the schema, in sentences that say what to do; empty if nothing is."""
        with self._reading() as connection:
            revision = _revision(connection)
            if revision is not None and revision not in REVISIONS:
                return [f"the schema is at revision {revision}, newer than {HEAD}: upgrade storage-gateway"]
            if revision != HEAD:
                here = f"the schema is at revision {revision or 'none'}, not {HEAD}"
                return [f"{here}: run `gateway schema upgrade`"]
            return [problem for drift in self._drifts(connection) for problem in drift.problems()]

    def upgrade(self) -> list[str]:
        """Bring the schema to what the registered kinds need, and return what was done.

        One transaction under the store's write lock: it happens as a whole or not at all, and of two
        processes at once one waits, then finds nothing to do.

        Raises:
            SchemaTooNewError: A newer gateway made the schema; nothing was touched.
            SchemaError: A table differs from its kind in a way that only a person can decide; nothing was
                touched.
        """
        with self._changing() as connection:
            revision = _revision(connection)
            refuse_newer(revision, self._backend)
            done = []
            if revision != HEAD:
                self._refuse_strangers(connection, revision)
                command.upgrade(self._config(connection), "head")
                done.append(f"upgraded from revision {revision or 'none'} to {HEAD}")
            for drift in self._drifts(connection):
                done += drift.mend(connection, self._backend)
            self._remember(connection)
            return done

    def downgrade(self, revision: str, *, force: bool = False) -> list[str]:
        """Take revisions back down to one, or to `base`, and return which tables and columns went with them.

        Tables of kinds that no revision made stay as they are.

        Args:
            revision: Where to stop.
            force: Whether rows may be lost.

        Raises:
            SchemaError: Rows would be lost and `force` was not given, or the revision does not exist.
        """
        if revision not in {_BASE, *REVISIONS}:
            known = ", ".join((_BASE, *REVISIONS))
            raise SchemaError(f"there is no revision {revision!r}; known are {known}", backend=self._backend)
        with self._changing() as connection:
            refuse_newer(_revision(connection), self._backend)
            before, filled = _columns(connection), _tables_with_rows(connection)
            command.downgrade(self._config(connection), revision)
            gone = sorted(before - _columns(connection))
            lost = sorted({table for table, _ in gone} & (filled - {KINDS_TABLE}))
            if lost and not force:
                raise SchemaError(
                    f"going back to {revision} would lose rows of {', '.join(lost)}; nothing was changed. "
                    "Copy them first (`gateway export`), or repeat with --force",
                    backend=self._backend,
                )
            _forget(connection)
            return [f"dropped {table}.{column}" for table, column in gone]

    def sql(self, start: str = _BASE) -> str:
        """Return the statements that `upgrade` would run on a store at a revision, for review.

        Args:
            start: The revision to start at, or `base` for a new store.
        """
        out = io.StringIO()
        config = self._config(None, out)
        if start != HEAD:
            command.upgrade(config, f"{start}:head", sql=True)
        built_in = {kind.name for kind in BUILTIN_KINDS}
        for kind in self._kinds:
            if kind.name not in built_in:
                out.write(self._create(self._metadata.tables[kind.name]))
        return out.getvalue()

    def _create(self, table: sa.Table) -> str:
        dialect = self._engine.dialect
        indexes = [CreateIndex(index) for index in sorted(table.indexes, key=_name)]
        parts: list[sa.schema.ExecutableDDLElement] = [CreateTable(table), *indexes]
        return "".join(f"{str(part.compile(dialect=dialect)).strip()};\n\n" for part in parts)

    def _config(self, connection: sa.Connection | None, out: io.StringIO | None = None) -> Config:
        config = Config(output_buffer=out) if out is not None else Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        config.attributes.update(connection=connection, metadata=self._metadata, dialect=self._dialect.name)
        return config

    def _drifts(self, connection: sa.Connection) -> list[Drift]:
        inspector = sa.inspect(connection)
        return [drift_of(inspector, self._metadata.tables[kind.name]) for kind in self._kinds]

    def _refuse_strangers(self, connection: sa.Connection, revision: str | None) -> None:
        """Leave alone a database that has tables of our names but was never ours."""
        if revision is not None:
            return
        ours = {kind.name for kind in BUILTIN_KINDS}
        strange = sorted(ours & set(sa.inspect(connection).get_table_names()))
        if strange:
            raise SchemaError(
                f"the database has tables that the gateway did not make ({', '.join(strange)}); nothing was "
                "touched. Choose a new file, and bring the rows over with `gateway import` or `gateway copy`",
                backend=self._backend,
            )

    def _remember(self, connection: sa.Connection) -> None:
        table = self._metadata.tables[KINDS_TABLE]
        known = {row.name: row.fingerprint for row in connection.execute(sa.select(table))}
        for kind in self._kinds:
            wanted = fingerprint_of(kind)
            if known.get(kind.name) == wanted:
                continue
            connection.execute(sa.delete(table).where(table.c.name == kind.name))
            values = {"name": kind.name, "fingerprint": wanted, "created_at": time.time_ns() // 1000}
            connection.execute(sa.insert(table).values(values))

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with self._translated(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _changing(self) -> Iterator[sa.Connection]:
        locked = self._engine.execution_options(**{LOCKED: True})
        with self._translated(), locked.begin() as connection:
            yield connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            if self._translate is not None and error.orig is not None:
                raise self._translate(error.orig) from error
            raise StoreUnavailableError(
                f"the schema cannot be reached: {error.orig}", backend=self._backend
            ) from error


def _name(index: sa.Index) -> str:
    return str(index.name)


def _revision(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _columns(connection: sa.Connection) -> set[tuple[str, str]]:
    inspector = sa.inspect(connection)
    return {
        (table, item["name"])
        for table in inspector.get_table_names()
        for item in inspector.get_columns(table)
    }


def _tables_with_rows(connection: sa.Connection) -> set[str]:
    def filled(name: str) -> bool:
        return (
            connection.execute(sa.select(sa.literal(1)).select_from(sa.table(name)).limit(1)).first()
            is not None
        )

    return {name for name in sa.inspect(connection).get_table_names() if filled(name)}


def _forget(connection: sa.Connection) -> None:
    """Empty what remembers fingerprints, so that nobody takes the older tables for the current ones."""
    if sa.inspect(connection).has_table(KINDS_TABLE):
        connection.execute(sa.delete(sa.table(KINDS_TABLE)))

"""The schema of a SQL store: what it is, what it should be, and the way from one to the other."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.runtime.migration import MigrationContext
from sqlalchemy.exc import DBAPIError

from gateway.errors import SchemaError, StoreError, StoreUnavailableError
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.kind import KindSpec
from gateway.sql.branches import BrokenLine, Line, discover_lines, our_line
from gateway.sql.creation import Statement, qualified, schema_creation, table_creation
from gateway.sql.databases import Database, Difference, SqliteDatabase
from gateway.sql.dialect import Dialect
from gateway.sql.fingerprints import fingerprint_of
from gateway.sql.layout import Layout
from gateway.sql.migrations import HEAD
from gateway.sql.tables import KINDS_TABLE, metadata_of, table_of
from gateway.upkeep import BranchState

__all__ = ["LOCKED", "Schema"]

LOCKED: Final = "gateway_locked"
"""Execution option of transactions that change the schema; an engine of SQLite begins them with the store's write
lock."""

_BASE: Final = "base"


@lru_cache(maxsize=8)
def _built(kinds: tuple[KindSpec, ...], dialect: Dialect) -> tuple[sa.MetaData, Mapping[str, sa.Table]]:
    """Return the tables of kinds; they are only looked at, and to build them is half of what opening a file costs."""
    scratch = sa.MetaData()
    return metadata_of(kinds, dialect), {kind.name: table_of(kind, scratch, dialect) for kind in kinds}


class Schema:
    """Looks at and changes the schema of one store. Every method is synchronous and opens its own connection.

    Args:
        engine: Reaches the store. DDL in a transaction must be undone by a rollback.
        kinds: Every registered kind.
        database: Which database it is; SQLite by default, whose engine must heed `LOCKED`.
        backend: Instance name, for errors.
        translate: Turns a driver's error into the gateway's.
        lines: Finds the lines of revisions that other packages ship.
    """

    def __init__(
        self,
        engine: sa.Engine,
        kinds: Sequence[KindSpec],
        *,
        database: Database | None = None,
        backend: str = "",
        translate: Callable[[BaseException], StoreError] | None = None,
        lines: Callable[[], tuple[tuple[Line, ...], tuple[BrokenLine, ...]]] = discover_lines,
    ) -> None:
        self._engine = engine
        self._kinds = tuple(kinds)
        self._database = database or SqliteDatabase()
        self._backend = backend
        self._translate = translate
        self._metadata, self._tables = _built(self._kinds, self._database.dialect)
        self._ours = our_line()
        self._lines, self._broken = lines()

    def __repr__(self) -> str:
        return f"<Schema {self._backend or self._database.dialect.name} {len(self._kinds)} kinds>"

    def head(self) -> str:
        """Return the revision this gateway needs."""
        return HEAD

    def current(self) -> str | None:
        """Return the revision the store is at; None for a store without a schema."""
        with self._reading() as connection:
            return self._revision(connection, self._ours)

    def branches(self) -> list[BranchState]:
        """Return how far the store is on the lines of revisions that other packages ship."""
        with self._reading() as connection:
            found = [
                BranchState(line.name, line.owner, self._revision(connection, line), line.head)
                for line in self._lines
            ]
        return found + [
            BranchState(line.name, line.owner, None, None, line.sentence) for line in self._broken
        ]

    def check(self) -> list[str]:
        """Return what is wrong with the schema, in sentences that say what to do; empty if nothing is."""
        with self._reading() as connection:
            problems = self._behind(connection, self._ours)
            if not problems:
                layout = self._database.layout(connection)
                differences = self._differences(connection, layout)
                problems = [problem for one in differences for problem in one.problems()]
            problems += [problem for line in self._lines for problem in self._behind(connection, line)]
        return problems + [line.sentence for line in self._broken]

    def _behind(self, connection: sa.Connection, line: Line) -> list[str]:
        revision = self._revision(connection, line)
        if revision == line.head:
            return []
        if revision is not None and revision not in line.revisions:
            return [f"{line.what} is at revision {revision}, newer than {line.head}: upgrade {line.owner}"]
        here = f"{line.what} is at revision {revision or 'none'}, not {line.head}"
        return [f"{here}: run `gateway schema upgrade`"]

    def upgrade(self) -> list[str]:
        """Bring the schema to what the registered kinds need, and return what was done.

        One transaction under one lock: it happens as a whole or not at all, and of two processes at once one waits,
        then finds nothing to do. First come our revisions, then those of other packages, and last what tables still
        lack of their kinds, so that a package's revision can turn a table into what its kind has become. A line that
        fails is left where it was, and said.

        Raises:
            SchemaTooNewError: A newer gateway, or a newer release of another package, made the schema; nothing was
                touched.
            SchemaError: A table differs from its kind in a way that only a person can decide; nothing was
                touched.
        """
        with self._changing() as connection:
            before = {line.name: self._revision(connection, line) for line in (self._ours, *self._lines)}
            for line in (self._ours, *self._lines):
                line.refuse_newer(before[line.name], self._backend)
            done = []
            if before[""] != HEAD:
                self._refuse_strangers(connection, before[""])
                self._run(connection, self._ours, command.upgrade, "head", self._database.prepare(connection))
                done.append(f"upgraded from revision {before[''] or 'none'} to {HEAD}")
            for line in self._lines:
                done += self._upgrade_line(connection, line, before[line.name])
            layout = self._database.layout(connection)
            for difference in self._differences(connection, layout):
                done += difference.mend(connection, self._backend)
            done += self._database.finish(connection)
            self._remember(connection)
            return done

    def _upgrade_line(self, connection: sa.Connection, line: Line, revision: str | None) -> list[str]:
        if revision == line.head:
            return []
        layout = self._database.layout(connection)
        try:
            with connection.begin_nested():
                self._run(connection, line, command.upgrade, "head", layout)
                for statement in self._database.sharing(line.version_table, layout):
                    connection.execute(statement)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign scripts may raise anything; it is reported
            self._refuse_committed(connection, line)
            return [f"{line.what} failed and was left at {revision or 'none'}: {_first_line(error)}"]
        self._refuse_committed(connection, line)
        return [f"upgraded {line.what} from revision {revision or 'none'} to {line.head}"]

    def _refuse_committed(self, connection: sa.Connection, line: Line) -> None:
        """Stop where a script ended the transaction, and with it the lock under which all this happens."""
        if not connection.in_transaction():
            raise SchemaError(
                f"a script of {line.what} ended the transaction; what came before it was done and the rest was not: "
                f"update {line.owner}, then run `gateway schema upgrade` again",
                backend=self._backend,
            )

    def downgrade(self, revision: str, *, force: bool = False) -> list[str]:
        """Take revisions back down to one, or to `base`, and return which tables and columns went with them.

        Tables of kinds that no revision made stay as they are.

        Args:
            revision: Where to stop; `branch@revision` means the line of another package.
            force: Whether rows may be lost.

        Raises:
            SchemaError: Rows would be lost and `force` was not given, or the revision does not exist.
        """
        line, target = self._target(revision)
        with self._changing() as connection:
            line.refuse_newer(self._revision(connection, line), self._backend)
            layout = self._database.layout(connection)
            gone = self._rehearse(connection, line, target, layout)
            tables = {table for table, _ in gone} - set(self._database.own)
            lost = sorted(self._database.filled(connection, sorted(tables)))
            if lost and not force:
                raise SchemaError(
                    f"going back to {revision} would lose {self._losses(lost)}, or repeat with --force",
                    backend=self._backend,
                )
            self._run(connection, line, command.downgrade, target, layout)
            self._forget(connection, line)
            return [f"dropped {table}.{column}" for table, column in gone]

    def _losses(self, tables: Sequence[str]) -> str:
        """Return what is in tables, and what to do about it."""
        rows = [table for table in tables if table != self._database.intents]
        if not rows:
            return "what has yet to reach a mirror; nothing was changed. Let it (`gateway mirror drain`)"
        return f"rows of {', '.join(rows)}; nothing was changed. Copy them first (`gateway export`)"

    def _target(self, revision: str) -> tuple[Line, str]:
        name, _, target = revision.rpartition("@")
        line = next((one for one in (self._ours, *self._lines) if one.name == name), None)
        if line is None:
            known = ", ".join(one.name for one in self._lines) or "none"
            raise SchemaError(f"there is no branch {name!r}; known are {known}", backend=self._backend)
        if target not in {_BASE, *line.revisions}:
            known = ", ".join((_BASE, *line.revisions))
            raise SchemaError(f"there is no revision {target!r}; known are {known}", backend=self._backend)
        return line, target

    def _rehearse(
        self, connection: sa.Connection, line: Line, target: str, layout: Layout
    ) -> list[tuple[str, str]]:
        """Return which columns a downgrade drops, by doing it and taking it back."""
        before = self._database.columns(connection)
        rehearsal = connection.begin_nested()
        self._run(connection, line, command.downgrade, target, layout)
        after = self._database.columns(connection)
        rehearsal.rollback()
        return sorted(before - after)

    def sql(self, start: str = _BASE) -> str:
        """Return the statements that `upgrade` would run on a store at a revision, for review.

        Args:
            start: The revision to start at, or `base` for a new store, with which the lines of other packages are
                printed too; `branch@revision` means that line alone.

        Raises:
            SchemaError: There is no such revision.
        """
        line, revision = self._target(start)
        out, layout, made = io.StringIO(), self._database.planned(), set[str]()
        for one in (line, *self._lines) if start == _BASE else (line,):
            if revision != one.head:
                self._print(out, one, revision, layout, made)
        if line.name:
            self._print_renewed(out, line, layout)
        else:
            self._print_kinds(out, layout, made, new=revision == HEAD)
        text = out.getvalue()
        if self._engine.dialect.paramstyle in {"format", "pyformat"}:
            # What is compiled for such a driver has every % doubled, and here no driver takes them back.
            text = text.replace("%%", "%")
        return self._database.frame(text)

    def _print(self, out: io.StringIO, line: Line, start: str, layout: Layout, made: set[str]) -> None:
        config = line.config(out=out, **self._attributes(None, layout, made))
        command.upgrade(config, f"{start}:head", sql=True)
        if line.name:
            self._print_all(out, self._database.sharing(line.version_table, layout))

    def _print_all(self, out: io.StringIO, statements: Iterable[Statement]) -> None:
        out.writelines(
            f"{str(statement.compile(dialect=self._engine.dialect)).strip()};\n\n" for statement in statements
        )

    def _print_renewed(self, out: io.StringIO, line: Line, layout: Layout) -> None:
        """Print what remembers the kinds whose tables a line makes, as they are after it."""
        made = set[str]()
        self._print(io.StringIO(), line, _BASE, layout, made)
        out.writelines(
            self._remembering(kind) for kind in self._kinds if self._tables[kind.name].fullname in made
        )

    def _print_kinds(self, out: io.StringIO, layout: Layout, made: set[str], *, new: bool) -> None:
        """Print the tables that no revision makes, and what remembers the kinds: of all, or of the new ones alone."""
        built_in = {kind.name for kind in BUILTIN_KINDS}
        foreign = [kind for kind in self._kinds if kind.name not in built_in]
        tables = [table for kind in foreign if (table := self._tables[kind.name]).fullname not in made]
        schemas = {str(table.schema) for table in tables if table.schema}
        statements = schema_creation(schemas, layout) if schemas else []
        statements += [statement for table in tables for statement in table_creation(table, layout)]
        self._print_all(out, statements)
        out.writelines(map(self._remembering, foreign if new else self._kinds))

    def _remembering(self, kind: KindSpec) -> str:
        table = qualified(self._metadata.tables[self._kinds_key()])
        fingerprint = fingerprint_of(kind, self._database.dialect.name)
        return (
            f"INSERT INTO {table} (name, fingerprint, created_at) VALUES ('{kind.name}', '{fingerprint}', "  # noqa: S608
            f"{self._database.now}) ON CONFLICT (name) DO UPDATE SET fingerprint = excluded.fingerprint;\n\n"
        )

    def _kinds_key(self) -> str:
        schema = self._database.version_schema
        return f"{schema}.{KINDS_TABLE}" if schema else KINDS_TABLE

    def _run(
        self, connection: sa.Connection, line: Line, action: Callable[..., None], target: str, layout: Layout
    ) -> None:
        action(line.config(**self._attributes(connection, layout, set())), target)

    def _attributes(
        self, connection: sa.Connection | None, layout: Layout, made: set[str]
    ) -> dict[str, object]:
        printed_whole = connection is None and self._database.version_schema is not None
        return {
            "connection": connection,
            "metadata": self._metadata,
            "layout": layout,
            "made": made,
            "version_schema": self._database.version_schema,
            "own_transaction": not printed_whole,
        }

    def _revision(self, connection: sa.Connection, line: Line) -> str | None:
        options = {"version_table": line.version_table, "version_table_schema": self._database.version_schema}
        return MigrationContext.configure(connection, opts=options).get_current_revision()

    def _differences(self, connection: sa.Connection, layout: Layout) -> Sequence[Difference]:
        return self._database.differences(connection, list(self._tables.values()), layout)

    def _refuse_strangers(self, connection: sa.Connection, revision: str | None) -> None:
        """Leave alone a database that has tables of our names but was never ours."""
        if revision is not None:
            return
        scratch, dialect = sa.MetaData(), self._database.dialect
        ours = {table_of(kind, scratch, dialect).fullname for kind in BUILTIN_KINDS}
        strange = sorted(ours & self._database.tables(connection))
        if strange:
            raise SchemaError(
                f"the database has tables that the gateway did not make ({', '.join(strange)}); nothing was "
                "touched. Choose a new file or database, and bring the rows over with `gateway import` or "
                "`gateway copy`",
                backend=self._backend,
            )

    def _remember(self, connection: sa.Connection) -> None:
        table = self._metadata.tables[self._kinds_key()]
        known = {row.name: row.fingerprint for row in connection.execute(sa.select(table))}
        for kind in self._kinds:
            wanted = fingerprint_of(kind, self._database.dialect.name)
            if known.get(kind.name) == wanted:
                continue
            connection.execute(sa.delete(table).where(table.c.name == kind.name))
            values = {"name": kind.name, "fingerprint": wanted, "created_at": time.time_ns() // 1000}
            connection.execute(sa.insert(table).values(values))

    def _forget(self, connection: sa.Connection, line: Line) -> None:
        """Drop the fingerprints of what a downgrade may have changed, so that nobody takes it for the current tables.

        Revisions of a package do not touch the tables of built-in kinds.
        """
        if self._kinds_key() in self._database.tables(connection):
            table = self._metadata.tables[self._kinds_key()]
            kept = [kind.name for kind in BUILTIN_KINDS] if line.name else []
            connection.execute(sa.delete(table).where(table.c.name.not_in(kept)))

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with self._translated(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _changing(self) -> Iterator[sa.Connection]:
        locked = self._engine.execution_options(**{LOCKED: True})
        with self._translated(), locked.begin() as connection:
            self._database.begin(connection)
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


def _first_line(error: BaseException) -> str:
    """Return what went wrong, without the statement and its parameters that SQLAlchemy puts behind."""
    source = getattr(error, "orig", None) or error
    return " ".join(str(source).split())[:300] or type(source).__name__

"""The schema of a QuestDB server: tables made from kinds, extended by columns, and never changed in any other way.

QuestDB has no transaction over statements, so each statement can be run again: two upgrades at once, or one after a
crash, end in the same tables. What was made is written down last, in the table `gateway_kinds`: a name, a fingerprint
and the revision of this layout. A store that a newer gateway has written down is refused.
"""

# ruff: noqa: S608 - names come from registered kinds and are quoted; values are parameters, or made here

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from gateway.backend import OpenContext
from gateway.errors import SchemaError, SchemaTooNewError
from gateway.upkeep import BranchState
from gateway_questdb.groups import groups_create
from gateway_questdb.http import Http
from gateway_questdb.layout import Layout, quoted
from gateway_questdb.settings import QuestDbSettings, settings_of
from gateway_questdb.tables import Tables

__all__ = ["REVISION", "QuestDbSchema", "judge_marks", "marks_query", "missing_columns", "schema_of"]

REVISION: Final = "0001"
"""How kinds are laid out; a new one is made for whatever else than more columns."""
SETTLED_SECONDS: Final = 30


class QuestDbSchema:
    """The schema of one server.

    Args:
        http: Reaches it.
        tables: Layouts of all kinds.
        backend: Instance name, for errors.
    """

    def __init__(self, http: Http, tables: Tables, backend: str) -> None:
        self._http = http
        self._tables = tables
        self._backend = backend

    def head(self) -> str:
        """Return the revision this gateway needs."""
        return REVISION

    def current(self) -> str | None:
        """Return the revision the store is at; None for a store without a schema."""
        return _newest(self._marks())

    def branches(self) -> Sequence[BranchState]:
        """Return nothing: kinds of other packages are laid out like all others, without revisions of their own."""
        return ()

    def check(self) -> list[str]:
        """Return what is wrong, in sentences that say what to do; empty if nothing is."""
        marks = self._marks()
        if not marks:
            return ["there is no schema; run `gateway schema upgrade`"]
        found = [] if (problem := judge_marks(marks, self._tables, self._backend)) is None else [problem]
        for layout in self._tables:
            found += self._differences(layout)
        return found

    def upgrade(self) -> list[str]:
        """Make the tables that are missing and add the columns that are, and return what was done.

        Raises:
            SchemaTooNewError: A newer gateway made this schema; nothing was changed.
            SchemaError: A table has a column of another type, or other keys, which only a new table can mend.
            StoreError: The server cannot be reached, or refuses.
        """
        marks = self._marks()
        refuse_newer(_newest(marks), self._backend)
        done: list[str] = []
        self._http.run([marks_create(self._tables.marks), groups_create(self._tables.groups)])
        there = self._names()
        for layout in self._tables:
            if marks.get(layout.kind.name) == (layout.fingerprint, REVISION) and layout.table in there:
                continue
            done += self._upgrade_one(layout, new=layout.table not in there)
            self._mark(layout)
        self._settle([*(layout.table for layout in self._tables), self._tables.groups, self._tables.marks])
        return done

    def _upgrade_one(self, layout: Layout, *, new: bool) -> list[str]:
        if new:
            self._http.run([layout.create])
            return [f"made the table {layout.table}"]
        wrong = [text for text in self._differences(layout) if "lacks" not in text]
        if wrong:
            raise SchemaError(
                f"{'; '.join(wrong)}. QuestDB cannot change that: rename the table, upgrade, and copy its rows",
                backend=self._backend,
            )
        missing = missing_columns(layout, self._columns(layout.table))
        self._http.run([_add(layout, declared) for declared in missing])
        return [f"added {declared} to {layout.table}" for declared in missing]

    def downgrade(self, revision: str, *, force: bool = False) -> list[str]:
        """Drop every table of this gateway; there is no revision between that and the head.

        Args:
            revision: `base`.
            force: Do it although rows are lost.

        Raises:
            SchemaError: The revision is another one, or tables have rows and `force` was not given.
        """
        if revision != "base":
            raise SchemaError(
                f"the only revision below {REVISION} is base, which has no tables; there is no {revision!r}",
                backend=self._backend,
            )
        there = self._names()
        tables = [layout.table for layout in self._tables if layout.table in there]
        if not force:
            filled = [table for table in tables if self._http.rows(f"SELECT 1 FROM {quoted(table)} LIMIT 1")]
            if filled:
                raise SchemaError(
                    f"{', '.join(filled)} hold rows, which would be lost; copy them first, then use --force",
                    backend=self._backend,
                )
        names = [*tables, self._tables.groups, self._tables.marks]
        self._http.run([f"DROP TABLE IF EXISTS {quoted(name)}" for name in names])
        return [f"dropped the table {table}" for table in tables]

    def sql(self, start: str = "base") -> str:
        """Return the statements of an upgrade, for review.

        Args:
            start: `base` for all of them; from the head on there are none.
        """
        if start == REVISION:
            return ""
        created = [marks_create(self._tables.marks), groups_create(self._tables.groups)]
        created += [layout.create for layout in self._tables]
        return "".join(f"{statement};\n" for statement in created)

    def _names(self) -> set[str]:
        return {str(name) for (name,) in self._http.rows("SELECT table_name FROM tables()")}

    def _columns(self, table: str) -> dict[str, str]:
        rows = self._http.rows(f"SELECT \"column\", type FROM table_columns('{table}')")
        return {str(name): str(declared) for name, declared in rows}

    def _differences(self, layout: Layout) -> Iterator[str]:
        if layout.table not in self._names():
            yield f"the table {layout.table} is missing; run `gateway schema upgrade`"
            return
        found = self._columns(layout.table)
        for column in layout.columns:
            if column.name not in found:
                yield f"the table {layout.table} lacks the column {column.name}; run `gateway schema upgrade`"
            elif found[column.name] != column.type:
                yield (
                    f"the column {column.name} of {layout.table} is {found[column.name]} and should be {column.type}"
                )
        rows = self._http.rows(f"SELECT \"column\" FROM table_columns('{layout.table}') WHERE upsertKey")
        keys = {str(name) for (name,) in rows}
        if keys != set(layout.upsert_keys):
            yield f"the keys of {layout.table} are {', '.join(sorted(keys))} and should be {', '.join(sorted(layout.upsert_keys))}"  # noqa: E501

    def _marks(self) -> dict[str, tuple[str, str]]:
        if self._tables.marks not in self._names():
            return {}
        self._settle([self._tables.marks])
        return marks_of(self._http.rows(marks_query(self._tables.marks)))

    def _mark(self, layout: Layout) -> None:
        # All three are made here: a registered name, a hash, and a constant.
        self._http.run(
            [
                f"INSERT INTO {quoted(self._tables.marks)} VALUES (now(), '{layout.kind.name}', "
                f"'{layout.fingerprint}', '{REVISION}')"
            ]
        )

    def _settle(self, tables: Sequence[str]) -> None:
        """Wait until tables have applied what they acknowledged, changes of their columns included."""
        for table in tables:
            self._http.rows(f"SELECT wait_wal_table('{table}')")


def _add(layout: Layout, declared: str) -> str:
    return f"ALTER TABLE {quoted(layout.table)} ADD COLUMN IF NOT EXISTS {declared}"


def missing_columns(layout: Layout, found: Mapping[str, str]) -> list[str]:
    """Return the columns that a table lacks, as they are declared."""
    return [column.declared for column in layout.columns if column.name not in found]


def marks_create(table: str) -> str:
    """Return the statement that makes the table of fingerprints."""
    return (
        f'CREATE TABLE IF NOT EXISTS {quoted(table)} ("at" TIMESTAMP, "name" VARCHAR, "fingerprint" VARCHAR, '
        '"revision" VARCHAR) TIMESTAMP("at") PARTITION BY YEAR WAL DEDUP UPSERT KEYS("at", "name")'
    )


def marks_query(table: str) -> str:
    """Return the question for all fingerprints, the oldest first."""
    return f'SELECT "name", "fingerprint", "revision" FROM {quoted(table)} ORDER BY "at"'


def marks_of(rows: Sequence[Sequence[object]]) -> dict[str, tuple[str, str]]:
    """Return the latest fingerprint and revision of each kind."""
    return {str(name): (str(fingerprint), str(revision)) for name, fingerprint, revision in rows}


def _newest(marks: Mapping[str, tuple[str, str]]) -> str | None:
    return max((revision for _, revision in marks.values()), default=None)


def refuse_newer(revision: str | None, backend: str) -> None:
    """Refuse a schema that a newer gateway made.

    Raises:
        SchemaTooNewError: It did.
    """
    if revision is not None and revision > REVISION:
        raise SchemaTooNewError(
            f"a newer gateway made this schema (revision {revision}, this one knows {REVISION}); upgrade this one",
            backend=backend,
        )


def judge_marks(marks: Mapping[str, tuple[str, str]], tables: Tables, backend: str) -> str | None:
    """Return what the schema lacks, as a sentence; None if it is what the kinds need.

    Raises:
        SchemaTooNewError: A newer gateway made it.
    """
    refuse_newer(_newest(marks), backend)
    changed = [
        layout.kind.name for layout in tables if marks.get(layout.kind.name) != (layout.fingerprint, REVISION)
    ]
    if not changed:
        return None
    return f"no table was made for {', '.join(changed)} as it is now; run `gateway schema upgrade`"


def schema_of(context: OpenContext) -> QuestDbSchema:
    """Return the schema of the store that a context describes, without opening the store.

    Raises:
        ConfigurationError: The settings lead nowhere.
    """
    settings: QuestDbSettings = settings_of(context)
    http = Http(settings.address(), settings.command_timeout, context.instance)
    return QuestDbSchema(http, Tables(context.kinds, settings), context.instance)

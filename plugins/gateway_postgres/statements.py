"""SQL text of one kind on PostgreSQL, made once.

Identifiers come from registered kinds and are quoted; every value is a parameter, and its type is said.

Writes set the tenant themselves, in a part of the statement that runs before the first row is touched: row security
then lets them pass without a round trip of its own. **Reads cannot simply do this**: a policy may be evaluated before
such a part runs, and the read then silently finds nothing. They need the tenant set by a statement before them, but
for reads by key of a table that is whole; see `PostgresStatements.alone`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from gateway.errors import CapabilityError
from gateway.records.kind import KindSpec, Shape
from gateway.records.types import StorageType
from gateway.sql.dialect import POSTGRES, POSTGRES_TYPES, quoted
from gateway.sql.jsonb import exact_column
from gateway.sql.shapes import partition_field
from gateway.sql.statements import GATEWAY_COLUMNS, columns_of
from gateway_postgres.noting import noted

__all__ = ["MOVED_ROWS", "PLACEHOLDER_VERSION", "SET_TENANT", "PostgresStatements", "postgres_statements"]

SET_TENANT: Final = "SELECT set_config('app.tenant_id', $1, true)"
"""Sets whose rows the transaction sees. `true`: until its end only, whoever gets the connection then."""

MOVED_ROWS: Final = '"gateway"."moved_rows"'
"""Log rows that were written with another time than the one they were first written with; see `logs`."""

PLACEHOLDER_VERSION: Final = -1
"""What holds a key that has no row while an update runs; every row is newer."""

_TENANT: Final = "WITH tenant AS MATERIALIZED (SELECT set_config('app.tenant_id', $1::text, true) AS id)"
_TYPES: Final = {**POSTGRES_TYPES, StorageType.MONEY: "text"}
"""What values are bound as; money is cast where it is used."""


class PostgresStatements:
    """The statements of one kind. Get it from `postgres_statements`.

    The first parameter is always the tenant.

    Attributes:
        kind: The kind.
        log: Whether rows of the kind are identified by an id and stored by time.
        whole: Whether its table is one table, not cut by time.
        table: Its table with its schema, quoted.
        columns: What `values.rows_from` expects of a result.
        stamps: Version and digest, then the key; of logs the time too.
    """

    __slots__ = ("_alone", "_inserts", "_reads", "columns", "kind", "log", "stamps", "table", "whole")

    def __init__(self, kind: KindSpec) -> None:
        self.kind = kind
        self.log = kind.shape is Shape.LOG
        self.whole = partition_field(kind) is None
        self.table = POSTGRES.table(kind)
        self.columns = columns_of(kind, POSTGRES)
        self.stamps = ", ".join(["version", "digest", *map(quoted, self.identity)])
        self._inserts: dict[tuple[bool, bool, bool, bool], str] = {}
        self._reads: dict[tuple[str, bool, bool], str] = {}
        self._alone: dict[bool, str] = {}

    def __repr__(self) -> str:
        return f"<PostgresStatements {self.kind.name}>"

    @property
    def identity(self) -> tuple[str, ...]:
        """The fields that make up the primary key with the tenant; a log's time is part of it."""
        return (*self.kind.key, str(self.kind.time_field)) if self.log else self.kind.key

    @property
    def returning(self) -> str:
        """What makes an upsert return the keys of the rows that it stored."""
        return f" RETURNING {', '.join(f'held.{quoted(name)}' for name in self.kind.key)}"

    def upsert(self, *, many: bool, exact: bool, fresh: bool = False, noting: bool = False) -> str:
        """Return the statement that stores rows unless what is stored has as great a stamp.

        Args:
            many: Takes a list for each column instead of one value.
            exact: Takes the exact texts of JSON fields too.
            fresh: Leaves out rows of a log that are registered as moved, and fails if an id and time are stored
                already: hardly ever is there anything, and if there is, somebody else looks closer.
            noting: Stores the rows' intents too; see `noting.noted`.
        """
        text = self._inserts.get((many, exact, fresh, noting))
        if text is None:
            text = self._inserts[many, exact, fresh, noting] = self._upsert(many, exact, fresh, noting)
        return text

    def _upsert(self, many: bool, exact: bool, fresh: bool, noting: bool) -> str:
        names, storages = self._bound(exact)
        given = [_value(at, storage) for at, storage in enumerate(storages, 2)]
        before, tenant, source = _TENANT, "tenant.id::uuid", "tenant"
        if many and fresh:
            before, tenant, source = f"{_TENANT}, {self._register()}", "register.tenant_id", "register"
        if many:
            source = f"{source}, {_unnested(names, storages)}"
            given = [f"new.{quoted(name)}" for name in names]
        if noting:
            before = f"{before}, {noted(self.kind.name, len(names) + 2, many=many)}"
        target = f"INSERT INTO {self.table} AS held ({', '.join(map(quoted, ('tenant_id', *names)))})"
        rows = f"SELECT {tenant}, {', '.join(given)} FROM {source}"  # noqa: S608 - names of a registered kind
        if fresh:
            # No ON CONFLICT: it would look into the index once more for each row, and write twice about it.
            unmoved = self._unmoved(tenant, given[names.index("record_id")])
            return f"{before} {target} {rows} WHERE {'register.empty OR ' if many else ''}{unmoved}"
        key = ", ".join(map(quoted, ("tenant_id", *self.identity)))
        return f"{before} {target} {rows} ON CONFLICT ({key}) {self._guarded(names)}"

    def _guarded(self, names: Sequence[str]) -> str:
        return (
            f"DO UPDATE SET {self._changes(names)} "
            "WHERE (excluded.version, excluded.digest) > (held.version, held.digest)"
        )

    def _bound(self, exact: bool) -> tuple[list[str], list[StorageType]]:
        """Return the columns that an upsert takes, in their order, and what they hold."""
        names = [*GATEWAY_COLUMNS[1:], *self.kind.field_names]
        storages = [StorageType.INTEGER, StorageType.INTEGER, StorageType.BOOLEAN]
        storages += [spec.storage for spec in self.kind.fields]
        if exact:
            exacts = self._exact_columns()
            names += exacts
            storages += [StorageType.TEXT] * len(exacts)
        return names, storages

    def _exact_columns(self) -> list[str]:
        return [exact_column(spec.name) for spec in self.kind.fields if spec.storage is StorageType.JSON]

    def _changes(self, names: Sequence[str]) -> str:
        changed = [f"{quoted(name)} = excluded.{quoted(name)}" for name in names if name not in self.identity]
        # An older version's exact text would otherwise be read in place of the new document.
        changed += [f"{quoted(name)} = NULL" for name in self._exact_columns() if name not in names]
        if "updated_at" not in names:
            changed.append("updated_at = now()")
        return ", ".join(changed)

    def _unmoved(self, tenant: str, record_id: str) -> str:
        """Return the test that a row is not registered as moved.

        It is a scalar sub-select on purpose. PostgreSQL turns `NOT EXISTS` into a join, which may read the other side
        before the tenant is set, and then finds none registered.
        """
        return (
            f"(SELECT true FROM {MOVED_ROWS} AS moved WHERE moved.kind = '{self.kind.name}' "  # noqa: S608 - a registered name
            f"AND moved.tenant_id = {tenant} AND moved.record_id = {record_id} LIMIT 1) IS NULL"
        )

    def _register(self) -> str:
        """Return the part of a statement that looks, once, whether any row is registered: nearly always there is none.

        It runs after the tenant is set, since it needs what the part that does so returns.
        """
        return (
            "register AS MATERIALIZED (SELECT tenant.id::uuid AS tenant_id, "  # noqa: S608 - a registered name
            f"(SELECT true FROM {MOVED_ROWS} AS moved WHERE moved.kind = '{self.kind.name}' "
            "AND moved.tenant_id = tenant.id::uuid LIMIT 1) IS NULL AS empty FROM tenant)"
        )

    def alone(self, *, many: bool) -> str:
        """Return the statement that reads whole rows by key and sets the tenant itself, for a table that is whole.

        What it reads depends on what the part that sets the tenant returns, row by row: `LATERAL` makes it refer to
        that, the comparison makes it need that, and `OFFSET 0` keeps the two from being merged. So nothing of it, row
        security included, is evaluated before the tenant is set. Of a table that is cut into parts this cannot be
        said: TimescaleDB looks at the policy when it chooses the parts, before anything runs.

        Args:
            many: Takes a list for each key field instead of one value.
        """
        text = self._alone.get(many)
        if text is None:
            assert self.whole, "the tenant of a table that is cut by time is set by a statement before"  # noqa: S101 - a mistake of ours
            read = self._by_keys(self.columns, many, lock=False, tenant="$1::text::uuid")
            text = self._alone[many] = (
                f"{_TENANT} SELECT found.* FROM tenant CROSS JOIN LATERAL "  # noqa: S608 - names of a registered kind
                f"({read} AND tenant.id = $1::text OFFSET 0) AS found"
            )
        return text

    def by_keys(self, columns: str, *, many: bool, lock: bool = False) -> str:
        """Return the statement that reads rows by key, in any order; the tenant has to be set.

        Args:
            columns: What to select.
            many: Takes a list for each key field instead of one value; a key that comes twice is found twice.
            lock: Locks the rows in the order of their keys until the transaction ends.
        """
        text = self._reads.get((columns, many, lock))
        if text is None:
            text = self._reads[columns, many, lock] = self._by_keys(columns, many, lock, "$1::uuid")
        return text

    def _by_keys(self, columns: str, many: bool, lock: bool, tenant: str) -> str:
        key, types = self.kind.key, [_TYPES[self.kind.field_spec(name).storage] for name in self.kind.key]
        fields = [f"held.{quoted(name)}" for name in key]
        source = f"{self.table} AS held"
        if many and self.log:
            tests = [f"{fields[0]} = ANY($2::{types[0]}[])"]
        elif many:
            # Joined, not compared with a list: a small table is read as a whole, and each row compared with each key.
            lists = ", ".join(f"${at}::{kind}[]" for at, kind in enumerate(types, 2))
            # Two underscores: no field has such a name.
            wanted = [f"key__{at}" for at in range(len(key))]
            source = f"unnest({lists}) AS wanted ({', '.join(wanted)}) JOIN {source} ON " + " AND ".join(
                f"{field} = wanted.{name}" for field, name in zip(fields, wanted, strict=True)
            )
            tests = []
        else:
            marks = [f"${at}::{kind}" for at, kind in enumerate(types, 2)]
            tests = [f"{field} = {mark}" for field, mark in zip(fields, marks, strict=True)]
        tests.insert(0, f"held.tenant_id = {tenant}")
        locking = f" ORDER BY {', '.join(fields)} FOR UPDATE OF held" if lock else ""
        return f"SELECT {columns} FROM {source} WHERE {' AND '.join(tests)}{locking}"  # noqa: S608 - names of a registered kind

    @property
    def hold(self) -> str:
        """The statement that locks the rows of keys, in the order given, and returns the keys that had none.

        Where a key has no row, a placeholder keeps others from writing one. Rows and placeholders are taken in one
        pass: two transactions that took first the ones and then the others would wait for each other. An update that
        never happens still locks its row.
        """
        names = [*GATEWAY_COLUMNS, *self.kind.key]
        lists, aliases = self._key_lists()
        given = ", ".join(f"wanted.{quoted(name)}" for name in self.kind.key)
        keys = ", ".join(f"held.{quoted(name)}" for name in self.kind.key)
        return (
            f"{_TENANT} INSERT INTO {self.table} AS held ({', '.join(map(quoted, names))}) "  # noqa: S608 - names of a registered kind
            f"SELECT tenant.id::uuid, {PLACEHOLDER_VERSION}, 0, true, {given} "
            f"FROM tenant, unnest({lists}) AS wanted ({aliases}) "
            f"ON CONFLICT ({', '.join(map(quoted, ('tenant_id', *self.kind.key)))}) "
            f"DO UPDATE SET version = held.version WHERE false RETURNING {keys}"
        )

    @property
    def release(self) -> str:
        """The statement that removes the placeholders of keys."""
        lists, aliases = self._key_lists()
        same = " AND ".join(f"held.{quoted(name)} = wanted.{quoted(name)}" for name in self.kind.key)
        return (
            f"DELETE FROM {self.table} AS held USING unnest({lists}) AS wanted ({aliases}) "  # noqa: S608 - names of a registered kind
            f"WHERE held.tenant_id = $1::uuid AND held.version = {PLACEHOLDER_VERSION} AND {same}"
        )

    def _key_lists(self) -> tuple[str, str]:
        types = [_TYPES[self.kind.field_spec(name).storage] for name in self.kind.key]
        lists = ", ".join(f"${at}::{kind}[]" for at, kind in enumerate(types, 2))
        return lists, ", ".join(map(quoted, self.kind.key))

    @property
    def purge(self) -> str:
        """The statement that removes rows older than a moment (second parameter), at most so many (third).

        Rows that another transaction holds are left for the next time, so that two purges share the work instead of
        waiting for each other.

        Raises:
            CapabilityError: The kind has no time field, so nothing in it has an age.
        """
        if self.kind.time_field is None:
            raise CapabilityError(f"{self.kind.name} has no time field, so its rows have no age to purge by")
        time, names = quoted(self.kind.time_field), ", ".join(map(quoted, self.identity))
        same = " AND ".join(f"held.{quoted(name)} = old.{quoted(name)}" for name in self.identity)
        # A part of its own: as a sub-select it may run again for each row, and finds others each time.
        return (
            f"WITH old AS MATERIALIZED (SELECT {names} FROM {self.table} WHERE tenant_id = $1::uuid "  # noqa: S608 - names of a registered kind
            f"AND {time} < $2::timestamptz ORDER BY {time} LIMIT $3::bigint FOR UPDATE SKIP LOCKED) "
            f"DELETE FROM {self.table} AS held USING old WHERE held.tenant_id = $1::uuid "
            f"AND held.{time} < $2::timestamptz AND {same}"
        )


def _value(number: int, storage: StorageType) -> str:
    """Return the n-th parameter as a value of a column."""
    cast = "::numeric" if storage is StorageType.MONEY else ""
    return f"${number}::{_TYPES[storage]}{cast}"


def _unnested(names: Sequence[str], storages: Sequence[StorageType]) -> str:
    """Return the rows `new` that lists make, one a column, from the second parameter on.

    Lists come as the text of an array, but for times; see `values.Columns.lists`. They are taken apart side by side in
    a select list, where the server goes through them together; in FROM it would first write down each of them.
    """
    columns = ", ".join(
        f"unnest(${at}::{'' if storage is StorageType.TIME else 'text::'}{POSTGRES_TYPES[storage]}[]) AS {quoted(name)}"
        for at, (name, storage) in enumerate(zip(names, storages, strict=True), 2)
    )
    return f"LATERAL (SELECT {columns}) AS new"


@lru_cache(maxsize=512)
def postgres_statements(kind: KindSpec) -> PostgresStatements:
    """Return the statements of a kind; made once."""
    return PostgresStatements(kind)

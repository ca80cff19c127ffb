"""SQL text of one kind on PostgreSQL, made once.

Identifiers come from registered kinds and are quoted; every value is a parameter, and its type is said.

Writes set the tenant themselves, in a part of the statement that runs before the first row is touched: row security
then lets them pass without a round trip of its own. **Reads must not do this**: a policy is evaluated before such a
part runs, and the read silently finds nothing. They need the tenant set by a statement before them.
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
from gateway.sql.statements import GATEWAY_COLUMNS, columns_of

__all__ = ["MOVED_ROWS", "PLACEHOLDER_VERSION", "SET_TENANT", "PostgresStatements", "postgres_statements"]

SET_TENANT: Final = "SELECT set_config('app.tenant_id', $1, true)"
"""Sets whose rows the transaction sees. `true`: until its end only, whoever gets the connection then."""

MOVED_ROWS: Final = '"gateway"."moved_rows"'
"""Log rows that were written with another time than the one they were first written with; see `logs`."""

PLACEHOLDER_VERSION: Final = -1
"""What holds a key that has no row while an update runs; every row is newer."""

_TENANT: Final = "WITH tenant AS MATERIALIZED (SELECT set_config('app.tenant_id', $1, true) AS id)"
_TYPES: Final = {**POSTGRES_TYPES, StorageType.MONEY: "text"}
"""What values are bound as; money is cast where it is used."""


class PostgresStatements:
    """The statements of one kind. Get it from `postgres_statements`.

    The first parameter is always the tenant.

    Attributes:
        kind: The kind.
        log: Whether rows of the kind are identified by an id and stored by time.
        table: Its table with its schema, quoted.
        columns: What `values.rows_from` expects of a result.
        stamps: Version and digest, then the key; of logs the time too.
    """

    __slots__ = ("_inserts", "columns", "kind", "log", "stamps", "table")

    def __init__(self, kind: KindSpec) -> None:
        self.kind = kind
        self.log = kind.shape is Shape.LOG
        self.table = POSTGRES.table(kind)
        self.columns = columns_of(kind, POSTGRES)
        self.stamps = ", ".join(["version", "digest", *map(quoted, self.identity)])
        self._inserts: dict[tuple[bool, bool, bool], str] = {}

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

    def upsert(self, *, many: bool, exact: bool, fresh: bool = False) -> str:
        """Return the statement that stores rows unless what is stored has as great a stamp.

        Args:
            many: Takes a list for each column instead of one value.
            exact: Takes the exact texts of JSON fields too.
            fresh: Leaves out rows of a log that are registered as moved, and those whose id and time are stored:
                hardly ever is there anything, and if there is, somebody else looks closer.
        """
        text = self._inserts.get((many, exact, fresh))
        if text is None:
            text = self._inserts[many, exact, fresh] = self._upsert(many, exact, fresh)
        return text

    def _upsert(self, many: bool, exact: bool, fresh: bool) -> str:
        names, types = self._bound(exact)
        given = [f"${at}::{kind}" for at, kind in enumerate(types, 2)]
        source = "tenant"
        if many:
            # Arrays come as their text, but for times; see `values.Columns.lists`.
            given = [
                f"${at}::{kind}[]" if kind == "timestamptz" else f"${at}::text::{kind}[]"
                for at, kind in enumerate(types, 2)
            ]
            aliases = ", ".join(map(quoted, names))
            source = f"tenant, unnest({', '.join(given)}) AS new ({aliases})"
            given = [f"new.{quoted(name)}" for name in names]
        money = {spec.name for spec in self.kind.fields if spec.storage is StorageType.MONEY}
        given = [
            f"{mark}::numeric" if name in money else mark for name, mark in zip(names, given, strict=True)
        ]
        where = f" WHERE {self._unmoved(given[names.index('record_id')])}" if fresh else ""
        return (
            f"{_TENANT} INSERT INTO {self.table} AS held ({', '.join(map(quoted, ('tenant_id', *names)))}) "  # noqa: S608 - names of a registered kind
            f"SELECT tenant.id::uuid, {', '.join(given)} FROM {source}{where} "
            f"ON CONFLICT ({', '.join(map(quoted, ('tenant_id', *self.identity)))}) "
            f"{'DO NOTHING' if fresh else self._guarded(names)}"
        )

    def _guarded(self, names: Sequence[str]) -> str:
        return (
            f"DO UPDATE SET {self._changes(names)} "
            "WHERE (excluded.version, excluded.digest) > (held.version, held.digest)"
        )

    def _bound(self, exact: bool) -> tuple[list[str], list[str]]:
        """Return the columns that an upsert takes, in their order, and the types they are bound as."""
        names = [*GATEWAY_COLUMNS[1:], *self.kind.field_names]
        types = ["bigint", "bigint", "boolean", *(_TYPES[spec.storage] for spec in self.kind.fields)]
        if exact:
            exacts = self._exact_columns()
            names += exacts
            types += ["text"] * len(exacts)
        return names, types

    def _exact_columns(self) -> list[str]:
        return [exact_column(spec.name) for spec in self.kind.fields if spec.storage is StorageType.JSON]

    def _changes(self, names: Sequence[str]) -> str:
        changed = [f"{quoted(name)} = excluded.{quoted(name)}" for name in names if name not in self.identity]
        # An older version's exact text would otherwise be read in place of the new document.
        changed += [f"{quoted(name)} = NULL" for name in self._exact_columns() if name not in names]
        if "updated_at" not in names:
            changed.append("updated_at = now()")
        return ", ".join(changed)

    def _unmoved(self, record_id: str) -> str:
        """Return the test that a row is not registered as moved.

        It is a scalar sub-select on purpose. PostgreSQL turns `NOT EXISTS` into a join, which may read the other side
        before the tenant is set, and then finds none registered.
        """
        return (
            f"(SELECT true FROM {MOVED_ROWS} AS moved WHERE moved.kind = '{self.kind.name}' "  # noqa: S608 - a registered name
            f"AND moved.tenant_id = tenant.id::uuid AND moved.record_id = {record_id} LIMIT 1) IS NULL"
        )

    def by_keys(self, columns: str, *, many: bool, lock: bool = False) -> str:
        """Return the statement that reads rows by key, in any order.

        Args:
            columns: What to select.
            many: Takes a list for each key field instead of one value.
            lock: Locks the rows in the order of their keys until the transaction ends.
        """
        key, storage = self.kind.key, [self.kind.field_spec(name).storage for name in self.kind.key]
        fields = [f"held.{quoted(name)}" for name in key]
        source, join = f"{self.table} AS held", ""
        if many and len(key) > 1:
            lists = ", ".join(f"${at}::{_TYPES[kind]}[]" for at, kind in enumerate(storage, 2))
            # Two underscores: no field has such a name.
            wanted = [f"key__{at}" for at in range(len(key))]
            join = f" JOIN unnest({lists}) AS wanted ({', '.join(wanted)}) ON " + " AND ".join(
                f"{field} = wanted.{name}" for field, name in zip(fields, wanted, strict=True)
            )
            tests = ["true"]
        elif many:
            tests = [f"{fields[0]} = ANY($2::{_TYPES[storage[0]]}[])"]
        else:
            marks = [f"${at}::{_TYPES[kind]}" for at, kind in enumerate(storage, 2)]
            tests = [f"{field} = {mark}" for field, mark in zip(fields, marks, strict=True)]
        locking = f" ORDER BY {', '.join(fields)} FOR UPDATE OF held" if lock else ""
        return (
            f"SELECT {columns} FROM {source}{join} "  # noqa: S608 - names of a registered kind
            f"WHERE held.tenant_id = $1::uuid AND {' AND '.join(tests)}{locking}"
        )

    @property
    def hold(self) -> str:
        """The statement that puts a placeholder where a key has no row, and returns the keys it did that for."""
        names = [*GATEWAY_COLUMNS, *self.kind.key]
        lists, aliases = self._key_lists()
        given = ", ".join(f"wanted.{quoted(name)}" for name in self.kind.key)
        keys = ", ".join(map(quoted, self.kind.key))
        return (
            f"{_TENANT} INSERT INTO {self.table} ({', '.join(map(quoted, names))}) "  # noqa: S608 - names of a registered kind
            f"SELECT tenant.id::uuid, {PLACEHOLDER_VERSION}, 0, true, {given} "
            f"FROM tenant, unnest({lists}) AS wanted ({aliases}) "
            f"ON CONFLICT ({', '.join(map(quoted, ('tenant_id', *self.kind.key)))}) DO NOTHING RETURNING {keys}"
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


@lru_cache(maxsize=512)
def postgres_statements(kind: KindSpec) -> PostgresStatements:
    """Return the statements of a kind; made once."""
    return PostgresStatements(kind)

"""How a PostgreSQL database differs from the kinds, and what mends it without losing anything."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.schema import CreateColumn, CreateIndex

from gateway.errors import SchemaError
from gateway.sql.catalog import Catalog, Policy, StoredTable
from gateway.sql.creation import (
    MOVED_ROWS,
    PARTITIONED_TABLES,
    VERSION_TABLE,
    literal,
    own_table_creation,
    qualified,
    schema_creation,
    shape_in,
    table_creation,
)
from gateway.sql.dialect import quoted
from gateway.sql.fixes import UPGRADE, Fix, plain_name
from gateway.sql.functions import FUNCTIONS, Function, function_statements
from gateway.sql.intents import INTENTS
from gateway.sql.layout import OWN_SCHEMA, Group, Layout
from gateway.sql.partition_drift import (
    actual_style,
    drift_of_chunks,
    drift_of_partitions,
    drift_of_registration,
    other_style,
)
from gateway.sql.tables import KINDS_TABLE
from gateway.sql.tenancy import (
    ADMIN_POLICY,
    INTENT_RIGHTS,
    OWN_RIGHTS,
    TABLE_RIGHTS,
    TENANT_POLICY,
    TENANT_TEST,
    admin_policy,
    grants,
    protect,
    tenant_policy,
)

__all__ = ["OWN_TABLES", "StoredDrift", "drift_of_house", "drift_of_stored"]

OWN_TABLES: Final = (VERSION_TABLE, KINDS_TABLE, PARTITIONED_TABLES, MOVED_ROWS, INTENTS)

_OF_TENANTS: Final = {MOVED_ROWS: TABLE_RIGHTS, INTENTS: INTENT_RIGHTS}
"""Those that hold rows of tenants, and what each group may do with them."""

_DIALECT: Final = pg.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped


@dataclass(frozen=True, slots=True)
class StoredDrift:
    """What one table, or what belongs to all of them, lacks or has too much.

    Attributes:
        fixes: What can be mended.
        conflicts: What only a person can decide, as sentences.
        concerns: What a person should look at, and what does not stand in the way of an upgrade.
    """

    fixes: tuple[Fix, ...] = ()
    conflicts: tuple[str, ...] = ()
    concerns: tuple[str, ...] = ()

    def problems(self) -> list[str]:
        """Return every difference as a sentence that says what to do."""
        return [*self.conflicts, *(f"{fix.problem}: {UPGRADE}" for fix in self.fixes), *self.concerns]

    def mend(self, connection: sa.Connection, backend: str) -> list[str]:
        """Mend what can be mended, and return what was done.

        Raises:
            SchemaError: There are conflicts; nothing was changed.
        """
        if self.conflicts:
            raise SchemaError("; ".join(self.conflicts), backend=backend)
        for fix in self.fixes:
            for statement in fix.statements:
                connection.execute(statement)
        return [fix.done for fix in self.fixes if fix.done]


def drift_of_stored(table: sa.Table, catalog: Catalog, layout: Layout) -> StoredDrift:
    """Compare the table of a kind with what is in the database."""
    shape, name = shape_in(table), plain_name(table)
    stored = catalog.tables.get((shape.schema, shape.name))
    if stored is None:
        made = Fix(f"table {name} is missing", f"created table {name}", tuple(table_creation(table, layout)))
        return StoredDrift((made,))
    actual = actual_style(stored)
    return StoredDrift(
        fixes=(
            *_columns(table, stored),
            *_indexes(table, stored),
            *_protection(qualified(table), name, stored, layout, TABLE_RIGHTS),
            *drift_of_partitions(table, stored),
            *drift_of_registration(table, actual, catalog, layout),
        ),
        conflicts=tuple(_conflicts(table, stored)),
        concerns=(*_strange_policies(name, stored), *other_style(table, actual, layout)),
    )


def drift_of_house(
    schemas: Iterable[str], lines: Iterable[str], catalog: Catalog, layout: Layout
) -> StoredDrift:
    """Compare the gateway's own tables and functions, and the schemas of the kinds, with what is in the database.

    Args:
        schemas: Schemas of the kinds.
        lines: Tables that remember how far the lines of other packages are.
        catalog: What is in the database.
        layout: What there is to build on.
    """
    fixes = [fix for schema in sorted({OWN_SCHEMA, *schemas}) for fix in _schema(schema, catalog, layout)]
    for name in (*OWN_TABLES, *lines):
        stored = catalog.tables.get((OWN_SCHEMA, name))
        full = f"{quoted(OWN_SCHEMA)}.{quoted(name)}"
        if stored is None:
            statements = tuple(own_table_creation(name, layout))
            fixes.append(
                Fix(f"table {OWN_SCHEMA}.{name} is missing", f"created table {OWN_SCHEMA}.{name}", statements)
            )
        elif name in _OF_TENANTS:
            fixes += _protection(full, f"{OWN_SCHEMA}.{name}", stored, layout, _OF_TENANTS[name])
        else:
            fixes += _grants(full, f"{OWN_SCHEMA}.{name}", stored, layout, OWN_RIGHTS)
    fixes += [fix for function in FUNCTIONS for fix in _function(function, catalog, layout)]
    return StoredDrift((*fixes, *drift_of_chunks(catalog)))


def _schema(schema: str, catalog: Catalog, layout: Layout) -> Iterator[Fix]:
    if schema not in catalog.schema_rights:
        yield Fix(
            f"schema {schema} is missing",
            f"created schema {schema}",
            tuple(schema_creation([schema], layout)),
        )
        return
    roles = {layout.role(group) for group in layout.groups}
    lacking = sorted(roles - catalog.schema_rights[schema])
    if lacking:
        known = replace(layout, schemas=layout.schemas | {schema})
        yield Fix(
            f"{', '.join(lacking)} may not look into schema {schema}",
            f"let {', '.join(lacking)} look into schema {schema}",
            tuple(schema_creation([schema], known)),
        )


def _function(function: Function, catalog: Catalog, layout: Layout) -> Iterator[Fix]:
    statements = tuple(literal(text) for text in function_statements(function, layout))
    text, callers = catalog.functions.get(function.name, (None, frozenset[str]()))
    name = f"{OWN_SCHEMA}.{function.name}"
    if text is None:
        yield Fix(f"function {name} is missing", f"created function {name}", statements)
    elif text != function.body:
        yield Fix(f"function {name} is another release's", f"replaced function {name}", statements)
    else:
        wanted = {layout.role(group) for group in layout.groups & function.callers}
        if wanted - callers or "" in callers:
            yield Fix(
                f"who may call function {name} is not as it should be", f"set who may call {name}", statements
            )


def _columns(table: sa.Table, stored: StoredTable) -> Iterator[Fix]:
    for column in table.columns:
        if column.name in stored.columns or not (column.nullable or column.server_default is not None):
            continue
        name = f"{plain_name(table)}.{column.name}"
        spelled = str(CreateColumn(column).compile(dialect=_DIALECT)).strip()
        statement = literal(f"ALTER TABLE {qualified(table)} ADD COLUMN {spelled}")
        yield Fix(f"column {name} is missing", f"added column {name}", (statement,))


def _indexes(table: sa.Table, stored: StoredTable) -> Iterator[Fix]:
    for index in sorted(table.indexes, key=lambda one: str(one.name)):
        name = str(index.name)
        if name not in stored.indexes:
            # One that CREATE INDEX CONCURRENTLY left half made is invalid, and has the name.
            clear = literal(f"DROP INDEX IF EXISTS {quoted(shape_in(table).schema)}.{quoted(name)}")
            yield Fix(f"index {name} is missing", f"created index {name}", (clear, CreateIndex(index)))
        elif stored.indexes[name] != tuple(column.name for column in index.columns):
            clear = literal(f"DROP INDEX {quoted(shape_in(table).schema)}.{quoted(name)}")
            yield Fix(f"index {name} was altered", f"made index {name} anew", (clear, CreateIndex(index)))


def _protection(
    full: str, name: str, stored: StoredTable, layout: Layout, rights: Mapping[Group, tuple[str, ...]]
) -> Iterator[Fix]:
    enable, force = map(literal, protect(full))
    if not stored.enabled:
        yield Fix(
            f"row security of {name} is off, so every tenant is seen by all",
            f"switched on row security of {name}",
            (enable,),
        )
    if not stored.forced:
        yield Fix(
            f"row security of {name} does not bind its owner", f"forced row security of {name}", (force,)
        )
    yield from _policy(full, name, stored, TENANT_POLICY, (), TENANT_TEST, tenant_policy(full))
    if Group.ADMIN in layout.groups:
        role = layout.role(Group.ADMIN)
        yield from _policy(full, name, stored, ADMIN_POLICY, (role,), "true", admin_policy(full, layout))
    yield from _grants(full, name, stored, layout, rights)


def _policy(
    full: str,
    name: str,
    stored: StoredTable,
    policy: str,
    roles: tuple[str, ...],
    test: str,
    creation: str,
) -> Iterator[Fix]:
    found = stored.policies.get(policy)
    if found is None:
        yield Fix(
            f"policy {policy} of {name} is missing",
            f"created policy {policy} of {name}",
            (literal(creation),),
        )
    elif not _same(found, roles, test):
        drop = literal(f"DROP POLICY {policy} ON {full}")
        yield Fix(
            f"policy {policy} of {name} was altered",
            f"set policy {policy} of {name} right",
            (drop, literal(creation)),
        )


def _same(policy: Policy, roles: tuple[str, ...], test: str) -> bool:
    wanted = _squeezed(test)
    tests = (_squeezed(policy.using), _squeezed(policy.check))
    return policy.permissive and policy.command == "*" and policy.roles == roles and tests == (wanted, wanted)


def _squeezed(expression: str | None) -> str:
    """Return an expression without what the database adds when it prints one: brackets, spaces and casts of texts."""
    return re.sub(r"[\s()]|::text", "", expression or "")


def _grants(
    full: str, name: str, stored: StoredTable, layout: Layout, rights: Mapping[Group, tuple[str, ...]]
) -> Iterator[Fix]:
    # An owner needs no grants, and is not told of any.
    groups = [group for group in layout.groups if layout.role(group) != stored.owner]
    held = {group: stored.rights.get(layout.role(group), frozenset[str]()) for group in groups}
    lacking = sorted(layout.role(group) for group, have in held.items() if set(rights[group]) - have)
    if lacking:
        statements = tuple(map(literal, grants(full, layout, rights)))
        who = ", ".join(lacking)
        yield Fix(f"{who} lacks rights on {name}", f"gave {who} rights on {name}", statements)
    yield from _excess(full, name, stored, held, rights, layout)


def _excess(
    full: str,
    name: str,
    stored: StoredTable,
    held: Mapping[Group, frozenset[str]],
    rights: Mapping[Group, tuple[str, ...]],
    layout: Layout,
) -> Iterator[Fix]:
    """Take from the groups, such as by default privileges, what they should not have; what others have is theirs."""
    extra = {layout.role(group): have - set(rights[group]) for group, have in held.items()}
    extra["PUBLIC"] = stored.rights.get("", frozenset[str]()) & {"TRUNCATE"}
    for role, excess in sorted(extra.items()):
        if not excess:
            continue
        what = ", ".join(sorted(excess))
        # No policy holds TRUNCATE back: it empties the table of every tenant.
        reckless = f"{role} may truncate {name}, all tenants at once"
        yield Fix(
            reckless if "TRUNCATE" in excess else f"{role} has more rights on {name} than it should ({what})",
            f"took {what} on {name} from {role}",
            (literal(f"REVOKE {what} ON {full} FROM {role if role == 'PUBLIC' else quoted(role)}"),),
        )


def _conflicts(table: sa.Table, stored: StoredTable) -> Iterator[str]:
    name = plain_name(table)
    wanted = {column.name: column.type.compile(dialect=_DIALECT).lower() for column in table.columns}
    for column in sorted(stored.columns.keys() - wanted.keys()):
        yield (
            f"table {name} has a column {column} that the kind lacks: install the release that made it, or drop "
            "the column if nothing needs it"
        )
    for column in sorted(stored.columns.keys() & wanted.keys()):
        kind = stored.columns[column][0].lower()
        if kind != wanted[column]:
            yield (
                f"column {name}.{column} is {kind} and the kind wants {wanted[column]}: give the changed field "
                "another name, or copy the rows into a new store"
            )
    for one in table.columns:
        if one.name not in stored.columns and not one.nullable and one.server_default is None:
            yield f"key column {name}.{one.name} is missing: copy the rows into a new store"
    expected = tuple(column.name for column in table.primary_key.columns)
    if stored.key != expected:
        yield (
            f"table {name} is keyed by {', '.join(stored.key) or 'nothing'} and the kind by {', '.join(expected)}: "
            "give the kind another name, or copy the rows into a new store"
        )


def _strange_policies(name: str, stored: StoredTable) -> Iterator[str]:
    for policy in stored.policies.values():
        if policy.permissive and policy.name not in {TENANT_POLICY, ADMIN_POLICY}:
            yield (
                f"policy {policy.name} of {name} is not the gateway's and may show tenants each other's rows: "
                "drop it, or make it AS RESTRICTIVE"
            )

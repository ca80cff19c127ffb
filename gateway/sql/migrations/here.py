"""What revisions are made of: changes of tables, each said once for every database.

Revisions are frozen, so these functions only ever gain arguments with defaults.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from gateway.records.types import StorageType
from gateway.sql.creation import schema_creation, table_creation
from gateway.sql.fingerprints import index_name
from gateway.sql.layout import Layout
from gateway.sql.shapes import TableShape
from gateway.sql.tables import columns_from, table_from

__all__ = [
    "add_field",
    "add_index",
    "create",
    "drop",
    "drop_field",
    "drop_index",
    "layout_here",
    "need_schemas",
]


def layout_here() -> Layout:
    """Return how the store that is being migrated is laid out. Call it from a revision's `upgrade` or `downgrade`."""
    layout: Layout = op.get_context().opts["gateway_layout"]
    return layout


def _schema(schema: str) -> str | None:
    return None if layout_here().dialect == "sqlite" else schema


def need_schemas(*schemas: str) -> None:
    """Create the schemas that are not there, where the database has schemas, and let the groups look into them."""
    layout = layout_here()
    for statement in schema_creation(schemas, layout) if layout.dialect != "sqlite" else ():
        op.execute(statement)


def create(shape: TableShape) -> None:
    """Create the table of a kind, with its indexes, and what cuts and protects it, unless it is there.

    A package that had a kind before it had revisions finds the table that was made from the kind. What it differs in
    is looked at after all revisions.
    """
    layout, context = layout_here(), op.get_context()
    table = table_from(shape, sa.MetaData(), layout.dialect)
    context.opts["gateway_made"].add(table.fullname)
    if not context.as_sql and sa.inspect(op.get_bind()).has_table(table.name, schema=table.schema):
        return
    for statement in table_creation(table, layout):
        op.execute(statement)


def drop(name: str, schema: str) -> None:
    """Drop the table of a kind, its indexes and partitions with it."""
    op.drop_table(name, schema=_schema(schema))


def add_field(table: str, schema: str, field: str, storage: StorageType) -> None:
    """Add the columns of a field, which are empty in every row that is there."""
    for column in columns_from(field, storage, layout_here().dialect):
        op.add_column(table, column, schema=_schema(schema))


def drop_field(table: str, schema: str, field: str, storage: StorageType) -> None:
    """Drop the columns of a field."""
    for column in columns_from(field, storage, layout_here().dialect):
        op.drop_column(table, column.name, schema=_schema(schema))


def add_index(table: str, schema: str, fields: tuple[str, ...]) -> None:
    """Add an index, behind the tenant where the database has it in front."""
    tenant = () if layout_here().dialect == "sqlite" else ("tenant_id",)
    op.create_index(index_name(table, fields), table, [*tenant, *fields], schema=_schema(schema))


def drop_index(table: str, schema: str, fields: tuple[str, ...]) -> None:
    """Drop an index."""
    op.drop_index(index_name(table, fields), table, schema=_schema(schema))

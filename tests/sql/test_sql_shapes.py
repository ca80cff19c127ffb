"""Keys, indexes and columns of tables in PostgreSQL."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from gateway.errors import ConfigurationError
from gateway.records import CANDLES, POSITIONS, TRADES, KindSpec
from gateway.records.builtin import BUILTIN_KINDS
from gateway.sql.dialect import POSTGRES
from gateway.sql.fingerprints import fingerprint_of
from gateway.sql.shapes import partition_field, primary_key, secondary_indexes, shape_of
from gateway.sql.tables import metadata_of, table_of


def test_a_log_is_keyed_by_its_time_too() -> None:
    """The column that a table is cut by is a part of its key; an index finds rows by their id alone."""
    shape = shape_of(TRADES)
    assert primary_key(shape) == ("tenant_id", "timestamp", "record_id")
    assert secondary_indexes(shape) == (
        ("record_id",),
        ("market_name", "timestamp"),
        ("condition_id", "timestamp"),
    )


def test_a_state_is_cut_only_by_a_time_in_its_key() -> None:
    """A candle's time never changes; the time of a position may, so its table is whole."""
    assert partition_field(CANDLES) == "timestamp"
    assert partition_field(POSITIONS) is None
    assert primary_key(shape_of(POSITIONS)) == ("tenant_id", "condition_id")


def test_every_partition_column_is_in_the_key() -> None:
    """PostgreSQL and TimescaleDB refuse a unique key without it."""
    shapes = [shape_of(kind) for kind in BUILTIN_KINDS]
    assert all(shape.time is None or shape.time in primary_key(shape) for shape in shapes)
    assert sum(shape.time is not None for shape in shapes) == 9


def test_columns_are_strict_types(everything: KindSpec) -> None:
    """Times have a zone, money has every digit, documents can be queried, text sorts the same everywhere."""
    table = table_of(everything, sa.MetaData(), POSTGRES)
    text = str(CreateTable(table).compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]
    for line in (
        "tenant_id UUID NOT NULL",
        "deleted BOOLEAN NOT NULL",
        'record_id TEXT COLLATE "C" NOT NULL',
        "at TIMESTAMP WITH TIME ZONE NOT NULL",
        "whole BIGINT",
        "ratio DOUBLE PRECISION",
        "flag BOOLEAN",
        "price NUMERIC,",
        "extra JSONB",
        "extra__exact TEXT",
        "created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL",
        "updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL",
    ):
        assert line in text


def test_a_kind_keeps_its_own_stamp() -> None:
    """Where a kind has a field called `updated_at`, that is the column, and not the store's."""
    table = metadata_of(BUILTIN_KINDS, POSTGRES).tables["bots_core.bot_state"]
    assert table.columns["updated_at"].server_default is None
    assert table.columns["created_at"].server_default is not None


def test_every_index_begins_with_the_tenant() -> None:
    """Row security asks for the tenant in every query."""
    tables = metadata_of(BUILTIN_KINDS, POSTGRES).tables.values()
    indexes = [index for table in tables for index in table.indexes]
    assert len(indexes) > 10
    assert all(index.columns.keys()[0] == "tenant_id" for index in indexes)


@pytest.mark.parametrize("schema", ["gateway", "pg_catalog", "information_schema", "a-b", "Upper"])
def test_schemas_of_others_are_refused(schema: str) -> None:
    """No kind may put its table into the gateway's own schema, or the database's."""
    with pytest.raises(ConfigurationError, match="schema"):
        table_of(replace(TRADES, schema=schema), sa.MetaData(), POSTGRES)


@pytest.mark.parametrize("name", ["trades_p202611", "trades_default"])
def test_a_kind_may_not_be_called_like_a_partition(name: str) -> None:
    """Its table would be in the way of a partition of another kind."""
    with pytest.raises(ConfigurationError, match="partition of"):
        metadata_of((TRADES, replace(TRADES, name=name)), POSTGRES)
    metadata_of((replace(TRADES, name=name),), POSTGRES)


def test_fingerprints_know_the_schema() -> None:
    """In PostgreSQL the schema and the field that the table is cut by matter; in SQLite they do not."""
    other = replace(TRADES, schema="ai_core")
    assert fingerprint_of(other) == fingerprint_of(TRADES)
    assert fingerprint_of(other, "postgresql") != fingerprint_of(TRADES, "postgresql")

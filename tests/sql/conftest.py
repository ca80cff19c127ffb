"""Kinds and a database for the tests of SQL text."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable

from gateway.records import (
    Count,
    Flag,
    Json,
    KindSpec,
    LogRecord,
    Money,
    Number,
    Record,
    Row,
    Shape,
    Text,
    Time,
)
from gateway.sql.dialect import SQLITE
from gateway.sql.statements import statements_of
from gateway.sql.tables import table_of
from gateway_sqlite.connection import connect


class Everything(LogRecord):
    """One field of each storage type, each of which may be missing."""

    at: Time
    name: Text | None = None
    whole: Count | None = None
    ratio: Number | None = None
    flag: Flag | None = None
    price: Money | None = None
    extra: Json | None = None


class Pair(Record):
    """A record with a key of two fields, one of them a reserved word of SQL."""

    order: Text
    step: Count
    note: Text | None = None


EVERYTHING = KindSpec(
    "everything", Everything, time_field="at", indexes=(("at", "record_id"), ("name", "at"))
)
PAIRS = KindSpec("pairs", Pair, key=("order", "step"), shape=Shape.STATE)


@pytest.fixture
def everything() -> KindSpec:
    """A log with a field of each storage type."""
    return EVERYTHING


@pytest.fixture
def pairs() -> KindSpec:
    """A state with a key of two fields."""
    return PAIRS


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A SQLite file with the tables of both kinds."""
    path = tmp_path / "text.db"
    with closing(connect(path, "rwc", 5.0)) as connection:
        # Hundreds of generated examples: what is tested here is SQL, not the disk.
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA journal_mode=MEMORY")
        for kind in (EVERYTHING, PAIRS):
            table = table_of(kind, sa.MetaData())
            connection.execute(str(CreateTable(table)))
            for index in table.indexes:
                connection.execute(str(CreateIndex(index)))
        yield connection


@pytest.fixture
def store(database: sqlite3.Connection) -> Callable[[Sequence[Row]], None]:
    """Stores rows with the guarded upsert."""

    def insert(rows: Sequence[Row]) -> None:
        for row in rows:
            statements = statements_of(row.kind, SQLITE)
            database.execute(statements.upsert, statements.parameters(row))

    return insert

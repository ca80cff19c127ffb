"""Statements made from kinds, run on a real file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

import pytest

from gateway.errors import CapabilityError, ConfigurationError
from gateway.records import CANDLES, TRADES, KindSpec, Row
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.stamp import row_of
from gateway.sql.dialect import SQLITE, table_name
from gateway.sql.statements import statements_of

Store = Callable[[Sequence[Row]], None]


def _pair(kind: KindSpec, order: str, step: int, version: int, note: str = "n") -> Row:
    return row_of(kind, "t", version, (order, step, note))


def _read(
    database: sqlite3.Connection, kind: KindSpec, *keys: tuple[str, int]
) -> dict[tuple[object, ...], Row]:
    statements = statements_of(kind, SQLITE)
    rows = [
        statements.row("t", record)
        for text, parameters in statements.reads("t", keys)
        for record in database.execute(text, parameters)
    ]
    return {row.key: row for row in rows}


def test_statements_of_a_kind_are_made_once() -> None:
    """The hot path compiles nothing."""
    assert statements_of(TRADES, SQLITE) is statements_of(TRADES, SQLITE)


def test_upsert_keeps_the_greater_version(
    database: sqlite3.Connection, pairs: KindSpec, store: Store
) -> None:
    """An older row that comes later changes nothing; a newer one replaces every field."""
    store([_pair(pairs, "a", 1, 7, "seven"), _pair(pairs, "a", 1, 5, "five")])
    assert _read(database, pairs, ("a", 1))["a", 1].values == ("a", 1, "seven")
    store([_pair(pairs, "a", 1, 9, "nine")])
    assert _read(database, pairs, ("a", 1))["a", 1].values == ("a", 1, "nine")


def test_upsert_breaks_ties_by_digest(database: sqlite3.Connection, pairs: KindSpec, store: Store) -> None:
    """Of two rows with one version the one with the greater signed digest stays, in either order."""
    rows = [_pair(pairs, "a", 1, 7, note) for note in ("x", "y", "z", "w")]
    winner = max(rows, key=lambda row: row.digest)
    assert min(row.digest for row in rows) < 0 < winner.digest, "the example needs both signs"
    for order in (rows, rows[::-1]):
        database.execute("DELETE FROM pairs")
        store(order)
        assert _read(database, pairs, ("a", 1))["a", 1] == winner


@pytest.mark.parametrize("count", [1, 2, 16, 17, 130, 1300])
def test_reads_find_every_key_once(
    database: sqlite3.Connection, pairs: KindSpec, store: Store, count: int
) -> None:
    """However many keys are asked for, each stored one is found and no other."""
    rows = [_pair(pairs, f"k{number}", number, 1) for number in range(count)]
    store(rows)
    store([_pair(pairs, "other", 0, 1)])
    keys = [("absent", 1), *((f"k{number}", number) for number in range(count))]
    assert _read(database, pairs, *keys) == {row.key: row for row in rows}


def test_reads_use_the_primary_key(
    database: sqlite3.Connection, pairs: KindSpec, everything: KindSpec
) -> None:
    """No read by key walks through the table."""
    for kind, keys in ((pairs, [("a", 1), ("b", 2)]), (pairs, [("a", 1)]), (everything, [("a",), ("b",)])):
        for text, parameters in statements_of(kind, SQLITE).reads("t", keys):
            plan = " ".join(row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {text}", parameters))
            whole_key = " AND ".join(f"{name}=?" for name in (*kind.key, "tenant_id"))
            assert f"SEARCH {kind.name} USING INDEX sqlite_autoindex_{kind.name}_1 ({whole_key})" in plan
            assert f"SCAN {kind.name} " not in f"{plan} "


def test_a_row_comes_back_as_it_was(database: sqlite3.Connection, everything: KindSpec, store: Store) -> None:
    """Every storage type survives the way into the file and back, None included, digest and all."""
    values = ("r1", 1_700_000_000_000_001, "żółw 'x' \"y\"", 2**63 - 1, 0.1, False, "0.1", '{"a":[1]}')
    full = row_of(everything, "t", 1, values)
    empty = row_of(everything, "t", 1, ("r2", -1, None, None, None, None, None, None), deleted=True)
    store([full, empty])
    statements = statements_of(everything, SQLITE)
    found = []
    for text, parameters in statements.reads("t", [("r1",), ("r2",)]):
        found += [statements.row("t", record) for record in database.execute(text, parameters)]
    assert sorted(found, key=lambda row: str(row.key)) == [full, empty]
    assert all(row.intact for row in found)
    flags = {row.key: row.values[5] for row in found}
    assert isinstance(flags["r1",], bool)


def test_purge_removes_a_portion_of_the_old(
    database: sqlite3.Connection, everything: KindSpec, store: Store
) -> None:
    """Rows before the moment go, at most as many as the limit; later rows and other tenants stay."""
    blank = (None,) * 6
    store([row_of(everything, "t", 1, (f"r{at}", at, *blank)) for at in range(10)])
    store([row_of(everything, "u", 1, ("r0", 0, *blank))])
    statement = statements_of(everything, SQLITE).purge(4)
    removed = [database.execute(statement, ("t", "t", 6)).rowcount for _ in range(3)]
    assert removed == [4, 2, 0]
    left = database.execute("SELECT tenant_id, at FROM everything ORDER BY 1, 2").fetchall()
    assert left == [("t", 6), ("t", 7), ("t", 8), ("t", 9), ("u", 0)]


def test_purge_needs_a_time(pairs: KindSpec) -> None:
    """A kind without time has no age to purge by."""
    with pytest.raises(CapabilityError, match="no time field"):
        statements_of(pairs, SQLITE).purge(10)


@pytest.mark.parametrize("name", ["alembic_version", "gateway_kinds", "sqlite_stat1", "pg_class"])
def test_system_names_are_refused(name: str) -> None:
    """A kind cannot be called like a table of the gateway or of the database."""
    with pytest.raises(ConfigurationError, match="rename the kind"):
        table_name(name)


@pytest.mark.parametrize("kind", BUILTIN_KINDS, ids=lambda kind: kind.name)
def test_every_value_is_a_parameter(kind: KindSpec) -> None:
    """The upsert has one placeholder a column and no literal."""
    statements = statements_of(kind, SQLITE)
    assert statements.upsert.count("?") == 4 + len(kind.fields)
    assert "'" not in statements.upsert


def test_composite_keys_conflict_on_all_their_fields() -> None:
    """Candles of one symbol and another interval are different rows."""
    assert (
        'ON CONFLICT ("symbol", "interval", "timestamp", "tenant_id")'
        in statements_of(CANDLES, SQLITE).upsert
    )

"""`gateway schema`."""

from __future__ import annotations

import sqlite3
from typing import Any


def test_upgrade_makes_the_schema_and_repeating_it_does_nothing(workplace: Any) -> None:
    """A new store gets its tables; the second run has nothing to do."""
    first = workplace.run("schema", "upgrade", "--json")
    assert first.code == 0
    assert first.json["schemas"][0]["done"]
    assert workplace.run("schema", "upgrade", "--json").json == {"schemas": [{"store": "sqlite", "done": []}]}
    assert "nothing to do" in workplace.run("schema", "upgrade").out
    current = workplace.run("schema", "current", "--json").json["schemas"][0]
    assert current["current"] == current["head"]
    assert workplace.run("schema", "check").code == 0


def test_check_finds_a_table_that_is_not_what_the_kind_needs(workplace: Any) -> None:
    """A missing column is a problem with a sentence and exit code 1."""
    workplace.run("schema", "upgrade")
    connection = sqlite3.connect(workplace.path / "storage" / "gateway.db", isolation_level=None)
    connection.execute("ALTER TABLE alerts DROP COLUMN details")
    connection.close()
    done = workplace.run("schema", "check", "--json")
    assert done.code == 1
    assert "details" in " ".join(done.json["schemas"][0]["problems"])


def test_downgrade_refuses_to_lose_rows_unless_forced(workplace: Any) -> None:
    """Rows are lost only on request."""
    workplace.fill("sqlite", trades=2)
    refused = workplace.run("schema", "downgrade", "base", "--json")
    assert refused.code == 3
    assert "--force" in refused.error["message"]
    assert workplace.run("stats", "--json").code == 0
    forced = workplace.run("schema", "downgrade", "base", "--force", "--json")
    assert forced.code == 0
    assert workplace.run("schema", "current", "--json").json["schemas"][0]["current"] is None


def test_sql_prints_the_statements_for_review(workplace: Any) -> None:
    """The statements name every table and touch nothing."""
    out = workplace.run("schema", "sql").out
    assert "CREATE TABLE trades" in out
    assert "CREATE TABLE positions" in out
    assert not (workplace.path / "storage").exists()


def test_a_store_without_a_schema_is_refused_by_name(workplace: Any) -> None:
    """JSON files have no schema, and asking for one says so."""
    for arguments in (("--store", "json"), ()):
        done = workplace.run("--backends", "json", "schema", "check", *arguments)
        assert done.code == 2
        assert "schema" in done.err
    unknown = workplace.run("schema", "check", "--store", "oracle")
    assert unknown.code == 2
    assert "no store 'oracle'" in unknown.err


def test_only_stores_with_a_schema_are_looked_at(workplace: Any) -> None:
    """With JSON files and SQLite, the schema commands mean SQLite."""
    workplace.fill("json,sqlite")
    found = workplace.run("--backends", "json,sqlite", "schema", "current", "--json").json
    assert [one["store"] for one in found["schemas"]] == ["sqlite"]

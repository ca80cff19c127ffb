"""`gateway maintain`: upkeep of every store that has some, which says each thing it does."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.codec import to_micros
from tests.prepared import environ_of
from tests.servers import Database

BOOKS = next(kind for kind in BUILTIN_KINDS if kind.name == "order_book_snapshots")
DOWN = {"STORAGE_POSTGRES_URL": "postgresql://bot:s3cret@127.0.0.1:1/none"}


def _add_old_row(workplace: Any) -> None:
    """Store a row that retention has outlived; its digest does not matter to what looks at its time."""
    assert BOOKS.retention is not None
    moment = to_micros(datetime.now(UTC) - BOOKS.retention - timedelta(days=2))
    with closing(sqlite3.connect(workplace.path / "storage" / "gateway.db")) as connection, connection:
        connection.execute(
            "INSERT INTO order_book_snapshots (tenant_id, version, digest, deleted, record_id, timestamp) "
            "VALUES ('00000000-0000-0000-0000-000000000000', 1, 1, 0, 'old', ?)",
            (moment,),
        )


def _rows(workplace: Any) -> int:
    with closing(sqlite3.connect(workplace.path / "storage" / "gateway.db")) as connection:
        (found,) = connection.execute("SELECT COUNT(*) FROM order_book_snapshots").fetchone()
        return int(found)


def test_a_dry_run_says_and_does_nothing(workplace: Any) -> None:
    """What would be removed is counted, and is still there."""
    workplace.fill("sqlite", trades=1)
    assert workplace.run("maintain", "--dry-run").out == "sqlite: nothing to do\n"
    _add_old_row(workplace)
    said = workplace.run("maintain", "--dry-run")
    assert said.code == 0
    assert said.out.startswith("sqlite: would remove 1 rows of order_book_snapshots from before ")
    found = workplace.run("maintain", "--dry-run", "--json").json
    assert found["dry_run"] is True
    assert [len(one["done"]) for one in found["stores"]] == [1]
    assert _rows(workplace) == 1


def test_each_thing_that_was_done_is_said(workplace: Any) -> None:
    """Line by line, or as a document; stores without upkeep are passed over."""
    workplace.fill("json,sqlite", trades=1)
    _add_old_row(workplace)
    done = workplace.run("--backends", "json,sqlite", "maintain")
    assert done.code == 0
    assert "sqlite: removed 1 rows of order_book_snapshots" in done.out
    assert "json" not in done.out
    assert _rows(workplace) == 0
    again = workplace.run("--backends", "json,sqlite", "maintain", "--store", "sqlite", "--json").json
    assert again["dry_run"] is False
    assert [one["store"] for one in again["stores"]] == ["sqlite"]
    assert not any("removed" in step for step in again["stores"][0]["done"])


def test_a_server_is_looked_after_by_the_operator(workplace: Any, prepared_database: Database) -> None:
    """With the operator's login nothing is left undone in a new store; the bot's own lacks the rights, which is said."""
    workplace.environ = environ_of(prepared_database.app_url)
    refused = workplace.run("--backends", "postgres", "maintain", "--json")
    assert refused.code == 3
    assert "STORAGE_POSTGRES_ADMIN_URL" in refused.error["message"]
    workplace.environ |= {"STORAGE_POSTGRES_ADMIN_URL": prepared_database.superuser_url}
    done = workplace.run("--backends", "postgres", "maintain", "--json")
    assert (done.code, done.json["stores"]) == (0, [{"store": "postgres", "done": []}])


def test_a_store_that_fails_stops_no_other(workplace: Any) -> None:
    """The server that is down gives the exit code; the file is looked after."""
    workplace.fill("sqlite", trades=1)
    ran = workplace.run("--backends", "postgres,sqlite", "maintain", "--json", env=DOWN)
    assert ran.code == 3
    assert [one["store"] for one in ran.json["stores"]] == ["sqlite"]
    assert ran.error["type"] == "StoreUnavailableError"
    assert "s3cret" not in ran.err


def test_a_store_that_is_not_there_is_not_made(workplace: Any) -> None:
    """Nor is it passed over in silence."""
    for arguments in (("maintain",), ("maintain", "--dry-run")):
        missing = workplace.run(*arguments)
        assert missing.code == 3
        assert "there is no store at" in missing.err
    assert list(workplace.path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("maintain", "--store", "nosuch"), "STORAGE_BACKENDS names sqlite"),
        (("--backends", "json", "maintain"), "no store needs upkeep"),
        (("--backends", "memory", "maintain"), "no store needs upkeep"),
        (("--backends", "json,sqlite", "maintain", "--store", "json"), "the json backend needs no upkeep"),
    ],
)
def test_what_cannot_work_is_refused(workplace: Any, arguments: tuple[str, ...], words: str) -> None:
    """With exit code 2 and the reason."""
    refused = workplace.run(*arguments)
    assert refused.code == 2
    assert words in refused.err

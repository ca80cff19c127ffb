"""What docs/schema.md tells people to type, typed: every statement runs as who it is for, and finds something."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from gateway import Gateway
from gateway.sql.schema import Schema
from tests.plugins.postgres.ledger import labelled, package
from tests.plugins.postgres.schemas import schema_for
from tests.prepared import environ_of
from tests.servers import Database

PAGE = Path(__file__).resolve().parents[3] / "docs" / "schema.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
NOW = datetime.now(UTC)


def _blocks(language: str) -> list[str]:
    return [text for found, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")) if found == language]


def _statements(block: str) -> list[str]:
    plain = "\n".join(line for line in block.splitlines() if not line.startswith("--"))
    return [statement.strip() for statement in plain.split(";") if statement.strip()]


def _reader(block: str) -> str:
    """Return who a block is for, as its first line says."""
    return block.splitlines()[0].removeprefix("-- ")


@pytest.fixture
async def stores(prepared_database: Database, tmp_path: Path) -> Path:
    """A server and a file with the same few rows in them; returns the file."""
    environ = environ_of(prepared_database.app_url, phase="dual_write", mirror_mode="sync")
    async with Gateway(
        "sqlite,postgres", environ=environ, env_file=None, data_dir=tmp_path / "storage"
    ) as gateway:
        for number in range(3):
            await gateway.insert_trade(
                timestamp=NOW - timedelta(days=number),
                market_name="BTC",
                action="buy",
                side="YES",
                price="0.1",
                amount=number,
            )
        await gateway.save_position(
            condition_id="m", side="YES", entry_price="0.5", amount=2, opened_at=NOW, extra={"note": "mine"}
        )
    return tmp_path / "storage" / "gateway.db"


@pytest.mark.anyio
@pytest.mark.parametrize("number", range(len(_blocks("sql"))))
async def test_statements_find_what_they_are_for(
    prepared_database: Database, stores: Path, number: int
) -> None:
    """Each SELECT of the page gives rows, with a value in every column of at least one of them."""
    block = _blocks("sql")[number]
    urls = {
        "as gateway_readonly": prepared_database.readonly_url,
        "as gateway_admin": prepared_database.admin_url,
    }
    answers = []
    if _reader(block) == "in SQLite":
        with closing(sqlite3.connect(f"file:{stores}?mode=ro", uri=True)) as file:
            answers = [file.execute(statement).fetchall() for statement in _statements(block)]
    else:
        with psycopg.connect(urls[_reader(block)], autocommit=True) as login:
            for statement in _statements(block):
                cursor = login.execute(statement.encode())
                if statement.startswith("SELECT"):
                    answers.append(cursor.fetchall())
    assert answers
    for rows in answers:
        assert rows
        assert all(any(value not in (None, 0) for value in column) for column in zip(*rows, strict=True))


@pytest.mark.anyio
@pytest.mark.usefixtures("stores")
async def test_who_reads_without_a_tenant_finds_nothing(prepared_database: Database) -> None:
    """Where no tenant is named there are no rows, and no error."""
    with psycopg.connect(prepared_database.readonly_url) as reader:
        assert reader.execute("SELECT count(*) FROM bots_core.trades").fetchone() == (0,)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Database], Schema]:
    """Installs the scripts of the page as a package, and returns schemas of databases."""
    scripts = {f"rev_{number}": text for number, text in enumerate(_blocks("python"), 1)}
    assert len(scripts) == 2
    monkeypatch.syspath_prepend(str(package(tmp_path / "site", scripts)))
    return lambda database: schema_for(database.owner_url, labelled())


def test_the_scripts_for_authors_work(
    postgres_database: Database, installed: Callable[[Database], Schema]
) -> None:
    """A package with the scripts as they stand on the page is upgraded, checked and taken back."""
    schema = installed(postgres_database)
    assert "upgraded branch acme (acme-ledger) from revision none to 0002" in schema.upgrade()
    assert schema.check() == []
    schema.downgrade("acme@base")
    assert schema.branches()[0].current is None

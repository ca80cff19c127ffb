"""`gateway schema`, on a file and on a server."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from gateway.sql.migrations import HEAD
from tests.plugins.postgres.ledger import FIRST, package
from tests.prepared import environ_of
from tests.servers import Database, PostgresServer


@dataclass
class Store:
    """A store without a schema, and the command line that means it.

    Attributes:
        workplace: Where commands run.
        name: Its name.
        database: Its database; None for a file.
    """

    workplace: Any
    name: str
    database: Database | None

    def run(self, *args: str) -> Any:
        """Run a command of `gateway schema`."""
        return self.workplace.run("schema", *args)

    def execute(self, statement: str) -> None:
        """Do something to it by hand."""
        if self.database is not None:
            self.database.execute(statement)
            return
        path = self.workplace.path / "storage" / "gateway.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(statement)

    def table(self, schema: str, name: str) -> str:
        """Return how the table of a kind is called there."""
        return f"{schema}.{name}" if self.database is not None else name


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, workplace: Any) -> Store:
    """An empty store of each backend, on a server with a login for the bot and one for the operator."""
    if request.param == "sqlite":
        return Store(workplace, "sqlite", None)
    database: Database = request.getfixturevalue("postgres_database")
    workplace.environ = environ_of(
        database.app_url, backends="postgres", postgres_admin_url=database.owner_url
    )
    return Store(workplace, "postgres", database)


def test_upgrade_makes_the_schema_and_repeating_it_does_nothing(store: Store) -> None:
    """A new store gets its tables; the second run has nothing to do."""
    first = store.run("upgrade", "--json")
    assert first.code == 0
    assert first.json["schemas"][0]["done"]
    assert store.run("upgrade", "--json").json == {"schemas": [{"store": store.name, "done": []}]}
    assert "nothing to do" in store.run("upgrade").out
    assert store.run("current", "--json").json == {
        "schemas": [{"store": store.name, "current": HEAD, "head": HEAD, "branches": []}]
    }
    assert store.run("check").code == 0


def test_check_finds_a_table_that_is_not_what_the_kind_needs(store: Store) -> None:
    """A missing column is a problem with a sentence and exit code 1; an upgrade mends it."""
    store.run("upgrade")
    store.execute(f"ALTER TABLE {store.table('bots_core', 'alerts')} DROP COLUMN details")
    done = store.run("check", "--json")
    assert done.code == 1
    assert "details" in " ".join(done.json["schemas"][0]["problems"])
    assert f"added column {store.table('bots_core', 'alerts')}.details" in store.run("upgrade").out
    assert store.run("check").code == 0


def test_downgrade_refuses_to_lose_rows_unless_forced(store: Store) -> None:
    """Rows are lost only on request."""
    store.run("upgrade")
    store.workplace.fill(store.name, trades=2)
    refused = store.run("downgrade", "base", "--json")
    assert refused.code == 3
    assert store.table("bots_core", "trades") in refused.error["message"]
    assert "--force" in refused.error["message"]
    assert store.workplace.run("stats", "--json").code == 0
    forced = store.run("downgrade", "base", "--force", "--json")
    assert forced.code == 0
    assert store.run("current", "--json").json["schemas"][0]["current"] is None


def test_sql_prints_what_an_upgrade_does(store: Store) -> None:
    """The printed statements, run by hand as they stand, are the whole upgrade; printing them touched nothing."""
    printed = store.run("sql")
    assert printed.code == 0
    assert not (store.workplace.path / "storage").exists()
    if store.database is not None:
        with psycopg.connect(store.database.owner_url, autocommit=True) as owner:
            owner.execute(printed.out.encode())
    else:
        (store.workplace.path / "storage").mkdir(mode=0o700)
        path = store.workplace.path / "storage" / "gateway.db"
        path.touch(mode=0o600)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.executescript(printed.out)
    assert store.run("check").code == 0
    assert store.run("upgrade", "--json").json["schemas"][0]["done"] == []
    assert store.run("sql", "--from", "newest").code == 3


def test_a_packages_branch_is_shown_and_goes_its_own_way(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command knows the revisions that a package ships; a broken package fails `check` and nothing else."""
    monkeypatch.syspath_prepend(str(package(tmp_path / "site", {"rev_0001": FIRST})))
    assert "upgraded branch acme (acme-ledger) from revision none to 0001" in store.run("upgrade").out
    shown = store.run("current").out
    assert "acme" in shown
    branch = {"branch": "acme", "owner": "acme-ledger", "current": "0001", "head": "0001", "problem": None}
    assert store.run("current", "--json").json["schemas"][0]["branches"] == [branch]
    assert store.run("check").code == 0
    assert "shipments" in store.run("sql", "--from", "acme@base").out
    assert store.run("downgrade", "acme@base").code == 0
    assert store.run("check").code == 1
    broken = package(tmp_path / "other", {"rev_0001": "raise SystemExit"}, module="bad_one", branch="bad")
    monkeypatch.syspath_prepend(str(broken))
    assert store.run("upgrade").code == 0
    checked = store.run("check")
    assert checked.code == 1
    assert "branch bad (bad-one) cannot be used" in checked.out
    assert "bad" in store.run("current").out


def test_a_bots_login_is_told_who_may_upgrade(postgres_database: Database, workplace: Any) -> None:
    """Without the operator's login the command fails with a sentence, and makes nothing."""
    workplace.environ = environ_of(postgres_database.app_url, backends="postgres")
    done = workplace.run("schema", "upgrade", "--json")
    assert done.code == 3
    assert "STORAGE_POSTGRES_ADMIN_URL" in done.error["message"]
    assert workplace.run("schema", "current", "--json").json["schemas"][0]["current"] is None


@pytest.fixture
def other_prefix(postgres_server: PostgresServer) -> Iterator[str]:
    """A prefix of roles that are dropped at the end."""
    prefix = "desk_of_cli"
    yield prefix
    for group in ("app", "readonly", "admin"):
        postgres_server.execute(f'DROP ROLE IF EXISTS "{prefix}_{group}"')


def test_roles_are_printed_to_be_run(postgres_database: Database, workplace: Any, other_prefix: str) -> None:
    """What `gateway schema roles` prints makes the groups of the prefix that is set, as it stands."""
    workplace.environ = environ_of(
        postgres_database.app_url, backends="postgres", postgres_role_prefix=other_prefix
    )
    done = workplace.run("schema", "roles")
    assert done.code == 0
    postgres_database.execute(done.out)
    try:
        found = postgres_database.execute(
            f"SELECT rolname FROM pg_roles WHERE rolname LIKE '{other_prefix}%' AND NOT rolcanlogin"  # noqa: S608  # ours
        )
        assert len(found) == 3
    finally:
        postgres_database.drop()  # roles with rights in a database cannot be dropped


def test_a_file_has_no_roles(workplace: Any) -> None:
    """Asking for the roles of SQLite alone says why there are none."""
    done = workplace.run("schema", "roles")
    assert done.code == 2
    assert "database server" in done.err


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


def test_several_stores_are_upgraded_at_once(server_workplace: Any) -> None:
    """With two stores each command means both, and `--store` one of them."""
    both = ("--backends", "sqlite,postgres", "schema")
    done = server_workplace.run(*both, "upgrade", "--store", "sqlite", "--json").json
    assert [one["store"] for one in done["schemas"]] == ["sqlite"]
    found = server_workplace.run(*both, "current", "--json").json
    assert [(one["store"], one["current"]) for one in found["schemas"]] == [
        ("sqlite", HEAD),
        ("postgres", HEAD),
    ]
    assert server_workplace.run(*both, "check").code == 0

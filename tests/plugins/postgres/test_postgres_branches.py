"""Packages that ship revisions of their own: run after ours, apart from ours, and never in the way of ours."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from gateway.backend import OpenContext
from gateway.errors import SchemaError, SchemaTooNewError
from gateway.records import KindSpec
from gateway.records.builtin import BUILTIN_KINDS
from gateway.sql.migrations import HEAD
from gateway.sql.schema import Schema
from gateway.upkeep import BranchState
from gateway_sqlite.schema import schema_of
from gateway_sqlite.settings import SqliteSettings
from tests.plugins.postgres.ledger import FIRST, SECOND, labelled, package, shipments
from tests.plugins.postgres.schemas import OTHER, schema_for
from tests.servers import Database, PostgresServer

OURS = f"upgraded from revision none to {HEAD}"
BOTH = {"rev_0001": FIRST, "rev_0002": SECOND}


@dataclass
class House:
    """An empty store of one backend.

    Attributes:
        make: Returns its schema for the built-in kinds and some more.
        run: Runs a script, past every policy, and returns the rows of its last statement.
        table: Name of the package's table.
        version_table: Name of the table that keeps the package's place.
        kinds_table: Name of the table that remembers kinds.
    """

    make: Callable[..., Schema]
    run: Callable[[str], list[tuple[object, ...]]]
    table: str
    version_table: str
    kinds_table: str

    def ship(self, *columns: str) -> None:
        """Put a row into the package's table."""
        names = ", ".join(("tenant_id", "version", "digest", "deleted", "record_id", "at", *columns))
        moment = "'2026-01-01'" if "." in self.table else "0"
        values = ", ".join([f"'{OTHER}', 1, 1, '0', 'r'", moment, *("'P-1'" for _ in columns)])
        self.run(f"INSERT INTO {self.table} ({names}) VALUES ({values})")  # noqa: S608  # ours


def _sqlite(path: Path) -> House:
    path.touch(mode=0o600)

    def make(*more: KindSpec) -> Schema:
        settings = SqliteSettings(url=f"sqlite:///{path}")
        return schema_of(OpenContext("sqlite", settings, (*BUILTIN_KINDS, *more), path.parent))

    def run(script: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            if ";" in script:
                connection.executescript(script)
                return []
            return connection.execute(script).fetchall()

    return House(make, run, "shipments", "alembic_version_acme", "gateway_kinds")


def _postgres(database: Database) -> House:
    def make(*more: KindSpec) -> Schema:
        return schema_for(database.owner_url, *more)

    def run(script: str) -> list[tuple[object, ...]]:
        if ";" not in script:
            return database.execute(script)
        with psycopg.connect(database.owner_url, autocommit=True) as owner:
            owner.execute(script.encode())
        return []

    return House(make, run, "acme.shipments", "gateway.alembic_version_acme", "gateway.gateway_kinds")


@pytest.fixture(params=["sqlite", "postgres"])
def houses(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], House]]:
    """Makes empty stores of each backend in turn."""
    made: list[Database] = []

    def make() -> House:
        if request.param == "sqlite":
            return _sqlite(tmp_path / f"{len(list(tmp_path.glob('*.db')))}.db")
        server: PostgresServer = request.getfixturevalue("postgres_server")
        made.append(server.database())
        return _postgres(made[-1])

    yield make
    for database in made:
        database.drop()


@pytest.fixture
def house(houses: Callable[[], House]) -> House:
    """One empty store."""
    return houses()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Installs a package; the last one of a name hides those before."""
    count = iter(range(100))

    def put(scripts: dict[str, str], **options: str) -> None:
        monkeypatch.syspath_prepend(str(package(tmp_path / f"site{next(count)}", scripts, **options)))

    return put


def test_a_package_brings_its_own_tables(house: House, install: Callable[..., None]) -> None:
    """An upgrade runs our revisions, then theirs, which make the table; nothing is left to the kind, or to do."""
    install(BOTH)
    schema = house.make(labelled())
    assert schema.branches() == [BranchState("acme", "acme-ledger", None, "0002")]
    done = schema.upgrade()
    assert done[:2] == [OURS, "upgraded branch acme (acme-ledger) from revision none to 0002"]
    assert not any(house.table in line for line in done)
    assert schema.check() == []
    assert schema.upgrade() == []
    assert schema.current() == HEAD
    assert schema.branches() == [BranchState("acme", "acme-ledger", "0002", "0002")]
    assert house.run(f"SELECT version_num FROM {house.version_table}") == [("0002",)]  # noqa: S608  # ours


def test_a_revision_turns_the_table_into_what_the_kind_became(
    house: House, install: Callable[..., None]
) -> None:
    """A renamed field, which no comparison could mend, is a revision's work: rows keep their values."""
    install({"rev_0001": FIRST})
    house.make(shipments()).upgrade()
    house.ship("parcel")
    install(BOTH, version="2.0")
    schema = house.make(labelled())
    assert (
        "branch acme (acme-ledger) is at revision 0001, not 0002: run `gateway schema upgrade`"
        in schema.check()
    )
    assert schema.upgrade() == ["upgraded branch acme (acme-ledger) from revision 0001 to 0002"]
    assert schema.check() == []
    assert house.run(f"SELECT label FROM {house.table}") == [("P-1",)]  # noqa: S608  # ours


def test_a_package_that_gets_revisions_later_finds_its_table(
    house: House, install: Callable[..., None]
) -> None:
    """The table that the gateway made from the kind is taken over by the first revision as it is."""
    house.make(shipments()).upgrade()
    house.ship("parcel")
    install({"rev_0001": FIRST})
    schema = house.make(shipments())
    assert schema.upgrade() == ["upgraded branch acme (acme-ledger) from revision none to 0001"]
    assert schema.check() == []
    assert house.run(f"SELECT parcel FROM {house.table}") == [("P-1",)]  # noqa: S608  # ours


def test_a_branch_goes_back_by_itself(house: House, install: Callable[..., None]) -> None:
    """Downgrading a branch touches nothing of ours, and refuses to lose rows, of any tenant, unless forced."""
    install(BOTH)
    schema = house.make(labelled())
    schema.upgrade()
    house.ship("label")
    assert schema.downgrade("acme@0001", force=True) == [f"dropped {house.table}.label"]
    assert house.run(f"SELECT parcel FROM {house.table}") == [("P-1",)]  # noqa: S608  # ours
    remembered = {name for (name,) in house.run(f"SELECT name FROM {house.kinds_table}")}  # noqa: S608  # ours
    assert remembered == {kind.name for kind in BUILTIN_KINDS}, "bots without the package need no upgrade"
    with pytest.raises(SchemaError, match=rf"acme@base would lose rows of {house.table}.*--force"):
        schema.downgrade("acme@base")
    assert schema.branches()[0].current == "0001"
    assert f"dropped {house.table}.parcel" in schema.downgrade("acme@base", force=True)
    assert (schema.current(), schema.branches()[0].current) == (HEAD, None)
    for wrong, sentence in (("acme@7", "known are base, 0001, 0002"), ("zeta@base", "known are acme")):
        with pytest.raises(SchemaError, match=sentence):
            schema.downgrade(wrong)


def test_sql_for_review_has_the_branches(
    houses: Callable[[], House],
    install: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The printed script makes the package's tables once, and remembers its place; one branch is printed alone."""
    install(BOTH)
    by_hand = houses()
    script = by_hand.make(labelled()).sql()
    by_upgrade = houses()
    by_upgrade.make(labelled()).upgrade()
    by_hand.run(script)
    schema = by_hand.make(labelled())
    assert schema.check() == []
    assert schema.upgrade() == []
    assert schema.branches() == by_upgrade.make(labelled()).branches()
    half_way = houses()
    with monkeypatch.context() as patch:
        patch.setattr("sys.path", [str(package(tmp_path / "old", {"rev_0001": FIRST})), *sys.path])
        half_way.make(shipments()).upgrade()
    second = schema.sql("acme@0001")
    half_way.run(second)
    assert half_way.make(labelled()).upgrade() == [], "the script remembers what the kind has become"
    assert "RENAME COLUMN parcel TO label" in second
    assert "CREATE TABLE" not in second
    with pytest.raises(SchemaError, match="no revision 'newest'"):
        schema.sql("newest")


BROKEN = {
    "raises when it is read": ({"rev_0001": "raise RuntimeError('no luck')"}, "no luck"),
    "ends the process when it is read": ({"rev_0001": "raise SystemExit(3)"}, "SystemExit: 3"),
    "is no Python": ({"rev_0001": "def upgrade(:"}, "SyntaxError"),
    "has no revision": ({}, "0 latest revisions"),
    "has two ends": (BOTH | {"rev_0003": SECOND.replace('"0002"', '"0003"')}, "2 latest revisions"),
}
FAILING = {
    "raises": "raise ZeroDivisionError('by nought')",
    "ends the process": "raise SystemExit('enough')",
    "has an error in its SQL": "op.execute('SELECT * FROM nowhere')",
    "makes a table and fails": "op.execute('CREATE TABLE half (a int)'); op.execute('SELECT * FROM nowhere')",
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_package_stops_nobody_else(house: House, install: Callable[..., None], fault: str) -> None:
    """A package whose scripts cannot be used is a finding with its name; ours and others' tables are made."""
    scripts, reason = BROKEN[fault]
    install(scripts, module="broken_things", branch="broken")
    install(BOTH)
    schema = house.make(labelled())
    assert OURS in schema.upgrade()
    (problem,) = schema.check()
    assert "branch broken (broken-things) cannot be used" in problem
    assert reason in problem
    assert "update or reinstall broken-things" in problem
    states = {state.name: state for state in schema.branches()}
    assert states["acme"].current == "0002"
    assert states["broken"].problem == problem


@pytest.mark.parametrize("fault", FAILING)
def test_a_revision_that_fails_leaves_its_branch_alone(
    house: House, install: Callable[..., None], fault: str
) -> None:
    """What a failing script did is taken back, and said; ours and others' revisions stay."""
    head = FIRST.partition("def upgrade")[0]
    script = f"from alembic import op\n{head}\ndef upgrade():\n    {FAILING[fault]}\n\ndef downgrade():\n    pass\n"
    install({"rev_0001": script}, module="broken_things", branch="broken")
    install(BOTH)
    schema = house.make(labelled())
    done = schema.upgrade()
    assert OURS in done
    assert any("branch broken (broken-things) failed and was left at none: " in line for line in done)
    assert schema.check() == [
        "branch broken (broken-things) is at revision none, not 0001: run `gateway schema upgrade`"
    ]
    kinds = "sqlite_master" if house.table == "shipments" else "pg_class"
    column = "name" if house.table == "shipments" else "relname"
    assert house.run(f"SELECT 1 FROM {kinds} WHERE {column} = 'half'") == []  # noqa: S608  # ours


def test_a_revision_that_commits_is_refused(house: House, install: Callable[..., None]) -> None:
    """A script that ends the transaction takes the lock away from everybody; it is named, and nothing goes on."""
    head = FIRST.partition("def upgrade")[0]
    script = f"from alembic import op\n{head}\ndef upgrade():\n    op.get_bind().commit()\n\ndef downgrade():\n    pass\n"
    install({"rev_0001": script}, module="broken_things", branch="broken")
    with pytest.raises(SchemaError, match=r"branch broken \(broken-things\).*ended the transaction"):
        house.make().upgrade()


def test_a_newer_branch_is_refused(house: House, install: Callable[..., None]) -> None:
    """An older release of the package touches nothing that a newer one made; the message says what to upgrade."""
    install(BOTH)
    schema = house.make(labelled())
    schema.upgrade()
    house.run(f"UPDATE {house.version_table} SET version_num = '0009'")  # noqa: S608  # ours
    for attempt in (schema.upgrade, lambda: schema.downgrade("acme@base", force=True)):
        with pytest.raises(SchemaTooNewError, match=r"branch acme is at revision 0009.*upgrade acme-ledger"):
            attempt()
    assert "newer than 0002: upgrade acme-ledger" in schema.check()[0]


def test_a_bots_login_sees_branches(postgres_database: Database, install: Callable[..., None]) -> None:
    """How far a package is may be looked at by every group, and a right that was taken away is given again."""
    install(BOTH)
    owner = schema_for(postgres_database.owner_url, labelled())
    done = owner.upgrade()
    assert not any("rights" in line for line in done)
    bot = schema_for(postgres_database.app_url, labelled())
    assert bot.check() == []
    assert bot.branches()[0].current == "0002"
    postgres_database.execute("REVOKE ALL ON gateway.alembic_version_acme FROM gateway_app")
    assert owner.check() == [
        "gateway_app lacks rights on gateway.alembic_version_acme: run `gateway schema upgrade`"
    ]
    assert owner.upgrade() == ["gave gateway_app rights on gateway.alembic_version_acme"]


def test_a_package_that_is_gone_is_not_missed(
    house: House, install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it is uninstalled its table stays, and nothing of ours asks for it."""
    with monkeypatch.context() as patch:
        patch.setattr("sys.path", [*sys.path])
        install(BOTH)
        house.make(labelled()).upgrade()
        house.ship("label")
    monkeypatch.undo()
    schema = house.make()
    assert schema.branches() == []
    assert schema.check() == []
    assert schema.upgrade() == []
    assert house.run(f"SELECT label FROM {house.table}") == [("P-1",)]  # noqa: S608  # ours


def test_two_packages_of_one_branch_are_both_refused(house: House, install: Callable[..., None]) -> None:
    """Nobody decides by chance whose tables are made."""
    install({"rev_0001": FIRST}, module="acme_ledger")
    install({"rev_0001": FIRST}, module="acme_copy")
    schema = house.make()
    assert schema.upgrade()[0] == OURS
    assert sorted(schema.check()) == [
        f"branch acme ({owner}) is shipped by several packages; update or reinstall {owner}"
        for owner in ("acme-copy", "acme-ledger")
    ]

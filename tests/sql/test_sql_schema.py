"""The schema: made whole or not at all, never by two at once, never over a newer one."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from gateway.errors import SchemaError, SchemaTooNewError, StoreBusyError, StoreUnavailableError
from gateway.records import KindSpec, Time, Trade
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.kind import LogRecord
from gateway.sql import migrations
from gateway.sql.fingerprints import fingerprint_of
from gateway.sql.intents import SQLITE_INTENTS
from gateway.sql.migrations import HEAD, REVISIONS
from gateway.sql.tables import metadata_of
from gateway_sqlite.schema import SqliteSchema
from tests.samples import HeavierShipment, Shipment

UPGRADE = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import event, Engine
from gateway.records.builtin import BUILTIN_KINDS
from gateway_sqlite.schema import SqliteSchema

tables = 0
@event.listens_for(Engine, "after_cursor_execute")
def count(connection, cursor, statement, *rest):
    global tables
    tables += statement.lstrip().startswith("CREATE TABLE")
    if tables == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
print("ready", flush=True)
sys.stdin.readline()
print(SqliteSchema(Path(sys.argv[1]), BUILTIN_KINDS, busy_timeout=30, backend="child").upgrade())
"""


class OtherShipment(LogRecord):
    """The same kind with a field of another type."""

    at: Time
    parcel: Time


def _shipments(model: type[LogRecord], *indexes: tuple[str, ...]) -> KindSpec:
    return KindSpec("shipments", model, time_field="at", indexes=indexes)


SHIPMENTS = _shipments(Shipment, ("at", "record_id"))
MakeSchema = Callable[..., SqliteSchema]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store will be."""
    return tmp_path / "with space" / "sklep żółty.db"


@pytest.fixture
def schema_with(path: Path) -> MakeSchema:
    """Makes the schema of the store for the built-in kinds and some more."""

    def make(*more: KindSpec, busy_timeout: float = 5.0) -> SqliteSchema:
        return SqliteSchema(path, (*BUILTIN_KINDS, *more), busy_timeout=busy_timeout, backend="sqlite")

    return make


def _tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _run(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(statement).fetchall()
        connection.commit()
        return rows


NEVER = 1_000_000
StartUpgrade = Callable[[int], "subprocess.Popen[str]"]


@pytest.fixture
def start_upgrade(path: Path) -> Iterator[StartUpgrade]:
    """Starts processes that upgrade the store once they are told, and kill themselves at a CREATE TABLE."""
    children: list[subprocess.Popen[str]] = []

    def start(kill_at: int) -> subprocess.Popen[str]:
        children.append(_child(path, kill_at))
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.communicate()


def _child(path: Path, kill_at: int) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", UPGRADE, str(path), str(kill_at)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def test_upgrade_leaves_no_drift(schema_with: MakeSchema) -> None:
    """After an upgrade Alembic finds nothing that tables and kinds disagree about."""
    schema = schema_with(SHIPMENTS)
    done = schema.upgrade()
    assert done == [f"upgraded from revision none to {HEAD}", "created table shipments"]
    assert schema.check() == []
    with schema._reading() as connection:
        options = {"compare_type": True, "include_name": lambda name, *_: name != SQLITE_INTENTS}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata_of((*BUILTIN_KINDS, SHIPMENTS))) == []


def test_revisions_alone_give_the_built_in_kinds(schema_with: MakeSchema, path: Path) -> None:
    """The frozen revisions need no help from the kinds: nothing is left to add for those built in."""
    bare = SqliteSchema(path, (), busy_timeout=5, backend="sqlite")
    assert bare.upgrade() == [f"upgraded from revision none to {HEAD}"]
    assert schema_with().check() == []
    assert schema_with().upgrade() == []


def test_known_revisions_are_the_scripts() -> None:
    """The list that start-up compares with is the list of scripts, in their order."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    assert tuple(script.revision for script in reversed(list(scripts.walk_revisions()))) == REVISIONS
    assert scripts.get_current_head() == HEAD


def test_current_and_check_before_anything(schema_with: MakeSchema, path: Path) -> None:
    """A missing file is an error that says so; an empty one has no revision and says what to run."""
    with pytest.raises(StoreUnavailableError, match="sqlite: "):
        schema_with().current()
    assert not path.exists()
    path.parent.mkdir()
    path.touch()
    assert schema_with().current() is None
    (problem,) = schema_with().check()
    assert "gateway schema upgrade" in problem


def test_a_created_file_is_private(schema_with: MakeSchema, path: Path) -> None:
    """Only the owner can read what an upgrade creates."""
    schema_with().upgrade()
    assert path.stat().st_mode & 0o777 == 0o600


def test_upgrading_again_does_nothing(schema_with: MakeSchema, path: Path) -> None:
    """A second upgrade finds nothing to do and changes no byte."""
    schema_with(SHIPMENTS).upgrade()
    before = path.read_bytes()
    assert schema_with(SHIPMENTS).upgrade() == []
    assert path.read_bytes() == before


def test_a_third_party_kind_is_remembered(schema_with: MakeSchema, path: Path) -> None:
    """What a table was made for is stored with it, so that start-up need not look at tables."""
    schema_with(SHIPMENTS).upgrade()
    known = _run(path, "SELECT name, fingerprint FROM gateway_kinds ORDER BY name")
    wanted = sorted((kind.name, fingerprint_of(kind)) for kind in (*BUILTIN_KINDS, SHIPMENTS))
    assert known == wanted


def test_a_new_field_becomes_a_column(schema_with: MakeSchema, path: Path) -> None:
    """A field and an index that a kind gained are added to its table; what was stored stays."""
    schema_with(SHIPMENTS).upgrade()
    _run(path, "INSERT INTO shipments VALUES ('t', 1, 2, 0, 'r', 3, 'p')")
    heavier = _shipments(HeavierShipment, ("at", "record_id"), ("parcel", "at"))
    problems = schema_with(heavier).check()
    assert len(problems) == 2
    assert all("gateway schema upgrade" in problem for problem in problems)
    done = schema_with(heavier).upgrade()
    assert done == ["added column shipments.weight", "created index ix_shipments__parcel__at"]
    assert _run(path, "SELECT * FROM shipments") == [("t", 1, 2, 0, "r", 3, "p", None)]
    assert schema_with(heavier).check() == []


@pytest.mark.parametrize(
    ("model", "expected"),
    [(Shipment, "weight that the kind lacks"), (OtherShipment, "parcel is TEXT and the kind wants INTEGER")],
)
def test_a_conflicting_table_is_left_alone(
    schema_with: MakeSchema, path: Path, model: type[LogRecord], expected: str
) -> None:
    """A column too many or of another type is refused with a sentence, and not a byte is changed."""
    schema_with(_shipments(HeavierShipment)).upgrade()
    before = path.read_bytes()
    assert any(expected in problem for problem in schema_with(_shipments(model)).check())
    with pytest.raises(SchemaError, match=expected):
        schema_with(_shipments(model)).upgrade()
    assert path.read_bytes() == before


def test_a_conflict_undoes_the_whole_upgrade(schema_with: MakeSchema, path: Path) -> None:
    """When the last table cannot be mended, the tables before it are not there either."""
    path.parent.mkdir()
    _run(path, "CREATE TABLE shipments (record_id TEXT PRIMARY KEY)")
    with pytest.raises(SchemaError, match="keyed by"):
        schema_with(SHIPMENTS).upgrade()
    assert _tables(path) == {"shipments"}


def test_a_newer_schema_is_refused(schema_with: MakeSchema, path: Path) -> None:
    """An older gateway touches nothing that a newer one made, in whichever way it is asked."""
    schema_with().upgrade()
    _run(path, "UPDATE alembic_version SET version_num = '9999'")
    before = path.read_bytes()
    schema = schema_with()
    for attempt in (schema.upgrade, lambda: schema.downgrade("base", force=True)):
        with pytest.raises(SchemaTooNewError, match=r"9999.*upgrade storage-gateway"):
            attempt()
    assert "9999" in schema.check()[0]
    assert path.read_bytes() == before


def test_a_database_of_somebody_else_is_refused(schema_with: MakeSchema, path: Path) -> None:
    """A bot's own old file has a `trades` table too; it is not taken over."""
    path.parent.mkdir()
    _run(path, "CREATE TABLE trades (id INTEGER PRIMARY KEY, price REAL)")
    before = path.read_bytes()
    with pytest.raises(SchemaError, match=r"did not make \(trades\).*gateway import"):
        schema_with().upgrade()
    assert path.read_bytes() == before


def test_downgrade_removes_what_the_revision_made(schema_with: MakeSchema, path: Path) -> None:
    """An empty schema goes back to nothing, apart from tables that no revision made."""
    schema = schema_with(SHIPMENTS)
    schema.upgrade()
    gone = schema.downgrade("base")
    assert "dropped trades.record_id" in gone
    assert _tables(path) == {"alembic_version", "shipments"}
    assert schema.current() is None
    schema.upgrade()
    assert schema.check() == []


def test_downgrade_does_not_lose_rows(schema_with: MakeSchema, path: Path) -> None:
    """Rows stand in the way of a downgrade until somebody insists."""
    schema = schema_with()
    schema.upgrade()
    _run(path, "INSERT INTO bot_state VALUES ('t', 1, 2, 0, 'b', 'n', NULL, NULL, NULL, NULL)")
    before = path.read_bytes()
    with pytest.raises(SchemaError, match=r"lose rows of bot_state.*--force"):
        schema.downgrade("base")
    assert path.read_bytes() == before
    schema.downgrade("base", force=True)
    assert "bot_state" not in _tables(path)


def test_downgrade_to_an_unknown_revision_is_refused(schema_with: MakeSchema) -> None:
    """The message lists the revisions there are."""
    schema = schema_with()
    schema.upgrade()
    with pytest.raises(SchemaError, match=r"no revision '0000'; known are base, 0001"):
        schema.downgrade("0000")


def test_sql_for_review_does_what_upgrade_does(schema_with: MakeSchema, path: Path, tmp_path: Path) -> None:
    """The printed statements, run by hand on a new file, give the same tables and indexes."""
    schema = schema_with(SHIPMENTS)
    script = schema.sql()
    assert not path.exists(), "printing needs no store"
    by_hand = tmp_path / "by_hand.db"
    with closing(sqlite3.connect(by_hand)) as connection:
        connection.executescript(script)
    schema.upgrade()
    look = "SELECT name, tbl_name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY 1"
    assert _run(by_hand, look) == _run(path, look)
    assert SqliteSchema(by_hand, (*BUILTIN_KINDS, SHIPMENTS), busy_timeout=1, backend="x").check() == []
    assert "trades" not in schema.sql(HEAD)


def test_a_locked_store_is_busy(schema_with: MakeSchema, path: Path) -> None:
    """While somebody else writes, an upgrade waits for the busy timeout and then says so."""
    schema_with().upgrade()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusyError, match="busy timeout"):
            schema_with(SHIPMENTS, busy_timeout=0.05).upgrade()
        other.execute("ROLLBACK")
    assert schema_with(SHIPMENTS).upgrade() == ["created table shipments"]


@pytest.mark.parametrize("at", [1, 7, 14])
def test_an_upgrade_killed_half_way_leaves_nothing(
    schema_with: MakeSchema, path: Path, start_upgrade: StartUpgrade, at: int
) -> None:
    """After `kill -9` in the middle the old schema stands, and the next upgrade is a normal one."""
    path.parent.mkdir()
    path.touch()
    child = start_upgrade(at)
    child.communicate("go\n", timeout=60)
    assert child.returncode == -9
    assert _tables(path) == set()
    assert schema_with().upgrade() == [f"upgraded from revision none to {HEAD}"]
    assert schema_with().check() == []


def test_two_processes_upgrade_at_once(
    schema_with: MakeSchema, path: Path, start_upgrade: StartUpgrade
) -> None:
    """Both succeed: one does the work, the other waits and finds it done."""
    path.parent.mkdir()
    path.touch()
    children = [start_upgrade(NEVER) for _ in range(2)]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    answers = []
    for child in children:
        out, errors = child.communicate(timeout=60)
        assert child.returncode == 0, errors
        answers.append(out.strip())
    assert sorted(answers) == [f"['upgraded from revision none to {HEAD}']", "[]"]
    assert schema_with().check() == []


def test_a_built_in_kind_that_changed_needs_a_revision(path: Path) -> None:
    """The revisions give what the built-in kinds are today; a changed kind without a revision shows here."""
    bare = SqliteSchema(path, (), busy_timeout=5, backend="sqlite")
    bare.upgrade()
    trades = next(kind for kind in BUILTIN_KINDS if kind.model is Trade)
    changed = replace(trades, indexes=(*trades.indexes, ("order_id",)))
    schema = SqliteSchema(path, (changed,), busy_timeout=5, backend="sqlite")
    assert schema.check() == ["index ix_trades__order_id is missing: run `gateway schema upgrade`"]

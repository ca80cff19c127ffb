"""A thousand differences of every sort, put straight into a store's tables: all of them are found, and nothing else."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import pytest

from gateway.backend import BackendSettings, BackendSpec, OpenContext, WriteBatch
from gateway.compare import REDACTED
from gateway.dispatch import StoreSet
from gateway.divergences.log import Divergence, DivergenceLog
from gateway.migration.control_file import ControlFile
from gateway.query import Query
from gateway.records import POSITIONS, Comparison, KindSpec, Number, Position, Record, Shape, Text
from gateway.records.row import Key, Row
from gateway.records.stamp import DEFAULT_TENANT, Stamper
from gateway.shadow.awaited import JournalCaughtUp
from gateway.shadow.reader import ShadowReader
from gateway.telemetry import Counters
from gateway_memory.plugin import MEMORY, MemorySettings
from gateway_postgres.plugin import SPEC as POSTGRES
from gateway_postgres.settings import PostgresSettings
from gateway_sqlite.plugin import SPEC as SQLITE
from tests.prepared import make_schema
from tests.servers import Database

pytestmark = pytest.mark.anyio
OPENED = datetime(2026, 3, 29, 1, 59, 59, 123_456, tzinfo=UTC)


class Reading(Record):
    """Floats, and fields with rules of their own."""

    sensor: Text
    value: Number
    rough: Number
    note: Text | None = None
    secret: Text | None = None


READINGS = KindSpec(
    "readings",
    Reading,
    key=("sensor",),
    shape=Shape.STATE,
    comparison=Comparison(
        ignore=frozenset({"note"}), tolerance={"rough": 1e-6}, redact=frozenset({"secret"})
    ),
)
KINDS = (POSITIONS, READINGS)


class Sort(NamedTuple):
    """A sort of difference.

    Attributes:
        name: What it is.
        sqlite: What the row is set to there; `DELETE` removes it.
        postgres: The same there; empty where it is written alike.
        field: The field that must be named; None where the rows as a whole differ.
        kind: Whose rows.
        found: Whether it is to be found at all: rules of the kind allow some.
    """

    name: str
    sqlite: str
    postgres: str = ""
    field: str | None = None
    kind: KindSpec = POSITIONS
    found: bool = True


SORTS = (
    Sort("another text", "side = 'NO'", field="side"),
    Sort("another case", "side = 'yes'", field="side"),
    Sort("a space behind", "market_name = market_name || ' '", field="market_name"),
    Sort("other code points for the same letters", "market_name = 'Cafe\u0301'", field="market_name"),
    Sort("a text cut off", "market_name = substr(market_name, 1, 3)", field="market_name"),
    Sort("the last digit of money", "entry_price = '0.123456789012345679'", field="entry_price"),
    Sort("money rounded to a double", "entry_price = '0.12345678901234568'", field="entry_price"),
    Sort("another amount", "amount = '10'", field="amount"),
    Sort("another scale", "amount = '10.5000'", field="amount"),
    Sort("the other sign", "amount = '-10.5'", field="amount"),
    Sort("another time zone", "opened_at = opened_at + 3600000000", "opened_at = opened_at + interval '1 hour'", "opened_at"),
    Sort("a microsecond", "opened_at = opened_at - 1", "opened_at = opened_at - interval '1 microsecond'", "opened_at"),
    Sort("milliseconds only", "opened_at = opened_at / 1000 * 1000", "opened_at = date_trunc('milliseconds', opened_at)", "opened_at"),
    Sort("another day", "opened_at = opened_at + 86400000000", "opened_at = opened_at + interval '1 day'", "opened_at"),
    Sort("a value where there was none", "close_reason = 'stop-loss'", field="close_reason"),
    Sort("an empty text where there was nothing", "close_reason = ''", field="close_reason"),
    Sort("a zero where there was nothing", "pnl = '0'", field="pnl"),
    Sort("nothing where there was a value", "amount = NULL", field="amount"),
    Sort("a flag", "is_open = 0", "is_open = false", "is_open"),
    Sort("a document's value", "extra = '{\"a\":2,\"b\":null}'", field="extra"),
    Sort("a document's null left out", "extra = '{\"a\":1.5}'", field="extra"),
    Sort("a number that became text", "extra = '{\"a\":\"1.5\",\"b\":null}'", field="extra"),
    Sort("an empty document", "extra = '{}'", field="extra"),
    Sort("an older version", "version = version - 65536"),
    Sort("a newer version", "version = version + 65536"),
    Sort("another digest", "digest = digest + 1"),
    Sort("deleted", "deleted = 1", "deleted = true"),
    Sort("missing", "DELETE"),
    Sort("the last bit of a float", "value = 0.30000000000000004", field="value", kind=READINGS),
    Sort("a float as single precision", "value = 0.30000001192092896", field="value", kind=READINGS),
    Sort("a float beyond the tolerance", "rough = rough + 0.001", field="rough", kind=READINGS),
    Sort("a private text", "secret = 'hidden-2'", field="secret", kind=READINGS),
    Sort("a float within the tolerance", "rough = rough + 0.0000001", kind=READINGS, found=False),
    Sort("a field that is ignored", "note = 'else'", kind=READINGS, found=False),
)  # fmt: skip
EACH = 32
UNTOUCHED = 100

Execute = Callable[[Sequence[str]], object]


def _row(stamper: Stamper, kind: KindSpec, name: str) -> Row:
    if kind is READINGS:
        record: Record = Reading(sensor=name, value=0.3, rough=1.0, note="n", secret="hidden-1")  # noqa: S106 - no password
    else:
        record = Position(
            condition_id=name,
            market_name="Café-market",
            side="YES",
            entry_price=Decimal("0.123456789012345678"),
            amount=Decimal("10.5"),
            opened_at=OPENED,
            extra={"a": 1.5, "b": None},
        )
    return stamper.stamp(kind, record)


class Seeded:
    """Two stores, rows in both, and differences in the second one's tables."""

    def __init__(self, stores: StoreSet, log: DivergenceLog) -> None:
        self.old, self.new = stores["old"], stores["new"]
        self.log = log
        self.counters = Counters()
        self.expected: dict[tuple[str, Key], Sort | None] = {}
        self.keys: dict[KindSpec, list[Key]] = {kind: [] for kind in KINDS}

    async def fill(self) -> None:
        """Write equal rows to both stores, and some to the second one only."""
        stamper = Stamper()
        rows = [
            _row(stamper, sort.kind, f"{at:02}-{number:02}")
            for at, sort in enumerate(SORTS)
            for number in range(EACH)
        ]
        rows += [_row(stamper, kind, f"x-{number:03}") for kind in KINDS for number in range(UNTOUCHED)]
        extra = [_row(stamper, POSITIONS, f"{number % 20:02}-extra-{number}") for number in range(EACH)]
        for store, own in ((self.old, rows), (self.new, [*rows, *extra])):
            for at in range(0, len(own), 500):
                await store.write(WriteBatch(tuple(own[at : at + 500])))
        for row in [*rows, *extra]:
            self.keys[row.kind].append(row.key)
        self.expected = {("positions", row.key): None for row in extra}

    def spoil(self, execute: Execute, table: Callable[[KindSpec], str], *, postgres: bool) -> None:
        """Change the second store's tables behind its back."""
        statements = []
        for at, sort in enumerate(SORTS):
            change = sort.postgres if postgres and sort.postgres else sort.sqlite
            where = f"WHERE {sort.kind.key[0]} LIKE '{at:02}-__'"
            name = table(sort.kind)
            verb = f"DELETE FROM {name}" if change == "DELETE" else f"UPDATE {name} SET {change}"  # noqa: S608 - fixed text
            statements.append(f"{verb} {where}")
            if sort.found:
                self.expected |= {(sort.kind.name, (f"{at:02}-{number:02}",)): sort for number in range(EACH)}
        execute(statements)

    async def read(self, *, by_key: bool) -> dict[tuple[str, Key], Divergence]:
        """Read everything as bots do, by key or in listings, and return what was found to differ."""
        nobody = JournalCaughtUp(lambda _name: None)
        shadow = ShadowReader(
            1.0, self.log, self.counters, timeout=60.0, delays=(0.0,), purge_patience=0.0, caught_up=nobody
        )
        for kind in KINDS:
            if by_key:
                for at in range(0, len(self.keys[kind]), 50):
                    keys = self.keys[kind][at : at + 50]
                    rows = await self.old.get(kind, DEFAULT_TENANT, keys)
                    shadow.offer_keys(self.old, self.new, kind, DEFAULT_TENANT, keys, rows)
            else:
                await self._list(shadow, kind)
        await shadow.aclose(deadline=100)
        await self.log.flush()
        return {(one.kind, one.key): one for one in self.log.listed(10_000)}

    async def _list(self, shadow: ShadowReader, kind: KindSpec) -> None:
        after: Key | None = None
        while True:
            query = Query(kind, DEFAULT_TENANT, limit=60, after=after)
            rows = await self.old.query(query)
            shadow.offer_query(self.old, self.new, query, rows)
            if len(rows) < query.limit:
                return
            after = rows[-1].position

    def check(self, found: dict[tuple[str, Key], Divergence]) -> None:
        """Compare what was found with what was put there."""
        assert len(self.expected) >= 1_000
        assert not self.counters.shadow_failed
        assert not self.counters.shadow_timed_out
        missed = {name: sort and sort.name for name, sort in self.expected.items() if name not in found}
        assert missed == {}
        assert sorted(found.keys() - self.expected.keys()) == []
        wrong = [
            (sort.name, sort.field, one.reason, one.differences)
            for name, one in found.items()
            if (sort := self.expected[name]) is not None
            and sort.field is not None
            and [part.field for part in one.differences] != [sort.field]
        ]
        assert wrong == []
        hidden = [one for one in found.values() for part in one.differences if part.field == "secret"]
        assert len(hidden) == EACH
        assert {part.right for one in hidden for part in one.differences} == {REDACTED}


async def _seeded(tmp_path: Path, spec: BackendSpec, settings: BackendSettings) -> tuple[StoreSet, Seeded]:
    stores = StoreSet()
    await stores.open(MEMORY, OpenContext("old", MemorySettings(), KINDS, tmp_path))
    await stores.open(spec, OpenContext("new", settings, KINDS, tmp_path))
    seeded = Seeded(stores, DivergenceLog(ControlFile(tmp_path / "control.db"), buffered=10_000))
    await seeded.fill()
    return stores, seeded


@pytest.mark.parametrize("by_key", [True, False], ids=["by key", "in listings"])
async def test_a_thousand_differences_in_sqlite(tmp_path: Path, by_key: bool) -> None:
    """Every row that was changed in the tables is found, by the field that was changed, and no other row."""
    path = tmp_path / "new.db"
    stores, seeded = await _seeded(tmp_path, SQLITE, SQLITE.settings(url=str(path)))

    def execute(statements: Sequence[str]) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(statement)

    seeded.spoil(execute, lambda kind: kind.name, postgres=False)
    seeded.check(await seeded.read(by_key=by_key))
    await stores.close()


@pytest.mark.parametrize("by_key", [True, False], ids=["by key", "in listings"])
async def test_a_thousand_differences_in_postgres(
    tmp_path: Path, postgres_database: Database, by_key: bool
) -> None:
    """The same in a PostgreSQL server's tables."""
    make_schema(postgres_database, KINDS)
    settings = PostgresSettings(url=postgres_database.app_url)
    stores, seeded = await _seeded(tmp_path, POSTGRES, settings)
    seeded.spoil(
        lambda statements: postgres_database.execute(*statements),
        lambda kind: f'"{kind.schema}"."{kind.name}"',
        postgres=True,
    )
    seeded.check(await seeded.read(by_key=by_key))
    await stores.close()

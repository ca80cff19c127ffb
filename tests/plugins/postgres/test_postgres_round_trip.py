"""What is stored is what was given, value by value and digest by digest, on every backend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gateway_json.plugin
import gateway_memory.plugin
import gateway_postgres.plugin
import gateway_sqlite.plugin
from gateway.backend import BackendSettings, OpenContext
from gateway.conformance.harness import Harness
from gateway.conformance.kinds import ALL_KINDS
from gateway.conformance.rows import Scribe, batch, digest_sum, span
from gateway.conformance.strategies import decimals, log_fields, texts
from gateway.dispatch import Store
from gateway.records import POSITIONS, Row
from gateway.records.market import CANDLES, ORDER_BOOK_SNAPSHOTS
from gateway_postgres.settings import PostgresSettings
from tests.prepared import KitDatabases
from tests.servers import Database, PostgresServer

PLUGINS: Final[dict[str, ModuleType]] = {
    "json": gateway_json.plugin,
    "memory": gateway_memory.plugin,
    "postgres15": gateway_postgres.plugin,
    "postgres18": gateway_postgres.plugin,
    "sqlite": gateway_sqlite.plugin,
}
FEW: Final = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(scope="module")
def database18(postgres18: PostgresServer, kit_databases: KitDatabases) -> Iterator[Database]:
    """A database of PostgreSQL 18 with tables for the kinds of the conformance kit."""
    with kit_databases(postgres18).fresh() as made:
        yield made


@pytest.fixture(scope="module")
def database15(postgres15: PostgresServer, kit_databases: KitDatabases) -> Iterator[Database]:
    """The same on the system's PostgreSQL, which sorts text by the rules of English."""
    with kit_databases(postgres15).fresh() as made:
        yield made


@pytest.fixture(params=sorted(PLUGINS))
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    """Each backend in turn, PostgreSQL as the bot's own role."""
    spec, *_ = PLUGINS[request.param].gateway_backends()

    def surroundings(chosen: BackendSettings) -> Harness:
        return Harness(spec, OpenContext(spec.name, chosen, ALL_KINDS, tmp_path))

    if spec.name != "postgres":
        with surroundings(spec.settings()) as made:
            yield made
        return
    # One database for all tests: each example writes for a tenant of its own.
    database: Database = request.getfixturevalue(request.param.replace("postgres", "database"))
    with surroundings(PostgresSettings(url=database.app_url)) as made:
        yield made


async def _comes_back(store: Store, scribe: Scribe, rows: Sequence[Row]) -> None:
    """Write rows of one kind in one batch; check each by key, all in the listing, and the store's own digest."""
    kind = rows[0].kind
    assert all(row.intact for row in rows)
    await store.write(batch(*rows))
    by_key = await store.get(kind, scribe.tenant, [row.key for row in rows])
    listed = {row.key: row for row in await store.query(scribe.query(kind, include_deleted=True))}
    for sent, found in zip(rows, by_key, strict=True):
        for held in (found, listed.get(sent.key)):
            assert held is not None, sent
            assert held == sent
            # Equality takes 1 for 1.0 and True; the types count as well.
            assert list(map(type, held.values)) == list(map(type, sent.values))
            assert held.intact
            assert held.digest == sent.digest
    fingerprint = await store.digest(span(scribe, kind))
    assert (fingerprint.rows, fingerprint.total) == (len(rows), digest_sum(rows))


_keys: Final = st.tuples(texts.filter(bool), st.integers(-(2**63), 2**63 - 1))
_levels: Final = st.lists(
    st.tuples(
        st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False)
    ),
    max_size=5,
)


def test_random_logs_come_back(harness: Harness) -> None:
    """Any values of every field type, alone and several in a batch, have the digest that they were stored with."""
    store = harness.run(harness.open())

    @FEW
    @given(st.lists(log_fields(), min_size=1, max_size=4))
    def check(drawn: list[dict[str, Any]]) -> None:
        scribe = harness.scribe()
        harness.run(_comes_back(store, scribe, [scribe.log(**fields) for fields in drawn]))

    check()


def test_random_states_and_their_tombstones_come_back(harness: Harness) -> None:
    """Any text and any number is a key of its own, for rows as well as for what says that they are deleted."""
    store = harness.run(harness.open())

    @FEW
    @given(st.dictionaries(_keys, st.tuples(log_fields(), st.booleans()), min_size=1, max_size=4))
    def check(drawn: dict[tuple[str, int], tuple[dict[str, Any], bool]]) -> None:
        scribe = harness.scribe()
        rows = []
        for (owner, slot), (fields, gone) in drawn.items():
            known = {name: value for name, value in fields.items() if name not in {"seen_at", "levels"}}
            row = scribe.state(owner, slot, **known)
            rows.append(scribe.tombstone(row) if gone else row)
        harness.run(_comes_back(store, scribe, rows))

    check()


def test_random_counters_and_order_books_come_back(harness: Harness) -> None:
    """Totals of money keep their digits, and the depth of an order book every bit of its numbers."""
    store = harness.run(harness.open())

    @FEW
    @given(texts.filter(bool), decimals, _levels, _levels)
    def check(
        name: str, amount: Decimal, bids: list[tuple[float, float]], asks: list[tuple[float, float]]
    ) -> None:
        scribe = harness.scribe()
        harness.run(_comes_back(store, scribe, [scribe.counter(name, amount=amount, total=-7)]))
        book = scribe.row(
            ORDER_BOOK_SNAPSHOTS,
            record_id="one",
            condition_id=name,
            timestamp=datetime(2026, 3, 1, tzinfo=UTC),
            bids=bids,
            asks=asks,
        )
        harness.run(_comes_back(store, scribe, [book]))

    check()


DIGITS: Final = "9" * 30
NASTY: Final[dict[str, list[Any]]] = {
    "amount": [
        Decimal(f"{DIGITS}.{DIGITS}"), Decimal(f"-{DIGITS}.{DIGITS}"), Decimal("1e-30"), Decimal("-1e-30"),
        Decimal("1.10"), Decimal("1.1"), Decimal("-0"), Decimal("1E+29"), Decimal("0.000"), Decimal(10) ** 29,
        Decimal("123456789012345678901234567890.000000000000000000000000000001"), Decimal(100), 0.1 + 0.2,
    ],
    "seen_at": [
        datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC),
        datetime(1582, 10, 4, 23, 59, 59, 999_999, tzinfo=UTC), datetime(1899, 12, 31, 12, 0, 0, 7, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), datetime(2000, 1, 1, tzinfo=UTC),
        datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), datetime(9999, 12, 31, 0, 0, 0, 1, tzinfo=UTC),
    ],
    "tally": [-(2**63), 2**63 - 1, 0, -1, 2**53 + 1, -(2**53) - 1, 2**32, 2**31],
    "ratio": [
        5e-324, -5e-324, 1.7976931348623157e308, -1.7976931348623157e308, 2.2250738585072014e-308, -0.0, 1e16, 1e22,
        1e23, 0.1 + 0.2, 1 / 3, 9007199254740993.0, 4.35, 1e-7, 123456789012345680.0,
    ],
    "note": [
        "\U0001f600" * 1024, "\u00e9", "e\u0301", "\u2028\u2029", "\\", "\\\\", "\\u0041", "\\x41", "\x01\x1f\x7f\x85",
        "\r\n", "{", "}", '{"a",NULL}', "NULL", "null", "", " ", "'", '"', "''; --", "$1", ":a", "%s", "%(a)s",
        "\ufeff", "\ufffe", "\uffff", "\U0010ffff", "\ud7ff\ue000", "I\u0307\u0131", "\u00df", "\u1e9e",
    ],
    "document": [
        {"a": 1e16}, {"a": 1e22}, {"a": -0.0}, {"a": 1.0}, {"a": 1}, {"a": 1e-7}, {"a": 5e-324},
        {"a": 1.7976931348623157e308}, {"a": 123456789012345680.0}, {"a": 100000000000000000000.0},
        {"a": 1.5e300}, {"a": 1e15}, {"a": 1e-5}, {"a": 0.0001}, {"a": 1e17}, {"a": -1e16},
        {"a": 10**400}, {"a": -(10**60)}, {"a": 2**64}, {"a": 10**24},
        {"1e16": "1e16", "-0.0": "text that looks like a number: -0.0, 1e+16"},
        {"\u00e9": 1, "e\u0301": 2, "E\u0301": 3}, {"\U0001f600": "\U0001f468\u200d\U0001f469\u200d\U0001f467"},
        {"a": "\x01\x1f\x7f\x08\x0c\t\n\r"}, {"a": "\u2028\u2029"}, {"a": "\\"}, {"\\": "\\\\u0000"},
        {"a": '"\\"'}, {"a": "\\u00e9"}, {"a": "\\ud83d\\ude00"}, {"a": "/"}, {"a": "</script>"}, {"": None},
        {"z": 1, "a": {"z": 1, "a": [1, 1.0, True, None, "1"]}, "aa": 2, "B": 3, "_": 4, " ": 5},
        {"bb": 1, "a": 2, "ccc": 3}, {"a": [[], [[]], {}, [{}]]}, {"10": 1, "9": 2, "1": 3},
    ],
}  # fmt: skip
"""Values that some store, driver or encoder bends."""


@pytest.mark.parametrize("field", NASTY)
def test_nasty_values_come_back(harness: Harness, field: str) -> None:
    """Values at the limits of a type, and those that jsonb, numeric and timestamptz spell otherwise, come back."""
    store = harness.run(harness.open())
    scribe = harness.scribe()
    rows = [scribe.log(**{field: value}) for value in NASTY[field]]
    harness.run(_comes_back(store, scribe, rows))
    for value in NASTY[field]:
        alone = harness.scribe()
        harness.run(_comes_back(store, alone, [alone.log(**{field: value})]))


def test_times_at_the_ends_of_the_calendar_order_logs_and_keys(harness: Harness) -> None:
    """The column that partitions are cut by takes the first and the last moment there is, as do keys with a time."""
    store = harness.run(harness.open())
    scribe = harness.scribe()
    moments = sorted(NASTY["seen_at"])
    logs = [scribe.log(moment=moment) for moment in moments]
    harness.run(_comes_back(store, scribe, logs))
    assert list(harness.run(store.query(scribe.query(logs[0].kind)))) == logs
    prices: dict[str, Any] = {"open": 1.0, "high": 2.0, "low": 0.5, "close": 1.5}
    candles = [
        scribe.row(CANDLES, symbol="BTC", interval="1m", timestamp=moment, **prices) for moment in moments
    ]
    harness.run(_comes_back(store, scribe, candles))


def test_deep_and_large_documents_come_back(harness: Harness) -> None:
    """A document of nearly 8 MiB, one nested a hundred levels deep, and one of a hundred thousand numbers."""
    store = harness.run(harness.open())
    deep: Any = {"end": -0.0}
    for level in range(100):
        deep = {"level": level, "in": [deep]}
    documents: list[dict[str, Any]] = [
        deep,
        {"text": "\U0001f600\\\u2028" * (8 * 1024 * 1024 // 10), "odd": 1e16},
        {"numbers": [number / 7 for number in range(100_000)]},
    ]
    for document in documents:
        scribe = harness.scribe()
        row = scribe.row(
            POSITIONS, condition_id="c", side="YES", entry_price="1", opened_at=datetime(2026, 3, 1, tzinfo=UTC),
            extra=document,
        )  # fmt: skip
        harness.run(_comes_back(store, scribe, [row]))

"""Values written into statements, as exports over HTTP need them, mean themselves and nothing else."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Coroutine
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.backend import WriteBatch
from gateway.conformance.kinds import ALL_KINDS, PROBE_LOG, ProbeLog
from gateway.errors import InvalidRecordError
from gateway.filters import conditions
from gateway.frames import table_of_rows
from gateway.query import Query, select
from gateway.records import Row
from gateway.records.stamp import Stamper
from gateway_questdb.backend import QuestDbBackend
from gateway_questdb.conditions import Literals
from gateway_questdb.opening import open_backend
from tests.plugins.questdb.conftest import MakeContext

NOON: Final = datetime(2026, 11, 1, 12, tzinfo=UTC)
ATTACKS: Final = (
    "' OR 1=1 --",
    "'; DROP TABLE probe_log; --",
    "') OR ('1'='1",
    "\\' OR 1=1 --",
    "''",
    "'||'x",
    "'paper'",  # once the label of a row that is called paper
    "paper",
    "$1",
    "%27 OR 1=1",
    "a&fmt=csv&query=select 1",
    "+/*",
    "x\x00' OR 1=1",
    "\ud800'",
    "\N{MODIFIER LETTER APOSTROPHE}\N{RIGHT SINGLE QUOTATION MARK}\N{FULLWIDTH APOSTROPHE}",
)
TEXTS = st.one_of(
    st.sampled_from(ATTACKS), st.text(st.sampled_from("'\"\\;-/*%_$&+#\n\r\t\0 é\u2028😀\ud800"), max_size=8)
)
AMOUNTS = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False),
    st.decimals(-(10**30), 10**30, places=30),
    st.sampled_from(
        [Decimal(10) ** 30 - Decimal(10) ** -30, Decimal("1e-30"), Decimal("-0"), Decimal(10**31)]
    ),
)
TIMES = st.datetimes(timezones=st.just(UTC))
NUMBERS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.sampled_from([-(2**63), 2**63 - 1, 0]))
FIELDS: Final[dict[str, st.SearchStrategy[Any]]] = {
    "label": TEXTS,  # a symbol
    "note": TEXTS,
    "amount": AMOUNTS,
    "seen_at": TIMES,
    "tally": NUMBERS,
    "flag": st.booleans(),
}
SHOWN: Final = ("moment", "label", "note", "amount", "seen_at", "record_id")


@st.composite
def values(draw: st.DrawFn) -> tuple[str, list[Any]]:
    """Return a field, and values for it."""
    name = draw(st.sampled_from(sorted(FIELDS)))
    return name, draw(st.lists(FIELDS[name], min_size=1, max_size=6))


def taken(stamper: Stamper, name: str, given_values: list[Any]) -> tuple[list[Any], list[Row]]:
    """Return the values that a record takes, and a row of each; what it refuses, a filter refuses too."""
    kept, rows = [], []
    for value in given_values:
        try:
            rows.append(stamper.stamp(PROBE_LOG, ProbeLog.model_validate({"moment": NOON, name: value})))
        except (InvalidRecordError, ValueError):
            with pytest.raises(InvalidRecordError):
                conditions(PROBE_LOG, {name: value})
        else:
            kept.append(value)
    return kept, rows


async def check(store: QuestDbBackend, name: str, given_values: list[Any]) -> None:
    """Export by every comparison with every value; the answer is that of the reference, and of no other tenant."""
    stamper, other = Stamper(str(uuid.uuid4())), Stamper(str(uuid.uuid4()))
    kept, rows = taken(stamper, name, given_values)
    if not kept:
        return
    rows.append(stamper.stamp(PROBE_LOG, ProbeLog(moment=NOON, label="plain")))
    _, foreign = taken(other, name, kept)
    await store.gateway_write(WriteBatch([*rows, *foreign]))
    suffixes = ("",) if name == "flag" else ("", "__ge")
    wheres = [{f"{name}{suffix}": value} for suffix in suffixes for value in kept]
    for where in [*wheres, {f"{name}__in": kept}]:
        query = Query(PROBE_LOG, stamper.tenant, conditions(PROBE_LOG, where), limit=100)
        expected = table_of_rows(PROBE_LOG, SHOWN, select(query, rows))
        assert (await store.gateway_read_columns(query, SHOWN)).equals(expected), where


def test_what_is_asked_for_is_that_very_value(make_context: MakeContext) -> None:
    """Any text, amount, time or number is refused clearly, or selects exactly the rows that hold it, on the server."""
    with asyncio.Runner() as runner:
        store = runner.run(open_backend(make_context(kinds=ALL_KINDS)))

        def run(work: Coroutine[Any, Any, None]) -> None:
            runner.run(work)

        @settings(
            max_examples=15,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
        )
        @example(("note", list(ATTACKS)))
        @example(("label", list(ATTACKS)))
        @example(("seen_at", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]))
        @given(values())
        def one(drawn: tuple[str, list[Any]]) -> None:
            run(check(store, *drawn))

        try:
            one()
        finally:
            runner.run(store.gateway_close())


@given(st.one_of(st.text(), TEXTS, AMOUNTS, NUMBERS, st.booleans(), st.none(), st.floats(allow_nan=False)))
def test_a_literal_ends_where_it_ends(value: Any) -> None:
    """A literal is one token of SQL: a text without a lone quote inside, a number, or a word."""
    text = Literals().add(value)
    assert re.fullmatch(r"'(?:[^']|'')*'|-?[0-9][0-9.e+-]*|-?inf|null|true|false", text)
    if isinstance(value, str):
        assert text[1:-1].replace("''", "'") == value

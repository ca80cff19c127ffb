"""Every value comes back from a real server as it was given, on each version."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.backend import Summarize
from gateway.conformance.kinds import PROBE_LOG, PROBE_STATE
from gateway.conformance.strategies import log_fields
from gateway.query import Condition, Op, Query, ReadRange, in_range, select
from gateway.records import KindSpec, Row
from gateway.records.codec import Value, json_text
from gateway.records.stamp import row_of
from gateway.sql.jsonb import canonical_json, needs_exact
from gateway_postgres.reads import read_digest, read_page, read_summary
from gateway_postgres.values import columns_of_rows, in_key_order, rows_from
from tests.plugins.postgres.laboratory import SERVERS, Laboratory, laboratory, reading

MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

_numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**40), 10**40)
_texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
_leaves = st.none() | st.booleans() | _numbers | _texts
DOCUMENTS = st.dictionaries(
    _texts, st.recursive(_leaves, lambda part: st.lists(part, max_size=3) | st.dictionaries(_texts, part, max_size=3), max_leaves=6), max_size=3
)  # fmt: skip
SPELLINGS = [1e16, -1e16, 1e22, 1e308, -0.0, 0.0, 5e-324, 1e-5, 1.0, 123456789012345.0, 9007199254740993, 10**30, -0.05, "1e+16", "-0.0"]  # fmt: skip


@pytest.fixture(scope="module", params=SERVERS)
def lab(request: pytest.FixtureRequest) -> Iterator[Laboratory]:
    """The kit's tables on each version of the server."""
    yield from laboratory(request)


@settings(parent=MANY)
@given(rows=st.lists(log_fields(), min_size=1, max_size=4))
def test_any_record_comes_back(lab: Laboratory, rows: list[dict[str, Any]]) -> None:
    """Random values of every storage type are read as they were written, one row or several at a time."""
    scribe = lab.scribe()
    written = [scribe.log(**fields) for fields in rows]
    lab.write(*written)
    found = lab.get(PROBE_LOG, scribe.tenant, [row.key for row in written])
    assert found == written
    assert all(row is not None and row.intact for row in found)


@settings(parent=MANY)
@given(document=DOCUMENTS)
def test_json_comes_back_as_its_text(lab: Laboratory, document: dict[str, Any]) -> None:
    """Any document comes back as the very same canonical text, whatever `jsonb` makes of its numbers."""
    scribe = lab.scribe()
    row = scribe.state(document=document)
    lab.write(row)
    assert lab.get(PROBE_STATE, scribe.tenant, [row.key]) == [row]


@pytest.mark.parametrize("value", SPELLINGS, ids=repr)
def test_spellings_that_jsonb_changes(lab: Laboratory, value: Any) -> None:
    """The numbers that `jsonb` writes in another way come back, and a newer document does not show an older text."""
    scribe = lab.scribe()
    row = scribe.state(document={"a": value, "b": [value, {"c": value}]})
    plain = scribe.state(document={"a": 1})
    lab.write(row)
    assert lab.get(PROBE_STATE, scribe.tenant, [row.key]) == [row]
    lab.write(plain)
    assert lab.get(PROBE_STATE, scribe.tenant, [row.key]) == [plain]


@settings(parent=MANY)
@given(document=DOCUMENTS)
def test_what_needs_no_exact_text_is_found_from_jsonb(lab: Laboratory, document: dict[str, Any]) -> None:
    """Where no exact text is kept, the server's own printing is enough: the decision is never wrong on that side."""
    text = json_text(document)
    printed = lab.run(lab.main.fetchval("SELECT $1::text::jsonb::text", text))
    assert needs_exact(text) or canonical_json(printed) == text
    assert canonical_json(text) == text


def test_plain_documents_keep_no_exact_text() -> None:
    """Documents such as bots write cost no second copy; only what must be kept is."""
    for value in (0.1, -0.05, 1e-7, 12, "a", None, True, 99999.5):
        assert not needs_exact(json.dumps({"a": value}))
    assert needs_exact(json_text({"a": 1e16}))
    assert needs_exact(json_text({"a": -0.0}))
    assert needs_exact(json_text({"a": [-0.0, 1]}))


def test_exact_texts_are_bound_only_where_there_are_some(lab: Laboratory) -> None:
    """Rows without such documents are bound without the extra columns."""
    scribe = lab.scribe()
    plain, odd = scribe.state(document={"a": 1}), scribe.state("other", document={"a": 1e20})
    assert not columns_of_rows(PROBE_STATE, [plain]).exact
    both = columns_of_rows(PROBE_STATE, [plain, odd])
    assert both.exact
    assert both.values[-1] == [None, '{"a":1e+20}']


def test_results_become_rows() -> None:
    """A result is version, digest, deleted and the fields; JSON is made canonical again."""
    record = (7, -1, False, "a", 1, 5, "l", None, None, None, None, "1.50", '{"b": 2, "a": [1.0]}')
    (row,) = rows_from(PROBE_STATE, "t", [record])
    assert row == Row(PROBE_STATE, "t", 7, -1, False, (*record[3:-1], '{"a":[1.0],"b":2}'))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), max_size=8))
def test_rows_are_ordered_by_key(keys: list[tuple[str, int]]) -> None:
    """Rows come in the order of their keys, equal keys in the order they had, and repetition is seen."""
    rows = [Row(PROBE_STATE, "t", number, 0, False, (*key, *[None] * 8)) for number, key in enumerate(keys)]
    ordered, distinct = in_key_order(PROBE_STATE, rows)
    assert [(row.key, row.version) for row in ordered] == sorted((row.key, row.version) for row in rows)
    assert distinct == (len(set(keys)) == len(keys))


VALUES: dict[str, st.SearchStrategy[Value]] = {
    "moment": st.integers(-3, 6),
    "label": st.sampled_from(["", "a", "B", "b", "é", "𝄞", "￿", "a'b", "%"]),
    "note": st.none() | st.sampled_from(["", "10", "9"]),
    "tally": st.none() | st.sampled_from([-(2**63), 0, 2**63 - 1]),
    "ratio": st.none() | st.sampled_from([-1.5, 0.0, 0.1, 1e300, 5e-324]),
    "flag": st.none() | st.booleans(),
    "amount": st.none() | st.sampled_from(["-10", "-1.5", "0", "0.000000000000000000000000000001", "9", "10", "9" * 30]),
    "seen_at": st.none() | st.integers(0, 2),
    "document": st.none() | st.sampled_from(["{}", '{"a":1}', '{"a":1.0}', '{"a":1e+16}', '{"a":10000000000000000}', '{"a":-0.0}', '{"a":0.0}', '{"b":1,"cc":2}']),
    "levels": st.none() | st.sampled_from(["[]", "[[1.0,2.0]]"]),
}  # fmt: skip
NAMES = [spec.name for spec in PROBE_LOG.fields[1:]]
ROWS = st.lists(st.tuples(*(VALUES[name] for name in NAMES), st.booleans()), max_size=10)
UNORDERED = {"document", "levels"}


@st.composite
def _conditions(draw: st.DrawFn) -> Condition:
    name, op = draw(st.sampled_from(NAMES)), draw(st.sampled_from(list(Op)))
    if op is Op.IN:
        return Condition(name, op, tuple(draw(st.lists(st.none() | VALUES[name], max_size=3))))
    if name in UNORDERED and op not in {Op.EQ, Op.NE}:
        op = Op.EQ
    return Condition(name, op, draw(st.none() | VALUES[name]))


def _rows(kind: KindSpec, tenant: str, drawn: list[tuple[Value, ...]]) -> list[Row]:
    return [
        row_of(kind, tenant, number + 1, (f"r{number}", *fields[:-1]), deleted=bool(fields[-1]))
        for number, fields in enumerate(drawn)
    ]


@settings(parent=MANY)
@given(
    drawn=ROWS,
    where=st.lists(_conditions(), max_size=3),
    descending=st.booleans(),
    deleted=st.booleans(),
    limit=st.integers(1, 11),
    start=st.none() | st.tuples(st.integers(-3, 6), st.sampled_from(["r0", "r5", "r99"])),
)
def test_pages_are_those_of_the_reference(
    lab: Laboratory,
    drawn: list[tuple[Value, ...]],
    where: list[Condition],
    descending: bool,
    deleted: bool,
    limit: int,
    start: tuple[Value, ...] | None,
) -> None:
    """Any conditions, order, page and kind of value: the server and Python list the same rows in the same order."""
    tenant = lab.scribe().tenant
    rows = _rows(PROBE_LOG, tenant, drawn)
    query = Query(PROBE_LOG, tenant, tuple(where), descending, limit, start, deleted)

    async def page() -> list[Row]:
        async with reading(lab.main, tenant) as connection:
            return await read_page(connection, query)

    lab.write(*rows)
    assert lab.run(page()) == select(query, rows)


@settings(parent=MANY)
@given(drawn=ROWS, low=st.none() | st.integers(-3, 6), high=st.none() | st.integers(-3, 6))
def test_digests_are_sums_over_the_range(
    lab: Laboratory, drawn: list[tuple[Value, ...]], low: int | None, high: int | None
) -> None:
    """The fingerprint is the sum modulo 2**64 of the digests in the stretch, tombstones included."""
    tenant = lab.scribe().tenant
    rows = _rows(PROBE_LOG, tenant, drawn)
    span = ReadRange(
        PROBE_LOG, tenant, None if low is None else (low, "r5"), None if high is None else (high, "r5")
    )

    async def sums() -> tuple[int, int]:
        async with reading(lab.main, tenant) as connection:
            found = await read_digest(connection, span)
        return found.rows, found.total

    lab.write(*rows)
    inside = [row for row in rows if in_range(span, row)]
    assert lab.run(sums()) == (len(inside), sum(row.digest for row in inside) % 2**64)


@settings(parent=MANY)
@given(drawn=ROWS, by=st.none() | st.sampled_from(NAMES))
def test_groups_are_those_of_the_reference(
    lab: Laboratory, drawn: list[tuple[Value, ...]], by: str | None
) -> None:
    """Live rows are counted by the canonical values of a field, None first, money by its number."""
    tenant = lab.scribe().tenant
    rows = _rows(PROBE_LOG, tenant, drawn)

    async def groups() -> list[tuple[Value, int, int | None, int | None]]:
        async with reading(lab.main, tenant) as connection:
            found = await read_summary(connection, Summarize(PROBE_LOG, tenant, by))
        return [(group.value, group.rows, group.first, group.last) for group in found]

    lab.write(*rows)
    assert lab.run(groups()) == _reference(rows, by)


def _reference(rows: list[Row], by: str | None) -> list[tuple[Value, int, int | None, int | None]]:
    found: dict[Value, list[int]] = {} if by is not None else {None: []}
    for row in rows:
        if not row.deleted:
            value = None if by is None else row.values[row.kind.index(by)]
            found.setdefault(value, []).append(int(str(row.values[1])))
    number = by == "amount"

    def order(value: Value) -> tuple[bool, Any]:
        return (value is not None, float(value) if number and isinstance(value, str) else value)

    return [
        (value, len(found[value]), min(found[value], default=None), max(found[value], default=None))
        for value in sorted(found, key=order)
    ]

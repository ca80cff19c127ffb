"""Rows by column: batches that are sequences of rows, their stamps, and the tables they come to."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped] # it brings no types
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.columns import ColumnBatch, by_column, stamped
from gateway.conformance import KINDS
from gateway.conformance.columns import columns_of_rows
from gateway.conformance.rows import Scribe, minutes
from gateway.conformance.strategies import log_fields
from gateway.errors import InvalidRecordError
from gateway.frames import arrow_schema, frame_of, joined, last_position, lists_of, table_of_rows
from gateway.records import POSITIONS
from gateway.records.codec import codec_of, make_record
from gateway.records.digest import digest_of, digests_of
from gateway.records.kind import KindSpec, Shape
from gateway.records.row import Row
from gateway.records.stamp import DEFAULT_TENANT, Stamper
from gateway.records.version import HybridClock

PROBE_LOG: KindSpec = next(kind for kind in KINDS if kind.name == "probe_log")
values = st.none() | st.text(max_size=3) | st.integers(-9, 9) | st.floats(allow_nan=False) | st.booleans()


def stamper() -> Stamper:
    """Return a stamper whose clock stands still."""
    return Stamper(clock=HybridClock(wall_ms=lambda: 1_700_000_000_000))


def logs(count: int) -> list[Row]:
    """Return rows of a log."""
    scribe = Scribe(DEFAULT_TENANT)
    return [scribe.log(moment=minutes(at), tally=at) for at in range(count)]


@given(st.lists(st.tuples(values, values, values), min_size=1), st.integers(0, 2**62), st.integers(1, 3))
def test_digests_of_columns_are_those_of_rows(rows: list[Any], version: int, cut: int) -> None:
    """Hashing by column gives what hashing each row gives, whatever values are missing at the end."""
    rows = [(*row[:cut], *(None,) * (3 - cut)) for row in rows]
    versions = range(version, version + len(rows))
    expected = [digest_of("k", "t", one, False, row) for one, row in zip(versions, rows, strict=True)]
    assert digests_of("k", "t", versions, list(zip(*rows, strict=True))) == expected


@settings(max_examples=30, deadline=None)
@given(st.lists(log_fields(), min_size=1, max_size=5), st.booleans())
def test_columns_are_stamped_as_records_are(fields: list[dict[str, Any]], named: bool) -> None:
    """Tenant, version, digest and the form of the ids are those that the same records get."""
    records = [
        make_record(PROBE_LOG, {**one, "record_id": f"id {at}"} if named or at % 2 else one)
        for at, one in enumerate(fields)
    ]
    encode = codec_of(PROBE_LOG).encode
    batch = stamped(stamper(), PROBE_LOG, list(zip(*map(encode, records), strict=True)))
    expected = stamper().stamp_many(PROBE_LOG, records)
    # The last 14 digits of an id are the process's own, drawn once for each stamper.
    assert [row.values[1:] for row in batch] == [row.values[1:] for row in expected]
    assert [str(row.values[0])[:18] for row in batch] == [str(row.values[0])[:18] for row in expected]
    assert [(row.version, row.tenant) for row in batch] == [(row.version, row.tenant) for row in expected]
    assert all(row.intact for row in batch)
    assert batch.fresh == all(record.record_id is None for record in records)  # type: ignore[attr-defined] # a log's


def test_a_batch_is_a_sequence_of_its_rows() -> None:
    """Indexes, slices, loops and columns of a batch show the rows that it was made of."""
    rows = logs(7)
    batch = columns_of_rows(rows)
    assert list(batch) == rows == batch.rows()
    assert (len(batch), batch[3], batch[-1]) == (7, rows[3], rows[-1])
    part = batch[2:5]
    assert isinstance(part, ColumnBatch)
    assert list(part) == rows[2:5]
    assert list(batch.column("tally")) == list(range(7))
    assert repr(batch) == "<ColumnBatch probe_log rows=7>"
    with pytest.raises(KeyError):
        batch.column("nothing")


def test_freshness_is_found_out() -> None:
    """Ids that belong to their versions are fresh, a single other one makes the batch not so, and states never are."""
    fresh = stamper().stamp_many(PROBE_LOG, [make_record(PROBE_LOG, {"moment": minutes(0)})] * 3)
    assert columns_of_rows(fresh).fresh
    assert not columns_of_rows([*fresh, logs(1)[0]]).fresh
    scribe = Scribe(DEFAULT_TENANT)
    assert scribe.state().kind.shape is Shape.STATE
    assert not columns_of_rows([scribe.state()]).fresh


def test_many_rows_of_one_log_go_by_column() -> None:
    """Rows are handed over by column if they are many, of one log and one tenant, and live; as they are otherwise."""
    rows, scribe = logs(64), Scribe(DEFAULT_TENANT)
    batch = by_column(rows)
    assert isinstance(batch, ColumnBatch)
    assert (list(batch), by_column(batch)) == (rows, batch)
    for others in (
        rows[:63],
        [*rows, scribe.tombstone(rows[0])],
        [*rows, Scribe("11111111-1111-1111-1111-111111111111").log("x")],
        [scribe.state("a", at) for at in range(64)],
    ):
        assert by_column(others) is others


@settings(max_examples=30, deadline=None)
@given(st.lists(log_fields(), max_size=4))
def test_tables_hold_canonical_values(fields: list[dict[str, Any]]) -> None:
    """A table of rows has the types of the contract and gives back each value."""
    scribe = Scribe(DEFAULT_TENANT)
    rows = [scribe.log(**one) for one in fields]
    names = PROBE_LOG.field_names
    table = table_of_rows(PROBE_LOG, names, rows)
    assert table.schema == arrow_schema(PROBE_LOG, names)
    assert list(zip(*lists_of(table), strict=True)) == [row.values for row in rows]
    if rows:
        assert last_position(PROBE_LOG, table) == rows[-1].position
    exact = frame_of(PROBE_LOG, table).column("amount")
    assert exact.type == pa.decimal256(60, 30)
    amounts = [
        None
        if row.values[PROBE_LOG.index("amount")] is None
        else Decimal(str(row.values[PROBE_LOG.index("amount")]))
        for row in rows
    ]
    assert exact.to_pylist() == amounts


def test_tables_of_other_types_are_refused() -> None:
    """A store that answers with other types is noticed, unless they mean the same."""
    text = pa.table({"entry_price": pa.array(["1.5"], pa.large_string())})
    assert joined(POSITIONS, ("entry_price",), [text]).schema == arrow_schema(POSITIONS, ("entry_price",))
    assert len(joined(POSITIONS, ("entry_price",), [])) == 0
    with pytest.raises(InvalidRecordError, match="columns of other types"):
        joined(POSITIONS, ("is_open",), [pa.table({"is_open": ["perhaps"]})])

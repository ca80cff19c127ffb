"""Frames that bots give: every shape is read, and refused where a record would be."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped] # it brings no types
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import field_validator

from gateway.conformance import KINDS
from gateway.conformance.strategies import log_fields
from gateway.errors import InvalidRecordError
from gateway.frames_input import columns_of_frame
from gateway.records import CANDLES, TICK_PRICES, TRADES, KindSpec, LogRecord, Number, Text, Time
from gateway.records.codec import Value, codec_of, make_record
from gateway.records.types import StorageType

PROBE_LOG = next(kind for kind in KINDS if kind.name == "probe_log")
NOW = datetime(2026, 3, 12, 11, 6, 41, 532199, tzinfo=UTC)
TICKS: dict[str, list[Any]] = {
    "timestamp": [NOW, NOW + timedelta(seconds=1)],
    "symbol": ["A", "B"],
    "price": [1.5, 2.0],
}


def ticks(**columns: Any) -> dict[str, Any]:
    """Return two ticks by column, with other columns than usual."""
    return {**TICKS, **columns}


def as_records(kind: KindSpec, rows: list[dict[str, Any]]) -> list[list[Value]]:
    """Return the canonical columns of records."""
    encoded = [codec_of(kind).encode(make_record(kind, row)) for row in rows]
    return [list(column) for column in zip(*encoded, strict=True)]


@settings(max_examples=60, deadline=None)
@given(st.lists(log_fields(), min_size=1, max_size=5))
def test_columns_are_encoded_as_records_are(rows: list[dict[str, Any]]) -> None:
    """A mapping of lists and a table give, value by value, what records of the same values give."""
    rows = [{"record_id": f"id {at}", **row} for at, row in enumerate(rows)]
    expected = as_records(PROBE_LOG, rows)
    names = {name for row in rows for name in row}
    frame = {name: [row.get(name) for row in rows] for name in names}
    assert columns_of_frame(PROBE_LOG, frame) == expected
    table = {
        name: expected[PROBE_LOG.index(name)]
        if PROBE_LOG.field_spec(name).storage is StorageType.JSON
        else column
        for name, column in frame.items()
    }
    assert columns_of_frame(PROBE_LOG, pa.table(table)) == expected


class Stream:
    """What polars offers: Arrow's C interface, and nothing else that pyarrow knows."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Give the table as a stream."""
        return self._table.__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize(
    "frame",
    [
        TICKS,
        {name: tuple(column) for name, column in TICKS.items()},
        pa.table(TICKS),
        pa.record_batch(TICKS),
        Stream(pa.table(TICKS)),
        pd.DataFrame(TICKS),
        pd.DataFrame(TICKS).set_index("timestamp"),
        pd.DataFrame(TICKS, index=[7, 9]),
        {**TICKS, "price": np.array([1.5, 2.0])},
        {**TICKS, "price": pd.Series([1.5, 2.0])},
        {**TICKS, "price": pa.array([1.5, 2.0], pa.float32())},
        {
            **TICKS,
            "timestamp": pa.array([stamp.timestamp() * 1e6 for stamp in TICKS["timestamp"]])
            .cast(pa.int64())
            .cast(pa.timestamp("us", tz="Asia/Tokyo")),
        },
        {**TICKS, "symbol": pd.Categorical(["A", "B"])},
        {**TICKS, "price": iter([1.5, 2])},
    ],
    ids=lambda frame: type(frame).__name__,
)
def test_every_shape_of_frame_is_read(frame: Any) -> None:
    """Mappings, Arrow, pandas and what offers Arrow's C interface all give the same rows."""
    rows = [dict(zip(TICKS, values, strict=True)) for values in zip(*TICKS.values(), strict=True)]
    assert columns_of_frame(TICK_PRICES, frame) == as_records(TICK_PRICES, rows)


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        (ticks(price=[1.0, float("nan")]), "field 'price' in row 1: must be a finite number"),
        (pa.table(ticks(price=[float("inf"), 1.0])), "field 'price' in row 0: must be a finite number"),
        (pd.DataFrame(ticks(price=[1.0, float("nan")])), "field 'price' in row 1"),
        (ticks(price=[1.0, None]), "field 'price' in row 1"),
        (ticks(price=["x", 1.0]), "field 'price' in row 0"),
        (ticks(timestamp=[NOW, NOW.replace(tzinfo=None)]), "field 'timestamp' in row 1: .*no time zone"),
        (pa.table(ticks(timestamp=[NOW.replace(tzinfo=None)] * 2)), "field 'timestamp' has no time zone"),
        (pd.DataFrame(ticks(timestamp=[NOW.replace(tzinfo=None)] * 2)), "field 'timestamp' has no time zone"),
        (ticks(timestamp=pa.array([1, 2], pa.timestamp("ns", tz="UTC"))), "finer than microseconds"),
        (
            ticks(timestamp=pa.array([1, None], pa.timestamp("us", tz="UTC"))),
            "'timestamp' in row 1: is required",
        ),
        (ticks(timestamp=pa.array([1, 2**60], pa.timestamp("us", tz="UTC"))), "beyond the years"),
        (ticks(timestamp=[1, 2]), "field 'timestamp' in row 0"),
        (ticks(symbol=["A", "B\0"]), "field 'symbol' in row 1: holds a NUL"),
        (pa.table(ticks(symbol=["A", "x" * 1025])), "field 'symbol' in row 1"),
        (ticks(record_id=["", "x"]), "key field 'record_id' is empty in row 0"),
        (ticks(colour=["red", "red"]), "column 'colour': no such field"),
        ({"timestamp": [NOW], "price": [1.0]}, "lacks the column symbol"),
        ({"symbol": ["A"], "price": [1.0]}, "lacks the column timestamp"),
        (ticks(side=["buy"]), "differ in length"),
        (ticks(side="ab"), "column 'side' is a list"),
        (pa.Table.from_arrays([pa.array(["A"])] * 2, names=["symbol", "symbol"]), "'symbol' twice"),
        (pd.DataFrame({"timestamp": [NOW, NOW], "symbol": ["A", 5], "price": [1.0, 2.0]}), "cannot be read"),
        ([{"symbol": "A"}], "not list; store records with put_many"),
        ("ticks", "not str"),
    ],
)
def test_what_a_record_refuses_a_frame_refuses(frame: Any, complaint: str) -> None:
    """NaN, naive times, wrong types, unknown and missing columns are refused, with column and row."""
    with pytest.raises(InvalidRecordError, match=complaint):
        columns_of_frame(TICK_PRICES, frame)


def test_missing_values_of_pandas_are_none() -> None:
    """In pandas NaN says that there is no value, which a field that may be None takes."""
    columns = columns_of_frame(TICK_PRICES, pd.DataFrame(ticks(volume=[float("nan"), 2.0])))
    assert columns[TICK_PRICES.index("volume")] == [None, 2.0]


def test_columns_that_are_left_out_have_their_defaults() -> None:
    """A field with a default takes it in every row; money is exact from text, floats and decimals."""
    frame = {
        "timestamp": [NOW.astimezone(timezone(timedelta(hours=9)))] * 3,
        "market_name": ["M"] * 3,
        "action": ["buy"] * 3,
        "side": ["YES"] * 3,
        "price": ["0.10", 0.1, Decimal("0.100")],
        "amount": [1, 2, 3],
    }
    columns = dict(zip(TRADES.field_names, columns_of_frame(TRADES, frame), strict=True))
    rows = [dict(zip(frame, values, strict=True)) for values in zip(*frame.values(), strict=True)]
    assert list(columns.values()) == as_records(TRADES, rows)
    assert columns["price"] == ["0.1"] * 3
    assert len({*map(str, columns["dry_run"])}) == 1


def test_a_frame_of_decimals_keeps_every_digit() -> None:
    """Arrow's decimals become canonical money."""
    frame = pa.table(
        {
            "timestamp": [NOW],
            "market_name": ["M"],
            "action": ["buy"],
            "side": ["YES"],
            "price": pa.array([Decimal("1234567890.123456789012345678")]),
            "amount": pa.array([Decimal("1.500")]),
        }
    )
    columns = columns_of_frame(TRADES, frame)
    assert columns[TRADES.index("price")] == ["1234567890.123456789012345678"]
    assert columns[TRADES.index("amount")] == ["1.5"]


def test_fixed_values_fill_columns_and_exclude_them() -> None:
    """What is the same in every row is given once, and the frame must not have it too."""
    frame = {name: column for name, column in TICKS.items() if name != "symbol"}
    assert columns_of_frame(TICK_PRICES, frame, {"symbol": "Z"})[TICK_PRICES.index("symbol")] == ["Z", "Z"]
    with pytest.raises(InvalidRecordError, match="'symbol' is given beside"):
        columns_of_frame(TICK_PRICES, TICKS, {"symbol": "Z"})


def test_keys_are_needed() -> None:
    """A state without a part of its key is refused."""
    bar = {name: [1.0] for name in ("open", "high", "low", "close")}
    frame = {"symbol": [""], "interval": ["1m"], "timestamp": [NOW], **bar}
    with pytest.raises(InvalidRecordError, match="key field 'symbol' is empty in row 0"):
        columns_of_frame(CANDLES, frame)


def test_an_empty_frame_has_no_rows() -> None:
    """No rows are no mistake."""
    assert columns_of_frame(TICK_PRICES, {name: [] for name in TICKS}) == [[] for _ in TICK_PRICES.fields]


class Even(LogRecord):
    """A record with a rule of its own."""

    timestamp: Time
    symbol: Text
    price: Number

    @field_validator("price")
    @classmethod
    def _is_even(cls, value: float) -> float:
        if value % 2:
            raise ValueError("must be even")
        return value


EVEN = KindSpec("even", Even, time_field="timestamp")


def test_rules_of_a_model_are_asked() -> None:
    """A model with validators sees whole records, and its refusals name the row."""
    assert columns_of_frame(EVEN, ticks(price=[2.0, 4.0]), {})[EVEN.index("price")] == [2.0, 4.0]
    with pytest.raises(InvalidRecordError, match=r"row 1: even: price: .*must be even"):
        columns_of_frame(EVEN, pa.table(ticks(price=[2.0, 5.0])))


def test_lists_need_no_pyarrow() -> None:
    """Without the extra a mapping of lists works, and what needs pyarrow says how to get it."""
    script = """
import sys
sys.modules["pyarrow"] = None
from datetime import UTC, datetime
from gateway.errors import ConfigurationError
from gateway.frames_input import columns_of_frame
from gateway.records import TICK_PRICES

class Frame:
    def __arrow_c_stream__(self, requested_schema=None): ...

given = {"timestamp": [datetime.now(UTC)], "symbol": ["A"], "price": [1.0]}
print(columns_of_frame(TICK_PRICES, given)[3])
try:
    columns_of_frame(TICK_PRICES, Frame())
except ConfigurationError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install 'storage-gateway[frames]'" in done.stdout
    assert "[None]" in done.stdout

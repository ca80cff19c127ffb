"""Series: how they are named, what a call gives as columns, and what is stored as records."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from gateway.errors import InvalidRecordError
from gateway.query import Query, matches
from gateway.records import INDICATORS, Indicator
from gateway.records.dated import dated_id, dated_ids
from gateway.records.stamp import DEFAULT_TENANT, Stamper
from gateway.series import (
    IndicatorValue,
    Series,
    columns_of_values,
    indicators_of,
    mode_of,
    of_generation,
    series_of,
)

NOW = datetime(2026, 3, 12, tzinfo=UTC)
RSI = Series("s1", "BTC", "general_RSI_14")
ID, TIME, VALUE = (INDICATORS.index(name) for name in ("record_id", "timestamp", "value"))


def at(seconds: int) -> datetime:
    """Return a time."""
    return NOW + timedelta(seconds=seconds)


def indicator(seconds: int, **fields: Any) -> Indicator:
    """Return a record of the series."""
    base = {"session_id": "s1", "symbol": "BTC", "indicator_id": "general_RSI_14", "value": 1.0}
    return Indicator.model_validate({**base, "timestamp": at(seconds), **fields})


def test_a_series_is_named_in_one_of_two_ways() -> None:
    """By its id, or by a variant, whose type is `general` unless given."""
    assert series_of("s1", "BTC", "general_RSI_14", None, None) == RSI
    assert series_of("s1", "BTC", None, None, "RSI_14") == RSI
    assert series_of("s1", "BTC", None, "price", "SMA_20").indicator_id == "price_SMA_20"


@pytest.mark.parametrize(
    "named",
    [
        (None, None, None),
        ("a", None, "b"),
        ("a", "x", None),
        (None, "x", None),
        (None, None, ""),
        (None, "", "b"),
        (None, 1, "b"),
        ("", None, None),
        (None, None, 5),
    ],
)
def test_a_series_without_a_name_is_refused(named: tuple[Any, Any, Any]) -> None:
    """Neither way, both, or an empty part."""
    with pytest.raises(InvalidRecordError):
        series_of("s1", "BTC", *named)
    with pytest.raises(InvalidRecordError, match="indicator_series"):
        series_of("", "BTC", "x", None, None)


@pytest.mark.parametrize(
    "values",
    [
        [IndicatorValue(at(0), 1.0), IndicatorValue(at(1), 2.0, 0.0)],
        [{"timestamp": at(0), "value": 1.0}, {"timestamp": at(1), "value": 2.0, "confidence": 0.0}],
        [indicator(0), indicator(1, value=2.0, confidence=0.0)],
        (IndicatorValue(at(second), 1.0 + second, (None, 0.0)[second]) for second in range(2)),
        {"timestamp": [at(0), at(1)], "value": [1.0, 2.0], "confidence": [None, 0.0]},
        pd.DataFrame({"timestamp": [at(0), at(1)], "value": [1.0, 2.0], "confidence": [None, 0.0]}),
    ],
    ids=["values", "mappings", "records", "generator", "columns", "pandas"],
)
def test_every_shape_of_values_gives_the_same_columns(values: Any) -> None:
    """Single values and frames come to the same; a confidence of 0.0 is not the same as none."""
    columns = columns_of_values(values, RSI)
    assert list(zip(*columns, strict=True)) == [
        (None, 1_773_273_600_000_000, "s1", "BTC", "general_RSI_14", None, 1.0, None, None, None),
        (None, 1_773_273_601_000_000, "s1", "BTC", "general_RSI_14", None, 2.0, 0.0, None, None),
    ]


def test_the_last_value_of_a_moment_stays() -> None:
    """A series has one value at a time."""
    values = [IndicatorValue(at(second % 2), float(second)) for second in range(5)]
    assert columns_of_values(values, RSI)[VALUE] == [3.0, 4.0]


def test_ids_are_made_from_what_tells_a_value() -> None:
    """Series, generation and time make the id: the same again and again, and no other value's."""
    columns = columns_of_values([IndicatorValue(at(0), 1.0), IndicatorValue(at(1), 1.0)], RSI)
    again = columns_of_values([IndicatorValue(at(1), 7.0)], RSI)
    ids = of_generation(columns, RSI, None)[ID]
    assert ids[1] == of_generation(again, RSI, None)[ID][0]
    others = [
        of_generation(columns, RSI, "g")[ID],
        of_generation(columns, Series("s1", "BTC", "general_RSI_140"), None)[ID],
        of_generation(columns, Series("s1B", "TC", "general_RSI_14"), None)[ID],
    ]
    assert len({*ids, *(name for other in others for name in other)}) == 8
    assert of_generation(columns, RSI, "g")[-1] == ["g", "g"]
    assert columns[ID] == [None, None]


def test_ids_of_many_times_are_those_of_each() -> None:
    """Times before 1970 included."""
    moments = [-1, 0, 5, 1_773_273_600_000_000]
    assert dated_ids(moments, "a", None) == [dated_id(moment, "a", None) for moment in moments]


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ([IndicatorValue(at(0), float("nan"))], "finite"),
        ([IndicatorValue(at(0).replace(tzinfo=None), 1.0)], "time zone"),
        ([{"timestamp": at(0)}], "'value' in row 0"),
        ([{"timestamp": at(0), "value": 1, "colour": 1}], "no 'colour'"),
        ([indicator(0, symbol="ETH")], "another series"),
        ([5], "not int"),
        ("abc", "not str"),
        (indicator(0), "not Indicator"),
        (7, "not int"),
        ({"timestamp": [at(0)], "value": [1.0], "record_id": ["x"]}, "decides on record_id"),
        ({"timestamp": [at(0)], "value": [1.0], "generation": ["x"]}, "decides on generation"),
        (pd.DataFrame({"timestamp": [at(0)], "value": [1.0], "generation": ["x"]}), "decides on generation"),
        ({"timestamp": [at(0)], "value": [1.0], "symbol": ["x"]}, "given beside"),
        ({"timestamp": [at(0)]}, "lacks the column value"),
    ],
)
def test_other_values_are_refused(values: Any, complaint: str) -> None:
    """What no record would take, and what belongs elsewhere."""
    with pytest.raises(InvalidRecordError, match=complaint):
        columns_of_values(values, RSI)


def test_nothing_gives_empty_columns() -> None:
    """An empty list is no mistake."""
    assert columns_of_values([], RSI) == [[] for _ in INDICATORS.fields]


def test_modes() -> None:
    """Two are known."""
    assert (mode_of("append"), mode_of("overwrite")) == ("append", "overwrite")
    for wrong in ("replace", None, 1):
        with pytest.raises(InvalidRecordError, match="mode is"):
            mode_of(wrong)


def test_conditions_tell_generations_apart_by_equality() -> None:
    """A row belongs to a generation, or to none, and `RSI_14` is not `RSI_140`."""
    rows = [
        Stamper().stamp(INDICATORS, indicator(0, **fields))
        for fields in ({}, {"generation": "g"}, {"indicator_id": "general_RSI_140"}, {"session_id": "s"})
    ]
    for generation, expected in ((None, [0]), ("g", [1]), ("h", [])):
        query = Query(INDICATORS, DEFAULT_TENANT, RSI.where(generation))
        held = [number for number, row in enumerate(rows) if all(matches(one, row) for one in query.where)]
        assert held == expected


def test_stored_columns_become_records() -> None:
    """They are equal in every way to records that were validated one by one, and as immutable."""
    records = [
        indicator(0, record_id="a"),
        indicator(1, record_id="b", metadata={"k": [1, None]}, confidence=0.0),
    ]
    rows = Stamper().stamp_many(INDICATORS, records)
    made = indicators_of(list(zip(*(row.values for row in rows), strict=True)))
    assert made == records == [row.record() for row in rows]
    assert made[0].model_dump() == records[0].model_dump()
    assert made[1].model_copy(update={"value": 3.0}).value == 3.0
    with pytest.raises(ValueError, match="frozen"):
        made[0].value = 2.0  # type: ignore[misc] # that it cannot be assigned is the point


def test_stored_columns_that_are_wrong_are_refused() -> None:
    """A value that no record takes is found though records are not checked one by one."""
    row = Stamper().stamp(INDICATORS, indicator(0))
    columns = [[value] for value in row.values]
    columns[VALUE] = [float("nan")]
    with pytest.raises(InvalidRecordError, match=r"field 'value'.*verify --deep"):
        indicators_of(columns)

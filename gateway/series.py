"""Indicator series: what a call gives, as columns, and what is stored, as records. Pure.

A series is told by session, symbol and indicator id, each by equality. It has one value at a time: the id of a value
is made from the series, its generation and its time, so a repetition or a correction replaces and never doubles.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import repeat
from operator import attrgetter
from typing import Any, Final, Literal, NamedTuple, cast

from pydantic import BaseModel

from gateway.errors import InvalidRecordError
from gateway.filters import key_of
from gateway.frames_input import columns_of_frame, is_frame
from gateway.query import Condition, Op
from gateway.records.codec import Value, codec_of
from gateway.records.dated import dated_ids
from gateway.records.kind import Record
from gateway.records.market import INDICATOR_SERIES, INDICATORS, Indicator

__all__ = [
    "LOADED",
    "IndicatorValue",
    "Mode",
    "Series",
    "SeriesColumns",
    "columns_of_values",
    "completed",
    "indicators_of",
    "mode_of",
    "of_generation",
    "series_of",
]

Mode = Literal["append", "overwrite"]
"""`append` adds values, and replaces those of the same times; `overwrite` makes them the whole series.

What replaces what is decided by versions, without a look at the store: a value from a machine whose clock is behind by
some seconds does not replace one that another machine saved within these seconds.
"""

SeriesColumns = list[list[Value]]
"""The columns of `indicators`, in the order of its fields; ids and generation still None."""

_NAMES: Final = INDICATORS.field_names
LOADED: Final = tuple(name for name in _NAMES if name not in {*INDICATOR_SERIES.key, "generation"})
"""Fields in which the values of one generation differ; the others need not be read."""
_GIVEN: Final = ("timestamp", "value", "confidence", "metadata", "indicator_type")
_ID, _TIME, _GENERATION = (_NAMES.index(name) for name in ("record_id", "timestamp", "generation"))


class IndicatorValue(NamedTuple):
    """One value of a series, as `save_indicators` takes it.

    Attributes:
        timestamp: Aware time; the series has one value at it.
        value: The value.
        confidence: Between 0 and 1, or None.
        metadata: What else is known of it.
        indicator_type: What kind of indicator it is.
    """

    timestamp: datetime
    value: float
    confidence: float | None = None
    metadata: Mapping[str, Any] | None = None
    indicator_type: str | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """What tells a series from every other.

    Attributes:
        session_id: The session.
        symbol: The symbol.
        indicator_id: The indicator.
    """

    session_id: str
    symbol: str
    indicator_id: str

    @property
    def key(self) -> tuple[str, str, str]:
        """The key of its row in `indicator_series`."""
        return (self.session_id, self.symbol, self.indicator_id)

    def where(self, generation: str | None) -> tuple[Condition, ...]:
        """Return what the values of one generation satisfy."""
        values = (*self.key, generation)
        names = (*INDICATOR_SERIES.key, "generation")
        return tuple(Condition(name, Op.EQ, value) for name, value in zip(names, values, strict=True))


def series_of(
    session_id: str, symbol: str, indicator_id: str | None, variant_type: str | None, variant_id: str | None
) -> Series:
    """Return the series that a call names, by its indicator id or by a variant.

    Raises:
        InvalidRecordError: It is named in both ways or in none, or a part is empty or no text.
    """
    if (indicator_id is None) == (variant_id is None) or (variant_id is None and variant_type is not None):
        raise InvalidRecordError(
            "name the indicator by indicator_id, or by variant_id and, unless it is 'general', variant_type"
        )
    if indicator_id is None:
        parts = ("general" if variant_type is None else variant_type, variant_id)
        wrong = next((part for part in parts if not isinstance(part, str) or not part), None)
        if wrong is not None or not all(parts):
            raise InvalidRecordError("variant_type and variant_id are texts that are not empty")
        indicator_id = "_".join(cast("tuple[str, str]", parts))
    key = key_of(INDICATOR_SERIES, (session_id, symbol, indicator_id))
    return Series(*cast("tuple[str, str, str]", key))


def mode_of(mode: object) -> Mode:
    """Return the mode; raises `InvalidRecordError` for what is none."""
    if not isinstance(mode, str) or mode not in {"append", "overwrite"}:
        raise InvalidRecordError(f"mode is 'append' or 'overwrite', not {mode!r}")
    return cast("Mode", mode)


def columns_of_values(values: object, series: Series) -> SeriesColumns:
    """Return the columns of values of a series; of several of one time the last one stays.

    Args:
        values: A frame, or an iterable of `IndicatorValue`, mappings or `Indicator` records.
        series: Where they belong.

    Raises:
        InvalidRecordError: A value that a record would not take, or one of another series.
    """
    given = values if is_frame(values) else _lists_of(values, series)
    own = [name for name in ("record_id", "generation") if name in getattr(given, "column_names", given)]  # type: ignore[operator] # frames have names
    if own:
        raise InvalidRecordError(f"the gateway decides on {own[0]} of a value; leave it out")
    fixed: dict[str, Value] = dict(zip(INDICATOR_SERIES.key, series.key, strict=True))
    columns = columns_of_frame(INDICATORS, given, fixed)
    moments = columns[_TIME]
    last = {moment: at for at, moment in enumerate(moments)}
    if len(last) == len(moments):
        return columns
    kept = sorted(last.values())
    return [[column[at] for at in kept] for column in columns]


def of_generation(columns: SeriesColumns, series: Series, generation: str | None) -> SeriesColumns:
    """Return columns as those of one generation, with the ids that belong to it."""
    made = list(columns)
    moments = cast("list[int]", columns[_TIME])
    made[_ID] = list[Value](dated_ids(moments, *series.key, generation))
    made[_GENERATION] = [generation] * len(moments)
    return made


def _lists_of(values: object, series: Series) -> Mapping[str, Sequence[Any]]:
    """Return single values by column."""
    if isinstance(values, str | bytes | Record) or not isinstance(values, Iterable):
        raise InvalidRecordError(
            f"values are a frame, or a list of IndicatorValue, mappings or Indicator, not {type(values).__name__}"
        )
    points = [_point(value, series) for value in values]
    if not points:
        return {name: [] for name in ("timestamp", "value")}
    return dict(zip(_GIVEN, zip(*points, strict=True), strict=True))


_point_of: Final = attrgetter(*_GIVEN)


def _point(value: Any, series: Series) -> tuple[Any, ...]:
    if isinstance(value, IndicatorValue):
        return value
    if isinstance(value, Indicator):
        if (value.session_id, value.symbol, value.indicator_id) != series.key:
            raise InvalidRecordError(
                f"a value belongs to another series than {'/'.join(series.key)}; save it there"
            )
        return _point_of(value)
    if not isinstance(value, Mapping):
        raise InvalidRecordError(
            f"a value is an IndicatorValue, a mapping or an Indicator, not {type(value).__name__}"
        )
    unknown = [name for name in value if name not in _GIVEN]
    if unknown:
        raise InvalidRecordError(f"a value has {', '.join(_GIVEN)}, and no {unknown[0]!r}")
    return tuple(value.get(name) for name in _GIVEN)


def completed(lists: Sequence[Sequence[Value]], series: Series, generation: str | None) -> SeriesColumns:
    """Return the columns of `LOADED` with those that are the same for all values of a generation."""
    count = len(lists[0])
    same: dict[str, Value] = dict(zip(INDICATOR_SERIES.key, series.key, strict=True))
    same["generation"] = generation
    own = dict(zip(LOADED, lists, strict=True))
    return [list(own[name]) if name in own else [same[name]] * count for name in _NAMES]


def indicators_of(columns: Sequence[Sequence[Value]]) -> list[Indicator]:
    """Return the records of stored columns, which are given in the order of the kind's fields.

    Each column is checked as a whole, and the records are made without checking each again: that takes a third of
    the time.

    Raises:
        InvalidRecordError: A column holds what no record would take; the store has been changed by other hands.
    """
    with _no_collections():
        return _made(Indicator, _held(columns))


@contextmanager
def _no_collections() -> Iterator[None]:
    """Put garbage collection off: it would look at all records made so far, again and again, for half of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _held(columns: Sequence[Sequence[Value]]) -> list[dict[str, Any]]:
    """Return what the records of stored columns hold."""
    codec = codec_of(INDICATORS)
    checked = [codec.decode_column(name, column) for name, column in zip(_NAMES, columns, strict=True)]
    return [
        {
            "record_id": record_id,
            "timestamp": timestamp,
            "session_id": session_id,
            "symbol": symbol,
            "indicator_id": indicator_id,
            "indicator_type": indicator_type,
            "value": value,
            "confidence": confidence,
            "metadata": metadata,
            "generation": generation,
        }
        # Written out, since a dictionary made of names and values takes three times as long.
        for (
            record_id,
            timestamp,
            session_id,
            symbol,
            indicator_id,
            indicator_type,
            value,
            confidence,
            metadata,
            generation,
        ) in zip(*checked, strict=True)
    ]


def _made(model: type[Indicator], held: list[dict[str, Any]]) -> list[Indicator]:
    """Return records that hold these fields as they are, each with all that pydantic gives to one.

    `model_construct` does the same, in three microseconds a record.
    """
    records = list(map(model.__new__, repeat(model, len(held))))
    parts: tuple[tuple[str, Iterable[Any]], ...] = (
        ("__dict__", held),
        ("__pydantic_fields_set__", repeat(set(_NAMES))),
        ("__pydantic_extra__", repeat(None)),
        ("__pydantic_private__", repeat(None)),
    )
    for slot, values in parts:
        deque(map(BaseModel.__dict__[slot].__set__, records, values), maxlen=0)
    return records

"""From what bots write to what stores are asked: filters, time bounds and cursors. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from datetime import date as Date
from typing import Any, Final

import msgspec

from gateway.errors import InvalidRecordError
from gateway.query import Condition, Op
from gateway.records.codec import Codec, codec_of
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway.records.types import StorageType

__all__ = ["conditions", "cursor_of", "day_bounds", "key_of", "position_from", "time_bounds"]

_ORDERED: Final = {Op.LT, Op.LE, Op.GT, Op.GE}
_UNORDERED: Final = {StorageType.BOOLEAN, StorageType.JSON}
MAX_ALTERNATIVES: Final = 1000
"""Values of one `__in` filter, at most: every store takes that many parameters."""


def conditions(kind: KindSpec, where: Mapping[str, Any] | None) -> tuple[Condition, ...]:
    """Return the conditions that a mapping such as `{"market_name": "BTC", "price__ge": 1}` stands for.

    Raises:
        InvalidRecordError: An unknown field or operator, or a value the field could not hold.
    """
    if where is None:
        return ()
    if not isinstance(where, Mapping):
        raise InvalidRecordError(
            f"{kind.name}: where is a mapping such as {{'{kind.field_names[0]}': value}}, "
            f"not {type(where).__name__}"
        )
    return tuple(_condition(codec_of(kind), name, value) for name, value in where.items())


def _condition(codec: Codec, name: object, value: Any) -> Condition:
    if not isinstance(name, str):
        raise InvalidRecordError(
            f"{codec.kind.name}: a filter is named by a field's name, not by {type(name).__name__}; "
            f"the fields are {', '.join(codec.kind.field_names)}"
        )
    field, _, suffix = name.partition("__")
    try:
        op = Op(suffix or "eq")
    except ValueError:
        raise InvalidRecordError(
            f"{codec.kind.name}: filter {name!r} ends in an unknown operator; use {field} or {field}__ne, "
            "__lt, __le, __gt, __ge, __in"
        ) from None
    if op is Op.IN:
        return Condition(field, op, _alternatives(codec, field, value))
    canonical = codec.encode_field(field, value)
    if op in _ORDERED and (canonical is None or codec.kind.field_spec(field).storage in _UNORDERED):
        raise InvalidRecordError(
            f"{codec.kind.name}: filter {name!r} needs an order, and {field} has none for this value; "
            "compare for equality"
        )
    return Condition(field, op, canonical)


def _alternatives(codec: Codec, field: str, value: Any) -> tuple[Any, ...]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise InvalidRecordError(f"{codec.kind.name}: filter {field}__in takes a list of values")
    values = tuple(codec.encode_field(field, item) for item in value)
    if len(values) > MAX_ALTERNATIVES:
        raise InvalidRecordError(
            f"{codec.kind.name}: filter {field}__in takes at most {MAX_ALTERNATIVES} values, not {len(values)}"
        )
    return values


def time_bounds(kind: KindSpec, since: datetime | None, until: datetime | None) -> tuple[Condition, ...]:
    """Return the conditions for a stretch of time: `since` inclusive, `until` exclusive.

    Raises:
        InvalidRecordError: The kind has no time field, or a bound is no aware time.
    """
    if since is None and until is None:
        return ()
    if kind.time_field is None:
        raise InvalidRecordError(
            f"{kind.name} has no time field, so it cannot be selected by since and until"
        )
    codec = codec_of(kind)
    bounds = ((Op.GE, since), (Op.LT, until))
    return tuple(
        Condition(kind.time_field, op, codec.encode_field(kind.time_field, moment))
        for op, moment in bounds
        if moment is not None
    )


def day_bounds(day: Date | str) -> tuple[datetime, datetime | None]:
    """Return the beginning of a UTC day and of the next; None after the last day there is, 9999-12-31.

    Raises:
        InvalidRecordError: The text is no `YYYY-MM-DD`, or a time or something else was given where a day belongs.
    """
    if isinstance(day, datetime):
        raise InvalidRecordError(
            "date takes a day, not a time; pass when.date() of the UTC time, or since and until"
        )
    if not isinstance(day, Date | str):
        raise InvalidRecordError(f"date takes a day, as a date or as YYYY-MM-DD, not {type(day).__name__}")
    try:
        parsed = Date.fromisoformat(day) if isinstance(day, str) else day
    except ValueError as error:
        raise InvalidRecordError(f"date {day!r} is no day; write it as YYYY-MM-DD") from error
    begin = datetime(parsed.year, parsed.month, parsed.day, tzinfo=UTC)
    return begin, None if parsed == Date.max else begin + timedelta(days=1)


def key_of(kind: KindSpec, key: tuple[Any, ...]) -> Key:
    """Return the canonical key of what a caller gave.

    Raises:
        InvalidRecordError: Too few or too many values, or one the field could not hold.
    """
    if len(key) != len(kind.key):
        raise InvalidRecordError(
            f"{kind.name} is identified by {', '.join(kind.key)}; give {len(kind.key)} value(s), not {len(key)}"
        )
    codec = codec_of(kind)
    values = tuple(codec.encode_field(name, value) for name, value in zip(kind.key, key, strict=True))
    if any(value is None or value == "" for value in values):
        raise InvalidRecordError(f"{kind.name}: no part of the key ({', '.join(kind.key)}) may be empty")
    return values


def cursor_of(row: Row) -> str:
    """Return the opaque text with which a listing continues after a row."""
    return (
        base64.urlsafe_b64encode(msgspec.msgpack.encode((row.kind.name, *row.position))).decode().rstrip("=")
    )


def position_from(kind: KindSpec, cursor: str) -> Key:
    """Return the position in a cursor.

    Raises:
        InvalidRecordError: The text is no cursor of this kind.
    """
    if not isinstance(cursor, str):
        raise InvalidRecordError(
            f"after takes the .cursor of a page, which is text, not {type(cursor).__name__}"
        )
    try:
        packed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        name, *position = msgspec.msgpack.decode(packed, type=tuple[str | int, ...])
    except (ValueError, binascii.Error, msgspec.DecodeError) as error:
        raise InvalidRecordError("this is no cursor; pass the .cursor of a page, unchanged") from error
    if name != kind.name or len(position) != len(kind.order):
        raise InvalidRecordError(f"this cursor belongs to a listing of {name}, not of {kind.name}")
    return tuple(position)

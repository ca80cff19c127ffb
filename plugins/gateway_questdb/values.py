"""Between canonical values and what the drivers take and give. Pure, apart from numpy, which makes arrays.

What QuestDB would change on the way is kept apart: NULL of a whole number is -2**63, which the column `LEAST` tells
from None; NULL of a float is NaN, which the gateway refuses; BOOLEAN has none, so flags are symbols; amounts lie in
DECIMAL(60,30), which holds every amount there can be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

import msgspec

from gateway.errors import WriteRejectedError
from gateway.records.codec import Value
from gateway.records.kind import KindSpec
from gateway.records.row import Row
from gateway.records.version import COUNTER_BITS
from gateway_questdb.layout import AT, LEAST, ORIGIN, Form, Layout, levels_column
from gateway_questdb.origins import mark_of, origin_of

__all__ = [
    "LEAST_LONG",
    "Line",
    "decoder",
    "encoder",
    "least_fields",
    "levels_array",
    "money_of",
    "no_place",
    "version_micros",
]

LEAST_LONG: Final = -(2**63)

Line = tuple[dict[str, str | None], dict[str, Any], int]
"""Symbols, columns and the designated timestamp in microseconds, as the official client takes them."""

_FLAGS: Final = {True: "true", False: "false"}
_FLAG_OF: Final = {"true": True, "false": False, None: None}
_decode_json: Final = msgspec.json.Decoder(list[list[float]]).decode


def version_micros(version: int) -> int:
    """Return the time in a version, microseconds since 1970."""
    return (version >> COUNTER_BITS) * 1000


def levels_array(text: str) -> Any:
    """Return order book levels as an array of two columns; None if there are none.

    The canonical text beside it is what is read back; the array is for queries in the database.
    """
    import numpy as np  # the official client needs it, too

    levels = _decode_json(text)
    return np.array(levels, dtype=np.float64) if levels else None


def encoder(layout: Layout) -> Callable[[Row], Line]:
    """Return what turns rows of a kind into lines; made once a layout."""
    return _encoder(layout)


@lru_cache(maxsize=512)
def _encoder(layout: Layout) -> Callable[[Row], Line]:
    spots = list(zip(range(len(layout.forms)), layout.kind.field_names, layout.forms, strict=True))
    symbols = [(at, name) for at, name, form in spots if form is Form.SYMBOL]
    flags = [(at, name) for at, name, form in spots if form is Form.FLAG]
    amounts = [(at, name) for at, name, form in spots if form is Form.DECIMAL]
    apart = {Form.SYMBOL, Form.FLAG, Form.DECIMAL}
    plain = [(at, name) for at, name, form in spots if form not in apart and name != layout.designated]
    extras = _extras(layout)
    time_at = None if layout.designated == AT else layout.kind.index(layout.designated)

    def encode(row: Row) -> Line:
        values = row.values
        texts: dict[str, str | None] = {"tenant_id": row.tenant}
        columns: dict[str, Any] = {"version": row.version, "digest": row.digest, "deleted": row.deleted}
        for at, name in symbols:
            if (value := values[at]) is not None:
                texts[name] = value  # type: ignore[assignment] # a symbol's canonical value is text
        for at, name in flags:
            if (value := values[at]) is not None:
                texts[name] = _FLAGS[value]  # type: ignore[index] # a flag's canonical value is bool
        for at, name in plain:
            if (value := values[at]) is not None:
                columns[name] = value
        for at, name in amounts:
            if (value := values[at]) is not None:
                columns[name] = Decimal(value)
        for extra in extras:
            extra(row, texts, columns)
        moment = version_micros(row.version) if time_at is None else values[time_at]
        if not isinstance(moment, int) or moment < 0:
            raise no_place(layout.kind)
        return texts, columns, moment

    return encode


Extra = Callable[[Row, dict[str, str | None], dict[str, Any]], None]


def _extras(layout: Layout) -> list[Extra]:
    """Return what adds the columns that are no fields."""
    found: list[Extra] = []
    if layout.log:
        found.append(_origin(layout.kind.index(layout.designated)))
    if layout.least:
        found.append(_least([(layout.kind.index(name), name) for name in least_fields(layout)]))
    found += [_levels(layout.kind.index(name), levels_column(name)) for name in sorted(layout.levels)]
    return found


def _origin(time_index: int) -> Extra:
    def add(row: Row, texts: dict[str, str | None], _columns: dict[str, Any]) -> None:
        mark = mark_of(origin_of(row, time_index), row.tenant)
        if mark is not None:
            texts[ORIGIN] = mark

    return add


def _least(fields: Sequence[tuple[int, str]]) -> Extra:
    def add(row: Row, _texts: dict[str, str | None], columns: dict[str, Any]) -> None:
        names = [name for at, name in fields if row.values[at] == LEAST_LONG]
        if names:
            columns[LEAST] = f",{','.join(names)},"

    return add


def _levels(index: int, column: str) -> Extra:
    def add(row: Row, _texts: dict[str, str | None], columns: dict[str, Any]) -> None:
        text = row.values[index]
        array = levels_array(text) if isinstance(text, str) else None
        if array is not None:
            columns[column] = array

    return add


def least_fields(layout: Layout) -> list[str]:
    """Return the fields of whole numbers that can be None: those of which `LEAST` speaks."""
    spots = zip(layout.kind.fields, layout.forms, strict=True)
    return [spec.name for spec, form in spots if form is Form.LONG and spec.name not in layout.kind.key]


def no_place(kind: KindSpec) -> WriteRejectedError:
    """Return the error for a row that has no place in time."""
    return WriteRejectedError(
        f"{kind.name}: QuestDB keeps no row whose {kind.time_field} is missing or lies before 1970; correct the row, "
        "or keep this kind in another store"
    )


def money_of(text: str | None) -> str | None:
    """Return an amount as the gateway spells it, of one with all the zeros of its column."""
    if text is None or "." not in text:
        return text
    text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def decoder(layout: Layout, tenant: str) -> Callable[[Sequence[Any]], Row]:
    """Return what turns the answers to `gateway_questdb.statements.row_columns` into rows of a tenant."""
    convert, kind = _converters(layout), layout.kind
    least_at = 3 if layout.least else None
    first = 3 if least_at is None else 4

    def decode(found: Sequence[Any]) -> Row:
        values = list(found[first:])
        for at, function in convert:
            values[at] = function(values[at])
        if least_at is not None and (named := found[least_at]):
            for name in named.strip(",").split(","):
                values[kind.index(name)] = LEAST_LONG
        digest = LEAST_LONG if found[1] is None else found[1]
        return Row(kind, tenant, found[0], digest, found[2], tuple(values))

    return decode


@lru_cache(maxsize=512)
def _converters(layout: Layout) -> tuple[tuple[int, Callable[[Any], Value]], ...]:
    found: list[tuple[int, Callable[[Any], Value]]] = []
    for at, (spec, form) in enumerate(zip(layout.kind.fields, layout.forms, strict=True)):
        if form is Form.FLAG:
            found.append((at, _FLAG_OF.__getitem__))
        elif form is Form.DECIMAL:
            found.append((at, money_of))
        elif form is Form.LONG and spec.name in layout.kind.key:
            # A key is never None, so this is the number that QuestDB takes for it.
            found.append((at, lambda value: LEAST_LONG if value is None else value))
    return tuple(found)

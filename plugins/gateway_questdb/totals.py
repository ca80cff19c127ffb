"""Counts and digests of rows, as SQL text. Pure."""

# ruff: noqa: S608 - names come from registered kinds and are quoted; values are parameters, or made here

from __future__ import annotations

from typing import Final

from gateway.backend import Summarize
from gateway.errors import InvalidRecordError
from gateway.query import ReadRange
from gateway.records.kind import KindSpec
from gateway_questdb.conditions import Parameters, beyond
from gateway_questdb.layout import LEAST, Form, Layout, quoted
from gateway_questdb.origins import Origin
from gateway_questdb.statements import Parts, Statement, place_of, raw_columns, rows_text

__all__ = ["digest_of_range", "summary"]

# A bare NULL has a type that the driver cannot read.
_NO_SPAN: Final = "cast(NULL as long), cast(NULL as long)"
_LOW: Final = '("digest" & 4294967295)'
_HIGH: Final = f'(("digest" - {_LOW}) / 4294967296)'


def summary(layout: Layout, request: Summarize, origin: Origin) -> Statement:
    """Return the statement that counts live rows: group, whether it is the least number, rows, first and last time.

    Raises:
        InvalidRecordError: The kind has no such field to group by.
    """
    kind, by = request.kind, request.by
    if by is not None and by not in kind.field_names:
        raise _no_field(kind, by)
    parts, into = Parts(), Parameters()
    mark = into.add(request.tenant)
    parts.behind.append('NOT "deleted"')
    rows = rows_text(layout, origin, parts, mark, raw_columns(layout))
    time = kind.time_field
    span = (
        _NO_SPAN if time is None else f"cast(min({quoted(time)}) as long), cast(max({quoted(time)}) as long)"
    )
    if by is None:
        return Statement(f"SELECT cast(NULL as varchar), false, count(), {span} FROM ({rows})", into.values)
    least = "false"
    if layout.form(by) is Form.LONG and layout.least:
        least = f"coalesce(strpos({quoted(LEAST)}, {into.add(f',{by},')}), 0) > 0"
    group = f"SELECT {quoted(by)} AS row__group, {least} AS row__lowest, * FROM ({rows})"
    shown = _shown_group(layout, by)
    text = f"SELECT {shown}, row__lowest, count(), {span} FROM ({group}) GROUP BY row__group, row__lowest"
    return Statement(text, into.values)


def _shown_group(layout: Layout, by: str) -> str:
    form = layout.form(by)
    if form is Form.DECIMAL:
        return "cast(row__group as varchar)"
    return "cast(row__group as long)" if form is Form.TIMESTAMP else "row__group"


def digest_of_range(layout: Layout, span: ReadRange, origin: Origin) -> Statement:
    """Return the statement that sums digests: rows, rows with a digest, sums of the lower and upper 32 bits.

    The halves are summed apart because a sum of 64-bit numbers overflows in the store.
    """
    parts, into = Parts(), Parameters()
    mark = into.add(span.tenant)
    place = place_of(layout, origin, parts, span.kind.order)
    if span.after is not None:
        place.append(beyond(layout, span.after, ">", into))
    if span.upto is not None:
        place.append(beyond(layout, span.upto, "<=", into))
    rows = rows_text(layout, origin, parts, mark, '"digest"')
    return Statement(f'SELECT count(), count("digest"), sum({_LOW}), sum({_HIGH}) FROM ({rows})', into.values)


def _no_field(kind: KindSpec, name: str) -> InvalidRecordError:
    """Return the error for a field that a kind has not."""
    return InvalidRecordError(
        f"{kind.name} has no field {name!r}; its fields are {', '.join(kind.field_names)}"
    )

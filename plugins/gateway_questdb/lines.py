"""Rows given by column as lines of QuestDB's line protocol. Pure.

The official client takes a row at a time, or a data frame of pandas. For columns of Python values both cost more than
writing the lines: one template serves all rows, and only what can be empty or has to be escaped is looked at a value
at a time.

Format: https://questdb.com/docs/ingestion/ilp/advanced-settings/ (text, with decimals in the notation of version 3).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from gateway.columns import ColumnBatch
from gateway.records.codec import Value
from gateway.records.dated import are_dated
from gateway.records.row import Row
from gateway_questdb.layout import AT, LEAST, ORIGIN, Form, Layout
from gateway_questdb.origins import Origin, mark_of, origin_of
from gateway_questdb.values import LEAST_LONG, least_fields, no_place, version_micros

__all__ = ["lines_of", "simple"]

_IN_SYMBOL: Final = re.compile(r"([ ,=\\\n\r])")
_IN_TEXT: Final = re.compile(r'(["\\\n\r])')
_AFTER: Final = {
    Form.LONG: "i",
    Form.DECIMAL: "d",
    Form.DOUBLE: "",
    # A plain number of microseconds; with `t` it could not lie before 1970.
    Form.TIMESTAMP: "i",
}


def simple(layout: Layout) -> bool:
    """Tell whether the rows of a kind can be written as text: arrays cannot."""
    return not layout.levels


def lines_of(layout: Layout, batch: ColumnBatch) -> bytes:
    """Return the lines of a batch.

    Raises:
        WriteRejectedError: A row has no place in time that QuestDB could keep.
    """
    template: list[str] = [f"{layout.table},tenant_id={_symbol(batch.tenant)}"]
    columns: list[Sequence[Any]] = []
    spots = list(zip(layout.kind.field_names, layout.forms, batch.columns, strict=True))
    for name, form, column in spots:
        if form is Form.SYMBOL:
            _add(template, columns, f",{name}=", "", column, _symbol)
        elif form is Form.FLAG:
            _add(template, columns, f",{name}=", "", column, _flag)
    _add(template, columns, f",{ORIGIN}=", "", _marks(layout, batch), _symbol)
    template.append(" version=%di,digest=%di,deleted=f")
    columns += [batch.versions, batch.digests]
    for name, form, column in spots:
        if form is Form.VARCHAR:
            _add(template, columns, f',{name}="', '"', column, _text)
        elif form in _AFTER and name != layout.designated:
            _add(template, columns, f",{name}=", _AFTER[form], column, repr if form is Form.DOUBLE else str)
    if layout.least:
        _add(template, columns, f',{LEAST}="', '"', _least(layout, batch), _text)
    template.append(" %d\n")
    columns.append(_moments(layout, batch))
    text = "".join(template)
    return "".join([text % values for values in zip(*columns, strict=True)]).encode()


def _add(
    template: list[str],
    columns: list[Sequence[Any]],
    before: str,
    after: str,
    column: Sequence[Value],
    write: Callable[[Any], str],
) -> None:
    """Add one column: not at all if it is empty, by the template if every row has the same value or has one."""
    first = column[0] if column else None
    if column and first == column[-1] and column.count(first) == len(column):
        if first is not None:
            template.append(f"{before}{write(first)}{after}".replace("%", "%%"))
        return
    if None in column:
        template.append("%s")
        columns.append(["" if value is None else f"{before}{write(value)}{after}" for value in column])
        return
    template.append(f"{before}%s{after}")
    if write is _text and not _IN_TEXT.search("".join(column)):  # type: ignore[arg-type] # texts, as it is written so
        columns.append(column)
    else:
        columns.append([write(value) for value in column])


def _symbol(value: str) -> str:
    return _IN_SYMBOL.sub(r"\\\1", value)


def _text(value: str) -> str:
    return _IN_TEXT.sub(r"\\\1", value)


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _marks(layout: Layout, batch: ColumnBatch) -> list[str | None]:
    """Return the mark of each row's origin; one list of the batch's length."""
    if not layout.log or batch.fresh:
        return [None] * len(batch)
    kind, at = layout.kind, layout.kind.index(layout.designated)
    ids: Sequence[Any] = batch.columns[0]
    moments: Sequence[Any] = batch.columns[at]
    if are_dated(ids, moments):
        return [mark_of(Origin.DATED, batch.tenant)] * len(batch)
    blank: list[Value] = [None] * len(kind.fields)
    found = []
    for record_id, moment, version in zip(ids, moments, batch.versions, strict=True):
        blank[0], blank[at] = record_id, moment
        row = Row(kind, batch.tenant, version, 0, False, tuple(blank))
        found.append(mark_of(origin_of(row, at), batch.tenant))
    return found


def _least(layout: Layout, batch: ColumnBatch) -> list[str | None]:
    named = [(name, batch.column(name)) for name in least_fields(layout)]
    named = [(name, column) for name, column in named if LEAST_LONG in column]
    if not named:
        return [None] * len(batch)
    found: list[str | None] = []
    for at in range(len(batch)):
        names = [name for name, column in named if column[at] == LEAST_LONG]
        found.append(f",{','.join(names)}," if names else None)
    return found


def _moments(layout: Layout, batch: ColumnBatch) -> Sequence[Any]:
    if layout.designated == AT:
        return [version_micros(version) for version in batch.versions]
    column: Sequence[Any] = batch.column(layout.designated)
    if None in column or (column and min(column) < 0):
        raise no_place(layout.kind)
    return column

"""Rows given by column as lines of QuestDB's line protocol. Pure.

The official client takes a row at a time, or a data frame of pandas. For columns of Python values both cost more than
writing the lines: what is the same in all rows is written once, and of the rest each column as a whole.

Format: https://questdb.com/docs/ingestion/ilp/advanced-settings/ (text, with decimals in the notation of version 3).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from gateway.columns import ColumnBatch
from gateway.records.codec import Value
from gateway.records.dated import are_dated
from gateway.records.row import Row
from gateway_questdb.layout import AT, LEAST, ORIGIN, Form, Layout
from gateway_questdb.origins import Origin, mark_of, origin_of
from gateway_questdb.values import LEAST_LONG, least_fields, no_place, version_micros

__all__ = ["lines_of", "simple", "text_of"]

_IN_SYMBOL: Final = re.compile(r"([ ,=\\\n\r])")
_IN_TEXT: Final = re.compile(r'(["\\\n\r])')
_encode: Final = msgspec.json.Encoder().encode

Texts = Sequence[str]


def simple(layout: Layout) -> bool:
    """Tell whether the rows of a kind can be written as text: arrays cannot."""
    return not layout.levels


def text_of(layout: Layout, rows: Sequence[Row]) -> bytes:
    """Return the lines of rows of one kind, which may be of several tenants, and deletions among them.

    Raises:
        WriteRejectedError: A row has no place in time that QuestDB could keep.
    """
    if isinstance(rows, ColumnBatch):
        return lines_of(layout, rows)
    alike: dict[tuple[str, bool], list[Row]] = {}
    for row in rows:
        alike.setdefault((row.tenant, row.deleted), []).append(row)
    return b"".join(
        [
            lines_of(layout, _columns_of(layout, tenant, some), deleted=deleted)
            for (tenant, deleted), some in alike.items()
        ]
    )


def _columns_of(layout: Layout, tenant: str, rows: Sequence[Row]) -> ColumnBatch:
    columns = list(zip(*[row.values for row in rows], strict=True))
    return ColumnBatch(
        layout.kind, tenant, [row.version for row in rows], [row.digest for row in rows], columns
    )


def lines_of(layout: Layout, batch: ColumnBatch, *, deleted: bool = False) -> bytes:
    """Return the lines of a batch.

    Args:
        layout: Of their kind.
        batch: The rows.
        deleted: Whether all of them are deletions, of which a batch knows nothing.

    Raises:
        WriteRejectedError: A row has no place in time that QuestDB could keep.
    """
    text = _Text(f"{layout.table},tenant_id={_in_symbol(batch.tenant)}")
    spots = list(zip(layout.kind.field_names, layout.forms, batch.columns, strict=True))
    for name, form, column in spots:
        if form is Form.SYMBOL:
            text.add(f",{name}=", column, "", _symbols)
        elif form is Form.FLAG:
            text.add(f",{name}=", column, "", _flags)
    text.add(f",{ORIGIN}=", _marks(layout, batch, deleted=deleted), "", _symbols)
    text.add(" version=", batch.versions, "i", _numbers)
    text.add(",digest=", batch.digests, "i", _numbers)
    if deleted:
        text.same(",deleted=t")  # what is left out is false
    for name, form, column in spots:
        if name != layout.designated and form in _WRITTEN:
            before, after, write = _WRITTEN[form]
            text.add(f",{name}={before}", column, after, write)
    if layout.least:
        text.add(f',{LEAST}="', _least(layout, batch), '"', _texts)
    text.add(" ", _moments(layout, batch), "\n", _numbers)
    return text.joined(len(batch))


class _Text:
    """The lines as they come about: texts that are the same in each, and columns of texts, in turns."""

    __slots__ = ("_pieces",)

    def __init__(self, start: str) -> None:
        self._pieces: list[str | Texts] = [start]

    def same(self, text: str) -> None:
        """Add what is the same in every line."""
        last = self._pieces[-1]
        if isinstance(last, str):
            self._pieces[-1] = last + text
        else:
            self._pieces.append(text)

    def add(
        self, before: str, column: Sequence[Any], after: str, write: Callable[[Sequence[Any]], Texts]
    ) -> None:
        """Add one column, each value between two texts; what is None is left out together with them."""
        first = column[0] if column else None  # equal is the same here: no canonical number is -0.0
        if column.count(first) == len(column):
            if first is not None:
                self.same(f"{before}{write((first,))[0]}{after}")
        elif None in column:
            known = iter(write([value for value in column if value is not None]))
            self._pieces.append(
                ["" if value is None else f"{before}{next(known)}{after}" for value in column]
            )
        else:
            self.same(before)
            self._pieces.append(write(column))
            self.same(after)

    def joined(self, count: int) -> bytes:
        """Return that many lines."""
        width = len(self._pieces)
        flat: list[str] = [""] * (width * count)
        for at, piece in enumerate(self._pieces):
            flat[at::width] = [piece] * count if isinstance(piece, str) else piece
        return "".join(flat).encode()


def _in_symbol(value: str) -> str:
    return _IN_SYMBOL.sub(r"\\\1", value)


def _symbols(column: Sequence[str]) -> Texts:
    return column if not _IN_SYMBOL.search("".join(column)) else [_in_symbol(value) for value in column]


def _texts(column: Sequence[str]) -> Texts:
    if not _IN_TEXT.search("".join(column)):
        return column
    return [_IN_TEXT.sub(r"\\\1", value) for value in column]


def _flags(column: Sequence[bool]) -> Texts:
    return ["true" if value else "false" for value in column]


def _amounts(column: Sequence[str]) -> Texts:
    return column  # canonical amounts are texts already


def _numbers(column: Sequence[int | float]) -> Texts:
    # As JSON all at once, and then cut: a tenth of the time of writing each float.
    return _encode(column if isinstance(column, list) else list(column))[1:-1].decode().split(",")


_WRITTEN: Final[dict[Form, tuple[str, str, Callable[[Sequence[Any]], Texts]]]] = {
    Form.VARCHAR: ('"', '"', _texts),
    Form.LONG: ("", "i", _numbers),
    Form.DECIMAL: ("", "d", _amounts),
    Form.DOUBLE: ("", "", _numbers),
    # A plain number of microseconds; with `t` it could not lie before 1970.
    Form.TIMESTAMP: ("", "i", _numbers),
}
"""How the values of a column that is no symbol are written: what stands before and behind each, and each itself."""


def _marks(layout: Layout, batch: ColumnBatch, *, deleted: bool) -> list[str | None]:
    """Return the mark of each row's origin; one list of the batch's length."""
    if not layout.log or (batch.fresh and not deleted):
        return [None] * len(batch)
    if deleted:
        return [mark_of(Origin.LOOSE, batch.tenant)] * len(batch)
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

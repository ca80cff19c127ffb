"""Portions: many records or rows, some at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import Final

from gateway.records.kind import KindSpec, Record
from gateway.records.row import Row

__all__ = ["CHUNK", "chunks", "slices"]

CHUNK: Final = 2_500
"""Rows of one write, at most."""
SLICE: Final = 250


def slices(
    records: Iterable[Record], kind_of: Callable[[type[Record]], KindSpec]
) -> Iterator[tuple[KindSpec, list[Record]]]:
    """Yield a few records at a time, each time of one kind."""
    for model, group in groupby(records, type):
        kind = kind_of(model)
        while part := list(islice(group, SLICE)):
            yield kind, part


def chunks(rows: Sequence[Row]) -> list[Sequence[Row]]:
    """Return rows in parts of a size that one write may have."""
    return [rows[at : at + CHUNK] for at in range(0, len(rows), CHUNK)]

r"""Columns as the text of PostgreSQL arrays. Pure.

`{1,2,NULL}` and `{"a","b \"c\""}`: every text is quoted, so that no value can be taken for a part of the array.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from gateway.records.types import StorageType

__all__ = ["array_writer"]

_FLAGS: Final = {None: "NULL", True: "t", False: "f"}


def array_writer(storage: StorageType) -> Callable[[Sequence[Any]], str]:
    """Return what writes a column of canonical values as an array; times have no such text.

    What it returns raises `TypeError`, `KeyError` or `AttributeError` for a value of another type.
    """
    return _WRITERS[storage]


def _flags(column: Sequence[Any]) -> str:
    return f"{{{','.join(map(_FLAGS.__getitem__, column))}}}"


def _integers(column: Sequence[Any]) -> str:
    # The type's own method refuses what only looks like a number.
    return _numbers(column, int.__repr__)


def _floats(column: Sequence[Any]) -> str:
    return _numbers(column, float.__repr__)


def _numbers(column: Sequence[Any], write: Callable[[Any], str]) -> str:
    if None in column:
        return f"{{{','.join(['NULL' if value is None else write(value) for value in column])}}}"
    return f"{{{','.join(map(write, column))}}}"


def _texts(column: Sequence[Any]) -> str:
    if None not in column:
        joined = '","'.join(column)
        # Nearly always there is nothing to escape: the only quotes are those of the joints.
        if "\\" not in joined and joined.count('"') == 2 * len(column) - 2:
            return f'{{"{joined}"}}'
    cells = ["NULL" if value is None else f'"{_escaped(value)}"' for value in column]
    return f"{{{','.join(cells)}}}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


_WRITERS: Final[Mapping[StorageType, Callable[[Sequence[Any]], str]]] = {
    StorageType.TEXT: _texts,
    StorageType.INTEGER: _integers,
    StorageType.FLOAT: _floats,
    StorageType.BOOLEAN: _flags,
    StorageType.MONEY: _texts,
    StorageType.JSON: _texts,
}

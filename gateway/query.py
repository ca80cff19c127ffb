"""Queries as data, and what they mean.

`matches` and `select` are the reference semantics: stores without a query language use them as they are, and the
conformance kit holds every other store to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from operator import ge, gt, itemgetter, le, lt
from typing import Any, Final

from gateway.records.codec import Value
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway.records.types import StorageType

__all__ = [
    "Condition",
    "Op",
    "Query",
    "ReadRange",
    "following",
    "in_range",
    "matches",
    "position_of",
    "select",
]


class Op(StrEnum):
    """How a field is compared with a value."""

    EQ = "eq"
    """Equal; None matches rows that hold None."""
    NE = "ne"
    """Not equal; rows that hold None differ from every value but None."""
    LT = "lt"
    LE = "le"
    GT = "gt"
    GE = "ge"
    """The four orderings never match a row that holds None."""
    IN = "in"
    """Equal to one of several values, None among them if given."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One test of one field.

    Attributes:
        field: A field of the kind.
        op: How to compare.
        value: A canonical value; for `Op.IN` a tuple of them.
    """

    field: str
    op: Op
    value: Value | tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """A page of the rows of one kind.

    Rows come in the order of `kind.order`: text by its UTF-8 bytes, numbers by value. All conditions must hold.

    Attributes:
        kind: Which kind.
        tenant: Whose rows; no row of another tenant is ever returned.
        where: Conditions on declared fields.
        descending: Last rows first.
        limit: At most this many rows, at least 1.
        after: The `Row.position` after which to continue, in the direction of the listing; None starts.
        include_deleted: Whether tombstones are listed too. Conditions apply to them like to any row.
    """

    kind: KindSpec
    tenant: str
    where: tuple[Condition, ...] = ()
    descending: bool = False
    limit: int = 1000
    after: Key | None = None
    include_deleted: bool = False


@dataclass(frozen=True, slots=True)
class ReadRange:
    """A stretch of all rows of a kind in listing order, tombstones included.

    Attributes:
        kind: Which kind.
        tenant: Whose rows.
        after: Exclusive lower bound, a `Row.position`; None starts at the first row.
        upto: Inclusive upper bound; None ends at the last row.
    """

    kind: KindSpec
    tenant: str
    after: Key | None = None
    upto: Key | None = None


def following(query: Query, position: Key) -> Query:
    """Return the query for the page after the row that stands at this position."""
    return replace(query, after=position)


_ORDERINGS: Final[dict[Op, Callable[[Any, Any], bool]]] = {Op.LT: lt, Op.LE: le, Op.GT: gt, Op.GE: ge}


def matches(condition: Condition, row: Row) -> bool:
    """Tell whether a row satisfies a condition."""
    position = row.kind.index(condition.field)
    held, wanted = row.values[position], condition.value
    if condition.op is Op.EQ:
        return held == wanted
    if condition.op is Op.NE:
        return held != wanted
    if condition.op is Op.IN:
        return isinstance(wanted, tuple) and held in wanted
    if held is None or wanted is None:
        return False
    number = row.kind.fields[position].storage is StorageType.MONEY
    pair = (Decimal(str(held)), Decimal(str(wanted))) if number else (held, wanted)
    return _ORDERINGS[condition.op](*pair)


@lru_cache(maxsize=512)
def _positions(kind: KindSpec) -> Callable[[Any], tuple[Any, ...]]:
    indexes = [kind.index(name) for name in kind.order]
    if len(indexes) > 1:
        return itemgetter(*indexes)
    only = indexes[0]
    return lambda values: (values[only],)


def position_of(row: Row) -> tuple[Any, ...]:
    """Return where a row stands in listings; the sort key of every store written in Python."""
    return _positions(row.kind)(row.values)


def in_range(span: ReadRange, row: Row) -> bool:
    """Tell whether a row lies in a stretch."""
    place = position_of(row)
    above = span.after is None or place > span.after
    return above and (span.upto is None or place <= span.upto)


def select(query: Query, rows: Iterable[Row]) -> list[Row]:
    """Answer a query from rows in any order, one for each key."""
    wanted = [row for row in rows if _wanted(query, row)]
    wanted.sort(key=position_of, reverse=query.descending)
    return wanted[: query.limit]


def _wanted(query: Query, row: Row) -> bool:
    if (
        row.kind is not query.kind
        or row.tenant != query.tenant
        or (row.deleted and not query.include_deleted)
    ):
        return False
    if query.after is not None:
        place = position_of(row)
        if not (place < query.after if query.descending else place > query.after):
            return False
    return all(matches(condition, row) for condition in query.where)

"""Rows in their order, as SQL text: pages, stretches of time, exports; `gateway.query` says what each means. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.query import Condition, Op, Query
from gateway.records.row import Key
from gateway_questdb.conditions import Literals, Parameters, beyond
from gateway_questdb.layout import Form, Layout, quoted
from gateway_questdb.origins import Origin
from gateway_questdb.statements import (
    Parts,
    Statement,
    add_conditions,
    fixed_fields,
    order_text,
    place_of,
    row_columns,
    rows_text,
    to_choose,
)

__all__ = ["by_time", "export", "page", "pushable"]


def page(layout: Layout, query: Query, origin: Origin, after: Key | None, limit: int | None) -> Statement:
    """Return the statement of a page; its rows are those of `row_columns`.

    Args:
        layout: Of the query's kind.
        query: What is asked.
        origin: What the tenant's rows can be, at worst.
        after: Where to continue, instead of the query's.
        limit: Rows at most, instead of the query's.
    """
    parts, into = Parts(), Parameters()
    mark = into.add(query.tenant)
    add_conditions(layout, origin, parts, query.where, into)
    if after is not None:
        sign = "<" if query.descending else ">"
        place_of(layout, origin, parts, query.kind.order).append(beyond(layout, after, sign, into))
    if not query.include_deleted:
        parts.behind.append('NOT "deleted"')
    text = rows_text(layout, origin, parts, mark, row_columns(layout))
    text = f"{text} ORDER BY {order_text(layout, query.descending)}"
    if limit is not None:
        text = f"{text} LIMIT {into.add(limit)}"
    return Statement(text, into.values, tuple(parts.unsure))


def by_time(
    layout: Layout, query: Query, after: Key | None, limit: int | None, instant: int | None = None
) -> Statement:
    """Return the statement of all versions of rows by time alone, which the server gives without sorting.

    Args:
        layout: Of the query's kind, a log.
        query: What is asked; its conditions hold for all versions of a row or for none.
        after: Where to continue, instead of the query's.
        limit: Rows at most; None for all.
        instant: Only rows of this time.
    """
    parts, into = Parts(), Parameters()
    mark = into.add(query.tenant)
    where = query.where if instant is None else (*query.where, Condition(layout.designated, Op.EQ, instant))
    add_conditions(layout, Origin.FRESH, parts, where, into)
    if after is not None:
        parts.below.append(beyond(layout, after, "<" if query.descending else ">", into))
    text = rows_text(layout, Origin.FRESH, parts, mark, row_columns(layout))
    text = f"{text} ORDER BY {quoted(layout.designated)}{' DESC' if query.descending else ''}"
    if limit is not None:
        text = f"{text} LIMIT {into.add(limit)}"
    return Statement(text, into.values, tuple(parts.unsure))


def export(
    layout: Layout, query: Query, origin: Origin, fields: Sequence[str], limit: int | None, *, ordered: bool
) -> Statement:
    """Return the statement of an export, whose columns are the fields; it has no parameters.

    Args:
        layout: Of the query's kind.
        query: What is asked.
        origin: What the tenant's rows can be, at worst.
        fields: What is exported.
        limit: Rows at most.
        ordered: Whether to choose the latest version of each row and to sort by the whole of `kind.order`. Without it,
            rows come by time, all versions of them: what there is to choose and to sort can be seen by equal times.
    """
    parts, into = Parts(), Literals()
    mark = into.add(query.tenant)
    taken = origin if ordered else Origin.FRESH
    add_conditions(layout, taken, parts, query.where, into)
    if query.after is not None:
        sign = "<" if query.descending else ">"
        place_of(layout, taken, parts, query.kind.order).append(beyond(layout, query.after, sign, into))
    if ordered:
        parts.behind.append('NOT "deleted"')
    text = rows_text(layout, taken, parts, mark, _exported(layout, fields))
    way = " DESC" if query.descending else ""
    order = order_text(layout, query.descending) if ordered else f"{quoted(layout.designated)}{way}"
    text = f"{text} ORDER BY {order}"
    return Statement(text if limit is None else f"{text} LIMIT {limit:d}", (), tuple(parts.unsure))


def _exported(layout: Layout, fields: Sequence[str]) -> str:
    shown = []
    for name in fields:
        if layout.form(name) in {Form.DECIMAL, Form.SYMBOL, Form.FLAG}:
            shown.append(f"cast({quoted(name)} as varchar) AS {quoted(name)}")
        else:
            shown.append(quoted(name))
    return ", ".join(shown)


def pushable(layout: Layout, query: Query, origin: Origin) -> bool:
    """Tell whether all that a query tests is the same in all versions of a row."""
    known = fixed_fields(layout, origin)
    return not (to_choose(layout, origin) and any(one.field not in known for one in query.where))

"""Bars of ticks, and the ticks that share their time with others, as SQL text. Pure."""

# ruff: noqa: S608 - names come from registered kinds and are quoted; values are parameters, or made here

from __future__ import annotations

from gateway.candles import Sample
from gateway.query import Condition, Op
from gateway_questdb.conditions import Parameters
from gateway_questdb.layout import Layout, quoted
from gateway_questdb.origins import Origin
from gateway_questdb.statements import Parts, Statement, add_conditions

__all__ = ["bars", "ties"]


def bars(layout: Layout, request: Sample) -> Statement:
    """Return the statement of bars of rows that have one version each, with the times of the first and last row.

    Columns: number of the step, first and last time, open, high, low, close, sum of volumes, how many volumes, rows.
    """
    parts, into = Parts(), Parameters()
    mark = into.add(request.tenant)
    add_conditions(layout, Origin.FRESH, parts, request.where, into)
    time, value, volume = quoted(layout.designated), quoted(request.value), quoted(request.volume)
    step = f"cast({time} as long) / {request.step:d}"
    shown = (
        f"{step} AS row__step, cast(min({time}) as long), cast(max({time}) as long), first({value}), max({value}), "
        f"min({value}), last({value}), nsum({volume}), count({volume}), count()"
    )
    tests = " AND ".join([f"tenant_id = {mark}", *parts.below, *parts.behind])
    order = "row__step DESC" if request.descending else "row__step"
    text = f"SELECT {shown} FROM {quoted(layout.table)} WHERE {tests} ORDER BY {order}"
    if request.limit is not None:
        text = f"{text} LIMIT {into.add(request.limit)}"
    return Statement(text, into.values, tuple(parts.unsure))


def ties(layout: Layout, request: Sample, first: int, last: int) -> Statement:
    """Return the statement for the rows of a span that share their time with others: time, version, digest, value."""
    parts, into = Parts(), Parameters()
    mark = into.add(request.tenant)
    name = str(request.kind.time_field)
    span = (Condition(name, Op.GE, first), Condition(name, Op.LE, last))
    add_conditions(layout, Origin.FRESH, parts, (*request.where, *span), into)
    time, table = quoted(layout.designated), quoted(layout.table)
    tests = " AND ".join([f"tenant_id = {mark}", *parts.below, *parts.behind])
    shared = f"SELECT {time} AS row__tied, count() AS row__rows FROM {table} WHERE {tests}"
    inner = f'SELECT {time}, "version", "digest", {quoted(request.value)} FROM {table} WHERE {tests}'
    text = (
        f'SELECT cast({time} as long), "version", "digest", {quoted(request.value)} FROM ({inner}) JOIN '
        f"(SELECT row__tied FROM ({shared}) WHERE row__rows > 1) ON {time} = row__tied"
    )
    return Statement(text, into.values, tuple(parts.unsure))

"""Questions to QuestDB as SQL text with parameters; `gateway.query` says what each must mean. Pure.

A table holds every version of a row. Which one counts is the greatest `(version, digest)` of a key, chosen by a window
function. `LATEST ON` is no choice: among rows of one timestamp it takes the one that was inserted last. Deletions are
left out behind the choice, never before it. What cannot differ between versions of a row, its key, is tested below the
choice, where it spares work; anything else behind it.
"""

# ruff: noqa: S608 - names come from registered kinds and are quoted; values are parameters, or made here

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from gateway.backend import Summarize
from gateway.candles import Sample
from gateway.errors import InvalidRecordError
from gateway.query import Condition, Op, Query, ReadRange
from gateway.records.kind import KindSpec
from gateway.records.row import Key
from gateway_questdb.conditions import Literals, Parameters, beyond, condition_text
from gateway_questdb.layout import LEAST, ORIGIN, Form, Layout, quoted
from gateway_questdb.origins import Origin, mark_of

__all__ = [
    "Statement",
    "bars",
    "by_keys",
    "by_time",
    "digest_of_range",
    "export",
    "no_field",
    "origin_of_tenant",
    "page",
    "pushable",
    "row_columns",
    "stamps_of",
    "summary",
    "ties",
]

_RANK: Final = "row__rank"
# A bare NULL has a type that the driver cannot read.
_NO_SPAN: Final = "cast(NULL as long), cast(NULL as long)"
_LOW: Final = '("digest" & 4294967295)'
_HIGH: Final = f'(("digest" - {_LOW}) / 4294967296)'


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement and its parameters.

    Attributes:
        text: With `$1`, `$2` and so on.
        parameters: As asyncpg takes them.
        unsure: Conditions that the text tests too loosely, or not at all; rows must be tested again.
    """

    text: str
    parameters: Sequence[Any]
    unsure: tuple[Condition, ...] = ()


@dataclass(slots=True)
class _Parts:
    """The two places where a condition can stand.

    Attributes:
        below: Tests before the latest version is chosen.
        behind: Tests afterwards.
        unsure: Conditions to be tested again, outside the database.
    """

    below: list[str] = field(default_factory=list)
    behind: list[str] = field(default_factory=list)
    unsure: list[Condition] = field(default_factory=list)


@lru_cache(maxsize=1024)
def _fixed(layout: Layout, origin: Origin) -> frozenset[str]:
    """Return the fields that all versions of a row agree in, as far as it is known of the tenant's rows."""
    kind = layout.kind
    if not layout.log or origin is Origin.LOOSE:
        return frozenset(kind.key)
    named = {name for group in kind.indexes for name in group}
    symbols = {name for name in named if name in kind.field_names and layout.form(name) is Form.SYMBOL}
    return frozenset({*kind.key, layout.designated, *symbols})


def _chosen(layout: Layout, origin: Origin) -> bool:
    """Tell whether there can be several versions of a row to choose from."""
    return not layout.log or origin is not Origin.FRESH


@lru_cache(maxsize=512)
def row_columns(layout: Layout) -> str:
    """Return what is selected of a row: version, digest, deleted, `LEAST` where there is one, and the fields."""
    found = ['"version"', '"digest"', '"deleted"']
    if layout.least:
        found.append(quoted(LEAST))
    return ", ".join([*found, *(_shown(layout, name) for name in layout.kind.field_names)])


def _shown(layout: Layout, name: str) -> str:
    form = layout.form(name)
    if form is Form.DECIMAL:
        return f"cast({quoted(name)} as varchar)"
    if form is Form.TIMESTAMP:
        return f"cast({quoted(name)} as long)"
    return quoted(name)


@lru_cache(maxsize=512)
def _raw_columns(layout: Layout) -> str:
    hidden = {ORIGIN, *(f"{name}__levels" for name in layout.levels), "tenant_id"}
    return ", ".join(quoted(column.name) for column in layout.columns if column.name not in hidden)


def _rows(layout: Layout, origin: Origin, parts: _Parts, mark: str, shown: str) -> str:
    """Return `SELECT … FROM … WHERE …` over the versions that count."""
    below = " AND ".join([f"tenant_id = {mark}", *parts.below])
    if not _chosen(layout, origin):
        tests = " AND ".join([below, *parts.behind])
        return f"SELECT {shown} FROM {quoted(layout.table)} WHERE {tests}"
    names = layout.kind.key
    if layout.log and origin is Origin.DATED:
        names = (layout.designated, *names)
    keys = ", ".join(quoted(name) for name in names)
    inner = (
        f'SELECT {_raw_columns(layout)}, row_number() OVER (PARTITION BY {keys} ORDER BY "version" DESC, '
        f'"digest" DESC) AS {_RANK} FROM {quoted(layout.table)} WHERE {below}'
    )
    tests = " AND ".join([f"{_RANK} = 1", *parts.behind])
    return f"SELECT {shown} FROM ({inner}) WHERE {tests}"


def _place(layout: Layout, origin: Origin, parts: _Parts, names: Iterable[str]) -> list[str]:
    """Return the list to which a test of these fields belongs."""
    known = _fixed(layout, origin)
    return parts.below if all(name in known for name in names) else parts.behind


def _where(
    layout: Layout, origin: Origin, parts: _Parts, conditions: Sequence[Condition], into: Parameters
) -> None:
    for condition in conditions:
        text, exact = condition_text(layout, condition, into)
        if text:
            _place(layout, origin, parts, (condition.field,)).append(text)
        if not exact:
            parts.unsure.append(condition)


@lru_cache(maxsize=1024)
def _order(layout: Layout, descending: bool) -> str:
    # Symbols sort as UTF-16, texts by their bytes, as listings have to.
    parts = [
        f"cast({quoted(name)} as varchar)" if layout.form(name) is Form.SYMBOL else quoted(name)
        for name in layout.kind.order
    ]
    return ", ".join(f"{part} DESC" if descending else part for part in parts)


def page(layout: Layout, query: Query, origin: Origin, after: Key | None, limit: int | None) -> Statement:
    """Return the statement of a page; its rows are those of `row_columns`.

    Args:
        layout: Of the query's kind.
        query: What is asked.
        origin: What the tenant's rows can be, at worst.
        after: Where to continue, instead of the query's.
        limit: Rows at most, instead of the query's.
    """
    parts, into = _Parts(), Parameters()
    mark = into.add(query.tenant)
    _where(layout, origin, parts, query.where, into)
    if after is not None:
        sign = "<" if query.descending else ">"
        _place(layout, origin, parts, query.kind.order).append(beyond(layout, after, sign, into))
    if not query.include_deleted:
        parts.behind.append('NOT "deleted"')
    text = _rows(layout, origin, parts, mark, row_columns(layout))
    text = f"{text} ORDER BY {_order(layout, query.descending)}"
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
    parts, into = _Parts(), Parameters()
    mark = into.add(query.tenant)
    where = query.where if instant is None else (*query.where, Condition(layout.designated, Op.EQ, instant))
    _where(layout, Origin.FRESH, parts, where, into)
    if after is not None:
        parts.below.append(beyond(layout, after, "<" if query.descending else ">", into))
    text = _rows(layout, Origin.FRESH, parts, mark, row_columns(layout))
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
    parts, into = _Parts(), Literals()
    mark = into.add(query.tenant)
    taken = origin if ordered else Origin.FRESH
    _where(layout, taken, parts, query.where, into)
    if query.after is not None:
        sign = "<" if query.descending else ">"
        _place(layout, taken, parts, query.kind.order).append(beyond(layout, query.after, sign, into))
    if ordered:
        parts.behind.append('NOT "deleted"')
    text = _rows(layout, taken, parts, mark, _exported(layout, fields))
    way = " DESC" if query.descending else ""
    order = _order(layout, query.descending) if ordered else f"{quoted(layout.designated)}{way}"
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
    known = _fixed(layout, origin)
    return not (_chosen(layout, origin) and any(one.field not in known for one in query.where))


def bars(layout: Layout, request: Sample) -> Statement:
    """Return the statement of bars of rows that have one version each, with the times of the first and last row.

    Columns: number of the step, first and last time, open, high, low, close, sum of volumes, how many volumes, rows.
    """
    parts, into = _Parts(), Parameters()
    mark = into.add(request.tenant)
    _where(layout, Origin.FRESH, parts, request.where, into)
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
    parts, into = _Parts(), Parameters()
    mark = into.add(request.tenant)
    name = str(request.kind.time_field)
    span = (Condition(name, Op.GE, first), Condition(name, Op.LE, last))
    _where(layout, Origin.FRESH, parts, (*request.where, *span), into)
    time, table = quoted(layout.designated), quoted(layout.table)
    tests = " AND ".join([f"tenant_id = {mark}", *parts.below, *parts.behind])
    shared = f"SELECT {time} AS row__tied, count() AS row__rows FROM {table} WHERE {tests}"
    inner = f'SELECT {time}, "version", "digest", {quoted(request.value)} FROM {table} WHERE {tests}'
    text = (
        f'SELECT cast({time} as long), "version", "digest", {quoted(request.value)} FROM ({inner}) JOIN '
        f"(SELECT row__tied FROM ({shared}) WHERE row__rows > 1) ON {time} = row__tied"
    )
    return Statement(text, into.values, tuple(parts.unsure))


def by_keys(layout: Layout, tenant: str, keys: Sequence[Key]) -> Statement:
    """Return the statement for the rows of some keys, in any order."""
    parts, into = _Parts(), Parameters()
    mark = into.add(tenant)
    parts.below.append(_key_test(layout, keys, into))
    return Statement(_rows(layout, Origin.LOOSE, parts, mark, row_columns(layout)), into.values)


def stamps_of(layout: Layout, tenant: str, keys: Sequence[Key]) -> Statement:
    """Return the statement for the newest stamp of some keys: version, digest, and the key's values."""
    parts, into = _Parts(), Parameters()
    mark = into.add(tenant)
    parts.below.append(_key_test(layout, keys, into))
    shown = ", ".join(['"version"', '"digest"', *(_shown(layout, name) for name in layout.kind.key)])
    return Statement(_rows(layout, Origin.LOOSE, parts, mark, shown), into.values)


def _key_test(layout: Layout, keys: Sequence[Key], into: Parameters) -> str:
    names = layout.kind.key
    if len(names) == 1:
        test, _ = condition_text(layout, Condition(names[0], Op.IN, tuple(key[0] for key in keys)), into)
        return test
    tests = []
    for key in keys:
        pairs = (Condition(name, Op.EQ, value) for name, value in zip(names, key, strict=True))
        tests.append(" AND ".join(condition_text(layout, pair, into)[0] for pair in pairs))
    return f"({' OR '.join(f'({test})' for test in tests)})"


def summary(layout: Layout, request: Summarize, origin: Origin) -> Statement:
    """Return the statement that counts live rows: group, whether it is the least number, rows, first and last time.

    Raises:
        InvalidRecordError: The kind has no such field to group by.
    """
    kind, by = request.kind, request.by
    if by is not None and by not in kind.field_names:
        raise no_field(kind, by)
    parts, into = _Parts(), Parameters()
    mark = into.add(request.tenant)
    parts.behind.append('NOT "deleted"')
    rows = _rows(layout, origin, parts, mark, _raw_columns(layout))
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
    parts, into = _Parts(), Parameters()
    mark = into.add(span.tenant)
    place = _place(layout, origin, parts, span.kind.order)
    if span.after is not None:
        place.append(beyond(layout, span.after, ">", into))
    if span.upto is not None:
        place.append(beyond(layout, span.upto, "<=", into))
    rows = _rows(layout, origin, parts, mark, '"digest"')
    return Statement(f'SELECT count(), count("digest"), sum({_LOW}), sum({_HIGH}) FROM ({rows})', into.values)


def origin_of_tenant(layout: Layout, tenant: str, origin: Origin) -> Statement:
    """Return the statement that has a row if any row of a tenant is of an origin."""
    into = Parameters()
    text = f"SELECT 1 FROM {quoted(layout.table)} WHERE {quoted(ORIGIN)} = {into.add(mark_of(origin, tenant))} LIMIT 1"
    return Statement(text, into.values)


def no_field(kind: KindSpec, name: str) -> InvalidRecordError:
    """Return the error for a field that a kind has not."""
    return InvalidRecordError(
        f"{kind.name} has no field {name!r}; its fields are {', '.join(kind.field_names)}"
    )

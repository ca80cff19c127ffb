"""What all questions to QuestDB have in common: the versions that count, and where a condition can stand. Pure.

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

from gateway.query import Condition
from gateway_questdb.conditions import Parameters, condition_text
from gateway_questdb.layout import LEAST, ORIGIN, Form, Layout, quoted
from gateway_questdb.origins import Origin

__all__ = [
    "Parts",
    "Statement",
    "add_conditions",
    "fixed_fields",
    "order_text",
    "place_of",
    "raw_columns",
    "row_columns",
    "rows_text",
    "shown",
    "to_choose",
]

_RANK: Final = "row__rank"


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
class Parts:
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
def fixed_fields(layout: Layout, origin: Origin) -> frozenset[str]:
    """Return the fields that all versions of a row agree in, as far as it is known of the tenant's rows."""
    kind = layout.kind
    if not layout.log or origin is Origin.LOOSE:
        return frozenset(kind.key)
    named = {name for group in kind.indexes for name in group}
    symbols = {name for name in named if name in kind.field_names and layout.form(name) is Form.SYMBOL}
    return frozenset({*kind.key, layout.designated, *symbols})


def to_choose(layout: Layout, origin: Origin) -> bool:
    """Tell whether there can be several versions of a row to choose from."""
    return not layout.log or origin is not Origin.FRESH


@lru_cache(maxsize=512)
def row_columns(layout: Layout) -> str:
    """Return what is selected of a row: version, digest, deleted, `LEAST` where there is one, and the fields."""
    found = ['"version"', '"digest"', '"deleted"']
    if layout.least:
        found.append(quoted(LEAST))
    return ", ".join([*found, *(shown(layout, name) for name in layout.kind.field_names)])


def shown(layout: Layout, name: str) -> str:
    """Return how a field is selected, in a form that the driver reads exactly."""
    form = layout.form(name)
    if form is Form.DECIMAL:
        return f"cast({quoted(name)} as varchar)"
    if form is Form.TIMESTAMP:
        return f"cast({quoted(name)} as long)"
    return quoted(name)


@lru_cache(maxsize=512)
def raw_columns(layout: Layout) -> str:
    """Return what an inner select passes on, for others to test and to show."""
    hidden = {ORIGIN, *(f"{name}__levels" for name in layout.levels), "tenant_id"}
    return ", ".join(quoted(column.name) for column in layout.columns if column.name not in hidden)


def rows_text(layout: Layout, origin: Origin, parts: Parts, mark: str, shown: str) -> str:
    """Return `SELECT … FROM … WHERE …` over the versions that count."""
    below = " AND ".join([f"tenant_id = {mark}", *parts.below])
    if not to_choose(layout, origin):
        tests = " AND ".join([below, *parts.behind])
        return f"SELECT {shown} FROM {quoted(layout.table)} WHERE {tests}"
    names = layout.kind.key
    if layout.log and origin is Origin.DATED:
        names = (layout.designated, *names)
    keys = ", ".join(quoted(name) for name in names)
    inner = (
        f'SELECT {raw_columns(layout)}, row_number() OVER (PARTITION BY {keys} ORDER BY "version" DESC, '
        f'"digest" DESC) AS {_RANK} FROM {quoted(layout.table)} WHERE {below}'
    )
    tests = " AND ".join([f"{_RANK} = 1", *parts.behind])
    return f"SELECT {shown} FROM ({inner}) WHERE {tests}"


def place_of(layout: Layout, origin: Origin, parts: Parts, names: Iterable[str]) -> list[str]:
    """Return the list to which a test of these fields belongs."""
    known = fixed_fields(layout, origin)
    return parts.below if all(name in known for name in names) else parts.behind


def add_conditions(
    layout: Layout, origin: Origin, parts: Parts, conditions: Sequence[Condition], into: Parameters
) -> None:
    """Add conditions where they can stand: below the choice of the latest version, or behind it."""
    for condition in conditions:
        text, exact = condition_text(layout, condition, into)
        if text:
            place_of(layout, origin, parts, (condition.field,)).append(text)
        if not exact:
            parts.unsure.append(condition)


@lru_cache(maxsize=1024)
def order_text(layout: Layout, descending: bool) -> str:
    """Return the order of listings."""
    # Symbols sort as UTF-16, texts by their bytes, as listings have to.
    parts = [
        f"cast({quoted(name)} as varchar)" if layout.form(name) is Form.SYMBOL else quoted(name)
        for name in layout.kind.order
    ]
    return ", ".join(f"{part} DESC" if descending else part for part in parts)

"""What a batch becomes: rows by table, in requests that keep together what belongs together. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway.backend import Group, Step, Update
from gateway.errors import CapabilityError
from gateway.records.kind import KindSpec, Shape
from gateway.records.row import Key, Row

__all__ = ["Plan", "Stamp", "keys_to_compare", "logs_of", "plan_of", "requests_of", "without_losers"]

Stamp = tuple[int, int]
"""Version and digest."""

Place = tuple[KindSpec, str, Key]
"""Kind, tenant and key: what identifies a row."""


@dataclass(slots=True)
class Plan:
    """What is to be stored.

    Attributes:
        steps: The rows of each step that has any left, by the step's index.
        superseded: By step index, the stored version that was newer than a row of the step.
        spanning: Indexes of the steps whose rows lie in several tables.
    """

    steps: dict[int, tuple[Row, ...]]
    superseded: dict[int, int] = field(default_factory=dict)
    spanning: tuple[int, ...] = ()


def plan_of(steps: Sequence[Step]) -> Plan:
    """Return what the steps of a batch ask for.

    Raises:
        CapabilityError: A step is an update, which QuestDB cannot do.
    """
    rows = {at: _rows_of(step) for at, step in enumerate(steps)}
    return Plan({at: found for at, found in rows.items() if found})


def logs_of(steps: Sequence[Step]) -> dict[KindSpec, list[Row]] | None:
    """Return the rows of a batch by kind, if all its steps are single rows of logs: then there is nothing to decide."""
    found: dict[KindSpec, list[Row]] = {}
    kind, rows = None, list[Row]()
    for step in steps:
        if type(step) is not Row:
            return None
        if step.kind is not kind:
            kind = step.kind
            if kind.shape is not Shape.LOG:
                return None
            rows = found.setdefault(kind, [])
        rows.append(step)
    return found


def _rows_of(step: Step) -> tuple[Row, ...]:
    if isinstance(step, Row):
        return (step,)
    if isinstance(step, Group):
        return step.rows
    assert isinstance(step, Update), "a step is a row, a group or an update"  # noqa: S101 - for the type
    raise CapabilityError(
        "QuestDB cannot read and write a row with nobody in between (it does not declare 'update'); choose another "
        "primary store for this kind"
    )


def _place(row: Row) -> Place:
    return (row.kind, row.tenant, row.key)


def keys_to_compare(plan: Plan) -> dict[tuple[KindSpec, str], list[Key]]:
    """Return the keys whose stored stamps decide whether a row is superseded: those of everything but logs.

    A log row is written once. To find another version of it would be a search through the whole table with each
    write, for an answer that only corrections of history can need.
    """
    found: dict[tuple[KindSpec, str], dict[Key, None]] = {}
    for rows in plan.steps.values():
        for row in rows:
            if row.kind.shape is not Shape.LOG:
                found.setdefault((row.kind, row.tenant), {})[row.key] = None
    return {place: list(keys) for place, keys in found.items()}


def without_losers(plan: Plan, stored: Mapping[Place, Stamp]) -> Plan:
    """Return the plan without rows that are stored already, or lose against what is stored or comes before them.

    Args:
        plan: The plan.
        stored: Stamps of the rows that are stored.
    """
    newest = dict(stored)
    steps: dict[int, tuple[Row, ...]] = {}
    superseded: dict[int, int] = {}
    for at, rows in plan.steps.items():
        kept = []
        for row in rows:
            place = _place(row)
            held = newest.get(place)
            if row.kind.shape is Shape.LOG and held != row.stamp:
                held = None  # which other version is stored is not known
            if held is None or row.stamp > held:
                kept.append(row)
                newest[place] = row.stamp
            elif row.stamp < held:
                superseded[at] = max(held[0], superseded.get(at, held[0]))
        if kept:
            steps[at] = tuple(kept)
    spanning = tuple(at for at, rows in steps.items() if len({row.kind for row in rows}) > 1)
    return Plan(steps, superseded, spanning)


def requests_of(plan: Plan, most: int) -> dict[KindSpec, list[list[Row]]]:
    """Return the rows of each kind in requests of about so many rows; what a step has in one table stays together."""
    found: dict[KindSpec, list[list[Row]]] = {}
    for rows in plan.steps.values():
        for kind, part in _by_kind(rows).items():
            requests = found.setdefault(kind, [[]])
            if requests[-1] and len(requests[-1]) + len(part) > most:
                requests.append([])
            requests[-1] += part
    return found


def _by_kind(rows: Sequence[Row]) -> dict[KindSpec, list[Row]]:
    found: dict[KindSpec, list[Row]] = {}
    for row in rows:
        found.setdefault(row.kind, []).append(row)
    return found

"""Removing rows by age, for good."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.records.kind import KindSpec
from gateway_json.files import Disk
from gateway_json.index import LogIndex
from gateway_json.logs import DayFile, Logs, Span
from gateway_json.states import States
from gateway_json.tree import Tree

__all__ = ["purge_log", "purge_states"]


def purge_states(tree: Tree, disk: Disk, states: States, kind: KindSpec, tenant: str, before: int) -> int:
    """Remove the files of rows whose time lies before a moment.

    Args:
        tree: Where they lie.
        disk: How to write.
        states: Reads them.
        kind: Which kind; one without a time field loses nothing.
        tenant: Whose rows.
        before: Microseconds since 1970-01-01 UTC.

    Returns:
        How many rows are gone, tombstones included.
    """
    if kind.time_field is None:
        return 0
    place, gone = kind.index(kind.time_field), 0
    for row in states.scan(kind, tenant):
        time = row.values[place]
        if isinstance(time, int) and time < before:
            tree.state(kind, tenant, row.key).unlink(missing_ok=True)
            gone += 1
    if gone:
        disk.sync_dir(tree.scope(kind, tenant))
    return gone


def purge_log(
    tree: Tree, disk: Disk, logs: Logs, index: LogIndex, kind: KindSpec, tenant: str, before: int
) -> int:
    """Remove the files of days before a moment, and rewrite the file of the day it lies in.

    Args:
        tree: Where they lie.
        disk: How to write.
        logs: Reads them.
        index: Told what is gone.
        kind: Which log.
        tenant: Whose rows.
        before: Microseconds since 1970-01-01 UTC.

    Returns:
        How many rows are gone, tombstones included; several versions of a row count once.
    """
    scope = tree.scope(kind, tenant)
    if not scope.is_dir():
        return 0
    index.sync(kind, scope)
    gone = 0
    for day in logs.days(kind, tenant, Span(high=before - 1)):
        gone += _purge_day(disk, day, before)
        logs.views.forget(day.path)
    disk.sync_dir(scope)
    index.sync(kind, scope)
    return gone


def _purge_day(disk: Disk, day: DayFile, before: int) -> int:
    kept = day.view.between(before, None)
    gone = len(day.view) - len(kept)
    if not kept:
        day.path.unlink()
    elif gone:
        disk.publish(disk.prepare(day.path, _lines(day, kept)), day.path)
    return gone


def _lines(day: DayFile, places: range) -> Iterator[bytes]:
    """Yield the current rows' own lines; older versions and markers have nothing left to stand for."""
    for place in places:
        yield day.line(place)

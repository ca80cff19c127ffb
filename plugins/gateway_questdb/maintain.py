"""Upkeep of a QuestDB store: partitions in which everything is past its retention are dropped, whole ones only.

QuestDB cannot remove single rows. What stays because of that is said. Nothing here waits for writers, and writers
do not wait for it.
"""

# ruff: noqa: S608 - names come from registered kinds and are quoted; values are parameters, or made here

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from gateway.backend import OpenContext
from gateway.errors import StoreReadOnlyError
from gateway.records.codec import to_micros
from gateway.records.kind import KindSpec
from gateway.retention import expiring
from gateway_questdb.http import Http
from gateway_questdb.layout import ORIGIN, Layout, layout_of, quoted
from gateway_questdb.settings import settings_of

__all__ = ["Partition", "expired", "maintain"]

_DAY: Final = "%Y-%m-%d"


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition of a table.

    Attributes:
        name: As the server calls it.
        first: Time of its first row, microseconds since 1970.
        last: Time of its last row.
        rows: How many there are, older versions included.
    """

    name: str
    first: int
    last: int
    rows: int


def expired(partitions: Sequence[Partition], before: int) -> tuple[list[Partition], list[Partition]]:
    """Return the partitions in which everything is older than a moment, and those in which only a part is.

    Args:
        partitions: Those of one table.
        before: The moment, microseconds since 1970.
    """
    whole = [one for one in partitions if one.last < before]
    part = [one for one in partitions if one.first < before <= one.last]
    return whole, part


def maintain(context: OpenContext, dry_run: bool) -> list[str]:
    """Drop the partitions that are past the retention of their kind, or only say which those are.

    Args:
        context: Names the server and the kinds.
        dry_run: Only say what would be done.

    Returns:
        What was done and what could not be, a sentence each.

    Raises:
        StoreReadOnlyError: The store was opened to be read only.
        StoreError: The server cannot be used.
    """
    if context.read_only and not dry_run:
        raise StoreReadOnlyError("the store was opened to be read only", backend=context.instance)
    settings = settings_of(context)
    http = Http(settings.address(), settings.command_timeout, context.instance)
    there = {str(name) for (name,) in http.rows("SELECT table_name FROM tables()")}
    done: list[str] = []
    for kind, before in expiring(context.kinds, datetime.now(UTC)):
        layout = layout_of(kind, settings.table_prefix, settings.partition_by)
        if layout.table in there:
            done += _one(http, kind, layout, before, dry_run=dry_run)
    return done


def _one(http: Http, kind: KindSpec, layout: Layout, before: datetime, *, dry_run: bool) -> Iterator[str]:
    if layout.designated != kind.time_field:
        yield (
            f"left {kind.name} alone: its rows lie by when they were written, not by {kind.time_field}, so no "
            "partition holds old rows only"
        )
        return
    http.rows(f"SELECT wait_wal_table('{layout.table}')")
    whole, part = expired(_partitions(http, layout.table), to_micros(before))
    if whole and _straddled(http, layout, to_micros(before)):
        yield (
            f"left {kind.name} alone: some of its rows were moved across {before:{_DAY}}, and dropping the newer "
            "version of one would bring back the older"
        )
        return
    if whole:
        rows = sum(one.rows for one in whole)
        what = f"{len(whole)} partitions of {kind.name} from before {before:{_DAY}}, {rows:,} rows of all tenants"
        if not dry_run:
            names = ", ".join(f"'{one.name}'" for one in whole)
            http.rows(f"ALTER TABLE {quoted(layout.table)} DROP PARTITION LIST {names}")
            http.rows(f"SELECT wait_wal_table('{layout.table}')")
        yield f"{'would drop' if dry_run else 'dropped'} {what}"
    for one in part:
        yield (
            f"kept the partition {one.name} of {kind.name}, which reaches across {before:{_DAY}}: it goes once all of "
            "its rows are older"
        )


def _partitions(http: Http, table: str) -> list[Partition]:
    query = (
        "SELECT name, cast(minTimestamp as long), cast(maxTimestamp as long), numRows "
        f"FROM table_partitions('{table}') WHERE attached"
    )
    rows = http.rows(query)
    return [
        Partition(str(name), int(first or 0), int(last or 0), int(count)) for name, first, last, count in rows
    ]


def _straddled(http: Http, layout: Layout, before: int) -> bool:
    """Tell whether a row has versions on both sides of a moment."""
    if not layout.log or not http.rows(
        f"SELECT 1 FROM {quoted(layout.table)} WHERE {quoted(ORIGIN)} IS NOT NULL LIMIT 1"
    ):
        return False
    time = quoted(layout.designated)
    spans = (
        f'SELECT tenant_id, "record_id", cast(min({time}) as long) AS lo, cast(max({time}) as long) AS hi '
        f'FROM {quoted(layout.table)} GROUP BY tenant_id, "record_id"'
    )
    return bool(http.rows(f"SELECT 1 FROM ({spans}) WHERE lo < {before:d} AND hi >= {before:d} LIMIT 1"))

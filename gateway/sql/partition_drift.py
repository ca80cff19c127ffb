"""How a PostgreSQL table is cut by time, against how it should be, and what mends that."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import sqlalchemy as sa

from gateway.sql.catalog import Catalog, StoredTable
from gateway.sql.creation import literal, qualified, register, shape_in
from gateway.sql.dialect import quoted
from gateway.sql.fixes import Fix, plain_name
from gateway.sql.intervals import Interval, Span, default_name, missing
from gateway.sql.layout import CHUNK_SCHEMA, Layout, Partitioning
from gateway.sql.tenancy import protect

__all__ = ["actual_style", "drift_of_chunks", "drift_of_partitions", "drift_of_registration", "other_style"]


def drift_of_chunks(catalog: Catalog) -> Iterator[Fix]:
    """Close the schema of the chunks, which have the rights of their tables and none of their policies."""
    if catalog.chunk_readers:
        roles = ", ".join(
            role if role == "PUBLIC" else quoted(role) for role in sorted(catalog.chunk_readers)
        )
        who = ", ".join(sorted(catalog.chunk_readers))
        yield Fix(
            f"{who} may look into schema {CHUNK_SCHEMA}, past the policies of the tables",
            f"took the rights on schema {CHUNK_SCHEMA} from {who}",
            (literal(f"REVOKE ALL ON SCHEMA {quoted(CHUNK_SCHEMA)} FROM {roles}"),),
        )


def drift_of_partitions(table: sa.Table, stored: StoredTable) -> Iterator[Fix]:
    """Ask for the default partition, and keep everybody from asking partitions past the policies of their table."""
    schema = quoted(shape_in(table).schema)
    rest = default_name(table.name)
    if stored.partitioned and all(part.name != rest for part in stored.partitions):
        full = f"{schema}.{quoted(rest)}"
        creation = [f"CREATE TABLE {full} PARTITION OF {qualified(table)} DEFAULT", *protect(full)]
        yield Fix(
            f"the default partition of {plain_name(table)} is missing, so writes of other times fail",
            f"created the default partition of {plain_name(table)}",
            tuple(map(literal, creation)),
        )
    for part in stored.partitions:
        full, name = f"{schema}.{quoted(part.name)}", f"{shape_in(table).schema}.{part.name}"
        if not part.protected:
            yield Fix(
                f"row security of partition {name} is not forced",
                f"forced row security of partition {name}",
                tuple(map(literal, protect(full))),
            )
        if part.granted:
            who = ", ".join(part.granted)
            roles = ", ".join(role if role == "PUBLIC" else quoted(role) for role in part.granted)
            yield Fix(
                f"{who} has rights on partition {name}, past the policies of its table",
                f"took the rights on partition {name} from {who}",
                (literal(f"REVOKE ALL ON {full} FROM {roles}"),),
            )


def actual_style(stored: StoredTable) -> Partitioning:
    """Return how a table is cut."""
    if stored.hypertable:
        return Partitioning.TIMESCALE
    return Partitioning.NATIVE if stored.partitioned else Partitioning.NONE


def drift_of_registration(
    table: sa.Table, actual: Partitioning, catalog: Catalog, layout: Layout
) -> Iterator[Fix]:
    """Remember how a table is cut: as it is, whatever the settings say, and by which interval from now on."""
    shape, name = shape_in(table), plain_name(table)
    if shape.time is None:
        return
    known = catalog.registered.get((shape.schema, shape.name))
    if known != (actual.value, layout.interval.value, layout.ahead):
        statements = tuple(map(literal, register(shape, actual, layout)))
        if actual is Partitioning.TIMESCALE and known is not None and known[1] != layout.interval:
            made = quoted(layout.timescale or "public")
            interval = (
                f"SELECT {made}.set_chunk_time_interval('{qualified(table)}', INTERVAL '1 {layout.interval}')"
            )
            statements += (literal(interval),)
        yield Fix(
            f"partitions of {name} are to be by {layout.interval} and {layout.ahead} ahead",
            f"set partitions of {name} to one a {layout.interval}, {layout.ahead} ahead",
            statements,
        )
    elif actual is Partitioning.NATIVE:
        yield from _ahead(name, catalog.tables[shape.schema, shape.name], layout)


def _ahead(name: str, stored: StoredTable, layout: Layout) -> Iterator[Fix]:
    """Ask for the current partition and the next one; what makes them is run by every upgrade."""
    spans = [Span(part.lower, part.upper) for part in stored.partitions if part.lower and part.upper]
    wanted = Interval(layout.interval).spans(datetime.now(UTC), 1)
    lacking = missing(spans, wanted)
    if lacking:
        yield Fix(
            f"{name} has no partition from {lacking[0].lower:%Y-%m-%d} on",
            "",  # every upgrade ends with making them, and says how many
            (),
        )


def other_style(table: sa.Table, actual: Partitioning, layout: Layout) -> Iterator[str]:
    """Say that a table is cut otherwise than a setting insists on."""
    if shape_in(table).time is None or actual is layout.partitioning or not layout.insisted:
        return
    yield (
        f"table {plain_name(table)} is cut as {actual} and the setting says {layout.partitioning}: the setting is for "
        "new tables; copy the rows into a new store, or set partitioning back"
    )

"""SQL text about intents, and what it takes. Pure.

Intents are written by the statement that writes the rows, in a part of its own, or by one in the same transaction. The
first parameter is always the tenant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from gateway.records.types import StorageType
from gateway.sql.dialect import quoted
from gateway.sql.intents import INTENTS, Alike, Note
from gateway.sql.layout import OWN_SCHEMA
from gateway_postgres.arrays import array_writer

__all__ = [
    "BY_KEY",
    "DEPTH",
    "FORGET",
    "HEADS",
    "NOTE",
    "REMOVE",
    "REST",
    "TARGETS",
    "WIDE",
    "columns_of_notes",
    "noted",
    "page",
    "values_of_alike",
]

_TABLE: Final = f"{quoted(OWN_SCHEMA)}.{quoted(INTENTS)}"
_INSERT: Final = f"INSERT INTO {_TABLE} (tenant_id, target, owner, number, part, kind, key, version, trace)"
_INTENT: Final = "held.owner, held.number, held.part, held.kind, held.key, held.version, held.trace"
_texts = array_writer(StorageType.TEXT)
_integers = array_writer(StorageType.INTEGER)


def noted(kind: str, first: int, *, many: bool) -> str:
    """Return the part of an upsert that stores the intents of its rows.

    It has no answer, so that what the server says of the statement is about the rows. Numbers that are there already
    fail it, as rows that are there already may: hardly ever is there anything, and if there is, somebody looks closer.

    Args:
        kind: Name of a registered kind.
        first: Number of its first parameter.
        many: For several rows: keys, versions and traces come as lists.
    """
    owner, number, key, version, trace, targets = range(first, first + 6)
    values, source = (
        f"${number}::bigint, 0, '{kind}', ${key}::text, ${version}::bigint, ${trace}::text",
        "tenant",
    )
    if many:
        # Lists alone: of anything else in their place, such as a series of numbers, the planner expects a thousand
        # rows as long as it does not know better, and would plan the statement anew each time.
        source = (
            f"tenant, LATERAL (SELECT unnest(${number}::text::bigint[]) AS number, "
            f"unnest(${key}::text::text[]) AS key, unnest(${version}::text::bigint[]) AS version, "
            f"unnest(${trace}::text::text[]) AS trace) AS note"
        )
        values = f"note.number, 0, '{kind}', note.key, note.version, note.trace"
    return (
        f"noted AS ({_INSERT} SELECT tenant.id::uuid, mirror, ${owner}::text, {values} "  # noqa: S608 - a fixed name
        f"FROM {source}, unnest(${targets}::text::text[]) AS mirror)"
    )


def values_of_alike(found: Alike) -> list[Any]:
    """Return what the part `noted` takes."""
    targets = _texts(found.targets)
    if len(found.keys) == 1:
        trace = found.traces[0] if found.traces else None
        return [found.owner, found.first, found.keys[0], found.versions[0], trace, targets]
    numbers = _integers(range(found.first, found.first + len(found.keys)))
    keys, versions = _texts(found.keys), _integers(found.versions)
    traces = _texts(found.traces) if found.traces else None
    return [found.owner, numbers, keys, versions, traces, targets]


NOTE: Final = (
    f"{_INSERT} SELECT $1::uuid, unnest($3::text::text[]), $2::text, unnest($4::text::bigint[]), "
    "unnest($5::text::integer[]), unnest($6::text::text[]), unnest($7::text::text[]), unnest($8::text::bigint[]), "
    # Numbers that are sent again, after an answer that was lost, are there already.
    "unnest($9::text::text[]) ON CONFLICT DO NOTHING"
)
"""Stores intents of one tenant and owner, any kinds; the tenant has to be set."""


def columns_of_notes(notes: Sequence[Note]) -> list[Any]:
    """Return what `NOTE` takes of intents of one tenant and owner, of which there is at least one."""
    tenants, targets, owners, numbers, parts, kinds, keys, versions, traces = zip(*notes, strict=True)
    return [
        tenants[0],
        owners[0],
        _texts(targets),
        _integers(numbers),
        _integers(parts),
        _texts(kinds),
        _texts(keys),
        _integers(versions),
        _texts(traces) if any(trace is not None for trace in traces) else None,
    ]


def page(*, before: bool, after: bool) -> str:
    """Return the query for intents in order: tenant, mirror, names of kinds, limit, then a version, owner and number.

    Args:
        before: Only steps of which each row has a smaller version.
        after: Only what comes behind an owner and number.
    """
    tests = "held.tenant_id = $1::uuid AND held.target = $2::text AND held.kind = ANY($3::text[])"
    if before:
        # Whoever is given a part of a step would acknowledge all of it. A scalar sub-select, since PostgreSQL turns
        # NOT EXISTS into a join that may read the whole table.
        tests += (
            " AND held.version < $5::bigint AND (SELECT true FROM "  # noqa: S608 - a fixed name
            f"{_TABLE} AS other WHERE other.tenant_id = $1::uuid AND other.target = $2::text "
            "AND other.owner = held.owner AND other.number = held.number AND other.version >= $5::bigint LIMIT 1) "
            "IS NULL"
        )
    if after:
        owner = 6 if before else 5
        tests += f" AND (held.owner, held.number) > (${owner}::text, ${owner + 1}::bigint)"
    return (
        f"SELECT {_INTENT} FROM {_TABLE} AS held WHERE {tests} "  # noqa: S608 - a fixed name
        "ORDER BY held.owner, held.number, held.part LIMIT $4::bigint"
    )


REST: Final = (
    f"SELECT {_INTENT} FROM {_TABLE} AS held WHERE held.tenant_id = $1::uuid AND held.target = $2::text "  # noqa: S608 - a fixed name
    "AND held.kind = ANY($3::text[]) AND held.owner = $4::text AND held.number = $5::bigint "
    "AND held.part > $6::integer ORDER BY held.part"
)
"""Finds the further parts of a step: tenant, mirror, names of kinds, owner, number and part."""

BY_KEY: Final = (
    "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true), "
    "set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)"
)
"""Lets the planner use the key alone until the transaction ends: what it knows of a table that fills and empties is
old, and by it, it would read all of the table, and sort it."""

REMOVE: Final = (
    f"DELETE FROM {_TABLE} WHERE ctid = ANY (ARRAY (SELECT held.place "  # noqa: S608 - a fixed name
    "FROM unnest($4::text[], $5::bigint[], $6::bigint[]) AS done (owner, first, last) CROSS JOIN LATERAL "
    f"(SELECT ctid AS place FROM {_TABLE} WHERE tenant_id = $1::uuid AND target = $2::text "
    "AND kind = ANY($3::text[]) AND owner = done.owner AND number BETWEEN done.first AND done.last OFFSET 0) AS held))"
)
"""Removes intents: tenant, mirror, names of kinds, then owner, first and last number of stretches.

Each stretch is looked up by the key, which OFFSET makes sure of. As a join, the planner may go through the whole
table instead, and for each row through all stretches."""

FORGET: Final = f"DELETE FROM {_TABLE}"  # noqa: S608 - a fixed name
"""Removes all intents that the login sees."""

WIDE: Final = (
    f"SELECT number FROM {_TABLE} WHERE tenant_id = $1::uuid AND target = $2::text AND owner = $3::text "  # noqa: S608 - a fixed name
    "AND number BETWEEN $4::bigint AND $5::bigint ORDER BY number LIMIT 1 OFFSET $6::bigint"
)
"""Finds where a portion of a stretch ends."""


DEPTH: Final = (
    f"SELECT count(*), min(version) FROM (SELECT version FROM {_TABLE} WHERE tenant_id = $1::uuid "  # noqa: S608 - a fixed name
    "AND target = $2::text LIMIT $3::bigint) AS counted"
)
"""Finds number and smallest version of the first intents: tenant, mirror and limit."""

TARGETS: Final = (
    f"WITH RECURSIVE found AS ((SELECT target FROM {_TABLE} WHERE tenant_id = $1::uuid ORDER BY target LIMIT 1) "  # noqa: S608 - a fixed name
    f"UNION ALL SELECT (SELECT held.target FROM {_TABLE} AS held WHERE held.tenant_id = $1::uuid "
    "AND held.target > found.target ORDER BY held.target LIMIT 1) FROM found WHERE found.target IS NOT NULL) "
    "SELECT target FROM found WHERE target IS NOT NULL"
)
"""Finds the mirrors of which there is something, each by one step through the key."""

HEADS: Final = (
    f"WITH RECURSIVE found AS ((SELECT owner FROM {_TABLE} WHERE tenant_id = $1::uuid AND target = $2::text "  # noqa: S608 - a fixed name
    f"ORDER BY owner LIMIT 1) UNION ALL SELECT (SELECT held.owner FROM {_TABLE} AS held "
    "WHERE held.tenant_id = $1::uuid AND held.target = $2::text AND held.owner > found.owner "
    "ORDER BY held.owner LIMIT 1) FROM found WHERE found.owner IS NOT NULL) "
    "SELECT min(head.version), min(head.noted_at) FROM found CROSS JOIN LATERAL "
    f"(SELECT held.version, held.noted_at FROM {_TABLE} AS held WHERE held.tenant_id = $1::uuid "
    "AND held.target = $2::text AND held.owner = found.owner ORDER BY held.number, held.part LIMIT 1) AS head"
)
"""Finds the smallest version and the first time among the first intents of all owners: tenant and mirror."""

"""Intents as rows of a table: what a batch leaves behind, and how a key is written there. Pure.

There is one row for each row of a step and each of its mirrors. It holds no values, but the key as JSON, by which the
row is found again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from gateway.backend import Group, Step
from gateway.intents import Intent, Journaling
from gateway.records.codec import json_text
from gateway.records.kind import KindSpec
from gateway.records.row import Row
from gateway.records.types import StorageType

__all__ = [
    "INTENTS",
    "SQLITE_INTENTS",
    "Alike",
    "Note",
    "alike",
    "intents_from",
    "key_text",
    "key_texts",
    "notes_of",
]

INTENTS: Final = "intents"
"""The table in PostgreSQL, in the gateway's own schema."""
SQLITE_INTENTS: Final = "gateway_intents"
"""The table in SQLite, which has no schemas."""

_SPECIAL: Final = re.compile(r'["\\\x00-\x1f]')
"""What does not stand for itself in a JSON text."""


class Note(NamedTuple):
    """One intent, as it is stored.

    Attributes:
        tenant: Whose row.
        target: The mirror that is to get it.
        owner: Whose numbers.
        number: Of the step.
        part: Of the row within the step.
        kind: Name of its kind.
        key: Its canonical key as JSON.
        version: Its version.
        trace: The write's `traceparent`; None where it was not traced.
    """

    tenant: str
    target: str
    owner: str
    number: int
    part: int
    kind: str
    key: str
    version: int
    trace: str | None


class Alike(NamedTuple):
    """The intents of a batch whose steps are rows of one kind and tenant, all for the same mirrors.

    Attributes:
        targets: The mirrors.
        owner: Whose numbers.
        first: Number of the first row; the others follow.
        keys: Of each row.
        versions: Of each row.
        traces: Of each row; empty where none was traced.
    """

    targets: tuple[str, ...]
    owner: str
    first: int
    keys: list[str]
    versions: list[int]
    traces: list[str | None]


def alike(rows: Sequence[Row], journaling: Journaling) -> Alike | None:
    """Return the intents of a batch of rows of one kind and tenant; None where the rows have different mirrors.

    Args:
        rows: Every step of the batch, at least one.
        journaling: Which intents the batch leaves behind.
    """
    mirrors = journaling.targets
    targets = mirrors[0]
    # Nearly always it is one and the same tuple, which makes this a comparison of addresses.
    if len(rows) > 1 and any(one is not targets and one != targets for one in mirrors):
        return None
    traces = journaling.traces
    return Alike(
        targets,
        journaling.owner,
        journaling.first,
        key_texts(rows),
        [row[2] for row in rows],
        [traces.get(index) for index in range(len(rows))] if traces else [],
    )


def notes_of(
    steps: Sequence[Step], journaling: Journaling, updated: Mapping[int, Sequence[Row]]
) -> list[Note]:
    """Return the intents of any batch.

    Args:
        steps: The batch.
        journaling: Which intents it leaves behind.
        updated: By step index, the rows that an update came to.
    """
    found: list[Note] = []
    for index, (step, targets) in enumerate(zip(steps, journaling.targets, strict=True)):
        if not targets:
            continue
        number, trace = journaling.first + index, journaling.traces.get(index)
        for part, row in enumerate(_rows_of(step, updated.get(index, ()))):
            text = key_text(row)
            found += [
                Note(
                    row.tenant,
                    target,
                    journaling.owner,
                    number,
                    part,
                    row.kind.name,
                    text,
                    row.version,
                    trace,
                )
                for target in targets
            ]
    return found


def _rows_of(step: Step, computed: Sequence[Row]) -> Sequence[Row]:
    if isinstance(step, Row):
        return (step,)
    return step.rows if isinstance(step, Group) else computed


def key_text(row: Row) -> str:
    """Return the key of a row as JSON."""
    kind = row[0]
    if _one_text(kind):
        text: Any = row[5][0]
        # Ids hold nothing that JSON would escape, and then it is written in a tenth of the time.
        if not _SPECIAL.search(text):
            return f'["{text}"]'
    return json_text(row.key)


def key_texts(rows: Sequence[Row]) -> list[str]:
    """Return the keys of rows of one kind as JSON."""
    if _one_text(rows[0][0]):
        plain: list[Any] = [row[5][0] for row in rows]
        if not _SPECIAL.search("".join(plain)):
            return [f'["{text}"]' for text in plain]
    return [json_text(row.key) for row in rows]


@lru_cache(maxsize=512)
def _one_text(kind: KindSpec) -> bool:
    """Tell whether the key of a kind is one text."""
    return len(kind.key) == 1 and kind.field_spec(kind.key[0]).storage is StorageType.TEXT


def intents_from(
    records: Iterable[Sequence[Any]], tenant: str, kinds: Mapping[str, KindSpec]
) -> list[Intent]:
    """Return the intents that results stand for: owner, number, part, kind, key, version and trace.

    Args:
        records: Results, of registered kinds alone.
        tenant: Whose.
        kinds: The registered kinds by name.
    """
    return [
        Intent(owner, number, part, kinds[kind], tenant, tuple(json.loads(key)), version, trace or "")
        for owner, number, part, kind, key, version, trace in records
    ]

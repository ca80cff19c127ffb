"""Every name that telemetry uses: attributes of spans, and metrics with their units and attributes. Pure.

They follow OpenTelemetry's semantic conventions for databases, version 1.30 and newer, where those know a name, and
begin with `gateway.` otherwise. Attributes have few values: names of stores, operations and errors, never a key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = [
    "COUNTED",
    "DB_BATCH_SIZE",
    "DB_COLLECTION",
    "DB_OPERATION",
    "DB_SYSTEM",
    "ERROR_TYPE",
    "METRICS",
    "MIRROR",
    "OPERATION",
    "PRIMARY",
    "SCOPE",
    "STORE",
    "Attribute",
    "Attributes",
    "Metric",
    "Sort",
    "batch_attributes",
    "compared_attributes",
    "of_pair",
    "of_store",
    "pair_attributes",
    "prometheus_name",
    "store_attributes",
    "system_of",
]

Attribute = str | bool | int | float | Sequence[str] | Sequence[int]
Attributes = tuple[tuple[str, str], ...]
"""Names and values that tell the series of one metric apart."""

SCOPE: Final = "storage_gateway"

DB_SYSTEM: Final = "db.system.name"
DB_OPERATION: Final = "db.operation.name"
DB_COLLECTION: Final = "db.collection.name"
DB_BATCH_SIZE: Final = "db.operation.batch.size"
ERROR_TYPE: Final = "error.type"
OPERATION: Final = "gateway.operation"
STORE: Final = "gateway.store"
PRIMARY: Final = "gateway.store.primary"
MIRROR: Final = "gateway.store.mirror"

_SYSTEMS: Final = {"postgres": "postgresql"}
"""Backends that the conventions know by another name."""


def system_of(backend: str) -> str:
    """Return what the conventions call a backend."""
    return _SYSTEMS.get(backend, backend)


class Sort(StrEnum):
    """What a metric is."""

    COUNTER = "counter"
    """Only ever grows."""
    GAUGE = "gauge"
    """What is the case at the moment."""
    HISTOGRAM = "histogram"
    """How often values fell between bounds."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: By OpenTelemetry's rules: words and dots.
        sort: What it is.
        unit: By UCUM: `s`, or an annotation such as `{row}`.
        description: One sentence.
        attributes: Names of its attributes, in order; not every series has all.
        bounds: Upper bounds of a histogram's buckets, themselves within.
    """

    name: str
    sort: Sort
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


SECONDS: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
"""The conventions' bounds, and more of them where local stores answer."""
ROWS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0)

_COUNTER, _GAUGE, _HISTOGRAM = Sort.COUNTER, Sort.GAUGE, Sort.HISTOGRAM
_PAIR: Final = (PRIMARY, MIRROR)
_CALL: Final = (DB_SYSTEM, DB_OPERATION, STORE, ERROR_TYPE)
_OUTCOME: Final = "gateway.outcome"
_EVENT: Final = "gateway.cache.event"
_REASON: Final = "gateway.reason"

_KNOWN: Final = (
    Metric("gateway.operations", _COUNTER, "{operation}", "Calls of a bot.", (OPERATION, ERROR_TYPE)),
    Metric(
        "gateway.operation.duration",
        _HISTOGRAM,
        "s",
        "How long calls of a bot take.",
        (OPERATION, ERROR_TYPE),
        SECONDS,
    ),
    Metric("gateway.store.calls", _COUNTER, "{call}", "Calls to stores.", _CALL),
    Metric("db.client.operation.duration", _HISTOGRAM, "s", "How long calls to stores take.", _CALL, SECONDS),
    Metric("gateway.batch.rows", _HISTOGRAM, "{row}", "Rows of one write to a store.", (STORE,), ROWS),
    Metric("gateway.batches", _COUNTER, "{batch}", "Batches that stores took."),
    Metric("gateway.rows.written", _COUNTER, "{row}", "Rows in them."),
    Metric("gateway.rows.superseded", _COUNTER, "{row}", "Rows that lost against a newer one."),
    Metric("gateway.reads", _COUNTER, "{read}", "Reads of single records and of pages."),
    Metric("gateway.write.failures", _COUNTER, "{write}", "Writes that a store refused."),
    Metric(
        "gateway.mirror.failures", _COUNTER, "{write}", "Writes that a caller saw fail on a mirror alone."
    ),
    Metric(
        "gateway.comparisons", _COUNTER, "{comparison}", "Shadow reads, by what they came to.", (_OUTCOME,)
    ),
    Metric(
        "gateway.cache.requests", _COUNTER, "{request}", "Reads of cached kinds.", ("gateway.cache.result",)
    ),
    Metric("gateway.cache.events", _COUNTER, "{event}", "What else happened around the cache.", (_EVENT,)),
    Metric("gateway.cache.closed", _COUNTER, "s", "For how long the cache could not be read."),
    Metric(
        "gateway.dropped",
        _COUNTER,
        "{item}",
        "What was refused or left out, by a bound that was set.",
        (_REASON,),
    ),
    Metric("gateway.alerts.failed", _COUNTER, "{alert}", "Divergences that a plugin was not told of."),
    Metric("gateway.control.lost", _COUNTER, "{look}", "Looks at the control store that failed."),
    Metric("gateway.plan.changes", _COUNTER, "{change}", "Plans taken over from the control store."),
    Metric("gateway.lane.depth", _GAUGE, "{row}", "Rows in the write queue of a store.", (STORE,)),
    Metric("gateway.buffer.depth", _GAUGE, "{row}", "Rows in the snapshot buffer."),
    Metric("gateway.journal.depth", _GAUGE, "{intent}", "Changes that wait for a mirror.", _PAIR),
    Metric(
        "gateway.journal.limit", _GAUGE, "{intent}", "How many may wait before the policy applies.", _PAIR
    ),
    Metric("gateway.journal.age", _GAUGE, "s", "Age of the oldest of them.", _PAIR),
    Metric("gateway.mirror.queue", _GAUGE, "{row}", "Rows on their way to a mirror.", _PAIR),
    Metric("gateway.mirror.lag", _GAUGE, "s", "How far a mirror is behind its primary.", _PAIR),
    Metric("gateway.mirror.up", _GAUGE, "{mirror}", "Whether a mirror takes writes: 1 or 0.", _PAIR),
    Metric(
        "gateway.mirror.paused", _GAUGE, "{mirror}", "Whether an operator holds a mirror back: 1 or 0.", _PAIR
    ),
    Metric(
        "gateway.mirror.incomplete",
        _GAUGE,
        "{mirror}",
        "Whether a mirror lacks what only a copy can bring: 1 or 0.",
        _PAIR,
    ),
    Metric("gateway.mirror.refused", _GAUGE, "{row}", "Rows that a mirror refuses for good.", _PAIR),
)
METRICS: Final[Mapping[str, Metric]] = {metric.name: metric for metric in _KNOWN}
"""All metrics by name."""


def _by(metric: str, attribute: str, **fields: str) -> dict[str, tuple[str, Attributes]]:
    return {field: (metric, ((attribute, value),)) for field, value in fields.items()}


COUNTED: Final[Mapping[str, tuple[str, Attributes]]] = {
    "batches": ("gateway.batches", ()),
    "rows_written": ("gateway.rows.written", ()),
    "superseded": ("gateway.rows.superseded", ()),
    "reads": ("gateway.reads", ()),
    "write_failures": ("gateway.write.failures", ()),
    "mirror_failures": ("gateway.mirror.failures", ()),
    "alerts_failed": ("gateway.alerts.failed", ()),
    "control_lost": ("gateway.control.lost", ()),
    "plan_changes": ("gateway.plan.changes", ()),
    "cache_closed_seconds": ("gateway.cache.closed", ()),
    **_by(
        "gateway.comparisons",
        _OUTCOME,
        shadow_match="match",
        shadow_lagging="lagging",
        shadow_diverged="diverged",
        shadow_unstable="unstable",
        shadow_failed="failed",
        shadow_timed_out="timed_out",
    ),
    **_by("gateway.cache.requests", "gateway.cache.result", cache_hits="hit", cache_misses="miss"),
    **_by(
        "gateway.cache.events",
        _EVENT,
        cache_waits="wait",
        cache_fenced="fenced",
        cache_skipped="skipped",
        cache_fills="fill",
        cache_fills_refused="fill_refused",
        cache_written="written",
        cache_too_large="too_large",
        cache_errors="error",
        cache_closings="closing",
    ),
    **_by(
        "gateway.dropped",
        _REASON,
        queue_refused="queue_full",
        journal_refused="journal_full",
        shadow_dropped="comparison",
        divergences_dropped="divergence",
        cache_dropped="cache",
    ),
}
"""Where each of `Counters` goes: a metric, and the attributes of its series."""


def prometheus_name(metric: Metric) -> str:
    """Return a metric's name in Prometheus, by the rules that OpenTelemetry's collectors follow too."""
    unit = "_seconds" if metric.unit == "s" else ""
    total = "_total" if metric.sort is Sort.COUNTER else ""
    return metric.name.replace(".", "_") + unit + total


def store_attributes(
    system: str, operation: str, *, store: str, kind: str | None = None, size: int = 1
) -> dict[str, Attribute]:
    """Return the attributes of a call to a store, by the conventions' names.

    Args:
        system: Name of the backend, such as `sqlite`.
        operation: What is done, such as `write`.
        store: Instance name.
        kind: Record kind, where it is one.
        size: Rows or keys; the conventions want a batch size for two and more only.
    """
    attributes: dict[str, Attribute] = {
        DB_SYSTEM: system_of(system),
        DB_OPERATION: operation,
        STORE: store,
    }
    if kind is not None:
        attributes[DB_COLLECTION] = kind
    if size > 1:
        attributes[DB_BATCH_SIZE] = size
    return attributes


def of_store(store: str) -> Attributes:
    """Return the attributes of a store's series."""
    return ((STORE, store),)


def of_pair(primary: str, mirror: str) -> Attributes:
    """Return the attributes of the series of a primary and its mirror."""
    return ((PRIMARY, primary), (MIRROR, mirror))


def batch_attributes(store: str, rows: int) -> dict[str, Attribute]:
    """Return the attributes of a batch on its way to a store.

    Args:
        store: Instance name.
        rows: Its size; the conventions want it for two and more only.
    """
    return {STORE: store, DB_BATCH_SIZE: rows} if rows > 1 else {STORE: store}


def compared_attributes(kind: str, primary: str, shadow: str) -> dict[str, Attribute]:
    """Return the attributes of a comparison.

    Args:
        kind: Record kind.
        primary: Instance name of the store that answered the bot.
        shadow: Instance name of the one it is compared with.
    """
    return {DB_COLLECTION: kind, PRIMARY: primary, "gateway.store.shadow": shadow}


def pair_attributes(primary: str, mirror: str, rows: int) -> dict[str, Attribute]:
    """Return the attributes of rows on their way from one store to the other.

    Args:
        primary: Instance name.
        mirror: Instance name.
        rows: How many.
    """
    return {PRIMARY: primary, MIRROR: mirror, DB_BATCH_SIZE: rows}

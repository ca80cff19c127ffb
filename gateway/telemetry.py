"""Spans and counters. The only module that knows of OpenTelemetry, which may be missing.

A bot that uses OpenTelemetry has imported it and set a provider before anything here runs, so this module
looks for it among the imported modules and imports nothing on its own. Without it a span costs a fraction of
a microsecond. Counters are plain integers; instruments read them when a metric reader asks.

Names follow the semantic conventions for database spans, version 1.30 and newer.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields
from types import ModuleType
from typing import Any, Final, Protocol

from gateway.errors import GatewayError

__all__ = [
    "DB_BATCH_SIZE",
    "DB_COLLECTION",
    "DB_OPERATION",
    "DB_SYSTEM",
    "ERROR_TYPE",
    "Counters",
    "Span",
    "divergence_span",
    "observe",
    "refresh",
    "retire",
    "span",
    "store_attributes",
    "tracing",
]

DB_SYSTEM: Final = "db.system.name"
DB_OPERATION: Final = "db.operation.name"
DB_COLLECTION: Final = "db.collection.name"
DB_BATCH_SIZE: Final = "db.operation.batch.size"
ERROR_TYPE: Final = "error.type"

Attribute = str | bool | int | float | Sequence[str] | Sequence[int]
_SCOPE: Final = "storage_gateway"
_RECHECK: Final = 1.0


class Span(Protocol):
    """What the gateway does with a span once it runs."""

    def set_attribute(self, key: str, value: Attribute) -> None:
        """Note something that became known while it ran."""
        ...


class _Tracer(Protocol):
    """What is asked of OpenTelemetry's tracer; named here because its types may be missing."""

    def start_as_current_span(self, name: str, **options: Any) -> AbstractContextManager[Any]: ...


class _NoSpan:
    """A span that nobody records; one serves all."""

    __slots__ = ()

    def __enter__(self) -> Span:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def set_attribute(self, key: str, value: Attribute) -> None:
        """Note nothing."""


_NO_SPAN: Final = _NoSpan()


class _Tracing:
    """The tracer, once the bot has set a provider; looked for at most once a second until then."""

    __slots__ = ("checked", "tracer")

    def __init__(self) -> None:
        self.tracer: _Tracer | None = None
        self.checked = -_RECHECK

    def find(self) -> _Tracer | None:
        """Return the tracer, or None while nothing would record a span."""
        if self.tracer is None:
            now = time.monotonic()
            if now - self.checked >= _RECHECK:
                self.checked = now
                self.tracer = _configured_tracer()
        return self.tracer


def _configured_tracer() -> _Tracer | None:
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    provider = trace.get_tracer_provider()
    # The proxy is what the API hands out as long as nobody has set a provider.
    return None if isinstance(provider, trace.ProxyTracerProvider) else provider.get_tracer(_SCOPE)


_tracing: Final = _Tracing()


def refresh() -> None:
    """Look for a tracer provider now, not within the next second."""
    _tracing.tracer = None
    _tracing.checked = -_RECHECK


def tracing() -> bool:
    """Return whether spans are recorded; attributes that are dear to make need not be made otherwise."""
    return _tracing.find() is not None


def span(name: str, attributes: Mapping[str, Attribute] | None = None) -> AbstractContextManager[Span]:
    """Return a context manager that runs its body in a span, or does nothing where spans are not recorded.

    An error that leaves the body is noted by its type, with its message if it is the gateway's own; a
    driver's message may hold addresses or values, and is not.
    """
    tracer = _tracing.find()
    return _NO_SPAN if tracer is None else _recorded(tracer, name, attributes)


@contextmanager
def _recorded(tracer: _Tracer, name: str, attributes: Mapping[str, Attribute] | None) -> Iterator[Span]:
    trace = sys.modules["opentelemetry.trace"]
    started = tracer.start_as_current_span(
        name,
        kind=trace.SpanKind.CLIENT,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    )
    with started as running:
        try:
            yield running
        except BaseException as error:
            running.set_attribute(ERROR_TYPE, type(error).__qualname__)
            message = str(error) if isinstance(error, GatewayError) else None
            running.set_status(trace.StatusCode.ERROR, message)
            raise


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
    attributes: dict[str, Attribute] = {DB_SYSTEM: system, DB_OPERATION: operation, "gateway.store": store}
    if kind is not None:
        attributes[DB_COLLECTION] = kind
    if size > 1:
        attributes[DB_BATCH_SIZE] = size
    return attributes


def divergence_span(
    kind: str,
    key: Sequence[object],
    *,
    reason: str,
    fields: Sequence[str],
    versions: tuple[int | None, int | None],
    stores: tuple[str, str],
) -> None:
    """Record that two stores differ, as a span of its own called `gateway.divergence`.

    Args:
        kind: Record kind.
        key: The key, fit to be shown; values never belong here.
        reason: Why the rows are not in step.
        fields: Names of the fields that differ.
        versions: Version in the leading and in the compared store; None where there is no row.
        stores: Instance names of the two.
    """
    if not tracing():
        return
    attributes: dict[str, Attribute] = {
        DB_COLLECTION: kind,
        "gateway.key": [str(part) for part in key],
        "gateway.divergence.reason": reason,
        "gateway.divergence.fields": list(fields),
        "gateway.store.primary": stores[0],
        "gateway.store.shadow": stores[1],
    }
    named = zip(("gateway.version.primary", "gateway.version.shadow"), versions, strict=True)
    attributes.update({name: version for name, version in named if version is not None})
    with span("gateway.divergence", attributes):
        pass


@dataclass(slots=True)
class Counters:
    """Plain integers that only ever grow, one set a gateway.

    Attributes:
        batches: Batches handed to stores.
        rows_written: Rows in them.
        reads: Calls that read.
        write_failures: Batches that a store refused.
        mirror_failures: Writes that the primary has and a mirror has not.
        superseded: Rows that lost against a newer one.
        shadow_match: Comparisons that found both stores alike.
        shadow_lagging: Comparisons that found one behind, and then in step.
        shadow_diverged: Comparisons that found a difference which stays.
        shadow_unstable: Comparisons of reads to which the primary itself gives two answers.
        shadow_failed: Comparisons that a store could not answer.
        shadow_timed_out: Comparisons that a store did not answer in time.
        shadow_dropped: Sampled reads that were not compared because too many waited.
        alerts_failed: Divergences that a plugin was not told of, or that it failed at.
        divergences_dropped: Divergences that are not listed any more, or never were, for want of room.
        control_lost: Looks at the control store that failed.
        plan_changes: Plans taken over from the control store.
        cache_hits: Reads that the cache answered.
        cache_misses: Reads of cached kinds that the store answered, for whatever reason.
        cache_waits: Those of them that found somebody else filling the entry.
        cache_fenced: Those of them that found the entry being written, or too young.
        cache_skipped: Those of them that did not ask, since hardly any had been answered lately.
        cache_fills: Rows that readers put into the cache.
        cache_fills_refused: Rows that a reader wanted to put there, and that may have been out of date.
        cache_written: Rows that writers put into the cache.
        cache_too_large: Rows that were too large for it.
        cache_dropped: Fills and ends of writes that were left out because too many waited.
        cache_errors: Calls to the cache, or looks at its epoch, that failed.
        cache_closings: How often this process closed the cache for everybody.
        cache_closed_seconds: For how long it could not read from the cache, in whole seconds.
    """

    batches: int = 0
    rows_written: int = 0
    reads: int = 0
    write_failures: int = 0
    mirror_failures: int = 0
    superseded: int = 0
    shadow_match: int = 0
    shadow_lagging: int = 0
    shadow_diverged: int = 0
    shadow_unstable: int = 0
    shadow_failed: int = 0
    shadow_timed_out: int = 0
    shadow_dropped: int = 0
    alerts_failed: int = 0
    divergences_dropped: int = 0
    control_lost: int = 0
    plan_changes: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    cache_waits: int = 0
    cache_fenced: int = 0
    cache_skipped: int = 0
    cache_fills: int = 0
    cache_fills_refused: int = 0
    cache_written: int = 0
    cache_too_large: int = 0
    cache_dropped: int = 0
    cache_errors: int = 0
    cache_closings: int = 0
    cache_closed_seconds: int = 0

    def snapshot(self) -> dict[str, int]:
        """Return all of them by name, JSON-ready."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


class _Metrics:
    """The instruments, made once a process; they read the counters of every gateway that is open."""

    def __init__(self) -> None:
        self.open: list[Counters] = []
        self.closed = Counters()
        self.made = False

    def total(self, name: str) -> int:
        """Return the sum of one counter over all gateways, the closed ones too, so that it never falls."""
        return sum(getattr(counters, name) for counters in (self.closed, *self.open))

    def make(self, metrics: ModuleType) -> None:
        """Make one observable counter for each field."""
        meter = metrics.get_meter(_SCOPE)
        for item in fields(Counters):
            meter.create_observable_counter(
                f"gateway.{item.name}", callbacks=[self._reader(metrics, item.name)]
            )
        self.made = True

    def _reader(self, metrics: ModuleType, name: str) -> Callable[[object], Iterable[Any]]:
        return lambda _options: (metrics.Observation(self.total(name)),)


_metrics: Final = _Metrics()


def observe(counters: Counters) -> None:
    """Let OpenTelemetry, if it is in use, read these counters until `retire`."""
    _metrics.open.append(counters)
    metrics = sys.modules.get("opentelemetry.metrics")
    if metrics is not None and not _metrics.made:
        _metrics.make(metrics)


def retire(counters: Counters) -> None:
    """Stop reading the counters of a gateway that was closed; what they counted stays in the totals."""
    if any(known is counters for known in _metrics.open):
        _metrics.open = [known for known in _metrics.open if known is not counters]
        for name, value in counters.snapshot().items():
            setattr(_metrics.closed, name, getattr(_metrics.closed, name) + value)

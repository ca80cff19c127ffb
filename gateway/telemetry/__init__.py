"""Telemetry: spans, counters, timings, and who gets them. The only package that knows of OpenTelemetry.

A bot that uses OpenTelemetry has imported it before anything here runs, so it is looked for among the imported modules;
only an exporter that an operator asked for imports anything.
"""

from gateway.telemetry.counters import Counters
from gateway.telemetry.meters import Gauge, Meters, StoreCalls
from gateway.telemetry.names import (
    DB_BATCH_SIZE,
    DB_COLLECTION,
    DB_OPERATION,
    DB_SYSTEM,
    ERROR_TYPE,
    batch_attributes,
    compared_attributes,
    of_pair,
    of_store,
    pair_attributes,
    store_attributes,
)
from gateway.telemetry.options import Exporter, TelemetryOptions, checked_endpoint, parse_exporters
from gateway.telemetry.session import Telemetry, operations_of
from gateway.telemetry.spans import (
    Span,
    background,
    divergence_span,
    inner,
    recording,
    refresh,
    span,
    trace_with,
    traceparent,
    tracing,
    untraced,
)

__all__ = [
    "DB_BATCH_SIZE",
    "DB_COLLECTION",
    "DB_OPERATION",
    "DB_SYSTEM",
    "ERROR_TYPE",
    "Counters",
    "Exporter",
    "Gauge",
    "Meters",
    "Span",
    "StoreCalls",
    "Telemetry",
    "TelemetryOptions",
    "background",
    "batch_attributes",
    "checked_endpoint",
    "compared_attributes",
    "divergence_span",
    "inner",
    "of_pair",
    "of_store",
    "operations_of",
    "pair_attributes",
    "parse_exporters",
    "recording",
    "refresh",
    "span",
    "store_attributes",
    "trace_with",
    "traceparent",
    "tracing",
    "untraced",
]

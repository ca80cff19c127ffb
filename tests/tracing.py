"""Spans that tests look at: OpenTelemetry's real SDK, with its exporter into memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway import telemetry

__all__ = ["bots_span", "linked_ids", "named", "recorded_spans", "trace_ids"]


@contextmanager
def recorded_spans() -> Iterator[InMemorySpanExporter]:
    """Record spans in memory, as a bot with OpenTelemetry would export them."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with pytest.MonkeyPatch.context() as patch:
        # The global provider can be set once a process, which would leak into every other test.
        patch.setattr(trace, "_TRACER_PROVIDER", provider)
        telemetry.trace_with()
        yield exporter
        provider.shutdown()
    telemetry.trace_with()


def bots_span(name: str) -> AbstractContextManager[trace.Span]:
    """Return a span that the bot itself makes, and so decides to record."""
    return trace.get_tracer("bot").start_as_current_span(name)


def named(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    """Return the finished spans of a name."""
    return [span for span in exporter.get_finished_spans() if span.name == name]


def trace_ids(spans: list[ReadableSpan]) -> set[int]:
    """Return the traces that spans belong to."""
    return {span.context.trace_id for span in spans if span.context is not None}


def linked_ids(span: ReadableSpan) -> set[int]:
    """Return the traces that a span is linked to."""
    return {link.context.trace_id for link in span.links}

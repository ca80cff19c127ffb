"""Spans. OpenTelemetry may be missing: nothing here imports it, and without it a span costs next to nothing.

Whether a call of a bot is traced is drawn once, where the call begins, and holds for everything that is done for it.
A call inside a span of the bot's own follows what the bot decided for that span.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from random import random
from typing import Any, Final, Protocol

from gateway.budget import Budget
from gateway.errors import GatewayError
from gateway.telemetry.names import DB_COLLECTION, ERROR_TYPE, SCOPE, Attribute

__all__ = [
    "TRACING",
    "Span",
    "background",
    "divergence_span",
    "drawn",
    "inner",
    "outermost",
    "recording",
    "refresh",
    "scope",
    "span",
    "trace_with",
    "traceparent",
    "tracing",
    "untraced",
]

_RECHECK: Final = 1.0
_AFFORDED: Final = 20
"""Traces a second, at most, that are drawn by share: a span costs as much as the call that it is about."""
_LINKS: Final = 128
"""Links of one span, at most: what an SDK keeps by default."""
_TRACEPARENT: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")

scope: Final[ContextVar[bool | None]] = ContextVar("storage_gateway_traced", default=None)
"""Whether what is under way is traced; None where that was not drawn."""


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


class _Untraced:
    """A span that nobody records, and within which nothing is drawn again."""

    __slots__ = ("_token",)

    def __enter__(self) -> Span:
        self._token = scope.set(False)
        return _NO_SPAN

    def __exit__(self, *exc: object) -> None:
        scope.reset(self._token)


class _Tracing:
    """The tracer: one that the gateway made, or the bot's, looked for at most once a second until there is one.

    What the gateway that was opened last was told holds for the process.
    """

    __slots__ = ("_budget", "checked", "off", "provider", "rate", "tracer")

    def __init__(self) -> None:
        self.tracer: _Tracer | None = None
        self.provider: Any = None
        self.checked = -_RECHECK
        self.rate = 1.0
        self.off = False
        self._budget = Budget(_AFFORDED)

    def affords(self) -> bool:
        """Take one of this second's traces; False if there were enough. Where every call is wanted, it always is."""
        return self.rate >= 1 or self._budget.take()

    def find(self) -> _Tracer | None:
        """Return the tracer, or None while nothing would record a span."""
        if self.tracer is None and not self.off:
            now = time.monotonic()
            if now - self.checked >= _RECHECK:
                self.checked = now
                self.tracer = self._configured()
        return self.tracer

    def _configured(self) -> _Tracer | None:
        if self.provider is not None:
            return self.provider.get_tracer(SCOPE)  # type: ignore[no-any-return]
        trace = sys.modules.get("opentelemetry.trace")
        if trace is None:
            return None
        provider = trace.get_tracer_provider()
        # The proxy is what the API hands out as long as nobody has set a provider.
        return None if isinstance(provider, trace.ProxyTracerProvider) else provider.get_tracer(SCOPE)


TRACING: Final = _Tracing()


def refresh() -> None:
    """Look for a tracer provider now, not within the next second."""
    TRACING.tracer = None
    TRACING.checked = -_RECHECK


def trace_with(provider: Any = None, *, rate: float = 1.0, off: bool = False) -> None:
    """Say what records spans from now on.

    Args:
        provider: A tracer provider; None for the one that the bot sets, if it does.
        rate: Share of calls outside any span that is traced, 0 to 1.
        off: Record nothing.
    """
    TRACING.provider, TRACING.rate, TRACING.off = provider, rate, off
    refresh()


@contextmanager
def untraced() -> Iterator[None]:
    """Keep what is done in the body out of every trace, and all that its tasks do, unless it is `background`.

    A bot may open its gateway inside a span of its own, which would otherwise be around everything for ever.
    """
    token = scope.set(False)
    try:
        yield
    finally:
        scope.reset(token)


def tracing() -> bool:
    """Return whether there is anything that records spans; not whether what is under way is traced."""
    return TRACING.find() is not None


def recording() -> bool:
    """Return whether a span made here may be recorded; attributes that are dear to make need not be otherwise."""
    return scope.get() is not False and TRACING.find() is not None


def drawn() -> bool:
    """Draw whether a call that begins here is traced, or follow the bot's own span if there is one around it.

    Ask this only where there is a tracer.
    """
    trace = sys.modules["opentelemetry.trace"]
    around = trace.get_current_span()
    if around is not trace.INVALID_SPAN:
        context = around.get_span_context()
        if context.is_valid:
            return bool(context.trace_flags.sampled)
    return random() < TRACING.rate and TRACING.affords()  # noqa: S311 - a sample


def span(name: str, attributes: Mapping[str, Attribute] | None = None) -> AbstractContextManager[Span]:
    """Return a context manager that runs its body in a span to a server, or does nothing where none is recorded.

    An error that leaves the body is noted by its type, with its message if it is the gateway's own; a driver's message
    may hold addresses or values, and is not.
    """
    if scope.get() is False or TRACING.find() is None:
        return _NO_SPAN
    return _of_sort("CLIENT", name, attributes)


def inner(name: str, attributes: Mapping[str, Attribute] | None = None) -> AbstractContextManager[Span]:
    """Return the same for what happens inside the process."""
    if scope.get() is False or TRACING.find() is None:
        return _NO_SPAN
    return _of_sort("INTERNAL", name, attributes)


def outermost(name: str, attributes: Mapping[str, Attribute] | None = None) -> AbstractContextManager[Span]:
    """Return the same for where a call of a bot begins that was `drawn`."""
    tracer = TRACING.find()
    return _Untraced() if tracer is None else _recorded(tracer, name, attributes, "INTERNAL")


def _of_sort(
    sort: str, name: str, attributes: Mapping[str, Attribute] | None
) -> AbstractContextManager[Span]:
    tracer = TRACING.find()
    if tracer is None or (scope.get() is None and not drawn()):
        return _Untraced()
    return _recorded(tracer, name, attributes, sort)


def background(
    name: str,
    attributes: Mapping[str, Attribute] | None = None,
    links: Iterable[str] = (),
    *,
    within: bool = False,
) -> AbstractContextManager[Span]:
    """Return a context manager for what is done for nobody in particular, or for several at once: a trace of its own.

    It never belongs to what happened to be under way when its task was made.

    Args:
        name: The span's.
        attributes: The span's.
        links: The `traceparent` of traced writes or reads that it is done for; with one of them it is always traced.
        within: Whether it belongs to the trace of the first of them, and is linked to the others alone.
    """
    tracer = TRACING.find()
    if tracer is None:
        return _NO_SPAN
    known = list(dict.fromkeys(filter(None, links)))[:_LINKS]
    if not known and not (random() < TRACING.rate and TRACING.affords()):  # noqa: S311 - a sample
        return _Untraced()
    parent = known.pop(0) if within and known else ""
    return _recorded(tracer, name, attributes, "INTERNAL", known, parent)


@contextmanager
def _recorded(
    tracer: _Tracer,
    name: str,
    attributes: Mapping[str, Attribute] | None,
    sort: str,
    links: Sequence[str] | None = None,
    parent: str = "",
) -> Iterator[Span]:
    trace = sys.modules["opentelemetry.trace"]
    options: dict[str, Any] = {}
    if links is not None:
        contexts = [context for context in map(_context_of, links) if context is not None]
        options["context"] = sys.modules["opentelemetry.context"].Context()
        before = _context_of(parent)
        if before is not None:
            around = trace.NonRecordingSpan(before)
            options["context"] = trace.set_span_in_context(around, options["context"])
        options["links"] = [trace.Link(context) for context in contexts]
    started = tracer.start_as_current_span(
        name,
        kind=trace.SpanKind[sort],
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
        **options,
    )
    with started as running:
        token = scope.set(bool(running.get_span_context().trace_flags.sampled))
        try:
            yield running
        except BaseException as error:
            running.set_attribute(ERROR_TYPE, type(error).__qualname__)
            message = str(error) if isinstance(error, GatewayError) else None
            running.set_status(trace.StatusCode.ERROR, message)
            raise
        finally:
            scope.reset(token)


def traceparent() -> str:
    """Return the W3C `traceparent` of what is under way; empty where it is not traced."""
    if not scope.get():
        return ""
    context = sys.modules["opentelemetry.trace"].get_current_span().get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def _context_of(text: str) -> Any:
    """Return the span context in a `traceparent`; None if it is none."""
    found = _TRACEPARENT.fullmatch(text)
    if found is None:
        return None
    trace = sys.modules["opentelemetry.trace"]
    ids = (int(found[1], 16), int(found[2], 16))
    context = trace.SpanContext(*ids, is_remote=True, trace_flags=trace.TraceFlags(int(found[3], 16)))
    return context if context.is_valid else None


def divergence_span(
    kind: str,
    key: Sequence[object],
    *,
    identity: str,
    reason: str,
    fields: Sequence[str],
    versions: tuple[int | None, int | None],
    stores: tuple[str, str],
    links: Iterable[str] = (),
) -> None:
    """Record that two stores differ, as a trace of its own called `gateway.divergence`, whatever the sample.

    Args:
        kind: Record kind.
        key: The key, fit to be shown; values never belong here.
        identity: By what `gateway divergences show` finds it.
        reason: Why the rows are not in step.
        fields: Names of the fields that differ.
        versions: Version in the leading and in the compared store; None where there is no row.
        stores: Instance names of the two.
        links: The `traceparent` of the writes that made the rows, and of the comparison, where they were traced.
    """
    tracer = TRACING.find()
    if tracer is None:
        return
    attributes: dict[str, Attribute] = {
        DB_COLLECTION: kind,
        "gateway.key": [str(part) for part in key],
        "gateway.divergence.id": identity,
        "gateway.divergence.reason": reason,
        "gateway.divergence.fields": list(fields),
        "gateway.store.primary": stores[0],
        "gateway.store.shadow": stores[1],
    }
    named = zip(("gateway.version.primary", "gateway.version.shadow"), versions, strict=True)
    attributes.update({name: version for name, version in named if version is not None})
    with _recorded(
        tracer, "gateway.divergence", attributes, "INTERNAL", list(dict.fromkeys(filter(None, links)))
    ):
        pass

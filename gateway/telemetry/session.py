"""Telemetry of one gateway, from when it is opened until it is closed."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from time import perf_counter
from typing import Any, Final, Protocol

from gateway.telemetry.counters import Counters
from gateway.telemetry.meters import Gauge, Meters
from gateway.telemetry.names import OPERATION
from gateway.telemetry.options import Exporter, TelemetryOptions
from gateway.telemetry.otel import OBSERVED, of_the_bot
from gateway.telemetry.otlp import OtlpExport
from gateway.telemetry.prometheus import PrometheusExport
from gateway.telemetry.spans import TRACING, drawn, inner, outermost, scope, trace_with

__all__ = ["Telemetry", "operations_of"]

_CLOSING: Final = 5.0


class _Export(Protocol):
    def close(self, deadline: float) -> None: ...


class _Shared:
    """Exporters of this process: gateways with the same options share theirs. Opened first, closed last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[tuple[Exporter, TelemetryOptions], tuple[_Export, int]] = {}
        self._open: list[tuple[object, Any, TelemetryOptions]] = []

    def enter(self, who: object, provider: Any, options: TelemetryOptions) -> None:
        """Let the gateway that is opened now decide what is traced."""
        with self._lock:
            self._open.append((who, provider, options))
            self._decide()

    def leave(self, who: object) -> None:
        """Let the one that was opened last, of those that are open still, decide again."""
        with self._lock:
            self._open = [one for one in self._open if one[0] is not who]
            self._decide()

    def _decide(self) -> None:
        if not self._open:
            trace_with()
            of_the_bot(wanted=False)
            return
        _, provider, options = self._open[-1]
        trace_with(provider, rate=options.sample, off=not options.exporters)
        of_the_bot(wanted=any(Exporter.OTLP not in one.exporters and one.exporters for *_, one in self._open))

    def take(self, exporter: Exporter, options: TelemetryOptions) -> Any:
        """Return an exporter, made if it is the first.

        Raises:
            ConfigurationError: Its extra is not installed.
        """
        with self._lock:
            key = exporter, _shareable(options)
            held = self._held.get(key)
            made: _Export = held[0] if held is not None else _MADE[exporter](options)
            self._held[key] = made, (0 if held is None else held[1]) + 1
            return made

    def give_back(self, exporter: Exporter, options: TelemetryOptions) -> _Export | None:
        """Return the exporter if nobody else has it, so that it is to be closed."""
        with self._lock:
            key = exporter, _shareable(options)
            made, count = self._held.pop(key)
            if count > 1:
                self._held[key] = made, count - 1
            return made if count == 1 else None


def _shareable(options: TelemetryOptions) -> TelemetryOptions:
    """Return the options without what is no business of exporters."""
    return replace(options, exporters=frozenset(), sample=0.0)


_MADE: Final[dict[Exporter, Callable[[TelemetryOptions], _Export]]] = {
    Exporter.OTLP: OtlpExport,
    Exporter.PROMETHEUS: PrometheusExport,
}
_shared: Final = _Shared()


class Telemetry:
    """Measures one gateway, and lets others know.

    Args:
        options: What to do.
        counters: The gateway's.

    Attributes:
        meters: What is measured; None if telemetry is off.
    """

    def __init__(self, options: TelemetryOptions, counters: Counters) -> None:
        self._options = options
        self._held: list[Exporter] = []
        self._wrapped: list[tuple[Any, str]] = []
        self.meters: Meters | None = Meters(counters) if options.exporters else None
        self.port: int | None = None

    def __repr__(self) -> str:
        return f"<Telemetry {self._options!r}>"

    def start(self) -> None:
        """Begin to publish.

        Raises:
            ConfigurationError: What an exporter needs is not installed.
        """
        options = self._options
        provider = None
        for exporter in sorted(options.exporters & _MADE.keys()):
            made = _shared.take(exporter, options)
            self._held.append(exporter)
            if isinstance(made, OtlpExport):
                provider = made.tracer_provider
            elif isinstance(made, PrometheusExport):
                self.port = made.port
        if self.meters is not None:
            OBSERVED.add(self.meters)
        _shared.enter(self, provider, options)

    def operations(self, target: Any, names: Iterable[str]) -> None:
        """Time and trace these calls of an object from now on; where telemetry is off, they stay as they are."""
        if self.meters is None:
            return
        for name in names:
            setattr(target, name, _observed(name, getattr(target, name), self.meters))
            self._wrapped.append((target, name))

    def gauges(self, look: Callable[[], Iterable[Gauge]]) -> None:
        """Publish these, too; they are asked for in any thread."""
        if self.meters is not None:
            self.meters.watch(look)

    async def close(self) -> None:
        """Publish no more; what was counted stays in the totals of the process. Calling it again does nothing."""
        wrapped, self._wrapped = self._wrapped, []
        for target, name in wrapped:
            target.__dict__.pop(name, None)
        if self.meters is not None:
            OBSERVED.remove(self.meters)
        _shared.leave(self)
        held, self._held = self._held, []
        for exporter in held:
            unused = _shared.give_back(exporter, self._options)
            if unused is not None:
                await asyncio.to_thread(unused.close, _CLOSING)


def operations_of(cls: type, *, beside: Iterable[str] = ()) -> list[str]:
    """Return the names of a class's public coroutine methods.

    Args:
        cls: The class.
        beside: Names to leave out.
    """
    left_out = set(beside)
    methods = inspect.getmembers(cls, inspect.iscoroutinefunction)
    return [name for name, _ in methods if not name.startswith("_") and name not in left_out]


def _observed(
    name: str, call: Callable[..., Awaitable[Any]], meters: Meters
) -> Callable[..., Awaitable[Any]]:
    """Return a call that is timed, and traced if that is drawn."""
    calls = meters.operation(name)
    ended, title, attributes = calls.ended, f"gateway.{name}", {OPERATION: name}

    @functools.wraps(call)
    async def observed(*args: Any, **kwargs: Any) -> Any:
        began = perf_counter()
        try:
            if (TRACING.tracer or TRACING.find()) is None or (traced := scope.get()) is False:
                answer = await call(*args, **kwargs)
            elif traced or drawn():
                with inner(title, attributes) if traced else outermost(title, attributes):
                    answer = await call(*args, **kwargs)
            else:  # nothing within is drawn again
                untraced = scope.set(False)
                try:
                    answer = await call(*args, **kwargs)
                finally:
                    scope.reset(untraced)
        except BaseException as error:
            calls.failed(error, perf_counter() - began)
            meters.refused(error)
            raise
        ended(perf_counter() - began)
        return answer

    return observed

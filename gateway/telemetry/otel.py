"""Metrics for OpenTelemetry: instruments that read what the gateways of this process measure.

Counters and gauges are read when a metric reader asks. A histogram of OpenTelemetry cannot be filled that way, and
taking a value takes it longer than all the rest of telemetry; so it gets `PER_SECOND` values, which keeps quantiles as
they are, and counters beside it say how many there were.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, Final

from gateway.telemetry.meters import DIRECT, Observed
from gateway.telemetry.names import METRICS, SCOPE, Metric, Sort

__all__ = ["OBSERVED", "Instruments", "of_the_bot"]

OBSERVED: Final = Observed()
"""What is open in this process."""


class Instruments:
    """The instruments of one meter provider.

    Args:
        provider: The bot's, or the gateway's own.
        observed: What they read.
    """

    def __init__(self, provider: Any, observed: Observed = OBSERVED) -> None:
        self._observed = observed
        self._histograms: dict[str, Any] = {}
        meter = provider.get_meter(SCOPE)
        for metric in METRICS.values():
            self._make(meter, metric)

    def __repr__(self) -> str:
        return f"<Instruments histograms={len(self._histograms)}>"

    def _make(self, meter: Any, metric: Metric) -> None:
        described = {"unit": metric.unit, "description": metric.description}
        if metric.sort is Sort.HISTOGRAM:
            made = meter.create_histogram(
                metric.name, **described, explicit_bucket_boundaries_advisory=list(metric.bounds)
            )
            self._histograms[metric.name] = made
            DIRECT.setdefault(metric.name, []).append(made)
        elif metric.sort is Sort.COUNTER:
            meter.create_observable_counter(metric.name, callbacks=[self._reader(metric)], **described)
        else:
            meter.create_observable_gauge(metric.name, callbacks=[self._reader(metric)], **described)

    def _reader(self, metric: Metric) -> Callable[[object], Iterable[Any]]:
        def read(_options: object) -> Iterable[Any]:
            observation = sys.modules["opentelemetry.metrics"].Observation
            return [observation(one.value, dict(one.attributes)) for one in self._observed.read(metric)]

        return read

    def withdraw(self) -> None:
        """Give the histograms no more values."""
        for name, made in self._histograms.items():
            DIRECT[name][:] = [other for other in DIRECT[name] if other is not made]


class _Bots:
    """The instruments in the bot's own meter provider, made once."""

    def __init__(self) -> None:
        self.provider: Any = None
        self.instruments: Instruments | None = None


_bots: Final = _Bots()


def of_the_bot(*, wanted: bool) -> None:
    """Publish in the bot's own meter provider, if it uses OpenTelemetry's metrics; or give it no more values."""
    metrics = sys.modules.get("opentelemetry.metrics")
    provider = None if metrics is None or not wanted else metrics.get_meter_provider()
    if provider is _bots.provider:
        return
    if _bots.instruments is not None:
        _bots.instruments.withdraw()
    _bots.provider = provider
    _bots.instruments = None if provider is None else Instruments(provider)

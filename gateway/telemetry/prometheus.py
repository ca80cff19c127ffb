"""The page that Prometheus scrapes. The extra `prometheus` brings what serves it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any, Final

from gateway.errors import ConfigurationError
from gateway.telemetry.meters import Observed, Reading
from gateway.telemetry.names import METRICS, Metric, Sort, prometheus_name
from gateway.telemetry.options import TelemetryOptions
from gateway.telemetry.otel import OBSERVED

__all__ = ["PrometheusExport"]

_log: Final = logging.getLogger(__name__)


class _Collector:
    """What the client library asks for metrics.

    Args:
        core: Its module of families.
        observed: What is read.
    """

    def __init__(self, core: Any, observed: Observed) -> None:
        self._core = core
        self._observed = observed

    def describe(self) -> Iterable[Any]:
        """Return nothing: names need no check against other collectors', since the page is ours alone."""
        return ()

    def collect(self) -> Iterator[Any]:
        """Yield every metric, those without a series too, so that who looks for one finds it."""
        for metric in METRICS.values():
            yield self._family(metric, self._observed.read(metric))

    def _family(self, metric: Metric, readings: Iterable[Reading]) -> Any:
        made = {
            Sort.COUNTER: self._core.CounterMetricFamily,
            Sort.GAUGE: self._core.GaugeMetricFamily,
            Sort.HISTOGRAM: self._core.HistogramMetricFamily,
        }[metric.sort]
        labels = [name.replace(".", "_") for name in metric.attributes]
        family = made(prometheus_name(metric), metric.description, labels=labels)
        for reading in readings:
            given = dict(reading.attributes)
            values = [given.get(name, "") for name in metric.attributes]
            if metric.sort is Sort.HISTOGRAM:
                family.add_metric(values, _buckets(metric, reading), reading.value)
            else:
                family.add_metric(values, reading.value)
        return family


def _buckets(metric: Metric, reading: Reading) -> list[tuple[str, float]]:
    """Return a histogram as Prometheus has it: how many values were up to each bound."""
    bounds = (*(f"{bound:g}" for bound in metric.bounds), "+Inf")
    return list(zip(bounds, accumulate(reading.counts), strict=True))


class PrometheusExport:
    """Serves the page.

    A port that is taken is no reason to keep a bot from trading: that is logged, and nothing is served.

    Args:
        options: Names address and port.
        observed: What is served.

    Raises:
        ConfigurationError: The extra is not installed.
    """

    def __init__(self, options: TelemetryOptions, observed: Observed = OBSERVED) -> None:
        try:
            import prometheus_client
            from prometheus_client import core
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                "STORAGE_TELEMETRY=prometheus needs the package prometheus-client; "
                "install storage-gateway[prometheus]"
            ) from error
        registry = prometheus_client.CollectorRegistry(auto_describe=False)
        registry.register(_Collector(core, observed))
        self.port: int | None = None
        self._server: Any = None
        try:
            self._server, self._thread = prometheus_client.start_http_server(
                options.port, options.host, registry
            )
        except OSError as error:
            _log.warning(
                "metrics of this process are not served: %s:%d: %s; give each process on this machine a port of its "
                "own in STORAGE_TELEMETRY_PORT",
                options.host,
                options.port,
                error.strerror or error,
            )
        else:
            self.port = int(self._server.server_port)

    def __repr__(self) -> str:
        return f"<PrometheusExport port={self.port}>"

    def close(self, deadline: float) -> None:
        """Serve no more. Call it in a thread from an event loop."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(deadline)
            self._server = self.port = None

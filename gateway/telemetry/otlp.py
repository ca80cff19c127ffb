"""The way to a collector: OTLP over HTTP, by OpenTelemetry's own exporters. The extra `otlp` brings them."""

from __future__ import annotations

import contextlib
import threading
from typing import Any, Final

from gateway.errors import ConfigurationError
from gateway.telemetry.options import TelemetryOptions
from gateway.telemetry.otel import Instruments

__all__ = ["OtlpExport"]

_SERVICE: Final = "storage-gateway"
_NAMELESS: Final = "unknown_service"
"""How the name begins that OpenTelemetry gives a service whose variables name none."""


class OtlpExport:
    """Providers of the gateway's own, which leave those of the bot alone.

    A span inside one of the bot's is still its child: the context is the same, and only the exporter differs.

    Args:
        options: Names the collector, and how often metrics are sent.

    Raises:
        ConfigurationError: The extra is not installed.
    """

    def __init__(self, options: TelemetryOptions) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.metrics import MeterProvider
            from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
            from opentelemetry.sdk.resources import SERVICE_NAME, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"STORAGE_TELEMETRY=otlp needs the package {error.name}; install storage-gateway[otlp]"
            ) from error
        base = options.endpoint
        places = {} if base is None else {"traces": f"{base}/v1/traces", "metrics": f"{base}/v1/metrics"}
        service = options.service
        if service is None and str(Resource.create().attributes[SERVICE_NAME]).startswith(_NAMELESS):
            service = _SERVICE
        resource = Resource.create({} if service is None else {SERVICE_NAME: service})
        self.tracer_provider: Any = TracerProvider(resource=resource, shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(places.get("traces"))))
        reader = PeriodicExportingMetricReader(
            OTLPMetricExporter(places.get("metrics")), export_interval_millis=options.seconds * 1000
        )
        self._meter_provider = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        self._instruments = Instruments(self._meter_provider)

    def __repr__(self) -> str:
        return "<OtlpExport>"

    def close(self, deadline: float) -> None:
        """Send what is left, for at most so many seconds. Call it in a thread from an event loop."""
        self._instruments.withdraw()
        # A daemon: a collector that hangs must not keep the bot's process from ending.
        thread = threading.Thread(target=self._shut_down, name="gateway-telemetry-end", daemon=True)
        thread.start()
        thread.join(deadline)

    def _shut_down(self) -> None:
        for provider in (self.tracer_provider, self._meter_provider):
            with contextlib.suppress(Exception):  # what a collector does not take is lost, and nothing else
                provider.shutdown()

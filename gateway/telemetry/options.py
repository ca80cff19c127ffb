"""What an operator says about telemetry: the grammar of `STORAGE_TELEMETRY` and its companions. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from gateway.errors import ConfigurationError

__all__ = ["Exporter", "TelemetryOptions", "checked_endpoint", "parse_exporters"]

_VARIABLE: Final = "STORAGE_TELEMETRY"


class Exporter(StrEnum):
    """Who gets what was measured."""

    AUTO = "auto"
    """The bot's own OpenTelemetry, if it uses it."""
    OTLP = "otlp"
    """A collector, over HTTP."""
    PROMETHEUS = "prometheus"
    """Whoever scrapes a port of this process."""


@dataclass(frozen=True, slots=True, repr=False)
class TelemetryOptions:
    """What to do.

    Attributes:
        exporters: Who gets it; empty switches telemetry off.
        sample: Share of calls outside any span that is traced, 0 to 1.
        endpoint: Base URL of the collector; None for what OpenTelemetry's own variables say.
        host: Address of the port for Prometheus.
        port: The port; 0 for any.
        service: Name of the service towards the collector; None for what OpenTelemetry's own variables say.
        seconds: Seconds between two exports of metrics to the collector.
    """

    exporters: frozenset[Exporter] = frozenset({Exporter.AUTO})
    sample: float = 0.01
    endpoint: str | None = None
    host: str = "127.0.0.1"
    port: int = 9464
    service: str | None = None
    seconds: float = 15.0

    def __repr__(self) -> str:
        return f"<TelemetryOptions {','.join(sorted(self.exporters)) or 'off'} sample={self.sample:g}>"


def parse_exporters(text: str) -> frozenset[Exporter]:
    """Read `off`, or a list such as `otlp,prometheus`. The empty set means off.

    Raises:
        ConfigurationError: The text is no such list.
    """
    words = {word.strip().lower() for word in text.split(",") if word.strip()}
    if words == {"off"}:
        return frozenset()
    try:
        found = frozenset(map(Exporter, words))
    except ValueError:
        found = frozenset()
    if not found:
        raise ConfigurationError(
            f"{_VARIABLE} must be off, or one or more of auto, otlp and prometheus, such as otlp,prometheus"
        )
    return found


def checked_endpoint(url: str) -> str:
    """Return the base URL of a collector, without a slash at its end.

    Raises:
        ConfigurationError: It is none, or holds a password; the message repeats nothing of it.
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    else:
        if valid and (parts.username is not None or parts.query or parts.fragment):
            raise ConfigurationError(
                f"{_VARIABLE}_ENDPOINT must hold no user, password or query, which would show up in logs; give them "
                "in OTEL_EXPORTER_OTLP_HEADERS"
            )
    if not valid:
        raise ConfigurationError(
            f"{_VARIABLE}_ENDPOINT must be the base URL of a collector, such as http://localhost:4318"
        )
    return url.rstrip("/")

"""The storage gateway: one stable API for trading bots over pluggable stores.

`Gateway` for asynchronous bots and `SyncGateway` for the others; record classes in `gateway.records`; errors in
`gateway.errors`; the contract for backend authors in `gateway.backend`. Importing it needs no extra.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.answers import Candles, SeriesDescription
    from gateway.api import Ack, GatewayHealth, Page, Session, StorageGateway
    from gateway.errors import GatewayError, InvalidRecordError, MirrorWriteError, StoreError
    from gateway.gateway import Gateway
    from gateway.records import (
        Alert,
        DailyStats,
        Event,
        OrderBookSnapshot,
        Position,
        Record,
        Trade,
        record_kind,
    )
    from gateway.series import IndicatorValue
    from gateway.sync import SyncGateway

__all__ = [
    "Ack",
    "Alert",
    "Candles",
    "DailyStats",
    "Event",
    "Gateway",
    "GatewayError",
    "GatewayHealth",
    "IndicatorValue",
    "InvalidRecordError",
    "MirrorWriteError",
    "OrderBookSnapshot",
    "Page",
    "Position",
    "Record",
    "SeriesDescription",
    "Session",
    "StorageGateway",
    "StoreError",
    "SyncGateway",
    "Trade",
    "record_kind",
]

_HOMES = {
    "gateway.answers": ("Candles", "SeriesDescription"),
    "gateway.api": ("Ack", "GatewayHealth", "Page", "Session", "StorageGateway"),
    "gateway.errors": ("GatewayError", "InvalidRecordError", "MirrorWriteError", "StoreError"),
    "gateway.gateway": ("Gateway",),
    "gateway.records": (
        "Alert",
        "DailyStats",
        "Event",
        "OrderBookSnapshot",
        "Position",
        "Record",
        "Trade",
        "record_kind",
    ),
    "gateway.series": ("IndicatorValue",),
    "gateway.sync": ("SyncGateway",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

try:
    __version__ = version("storage-gateway")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0"


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that a plugin pays only for what it needs."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'gateway' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)

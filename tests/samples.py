"""What tests of several stores store: trades a second apart, and a kind that a third party brings."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from gateway.records import TRADES, Money, Row, Text, Time, Trade
from gateway.records.kind import LogRecord
from gateway.records.stamp import Stamper

__all__ = ["HeavierShipment", "Shipment", "trade_rows"]


def trade_rows(stamper: Stamper, start: datetime, count: int) -> list[Row]:
    """Return so many trades, a second apart."""
    return [
        stamper.stamp(
            TRADES,
            Trade(
                timestamp=start + timedelta(seconds=number),
                market_name="BTC",
                action="buy",
                side="YES",
                price=Decimal("0.5"),
                amount=Decimal(number),
            ),
        )
        for number in range(count)
    ]


class Shipment(LogRecord):
    """A kind that a third party brings."""

    at: Time
    parcel: Text


class HeavierShipment(LogRecord):
    """The same kind in the next release, with one field more."""

    at: Time
    parcel: Text
    weight: Money | None = None

"""What the tests of the operator's side share: contexts, rows of two tenants, and a store that a bot filled."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from gateway.backend import OpenContext, WriteBatch
from gateway.records import POSITIONS, TRADES, KindSpec, Position, Row, Trade
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.stamp import Stamper
from gateway_postgres.plugin import open_store
from gateway_postgres.settings import PostgresSettings

__all__ = ["NOW", "TENANTS", "context_of", "fill", "rows_of_two"]

NOW = datetime.now(UTC).replace(microsecond=123456)
TENANTS = ("00000000-0000-0000-0000-000000000000", "11111111-1111-1111-1111-111111111111")


def context_of(
    url: str, admin_url: str | None = None, *, kinds: Sequence[KindSpec] = BUILTIN_KINDS, **settings: Any
) -> OpenContext:
    """Return what commands get for a store."""
    chosen = PostgresSettings(url=url, admin_url=admin_url, **settings)
    return OpenContext("postgres", chosen, tuple(kinds), Path("nowhere"))


def rows_of_two(trades: int = 20, moment: datetime = NOW) -> list[Row]:
    """Return rows of two tenants: trades a minute apart up to a moment, positions, and a deleted one of each."""
    rows: list[Row] = []
    for tenant in TENANTS:
        stamper = Stamper(tenant)
        rows += [
            stamper.stamp(
                TRADES,
                Trade(
                    timestamp=moment - timedelta(minutes=number),
                    market_name="B\tT\\C\n",
                    action="buy",
                    side="YES",
                    price=Decimal("0.000000000000000000000000000001"),
                    amount=Decimal(10**29),
                ),
            )
            for number in range(trades)
        ]
        rows.append(stamper.restamp(rows[-1]))
        rows.append(stamper.tombstone(TRADES, rows[-2].key, rows[-2].values[1]))
        for number in range(3):
            extra = {"text": "строка", "large": 1e20, "zero": -0.0, "none": None, "list": [1, 1.0]}
            record = Position(
                condition_id=f"m{number}",
                side="YES",
                entry_price=Decimal("0.5"),
                opened_at=moment,
                extra=extra,
            )
            rows.append(stamper.stamp(POSITIONS, record))
        rows.append(stamper.tombstone(POSITIONS, ("m2",)))
    return rows


async def fill(context: OpenContext, rows: Sequence[Row]) -> None:
    """Store rows as a bot does."""
    store = await open_store(context)
    try:
        for row in rows:
            await store.gateway_write(WriteBatch([row]))
    finally:
        await store.gateway_close()

"""What the paper bot does at a price. Pure: it decides, the bot acts.

A trend follower buys above the average of its window and sells when the price falls to its trailing stop.
Several of them with windows of different lengths watch one market, each with a position of its own.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

from gateway.records import Position

__all__ = ["WINDOWS", "Decision", "Move", "TrendFollower"]

WINDOWS: Final = (5, 8, 13, 21, 34, 55)
"""Lengths of the windows, in ticks; one trend follower each."""

_ABOVE: Final = Decimal("1.0005")
_TRAIL: Final = Decimal("0.002")
_STEP: Final = Decimal("1.0002")
_TICK_SIZE: Final = Decimal("0.00000001")


class Move(StrEnum):
    """What to do."""

    WAIT = "wait"
    OPEN = "open"
    RAISE_STOP = "raise_stop"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, and with which stop.

    Attributes:
        move: What to do.
        stop: Where the trailing stop belongs; for `OPEN` and `RAISE_STOP`.
    """

    move: Move
    stop: Decimal | None = None


_WAIT: Final = Decision(Move.WAIT)


class TrendFollower:
    """One strategy: what it has seen of the market.

    Args:
        symbol: The market.
        window: How many ticks it averages over.
    """

    def __init__(self, symbol: str, window: int) -> None:
        self.name = f"trend-{window}"
        self.condition_id = f"{symbol.replace('/', '-')}-{self.name}"
        self._seen: deque[Decimal] = deque(maxlen=window)
        # A longer view needs a wider stop, or noise would sell it out.
        self._trail = 1 - _TRAIL * (1 + Decimal(window) / 50)

    def __repr__(self) -> str:
        return f"<TrendFollower {self.condition_id}>"

    def see(self, price: Decimal) -> None:
        """Take note of a price."""
        self._seen.append(price)

    def decide(self, price: Decimal, held: Position | None) -> Decision:
        """Return what to do at a price.

        Args:
            price: The last one.
            held: The open position; None if there is none.
        """
        stop = (price * self._trail).quantize(_TICK_SIZE)
        if held is None:
            return Decision(Move.OPEN, stop) if self._rising(price) else _WAIT
        standing = held.trailing_stop_price
        if standing is not None and price <= standing:
            return Decision(Move.CLOSE)
        higher = standing is None or stop > standing * _STEP
        return Decision(Move.RAISE_STOP, stop) if higher else _WAIT

    def _rising(self, price: Decimal) -> bool:
        warm = len(self._seen) == self._seen.maxlen
        return warm and price * len(self._seen) > sum(self._seen) * _ABOVE

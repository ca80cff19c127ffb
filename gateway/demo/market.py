"""The market of the demo: recorded ticks where there are some, a seeded random walk otherwise.

Both are endless and start at any tick, so that a bot that was killed goes on where it stood. Times are the
market's own: one second of the demo is about an hour of trading, which fills days of logs and statistics.
"""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import random
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from gateway.errors import InvalidRecordError

__all__ = ["Market", "Tick", "TickFeed", "find_data", "generated_market", "recorded_market"]

RECORDING: Final = Path("market", "XRP_ETH-trades.json.gz")
POSITIONS: Final = Path("polymarket", "positions")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OPENING: Final = datetime(2024, 3, 1, 12, tzinfo=UTC)
_LAP_GAP: Final = timedelta(minutes=1)
_CENTS: Final = Decimal("0.00000001")


@dataclass(frozen=True, slots=True)
class Tick:
    """One trade that somebody made in the market.

    Attributes:
        id: The exchange's id.
        at: When, in UTC.
        side: `buy` or `sell`, as the taker.
        price: In the quote currency, for one unit.
        amount: Units.
    """

    id: str
    at: datetime
    side: str
    price: Decimal
    amount: Decimal


@dataclass(frozen=True)
class Market:
    """A symbol and its ticks.

    Attributes:
        symbol: Such as `XRP/ETH`.
        source: Where the ticks come from, for people.
        ticks: Returns the ticks from the given number on, without end.
    """

    symbol: str
    source: str
    ticks: Callable[[int], Iterator[Tick]]


def find_data(given: Path | None = None) -> Path | None:
    """Return the directory with recorded data: the one given, or `../shared/data` if it is there.

    Args:
        given: A directory to use; None looks beside the current directory and beside the source tree.

    Returns:
        The directory; None if there is none, and the generator has to do.

    Raises:
        InvalidRecordError: The directory that was asked for holds no recording.
    """
    if given is not None:
        if not (given / RECORDING).is_file():
            raise InvalidRecordError(
                f"{given} holds no {RECORDING}; give a directory that does, or none to use the generator"
            )
        return given
    source_tree = Path(__file__).resolve().parents[2]
    for root in (Path.cwd(), source_tree):
        data = root.parent / "shared" / "data"
        if (data / RECORDING).is_file():
            return data.resolve()
    return None


def recorded_market(data: Path) -> Market:
    """Return the market of a recording, `[ms, id, type, side, price, amount, cost]` a tick, played in a loop.

    Raises:
        InvalidRecordError: The recording cannot be read.
    """
    path = data / RECORDING
    try:
        rows = json.loads(gzip.decompress(path.read_bytes()))
        ticks = [_recorded(row) for row in rows]
    except (OSError, EOFError, ValueError, ArithmeticError, LookupError, TypeError, zlib.error) as error:
        raise InvalidRecordError(
            f"{path} is no recording of ticks ({error}); restore it, or run without --data"
        ) from error
    if not ticks:
        raise InvalidRecordError(f"{path} holds no ticks; restore it, or run without --data")
    return Market("XRP/ETH", f"{len(ticks):,} recorded ticks", lambda start: _laps(ticks, start))


def _recorded(row: Sequence[Any]) -> Tick:
    ms, tick_id, _, side, price, amount, _ = row
    # Floats of JSON by their shortest representation: 0.00141342 stays exactly that.
    return Tick(
        str(tick_id),
        _EPOCH + timedelta(milliseconds=ms),
        str(side),
        Decimal(repr(price)),
        Decimal(repr(amount)),
    )


def _laps(ticks: Sequence[Tick], start: int) -> Iterator[Tick]:
    """Play a recording again and again; each lap has ids of its own and goes on in time."""
    span = ticks[-1].at - ticks[0].at + _LAP_GAP
    for number in itertools.count(start):
        lap, place = divmod(number, len(ticks))
        tick = ticks[place]
        yield replace(tick, id=f"{tick.id}-{lap}", at=tick.at + lap * span) if lap else tick


def generated_market(seed: int) -> Market:
    """Return a market that walks at random; the same seed gives the same ticks."""
    return Market(
        "DEMO/USD", f"generated ticks, seed {seed}", lambda start: itertools.islice(_walk(seed), start, None)
    )


def _walk(seed: int) -> Iterator[Tick]:
    dice = random.Random(seed)  # noqa: S311 - a market for show, nothing is guarded by it
    middle, at = 0.0015, _OPENING
    for number in itertools.count():
        # Drawn back to where it began, so that it neither explodes nor dies however long the demo runs.
        middle *= 1 + dice.gauss(0, 0.0006) + 0.0005 * (0.0015 - middle) / 0.0015
        at += timedelta(milliseconds=dice.randint(200, 60_000))
        side = dice.choice(("buy", "sell"))
        price = middle * (1.0003 if side == "buy" else 0.9997)
        yield Tick(f"g{number}", at, side, Decimal(price).quantize(_CENTS), Decimal(dice.randint(1, 900)))


class TickFeed:
    """Plays a market at a steady pace, and stands still while the market is closed.

    Args:
        market: What to play.
        rate: Ticks a second; a consumer that is slower gets them as fast as it asks.
        closed: Tells whether the market is closed at the moment.
        stop: Ends the feed once it is set.
    """

    def __init__(self, market: Market, rate: float, closed: Callable[[], bool], stop: asyncio.Event) -> None:
        self._market = market
        self._pause = 1 / rate
        self._closed = closed
        self._stop = stop

    async def play(self, start: int) -> AsyncIterator[Tick | None]:
        """Yield tick after tick from a number on, and None each time the market closes."""
        due = asyncio.get_running_loop().time()
        for tick in self._market.ticks(start):
            if self._closed():
                yield None
                await self._reopening()
            # A consumer that fell behind is not flooded to make up for it.
            due = max(due + self._pause, asyncio.get_running_loop().time())
            await self._wait(due - asyncio.get_running_loop().time())
            if self._stop.is_set():
                return
            yield tick

    async def _reopening(self) -> None:
        while self._closed() and not self._stop.is_set():
            await self._wait(0.05)

    async def _wait(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return

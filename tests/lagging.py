"""A pair of stores, of which the second one follows the first late and out of order, as a journaled mirror may.

Two writers with clocks of their own stand for two processes, so that versions of one key collide. Every write is
noted in a journal first, then written to the leader, then, after a while, to the follower; and then acknowledged.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from gateway.backend import BackendSettings, BackendSpec, OpenContext, Summarize, WriteBatch
from gateway.dispatch import StoreSet
from gateway.divergences.log import Divergence, DivergenceLog
from gateway.intents import Intent, Journal, Stretch
from gateway.journal.memory import MemoryJournal
from gateway.migration.control_file import ControlFile
from gateway.query import Condition, Op, Query
from gateway.records import POSITIONS, TRADES, KindSpec, Position, Trade
from gateway.records.row import Row
from gateway.records.stamp import DEFAULT_TENANT, Stamper
from gateway.shadow.awaited import JournalCaughtUp
from gateway.shadow.reader import ShadowReader
from gateway.shadow.sampling import SampleRates
from gateway.telemetry import Counters

__all__ = ["LaggingPair", "lagging_pair"]

START = datetime(2026, 1, 1, tzinfo=UTC)
MARKETS = tuple(f"m{number:02}" for number in range(12))
ENDED = ("match", "lagging", "diverged", "unstable", "failed", "timed_out")


class LaggingPair:
    """Two stores, a journal between them, bots that write, and a shadow reader that sees what they read."""

    def __init__(self, stores: StoreSet, log: DivergenceLog, seed: int, lag: float) -> None:
        self.old, self.new = stores["old"], stores["new"]
        self.log = log
        self.counters = Counters()
        self.journal = MemoryJournal()
        self.random = random.Random(seed)
        self.lag = lag
        self.lost: set[str] = set()
        """Markets of which the follower never gets anything, though the journal says that it did."""
        self._stampers = (Stamper(), Stamper())
        self.kept_days = 400
        self._numbers = 0
        self._mirroring: set[asyncio.Task[None]] = set()
        self.shadow = ShadowReader(
            SampleRates(1.0),
            log,
            self.counters,
            timeout=30.0,
            per_second=1_000_000,
            linger=0.002,
            delays=(0.0, 0.002),
            purge_patience=10.0,
            caught_up=JournalCaughtUp(self._journal_of),
        )

    def _journal_of(self, name: str) -> Journal | None:
        return self.journal if name == "old" else None

    @property
    def compared(self) -> int:
        """How many comparisons came to an end; those that were dropped are none."""
        return sum(getattr(self.counters, f"shadow_{name}") for name in ENDED)

    async def write(self, rows: Sequence[Row]) -> None:
        """Write as the gateway does: intents, the leader, and later, by itself, the follower."""
        self._numbers += 1
        number = self._numbers
        self.journal.note_now(
            ("new", Intent("bot", number, part, row.kind, row.tenant, row.key, row.version, ""))
            for part, row in enumerate(rows)
        )
        await self.old.write(WriteBatch(tuple(rows)))
        task = asyncio.create_task(self._mirror(number, rows, self.random.random() * self.lag))
        self._mirroring.add(task)
        task.add_done_callback(self._mirroring.discard)

    async def _mirror(self, number: int, rows: Sequence[Row], lag: float) -> None:
        await asyncio.sleep(lag)
        kept = tuple(row for row in rows if str(row.key[0]) not in self.lost)
        if kept:
            await self.new.write(WriteBatch(kept))
        await self.journal.acknowledge("new", DEFAULT_TENANT, (Stretch("bot", number, number),))

    async def bot(self, stop: asyncio.Event) -> None:
        """Write positions, deletions and trades until told to stop."""
        chance = self.random
        while not stop.is_set():
            stamper = chance.choice(self._stampers)
            market = chance.choice(MARKETS)
            if chance.random() < 0.2:
                rows = [stamper.tombstone(POSITIONS, (market,))]
            elif chance.random() < 0.3:
                rows = [self._trade(stamper) for _ in range(chance.randrange(1, 4))]
            else:
                rows = [self._position(stamper, market)]
            await self.write(rows)
            await asyncio.sleep(chance.random() * self.lag / 10)

    def _position(self, stamper: Stamper, market: str) -> Row:
        price = Decimal(self.random.randrange(1, 9)) / 8
        side = self.random.choice(("YES", "NO"))
        record = Position(condition_id=market, side=side, entry_price=price, opened_at=START)
        return stamper.stamp(POSITIONS, record)

    def _trade(self, stamper: Stamper, days: int = 0) -> Row:
        moment = datetime.now(UTC) - timedelta(days=days)
        market = self.random.choice(MARKETS)
        fields = {"action": "buy", "side": "YES", "price": Decimal("0.5"), "amount": Decimal(1)}
        return stamper.stamp(TRADES, Trade(timestamp=moment, market_name=market, **fields))

    async def history(self, days: int = 400) -> None:
        """Put old trades into both stores: what is going to be purged was mirrored long ago."""
        rows = tuple(self._trade(self._stampers[0], day) for day in range(1, days) for _ in range(3))
        for store in (self.old, self.new):
            await store.write(WriteBatch(rows))
        self.kept_days = days

    async def purge(self) -> None:
        """Remove old trades as the gateway does: from the leader, and then from the follower."""
        self.kept_days = max(2, self.kept_days - self.random.randrange(1, 20))
        before = datetime.now(UTC) - timedelta(days=self.kept_days)
        await self.old.purge(TRADES, DEFAULT_TENANT, before)
        await asyncio.sleep(self.random.random() * self.lag)
        await self.new.purge(TRADES, DEFAULT_TENANT, before)

    async def read(self) -> None:
        """Read something as a bot does, and offer it for comparison."""
        chance, old, new = self.random, self.old, self.new
        drawn = chance.random()
        if drawn < 0.6:
            keys = [(market,) for market in chance.sample(MARKETS, chance.randrange(1, 4))]
            rows = await old.get(POSITIONS, DEFAULT_TENANT, keys)
            self.shadow.offer_keys(old, new, POSITIONS, DEFAULT_TENANT, keys, rows)
        elif drawn < 0.98:
            query = chance.choice(QUERIES)
            self.shadow.offer_query(old, new, query, await old.query(query))
        else:
            request = chance.choice(COUNTS)
            self.shadow.offer_summary(old, new, request, await old.summarize(request))

    async def live(self, comparisons: int, *, bots: int = 3, purging: bool = True) -> None:
        """Let bots write and read until so many reads were compared, then let everything arrive."""
        await self.history()
        stop = asyncio.Event()
        writers = [asyncio.create_task(self.bot(stop)) for _ in range(bots)]
        try:
            reads = 0
            while self.compared < comparisons:
                await self.read()
                reads += 1
                if reads % 200 == 0:
                    await asyncio.sleep(0.001)
                if purging and reads % 1_000 == 0:
                    await self.purge()
        finally:
            stop.set()
            await asyncio.gather(*writers)
        await self.settle()

    async def settle(self) -> None:
        """Let everything arrive, and every comparison end."""
        while self._mirroring:
            await asyncio.gather(*self._mirroring)
        await self.shadow.drain()

    async def found(self) -> tuple[Divergence, ...]:
        """Return the divergences found so far."""
        await self.log.flush()
        return self.log.listed(10_000)


def _queries() -> tuple[Query, ...]:
    side = POSITIONS.field_spec("side").name
    chosen = (Condition(side, Op.EQ, "YES"),)
    return (
        Query(POSITIONS, DEFAULT_TENANT, limit=100),
        Query(POSITIONS, DEFAULT_TENANT, chosen, limit=3),
        Query(POSITIONS, DEFAULT_TENANT, chosen, descending=True, limit=4),
        Query(POSITIONS, DEFAULT_TENANT, limit=5, after=("m03",), include_deleted=True),
        Query(TRADES, DEFAULT_TENANT, limit=10),
        Query(TRADES, DEFAULT_TENANT, descending=True, limit=10),
        Query(TRADES, DEFAULT_TENANT, (Condition("market_name", Op.EQ, "m01"),), limit=5),
    )


QUERIES = _queries()
COUNTS = (Summarize(POSITIONS, DEFAULT_TENANT, "side"), Summarize(TRADES, DEFAULT_TENANT, "market_name"))
KINDS: tuple[KindSpec, ...] = (POSITIONS, TRADES)


@asynccontextmanager
async def lagging_pair(
    directory: Path,
    spec: BackendSpec,
    settings: tuple[BackendSettings, BackendSettings],
    *,
    seed: int = 1,
    lag: float = 0.02,
) -> AsyncIterator[LaggingPair]:
    """Open a pair of stores of one backend, and close it."""
    stores = StoreSet()
    for name, own in zip(("old", "new"), settings, strict=True):
        await stores.open(spec, OpenContext(name, own, KINDS, directory))
    log = DivergenceLog(ControlFile(directory / "control.db"))
    pair = LaggingPair(stores, log, seed, lag)
    try:
        yield pair
    finally:
        await pair.shadow.aclose()
        await log.aclose()
        await stores.close()

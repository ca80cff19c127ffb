"""What a call costs on top of the driver, part by part, in microseconds.

python -m benchmarks.call_cost
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks import rounds
from gateway import Gateway, Trade
from gateway.backend import WriteBatch, WriteReceipt
from gateway.dispatch import Store
from gateway.lanes.lane import Lane
from gateway.records import TRADES
from gateway.records.codec import codec_of, make_record
from gateway.records.digest import digest_of
from gateway.records.stamp import DEFAULT_TENANT, Stamper

LOOPS = 20_000
REPEATS = 7


def timed(call: Callable[[], object], loops: int = LOOPS) -> float:
    """Return the median of several runs, in microseconds a call."""
    figures = []
    for _ in range(REPEATS):
        gc.collect()
        began = time.perf_counter()
        for _ in range(loops):
            call()
        figures.append((time.perf_counter() - began) / loops * 1e6)
    return statistics.median(figures)


async def timed_async(call: Callable[[], Awaitable[object]], loops: int = LOOPS) -> float:
    """Return the same for a coroutine function."""
    figures = []
    for _ in range(REPEATS):
        gc.collect()
        began = time.perf_counter()
        for _ in range(loops):
            await call()
        figures.append((time.perf_counter() - began) / loops * 1e6)
    return statistics.median(figures)


class Silent:
    """A store that takes everything and does nothing, to see what a lane costs alone."""

    name = "silent"
    receipt = WriteReceipt()

    async def write(self, batch: WriteBatch) -> WriteReceipt:  # noqa: ARG002 - it does nothing
        """Take a batch."""
        return self.receipt


def in_process() -> list[tuple[str, float]]:
    """Return the costs of what happens before any store is asked."""
    fields = rounds.trade_fields(1)[0]
    trade = Trade.model_validate(fields)
    codec, stamper = codec_of(TRADES), Stamper()
    values = codec.encode(trade)
    values[0] = stamper.new_id()
    version = stamper.clock.next()
    record_cost = timed(lambda: make_record(TRADES, fields))
    encode = timed(lambda: codec.encode(trade))
    digest = timed(lambda: digest_of("trades", DEFAULT_TENANT, version, False, values))
    stamp = timed(lambda: stamper.stamp(TRADES, trade))
    return [
        ("validate: keyword arguments to a frozen record (pydantic)", record_cost),
        ("encode: record to canonical values", encode),
        ("digest: canonical bytes and xxh3-64", digest),
        ("stamp: id, version and row, beside those two", max(0.0, stamp - encode - digest)),
    ]


async def lane_cost(tasks: int) -> float:
    """Return what a lane costs a write from some tasks, on a store that does nothing."""
    lane = Lane(Silent())  # type: ignore[arg-type] # it has the two attributes that a lane uses
    stamper = Stamper()
    rows = [stamper.stamp(TRADES, trade) for trade in rounds.trades(LOOPS)]

    async def write(row: Any) -> None:
        await lane.write((row,))

    figures = [1e6 / await rounds.spread(rows, tasks, write) for _ in range(REPEATS)]
    await lane.close()
    return statistics.median(figures)


async def dispatch_cost(store: Store, backend: Any) -> float:
    """Return what the hook, the deadline and the translation of errors add to a read."""
    keys = (("absent",),)
    direct = await timed_async(lambda: backend.gateway_get(TRADES, DEFAULT_TENANT, keys))
    through = await timed_async(lambda: store.get(TRADES, DEFAULT_TENANT, keys))
    return through - direct


async def measure(directory: Path) -> str:
    """Return the table."""
    parts = in_process()
    async with Gateway("memory", data_dir=directory, environ={}, env_file=None) as gateway:
        store = gateway.engine.stores["memory"]
        backend = gateway.plugin_manager.get_plugin("memory")
        parts.append(
            ("dispatch: pluggy hook, deadline, errors (once a batch)", await dispatch_cost(store, backend))
        )
    parts.append(("lane: alone, no queue (once a batch)", await lane_cost(1)))
    parts.append(("lane: 64 tasks, a share of a batch and a future", await lane_cost(64)))
    lines = ["| part | microseconds |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {cost:.2f} |" for name, cost in parts)])


def main() -> int:
    """Print the table."""
    with tempfile.TemporaryDirectory() as name:
        print(asyncio.run(measure(Path(name))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Memory over a million buffered snapshots while the store is slow, with policy `block`.

python -m benchmarks.buffer_memory [--rows 1000000]
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path

from benchmarks import rounds
from gateway import Gateway
from gateway.hookspecs import BackendCall, hookimpl

DELAY = 0.01
"""Seconds added to every write; with it the store takes rows more slowly than the bot makes them."""


class SlowStore:
    """A plugin that makes writes slow, as a busy disk would."""

    @hookimpl
    def gateway_wrap(self, call: BackendCall) -> AbstractAsyncContextManager[None] | None:
        """Wait before each write."""
        return self._wait() if call.hook == "gateway_write" else None

    @asynccontextmanager
    async def _wait(self) -> AsyncIterator[None]:
        await asyncio.sleep(DELAY)
        yield


def resident_mib() -> float:
    """Return the memory this process holds, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


async def measure(directory: Path, rows: int) -> list[tuple[int, float, int]]:
    """Return, at ten points, how many rows were offered, the memory, and how many rows were buffered."""
    points = []
    async with Gateway(
        "sqlite", data_dir=directory, environ={}, env_file=None, plugins=[SlowStore()]
    ) as gateway:
        for at in range(1, rows + 1):
            await gateway.buffer_snapshot(
                condition_id="0xabc",
                timestamp=rounds.BEGAN + timedelta(milliseconds=at),
                best_ask_yes=0.51,
                best_bid_yes=0.49,
                best_ask_yes_size=1200.5,
                best_bid_yes_size=800.25,
                time_remaining=rows - at,
            )
            if at % (rows // 10) == 0:
                points.append((at, resident_mib(), len(gateway.buffer)))
    return points


def table(points: list[tuple[int, float, int]], seconds: float) -> str:
    """Return the figures as a Markdown table."""
    lines = ["| snapshots offered | resident MiB | buffered rows |", "|---|---|---|"]
    lines += [f"| {offered:,} | {memory:.0f} | {buffered:,} |" for offered, memory, buffered in points]
    growth = points[-1][1] - points[1][1]
    return "\n".join([*lines, "", f"Growth from 20 % to the end: {growth:+.1f} MiB; {seconds:.0f} s in all."])


def main() -> int:
    """Print the table; exit 1 if memory grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        began = time.perf_counter()
        points = asyncio.run(measure(Path(name), options.rows))
        print(table(points, time.perf_counter() - began))
    return 1 if points[-1][1] - points[1][1] > 20 else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""What telemetry costs a bot: `insert_trade` into SQLite with each setting, against calls that nothing watches.

python -m benchmarks.telemetry_calls [--rounds 7] [--writes 4000]

Every round runs all settings, in another order each time, and each is compared with the first of the same round:
`off`, by calls per second, and by calls per second of processor time, which a busy machine disturbs less. What `off`
itself costs is measured against a gateway whose stores and lanes were stripped of the hooks.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from opentelemetry import trace
from opentelemetry.metrics import _internal as metrics_internal
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from benchmarks import rounds
from gateway import Gateway
from gateway.dispatch import Store
from gateway.lanes import lane as lanes

BARE, OFF, CPU = "bare", "off", " (processor time)"
SETTINGS: dict[str, dict[str, Any]] = {
    BARE: {"telemetry": "off"},
    OFF: {"telemetry": "off"},
    "auto, no OpenTelemetry": {},
    "auto, bot with OpenTelemetry": {},
    "auto, every call traced": {"telemetry_sample": 1},
    "prometheus": {"telemetry": "prometheus", "telemetry_port": 0},
}
WITH_SDK = ("auto, bot with OpenTelemetry", "auto, every call traced")


class _Nothing:
    """Stands for a span, and costs as little as can be."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc: object) -> None:
        return None


_NOTHING = _Nothing()


async def _bare_call(self: Store, hook: str, payload: Any, **arguments: Any) -> Any:
    return await self._ask(hook, payload, arguments)


def _constant(value: Any) -> Callable[..., Any]:
    return lambda *_, **__: value


async def speed(directory: Path, name: str, tasks: int, trades: list[dict[str, Any]]) -> tuple[float, float]:
    """Return calls per second of one setting, on a new file, and calls per second of processor time."""
    provider, meters = TracerProvider(), MeterProvider([InMemoryMetricReader()])
    provider.add_span_processor(BatchSpanProcessor(InMemorySpanExporter()))
    sdk = name in WITH_SDK
    with (
        patch.object(trace, "_TRACER_PROVIDER", provider if sdk else None),
        patch.object(metrics_internal, "_METER_PROVIDER", meters if sdk else None),
        tempfile.TemporaryDirectory(dir=directory) as place,
    ):
        settings = {"data_dir": Path(place), "environ": {}, "env_file": None, **SETTINGS[name]}
        async with Gateway("sqlite", **settings) as gateway:

            async def insert(fields: dict[str, Any]) -> None:
                await gateway.insert_trade(**fields)

            async def measured() -> tuple[float, float]:
                began = time.process_time()
                wall = await rounds.spread(trades[200:], tasks, insert)
                return wall, (len(trades) - 200) / (time.process_time() - began)

            await rounds.spread(trades[:200], tasks, insert)
            if name != BARE:
                figure = await measured()
            else:
                with (
                    patch.object(Store, "_call", _bare_call),
                    patch.object(lanes, "traceparent", _constant("")),
                    patch.object(lanes, "background", _constant(_NOTHING)),
                    patch.object(lanes, "batch_attributes", _constant({})),
                    patch.object(lanes, "marked", _constant({})),
                ):
                    figure = await measured()
    provider.shutdown()
    meters.shutdown()
    gc.collect()
    return figure


async def contest(directory: Path, tasks: int, turns: int, writes: int) -> rounds.Contest:
    """Return the figures of all settings with so many tasks."""
    trades = rounds.trade_fields(writes + 200)
    found, order = rounds.Contest(), random.Random(tasks)
    for turn in range(turns):
        names = list(SETTINGS)
        order.shuffle(names)
        for name in names:
            wall, cpu = await speed(directory, name, tasks, trades)
            found.add(name, wall)
            found.add(f"{name}{CPU}", cpu)
        rounds.announce(f"{tasks} tasks: round {turn + 1} of {turns}")
    return found


def table(found: dict[int, rounds.Contest]) -> str:
    """Return the figures as a table."""
    lines = [
        "| setting | tasks | calls/s | against | ratio of calls/s | ratio by processor time |",
        "|---|---|---|---|---|---|",
    ]
    for tasks, contest in found.items():
        for name in SETTINGS:
            base = BARE if name == OFF else OFF
            wall, cpu = contest.ratio(name, base), contest.ratio(f"{name}{CPU}", f"{base}{CPU}")
            lines.append(
                f"| {name} | {tasks} | {contest.median(name):,.0f} | {base} | {wall:.3f} | {cpu:.3f} |"
            )
    return "\n".join(lines)


def measure(turns: int, writes: int = 4_000) -> dict[int, rounds.Contest]:
    """Run the rounds with one task and with many."""
    with tempfile.TemporaryDirectory() as name:
        return {
            tasks: asyncio.run(contest(Path(name), tasks, turns, writes * (1 if tasks == 1 else 3)))
            for tasks in (1, 64)
        }


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--writes", type=int, default=4_000)
    given = parser.parse_args()
    found = measure(given.rounds, given.writes)
    print(rounds.machine())
    print(table(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""What is the case in an open gateway at the moment, for those who read metrics, in whatever thread they do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.buffer import Buffer
from gateway.engine.engine import Engine
from gateway.mirror.facade import Mirrors
from gateway.telemetry import Gauge, of_pair, of_store

__all__ = ["gauges_of"]


def gauges_of(engine: Engine | None, buffer: Buffer | None, mirrors: Mirrors | None) -> Iterator[Gauge]:
    """Yield what is the case: queues, journals, and how far mirrors are behind.

    A journal is counted while its mirror may be behind; where it is not, it holds next to nothing.

    Args:
        engine: Has the write queues; None while the gateway is opened or closed.
        buffer: The snapshot buffer.
        mirrors: The mirrors; None where there are none.
    """
    if engine is None:
        return
    for name, lane in engine.lanes.items():
        yield Gauge("gateway.lane.depth", of_store(name), lane.depth)
    if buffer is not None:
        yield Gauge("gateway.buffer.depth", (), buffer.counters()["buffered"])
    if mirrors is not None:
        for status in mirrors.status():
            yield from _of_mirror(status)


def _of_mirror(status: Mapping[str, Any]) -> Iterator[Gauge]:
    pair, feed = of_pair(status["primary"], status["mirror"]), status["feed"]
    age = status["oldest_seconds"] if status["depth"] else 0.0
    incomplete = status["suspended"] or status["behind_since"] is not None
    found = {
        "gateway.journal.depth": status["depth"],
        "gateway.journal.limit": status["limit"],
        "gateway.journal.age": age,
        "gateway.mirror.queue": feed["waiting"],
        "gateway.mirror.lag": max(age, feed["lag"]),
        "gateway.mirror.up": status["circuit"].startswith("closed"),
        "gateway.mirror.paused": status["paused"] is not None,
        "gateway.mirror.incomplete": incomplete,
        "gateway.mirror.refused": status["relay"]["refused"],
    }
    for name, value in found.items():
        yield Gauge(name, pair, float(value))

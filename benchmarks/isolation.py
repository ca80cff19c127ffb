"""What a mirror costs the bot's calls: `insert_trade` on SQLite with a PostgreSQL mirror in every condition.

Each condition is compared with no mirror at all: calls per second, and how long calls take, both as fast as it goes
and at a tenth of that rate. Every condition has a bot, a file and a network in processes of their own, all of them are
up at once, and they are measured in short turns, so that a slow minute of the machine hits all of them alike.

python -m benchmarks.isolation [--turns 25] [--only dead ...]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import random
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks import rounds
from benchmarks.aside import Aside, Proxy
from benchmarks.postgres_calls import DURABLE, environment, upgrade
from gateway import Gateway
from tests.servers import PostgresServer

NONE: Final = "none"
CONDITIONS: Final[dict[str, str | None]] = {
    "healthy": None,
    "dead": "refuse",
    "hanging": "silence",
    "slow": "delay 0.2",
    "flapping": "flap 0.5 0.5",
}
"""What the proxy does in each; None where there is no proxy."""
NAMES: Final = {
    "healthy": "that keeps up",
    "dead": "that is dead",
    "hanging": "that hangs",
    "slow": "that is slow (200 ms each way)",
    "flapping": "that flaps (0.5 s up, 0.5 s down)",
}
LOADS: Final = {"1": 400, "64": 2_000, "paced": 500}
"""Calls of each load in one turn."""
SHARE: Final = 10
"""The paced calls come at one of so many parts of the rate that 64 tasks reach without a mirror."""
GOAL: Final = 1.2
"""How many times as long as without a mirror the slowest of a hundred paced calls may take with one that is dead."""


class Times(NamedTuple):
    """How long calls took.

    Attributes:
        rate: Calls per second.
        median: Seconds that half of them did not take longer than.
        slow: Seconds that 99 of 100 did not take longer than.
    """

    rate: float
    median: float
    slow: float


class Bot:
    """What a process of one condition does when it is told to.

    Args:
        gateway: Its gateway.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._trades = itertools.cycle(rounds.trade_fields(20_000))

    async def saturated(self, count: int, tasks: int) -> Times:
        """Write from several tasks, each as fast as it can."""
        taken: list[float] = []
        turns = list(itertools.islice(self._trades, count))

        async def timed(fields: dict[str, Any]) -> None:
            began = time.perf_counter()
            await self._gateway.insert_trade(**fields)
            taken.append(time.perf_counter() - began)

        rate = await rounds.spread(turns, tasks, timed)
        return _times(taken, len(turns) / rate)

    async def paced(self, count: int, rate: float) -> Times:
        """Begin calls at a steady rate, whether those before have ended or not."""
        taken: list[float] = []
        gc.collect()
        calls: list[asyncio.Task[None]] = []
        began = time.perf_counter()

        async def timed(fields: dict[str, Any]) -> None:
            began = time.perf_counter()
            await self._gateway.insert_trade(**fields)
            taken.append(time.perf_counter() - began)

        for at, fields in enumerate(itertools.islice(self._trades, count)):
            await asyncio.sleep(max(0.0, began + at / rate - time.perf_counter()))
            calls.append(asyncio.ensure_future(timed(fields)))
        await asyncio.gather(*calls)
        return _times(taken, time.perf_counter() - began)

    async def settled(self) -> None:
        """Let a mirror that keeps up get what it has yet to get, so that nobody else is disturbed by that."""
        mirrors = self._gateway.engine.mirrors
        if mirrors is not None:
            try:
                async with asyncio.timeout(0.5):
                    await mirrors.feed("sqlite", "postgres").flush()
            except TimeoutError:
                pass

    async def obey(self) -> None:
        """Do what the lines say until there are no more."""
        while line := await asyncio.to_thread(sys.stdin.readline):
            load, number = line.split()
            if load == "paced":
                found = await self.paced(LOADS[load], float(number))
            else:
                found = await self.saturated(LOADS[load], int(load))
            await self.settled()
            print(json.dumps(found), flush=True)


def _times(taken: list[float], seconds: float) -> Times:
    taken.sort()
    return Times(len(taken) / seconds, taken[len(taken) // 2], taken[len(taken) * 99 // 100])


async def be_bot(backends: str, directory: Path, url: str) -> None:
    """Be the process of one condition."""
    async with Gateway(backends, data_dir=directory, environ=environment(url), env_file=None) as gateway:
        bot = Bot(gateway)
        await bot.saturated(200, 8)
        print("ready", flush=True)
        await bot.obey()


def one_turn(bots: dict[str, Aside], contest: rounds.Contest, tenth: float) -> None:
    """Let every condition have its turn under each load, in another order each time."""
    for load in LOADS:
        for condition in random.sample(list(bots), len(bots)):
            found = Times(*json.loads(bots[condition].ask(f"{load} {tenth}")))
            for what, figure in found._asdict().items():
                contest.add(f"{condition}, {load}, {what}", figure)


def measure(options: Namespace, contest: rounds.Contest) -> str:
    """Take the turns, on a server of their own, and return what the server was."""
    with ExitStack() as closers:
        server = closers.enter_context(PostgresServer.wheel(settings=DURABLE))
        base = Path(closers.enter_context(tempfile.TemporaryDirectory()))
        bots: dict[str, Aside] = {}

        def begin(condition: str, backends: str, url: str) -> None:
            bot = Aside("benchmarks.isolation", "--bot", backends, str(base / condition), url)
            bots[condition] = closers.enter_context(bot)

        begin(NONE, "sqlite", "")
        for condition in options.only:
            database = server.database()
            upgrade(database)
            fault = CONDITIONS[condition]
            if fault is None:
                begin(condition, "sqlite,postgres", database.app_url)
                continue
            proxy = closers.enter_context(Proxy(server.host, server.port))
            begin(condition, "sqlite,postgres", proxy.url_of(database.app_url))
            proxy.ask(fault)
            closers.callback(proxy.ask, "heal")
        sure = [Times(*json.loads(bots[NONE].ask("64 0"))).rate for _ in range(5)]
        tenth = sorted(sure)[len(sure) // 2] / SHARE
        one_turn(
            bots, rounds.Contest(), tenth
        )  # to get warm, and for mirrors that failed to be known as such
        for at in range(options.turns):
            rounds.announce(f"isolation, turn {at + 1} of {options.turns}")
            one_turn(bots, contest, tenth)
        return str(server.origin)


COLUMNS: Final = (
    ("calls/s, 1 task", "1", "rate"),
    ("p99, 1 task", "1", "slow"),
    ("calls/s, 64 tasks", "64", "rate"),
    ("p99, 64 tasks", "64", "slow"),
    ("p50 at a tenth", "paced", "median"),
    ("p99 at a tenth", "paced", "slow"),
)


def table(contest: rounds.Contest, conditions: Sequence[str] = tuple(CONDITIONS)) -> str:
    """Return the figures as a Markdown table: what they are without a mirror, and ratios to that."""
    lines = [
        f"| mirror | {' | '.join(head for head, _, _ in COLUMNS)} |",
        f"|---|{'---:|' * len(COLUMNS)}",
    ]
    figures = []
    for _, load, what in COLUMNS:
        figure = contest.median(f"{NONE}, {load}, {what}")
        figures.append(f"{figure:,.0f}" if what == "rate" else f"{figure * 1000:.2f} ms")
    lines.append(f"| none | {' | '.join(figures)} |")
    for condition in conditions:
        ratios = [
            f"{contest.ratio(f'{condition}, {load}, {what}', f'{NONE}, {load}, {what}'):.2f}x"
            for _, load, what in COLUMNS
        ]
        lines.append(f"| {NAMES[condition]} | {' | '.join(ratios)} |")
    return "\n".join(lines)


def dead_ratio(contest: rounds.Contest) -> float:
    """Return how many times as long the slowest of a hundred paced calls takes with a mirror that is dead."""
    return contest.ratio("dead, paced, slow", f"{NONE}, paced, slow")


def main() -> int:
    """Take the turns and print the table; exit 1 if the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=25)
    parser.add_argument("--only", nargs="+", choices=CONDITIONS, default=list(CONDITIONS))
    parser.add_argument("--bot", nargs=3, metavar=("BACKENDS", "DIRECTORY", "URL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bot:
        backends, directory, url = options.bot
        asyncio.run(be_bot(backends, Path(directory), url))
        return 0
    contest = rounds.Contest()
    server = measure(options, contest)
    print(f"{rounds.machine()}, {server}; medians of {options.turns} turns\n")
    print(table(contest, options.only))
    if "dead" not in options.only:
        return 0
    print(f"\np99 at a tenth with a dead mirror: {dead_ratio(contest):.2f}x; the goal is {GOAL}x")
    return 1 if dead_ratio(contest) > GOAL else 0


if __name__ == "__main__":
    raise SystemExit(main())

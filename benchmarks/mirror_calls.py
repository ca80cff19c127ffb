"""What a mirror costs the bot: `insert_trade` into SQLite with PostgreSQL beside it, and reads in its shadow.

python -m benchmarks.mirror_calls [--rounds 5] [--only inserts shadow] [--tasks 1 64]

Every round runs all contenders in another order, each on new stores, and each is compared with the first of the same
round. The mirror's server shares the machine with the bot, so what it does for a write that nobody waits for is paid
by the bot all the same; the ratio by processor time of the bot's own process shows what is the gateway's part.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from benchmarks import rounds
from benchmarks.postgres_calls import DURABLE, environment, upgrade
from gateway import Gateway
from tests.servers import PostgresServer
from tests.servers.ports import free_port

T = TypeVar("T")
SIZES = {1: 4_000, 64: 24_000}
READS = {1: 6_000, 64: 40_000}
WARM = 200
CPU = ", processor time"
ALONE, INTENTS, JOURNALED, SYNC = "no mirror", "intents alone", "journaled", "sync"
UNSHADOWED, SHADOWED = "no shadow", "shadow of 10 %"
INSERTS: dict[str, dict[str, Any]] = {
    ALONE: {"backends": "sqlite"},
    INTENTS: {"backends": "sqlite,postgres"},
    JOURNALED: {"backends": "sqlite,postgres"},
    SYNC: {"backends": "sqlite,postgres", "mirror_mode": "sync"},
}
SHADOWS: dict[str, dict[str, Any]] = {
    UNSHADOWED: {"backends": "sqlite,postgres", "phase": "shadow_read", "shadow_sample": 0},
    SHADOWED: {"backends": "sqlite,postgres", "phase": "shadow_read", "shadow_sample": 0.1},
}


@asynccontextmanager
async def opened(
    server: PostgresServer, base: Path, name: str, more: dict[str, Any]
) -> AsyncIterator[Gateway]:
    """Open a gateway on stores of its own, and take them away afterwards."""
    database = server.database()
    directory = Path(tempfile.mkdtemp(dir=base))
    try:
        await asyncio.to_thread(upgrade, database)
        url = database.app_url
        if name == INTENTS:  # nobody listens there: the mirror is down from the start
            url = f"postgresql://bot@127.0.0.1:{free_port()}/absent"
        settings = {"data_dir": directory, "environ": environment(url), "env_file": None, **more}
        async with Gateway(settings.pop("backends"), **settings) as gateway:
            yield gateway
    finally:
        shutil.rmtree(directory)
        database.drop()


async def timed(
    items: Sequence[T], tasks: int, call: Callable[[T], Awaitable[object]]
) -> tuple[float, float]:
    """Return calls per second, and calls per second of this process's processor time."""
    began = time.process_time()
    wall = await rounds.spread(items, tasks, call)
    return wall, len(items) / (time.process_time() - began)


async def inserts(server: PostgresServer, base: Path, contest: rounds.Contest, name: str, tasks: int) -> None:
    """Let one contender for `insert_trade` run once."""
    fields = rounds.trade_fields(SIZES[tasks] + WARM)
    async with opened(server, base, name, INSERTS[name]) as gateway:

        async def call(item: dict[str, Any]) -> None:
            await gateway.insert_trade(**item)

        await rounds.spread(fields[:WARM], tasks, call)
        wall, cpu = await timed(fields[WARM:], tasks, call)
        contest.add(f"{name}, {tasks}", wall)
        contest.add(f"{name}, {tasks}{CPU}", cpu)


async def reads(server: PostgresServer, base: Path, contest: rounds.Contest, name: str, tasks: int) -> None:
    """Let one contender for `load_position` run once."""
    saves = rounds.positions(2_000)
    keys = [str(item["condition_id"]) for item in rounds.position_fields(READS[tasks] + WARM, seed=11)]
    async with opened(server, base, name, SHADOWS[name]) as gateway:
        await gateway.put_many(saves)
        await rounds.spread(keys[:WARM], tasks, gateway.load_position)
        wall, cpu = await timed(keys[WARM:], tasks, gateway.load_position)
        contest.add(f"{name}, {tasks}", wall)
        contest.add(f"{name}, {tasks}{CPU}", cpu)
        if name == SHADOWED:
            contest.add(f"compared, {tasks}", gateway.counters.shadow_match / READS[tasks])


RUNS = {"inserts": (INSERTS, inserts), "shadow": (SHADOWS, reads)}


def one_round(
    server: PostgresServer,
    base: Path,
    contest: rounds.Contest,
    order: random.Random,
    tasks: Sequence[int],
    only: Sequence[str],
) -> None:
    """Let every contender run once, in some order."""
    for part in only:
        contenders, run = RUNS[part]
        for count in tasks:
            names = list(contenders)
            order.shuffle(names)
            for name in names:
                asyncio.run(run(server, base, contest, name, count))


def measure(
    count: int, contest: rounds.Contest, tasks: Sequence[int] = (1, 64), only: Sequence[str] = tuple(RUNS)
) -> str:
    """Run the rounds on a server of their own, and return what the server was."""
    order = random.Random(6)
    with PostgresServer.wheel(settings=DURABLE) as server, tempfile.TemporaryDirectory() as base:
        for at in range(count):
            rounds.announce(f"mirrors, round {at + 1} of {count}")
            one_round(server, Path(base), contest, order, tasks, only)
        return str(server.origin)


ROWS: tuple[tuple[str, str, str, dict[int, float]], ...] = (
    (INTENTS, ALONE, "`insert_trade`, intents alone, the mirror down", {1: 0.85, 64: 0.75}),
    (JOURNALED, ALONE, "`insert_trade`, mirror journaled", {1: 0.7, 64: 0.55}),
    (SYNC, ALONE, "`insert_trade`, mirror in sync", {}),
    (SHADOWED, UNSHADOWED, "`load_position`, 10 % compared", {1: 0.95, 64: 0.95}),
)


def table(contest: rounds.Contest) -> str:
    """Return the figures as a table."""
    lines = [
        "| call | tasks | calls/s | without | ratio | goal | ratio by the bot's processor time |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, base, label, goals in ROWS:
        for tasks in SIZES:
            own, other = f"{name}, {tasks}", f"{base}, {tasks}"
            if own not in contest.figures:
                continue
            goal = f"{goals[tasks]:.2f}" if tasks in goals else "-"
            lines.append(
                f"| {label} | {tasks} | {contest.median(own):,.0f} | {contest.median(other):,.0f} | "
                f"{contest.ratio(own, other):.2f} | {goal} | {contest.ratio(own + CPU, other + CPU):.2f} |"
            )
    return "\n".join(lines)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 64], choices=SIZES)
    parser.add_argument("--only", nargs="+", default=list(RUNS), choices=RUNS)
    given = parser.parse_args()
    contest = rounds.Contest()
    print(measure(given.rounds, contest, given.tasks, given.only))
    print(rounds.machine())
    print(table(contest))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Calls through a Redis cache in front of PostgreSQL: against the same calls without it, and against code by hand.

python -m benchmarks.cache_calls [--rounds 5] [--json FILE]

What a miss costs is measured in two ways, since they are two questions:

* *one miss among hits*: how long one caller waits for a row that the cache does not have, with a pause before each call
  and a hit before that, so that the cache is asked each time. The goal (at most 1.3 times the plain read) is against
  this, with one task: it is what a bot notices.
* *a walk through cold rows*: how many such calls get done by tasks that do nothing else. After some hundreds of them
  the cache is asked for a sample only, see `gateway.cache.sampling`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from benchmarks import rounds
from benchmarks.postgres_calls import DURABLE, HAND_POSITIONS, HAND_SAVE, by_hand, clear, upgrade
from benchmarks.sqlite_calls import goals_missed, ratio_table
from gateway import Gateway
from gateway.records import Position
from tests.servers import Database, PostgresServer, ValkeyServer

READS = {1: 1_500, 64: 9_600}
WRITES = {1: 600, 64: 6_400}
SPACED = 300
PAUSE = 0.004
HOT = 200
COLUMNS = ("condition_id", "market_name", "side", "entry_price", "amount", "trailing_stop_price", "opened_at")
OPENED = datetime(2026, 1, 5, tzinfo=UTC)


@dataclass(frozen=True)
class Place:
    """One round's database and cache."""

    database: Database
    cache: str
    base: Path


def position(number: int) -> dict[str, Any]:
    """Return the fields of one of many positions."""
    return {
        "condition_id": f"0x{number:064x}",
        "market_name": rounds.MARKETS[number % len(rounds.MARKETS)],
        "side": "YES",
        "entry_price": Decimal(number % 98 + 1) / 100,
        "amount": Decimal(number + 1),
        "trailing_stop_price": Decimal(number % 97 + 1) / 100,
        "opened_at": OPENED,
    }


@asynccontextmanager
async def gateway_on(place: Place, *, cached: bool) -> AsyncIterator[Gateway]:
    """Open a gateway, and with a cache wait until that is in use."""
    # A shorter patience with the store than the default's: a new cache is opened after it has passed.
    environ = {
        "STORAGE_POSTGRES_URL": place.database.app_url,
        "STORAGE_REDIS_URL": place.cache,
        "STORAGE_TIMEOUT": "2",
    }
    backends, directory = ("postgres,redis", "cached") if cached else ("postgres", "plain")
    if not cached:
        del environ["STORAGE_REDIS_URL"]
    async with Gateway(backends, data_dir=place.base / directory, environ=environ, env_file=None) as gateway:
        while cached and not (await gateway.health()).details["cache"]["in_use"]:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.05)
        yield gateway


async def counted(gateway: Gateway, name: str) -> int:
    """Return one of the gateway's counters."""
    return int((await gateway.health()).details["counters"][name])


async def reads_by_hand(place: Place, contest: rounds.Contest) -> None:
    """A user's own code, without any cache."""
    async with by_hand(place.database.superuser_url) as pool:
        for number in range(HOT):
            fields = position(number)
            await pool.execute(HAND_SAVE, *(fields[name] for name in COLUMNS))

        async def fetch(key: str) -> None:
            row = await pool.fetchrow("SELECT * FROM hand_positions WHERE condition_id = $1", key)
            if row is not None:
                dict(row)

        for tasks, count in READS.items():
            contest.add(f"read, {tasks}, by hand", await rounds.spread(hot(count), tasks, fetch))


def hot(count: int) -> list[str]:
    """Return keys of few positions, each many times."""
    return [str(position(number % HOT)["condition_id"]) for number in range(count)]


def cold(first: int, count: int) -> list[str]:
    """Return keys of many positions, each once."""
    return [str(position(number)["condition_id"]) for number in range(first, first + count)]


async def spaced(gateway: Gateway, first: int) -> tuple[float, float]:
    """Return how many calls a second one caller would make at the median of a miss's time, and of a hit's."""
    missed: list[float] = []
    hit: list[float] = []
    for at in range(SPACED):
        for key, taken in ((hot(HOT)[at % HOT], hit), (cold(first + at, 1)[0], missed)):
            await asyncio.sleep(PAUSE)
            began = time.perf_counter()
            await gateway.load_position(key)
            taken.append(time.perf_counter() - began)
    return 1 / statistics.median(missed), 1 / statistics.median(hit)


async def calls(place: Place, contest: rounds.Contest, *, cached: bool) -> None:
    """The gateway's calls, with or without the cache."""
    name = "cached" if cached else "plain"
    async with gateway_on(place, cached=cached) as gateway:

        async def save(fields: dict[str, Any]) -> None:
            await gateway.save_position(**fields)

        first = HOT
        for key in hot(2 * HOT):
            await gateway.load_position(key)
        asked = await counted(gateway, "cache_skipped")
        one_miss, one_hit = await spaced(gateway, first)
        assert await counted(gateway, "cache_skipped") == asked, "it is about misses that were asked for"
        contest.add(f"one miss, {name}", one_miss)
        contest.add(f"one hit, {name}", one_hit)
        first += SPACED
        for tasks, count in READS.items():
            misses = await counted(gateway, "cache_misses")
            contest.add(
                f"miss, {tasks}, {name}",
                await rounds.spread(cold(first, count), tasks, gateway.load_position),
            )
            assert not cached or await counted(gateway, "cache_misses") >= misses + count
            first += count
            for key in hot(HOT):
                await gateway.load_position(key)
            hits = await counted(gateway, "cache_hits")
            contest.add(
                f"hit, {tasks}, {name}", await rounds.spread(hot(count), tasks, gateway.load_position)
            )
            if cached:
                share = (await counted(gateway, "cache_hits") - hits) / count
                contest.add(f"share of hits, {tasks}", share)
        for tasks, count in WRITES.items():
            fields = [position(number % HOT) for number in range(count)]
            contest.add(f"save, {tasks}, {name}", await rounds.spread(fields, tasks, save))


async def one_round(place: Place, contest: rounds.Contest) -> None:
    """Let every contender run once."""
    await clear(place.database, "hand_positions", "bots_core.positions")
    await reads_by_hand(place, contest)
    async with gateway_on(place, cached=False) as gateway:
        await gateway.put_many(
            [Position(**position(number)) for number in range(HOT + SPACED + sum(READS.values()))]
        )
    await calls(place, contest, cached=False)
    await calls(place, contest, cached=True)


async def make_tables(database: Database) -> None:
    """Make what a user would have made by hand."""
    import asyncpg

    connection = await asyncpg.connect(database.superuser_url)
    try:
        await connection.execute(HAND_POSITIONS)
    finally:
        await connection.close()


def measure(count: int, contest: rounds.Contest) -> str:
    """Run the rounds on servers of their own, and return what the servers were."""
    with (
        PostgresServer.wheel(settings=DURABLE) as server,
        ValkeyServer.default() as cache,
        tempfile.TemporaryDirectory() as name,
    ):
        for at in range(count):
            rounds.announce(f"cache, round {at + 1} of {count}")
            base = Path(name) / str(at)
            base.mkdir()
            database = server.database()
            try:
                upgrade(database)
                asyncio.run(make_tables(database))
                asyncio.run(one_round(Place(database, cache.url(), base), contest))
            finally:
                database.drop()
        return f"{server.origin} and {cache.origin}"


PLAIN = "the gateway without the cache"
FETCH = "asyncpg `pool.fetchrow`"
ROWS = (
    ("`load_position` that the cache answers, 1 task", "hit, 1, cached", "hit, 1, plain", PLAIN, None),
    ("`load_position` that the cache answers, 1 task", "hit, 1, cached", "read, 1, by hand", FETCH, None),
    ("`load_position` that the cache answers, 64 tasks", "hit, 64, cached", "hit, 64, plain", PLAIN, None),
    ("`load_position` that the cache answers, 64 tasks", "hit, 64, cached", "read, 64, by hand", FETCH, None),
    ("latency of one hit, with pauses", "one hit, cached", "one hit, plain", PLAIN, None),
    ("latency of one miss among hits, with pauses", "one miss, cached", "one miss, plain", PLAIN, 0.77),
    ("a walk through cold rows, 1 task", "miss, 1, cached", "miss, 1, plain", PLAIN, None),
    ("a walk through cold rows, 64 tasks", "miss, 64, cached", "miss, 64, plain", PLAIN, None),
    ("`save_position`, 1 task", "save, 1, cached", "save, 1, plain", PLAIN, None),
    ("`save_position`, 64 tasks", "save, 64, cached", "save, 64, plain", PLAIN, None),
)


def table(contest: rounds.Contest) -> str:
    """Return the figures as a Markdown table."""
    return ratio_table(contest, ROWS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rounds and print the table; exit 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    contest = rounds.Contest()
    servers = measure(options.rounds, contest)
    print(f"{rounds.machine()}, {servers}; medians of {options.rounds} rounds\n")
    print(table(contest))
    for tasks in READS:
        print(
            f"\nOf the reads by {tasks} that it should, the cache answered "
            f"{100 * contest.median(f'share of hits, {tasks}'):.1f} %."
        )
    if options.json:
        options.json.write_text(json.dumps(contest.figures, indent=1))
    return 1 if goals_missed(contest, ROWS) else 0


if __name__ == "__main__":
    raise SystemExit(main())

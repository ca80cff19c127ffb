"""Run every benchmark and write docs/benchmarks.md: `python -m benchmarks` (about twenty minutes)."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from benchmarks import (
    buffer_memory,
    cache_calls,
    call_cost,
    lost_rows,
    postgres_calls,
    questdb_calls,
    rounds,
    sqlite_calls,
)

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
TEXT = """# Benchmarks

Every number on this page was measured by `make bench` (`python -m benchmarks`), which wrote the page. Ratios are
between contenders of the same round, taken in turns; the figures are medians of {count} rounds. Trust the ratios, not
the absolutes: they were taken on {machine}.

## SQLite: the gateway against code written by hand

Both use WAL, `synchronous=NORMAL`, the same cache and the same checkpoints. By hand a trade has 16 columns and the four
indexes of the bot it was taken from; the gateway's rows also carry tenant, version, digest and the deletion mark, and
are guarded by version. Keyword arguments go in, validation and digest included.

{calls}

The goals are those the gateway was planned with. What the ratios depend on, most of all, is the price of a hop to the
driver's thread and back, which a call by hand pays twice and the gateway once a batch: {hop:.0f} microseconds in these
rounds. Where the two threads happen to share a core a hop costs 25, and every ratio against code written by hand falls.
What is left of a batch of 64 is SQLite's own work on the row and its indexes (about 10 microseconds a row) and the
making of the rows (the table below), one after the other: letting the event loop prepare the next batch while SQLite
writes was tried and lost, since both need the interpreter's lock. So the ratios at 64 tasks stay below their goals on
this machine, against the unsafe baseline and against the correct one.

A shared connection without a lock is the fast way to write it by hand, and a wrong one:

{lost}

## PostgreSQL: the gateway against code written by hand

{server}, on the same machine as the program, with `fsync` on. The gateway connects as a bot does: as a role that owns
nothing and is held by row level security, into tables that are partitioned by month. By hand there is none of that: a
plain table with a number for a key and as many indexes, written and read by its owner through asyncpg's own pool of 10
connections. The gateway's rows also carry tenant, version, digest and the deletion mark, and are guarded by version.

{postgres}

With one task both wait for round trips and for the disk. By hand it is two round trips, since asyncpg's pool resets a
connection whenever it is given back; the gateway needs one, because its statement sets the tenant itself, and spends
the difference on validation, digest and lane (the table below). So that ratio depends on what a round trip and a forced
write cost: the dearer the forced write, the nearer it comes to 1. With 64 tasks the gateway sends one statement for all
that queued up meanwhile, and forces the disk once. Reads by key share statements in the same way. A dual write waits
for the first store before the second is asked, so that the mirror never has what the primary refused.

`put_many` is compared with what a superuser may do and a bot may not: row level security refuses COPY. What it costs
beyond that is the making and checking of the rows.

## QuestDB: the gateway against code written by hand

{questdb_server}, on the same machine as the program. The tables have the gateway's own columns, and every row a digest.

{questdb}

{csv}

## The cache in front of PostgreSQL

{cache_servers}. A hit is a read that the cache answers. A miss also asks the cache first and fills it afterwards, which
nobody waits for; what it costs is the difference to the plain read. A write puts up a fence in the cache before it and
takes it down after it.

{cache}

## What a call costs on top of the driver

{parts}

## Memory over a million buffered snapshots

Every write to the store was slowed by {delay:.0f} ms; the buffer's policy was `block`, its capacity 10,000 rows.

{memory}
"""


def main() -> int:
    """Run everything, print it and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--server-rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    contest = rounds.Contest()
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        for at in range(options.rounds):
            rounds.announce(f"calls, round {at + 1} of {options.rounds}")
            asyncio.run(sqlite_calls.one_round(contest))
        served = rounds.Contest()
        server = postgres_calls.measure(options.server_rounds, served)
        questdb, cache = rounds.Contest(), rounds.Contest()
        questdb_server = questdb_calls.measure(options.server_rounds, questdb)
        cache_servers = cache_calls.measure(options.server_rounds, cache)
        rounds.announce("lost rows")
        lost = asyncio.run(lost_rows.measure(base))
        rounds.announce("cost of a call")
        parts = asyncio.run(call_cost.measure(base))
        rounds.announce("memory")
        began = time.perf_counter()
        points = asyncio.run(buffer_memory.measure(base / "memory", options.rows))
        memory = buffer_memory.table(points, time.perf_counter() - began)
    page = TEXT.format(
        count=options.rounds,
        machine=rounds.machine(),
        calls=sqlite_calls.table(contest),
        server=server,
        postgres=postgres_calls.table(served),
        questdb_server=questdb_server,
        questdb=questdb_calls.table(questdb),
        csv=questdb_calls.answer(questdb),
        cache_servers=cache_servers,
        cache=cache_calls.table(cache),
        lost=lost,
        hop=contest.median("hop"),
        parts=parts,
        memory=memory,
        delay=buffer_memory.DELAY * 1000,
    )
    PAGE.write_text(page)
    print(page)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

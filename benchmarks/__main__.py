"""Run the benchmarks and write docs/benchmarks.md: `python -m benchmarks [--only questdb cache]`."""

from __future__ import annotations

import argparse
import asyncio
import re
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks import (
    buffer_memory,
    cache_calls,
    call_cost,
    catch_up,
    isolation,
    lost_rows,
    mirror_calls,
    postgres_calls,
    questdb_calls,
    rounds,
    sqlite_calls,
    telemetry_calls,
)

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Every number on this page was measured by `make bench` (`python -m benchmarks`), which wrote the page. Ratios are
between contenders of the same round, taken in turns; the figures are medians of the rounds that each part names. Trust
the ratios, not the absolutes.

"""

SQLITE = """## SQLite: the gateway against code written by hand

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
"""

POSTGRES = """## PostgreSQL: the gateway against code written by hand

{server}, on the same machine as the program, with `fsync` on. The gateway connects as a bot does: as a role that owns
nothing and is held by row level security, into tables that are partitioned by month. By hand there is none of that: a
plain table with a number for a key and as many indexes, written and read by its owner through asyncpg's own pool of 10
connections. The gateway's rows also carry tenant, version, digest and the deletion mark, and are guarded by version.

{postgres}

With one task both wait for round trips and for the disk. By hand it is two round trips, since asyncpg's pool resets a
connection whenever it is given back; the gateway needs one, because its statement sets the tenant itself, and spends
the difference on validation, digest and lane (the table below). So that ratio depends on what a round trip and a forced
write cost: the dearer the forced write, the nearer it comes to 1. With 64 tasks the gateway sends one statement for all
that queued up meanwhile, and forces the disk once. Reads by key share statements in the same way. The dual write is
one in mode `sync`, which waits for the first store and then for the second, so that the mirror never has what the
primary refused; what the default costs, which waits for the first alone, is told below.

`put_many` is compared with what a superuser may do and a bot may not: row level security refuses COPY. What it costs
beyond that is the making and checking of the rows.
"""

QUESTDB = """## QuestDB: the gateway against code written by hand

{questdb_server}, on the same machine as the program. The tables have the gateway's own columns, and every row a digest.

{questdb}

{csv}
"""

CACHE = """## The cache in front of PostgreSQL

{cache_servers}. A hit is a read that the cache answers. A miss also asks the cache first and fills it afterwards, which
nobody waits for; what it costs is the difference to the plain read. A write puts up a fence in the cache before it and
takes it down after it.

{cache}
"""

MIRRORS = """## Mirrors: what the bot pays for a second store

SQLite leads and PostgreSQL gets everything, on the same machine. "Journaled" is the default: each write leaves an
intent in its own transaction, and nobody waits for the mirror. The server shares the processor with the bot here, so
what it does for the mirror slows a saturated bot although nobody waits for it; the last column leaves that out.

{mirror_calls}

Reads of one task and of 64, of which one in ten is asked again from PostgreSQL and compared. No more than 1,000
comparisons a second are begun; at 64 tasks {compared:.0%} of the reads were compared, the rest of the tenth was
dropped and counted.

### While the mirror is in trouble

{isolation_server}. The same bot, saturated and at a tenth of that rate, with a mirror behind a proxy that does to it
what the first column says. Ratios are to a bot without a mirror, taken in turns; p50 and p99 are of single calls of
`insert_trade`.

{isolation}

At a tenth of the rate, a call's p99 with a dead mirror should be at most {goal} times that without one; it is
{dead:.2f} times that.

### Catching up

A mirror that was away gets what it lacks from the journal: rows are read from the primary by key, written, and their
intents removed. By hand the rows lie ready in memory.

{catch_up}
"""

TELEMETRY = """## Telemetry

`insert_trade` into SQLite with each setting. "bare" is a gateway that was stripped of all that asks for telemetry.

{telemetry}
"""

CALL = """## What a call costs on top of the driver

{parts}
"""

MEMORY = """## Memory over a million buffered snapshots

Every write to the store was slowed by {delay:.0f} ms; the buffer's policy was `block`, its capacity 10,000 rows.

{memory}
"""


def _sqlite(options: Namespace) -> dict[str, object]:
    contest = rounds.Contest()
    for at in range(options.rounds):
        rounds.announce(f"calls, round {at + 1} of {options.rounds}")
        asyncio.run(sqlite_calls.one_round(contest))
    rounds.announce("lost rows")
    with tempfile.TemporaryDirectory() as name:
        lost = asyncio.run(lost_rows.measure(Path(name)))
    return {"calls": sqlite_calls.table(contest), "hop": contest.median("hop"), "lost": lost}


def _postgres(options: Namespace) -> dict[str, object]:
    contest = rounds.Contest()
    server = postgres_calls.measure(options.server_rounds, contest)
    return {"server": server, "postgres": postgres_calls.table(contest)}


def _questdb(options: Namespace) -> dict[str, object]:
    contest = rounds.Contest()
    server = questdb_calls.measure(options.server_rounds, contest)
    return {
        "questdb_server": server,
        "questdb": questdb_calls.table(contest),
        "csv": questdb_calls.answer(contest),
    }


def _cache(options: Namespace) -> dict[str, object]:
    contest = rounds.Contest()
    servers = cache_calls.measure(options.server_rounds, contest)
    return {"cache_servers": servers, "cache": cache_calls.table(contest)}


def _mirrors(options: Namespace) -> dict[str, object]:
    calls, faults = rounds.Contest(), rounds.Contest()
    mirror_calls.measure(options.server_rounds, calls)
    server = isolation.measure(Namespace(turns=options.turns, only=list(isolation.CONDITIONS)), faults)
    found = catch_up.measure(options.rows, list(catch_up.WAYS))
    return {
        "mirror_calls": mirror_calls.table(calls),
        "compared": calls.median("compared, 64"),
        "isolation_server": server,
        "isolation": isolation.table(faults),
        "goal": isolation.GOAL,
        "dead": isolation.dead_ratio(faults),
        "catch_up": catch_up.table(found),
    }


def _telemetry(options: Namespace) -> dict[str, object]:
    return {"telemetry": telemetry_calls.table(telemetry_calls.measure(options.rounds))}


def _call(_options: Namespace) -> dict[str, object]:
    rounds.announce("cost of a call")
    with tempfile.TemporaryDirectory() as name:
        return {"parts": asyncio.run(call_cost.measure(Path(name)))}


def _memory(options: Namespace) -> dict[str, object]:
    rounds.announce("memory")
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        points = asyncio.run(buffer_memory.measure(Path(name), options.rows))
    table = buffer_memory.table(points, time.perf_counter() - began)
    return {"memory": table, "delay": buffer_memory.DELAY * 1000}


class Part(NamedTuple):
    """One part of the page.

    Attributes:
        text: What stands there, with the names of figures.
        measure: Measures them.
        rounds: The option that says how many rounds; None where there are none.
    """

    text: str
    measure: Callable[[Namespace], Mapping[str, object]]
    rounds: str | None = None


PARTS = {
    "sqlite": Part(SQLITE, _sqlite, "rounds"),
    "postgres": Part(POSTGRES, _postgres, "server_rounds"),
    "questdb": Part(QUESTDB, _questdb, "server_rounds"),
    "cache": Part(CACHE, _cache, "server_rounds"),
    "mirrors": Part(MIRRORS, _mirrors, "server_rounds"),
    "telemetry": Part(TELEMETRY, _telemetry, "rounds"),
    "call": Part(CALL, _call),
    "memory": Part(MEMORY, _memory),
}


def written(part: Part, options: Namespace) -> str:
    """Measure a part and return its text."""
    text = part.text.format(**part.measure(options))
    count = "" if part.rounds is None else f"; medians of {getattr(options, part.rounds)} rounds"
    return f"{text}\nMeasured on {rounds.machine()}{count}.\n"


def held(page: str, part: Part) -> str | None:
    """Return what the page says of a part; None if it does not have it."""
    title = part.text.partition("\n")[0]
    found = re.search(rf"(?ms)^{re.escape(title)}$.*?(?=^## |\Z)", page)
    return None if found is None else f"{found[0].rstrip()}\n"


def main() -> int:
    """Run everything, or some parts, and write the page; parts that are left out keep what was measured before."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--server-rounds", type=int, default=5)
    parser.add_argument("--turns", type=int, default=25)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    before = PAGE.read_text()
    texts = []
    for name, part in PARTS.items():
        text = written(part, options) if name in options.only else held(before, part)
        texts += [] if text is None else [text]
    page = "\n".join([HEAD, *texts])
    PAGE.write_text(page)
    print(page)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""What bots tell about the cache: it arrives, runs out of nobody's way, and adds up."""

from __future__ import annotations

import pytest

from gateway.cache.contract import End, Terms
from gateway.cache.reports import EVERY, SLOTS, Report, Reporter, hit_rate, read_reports, totals
from gateway.telemetry import Counters
from gateway_memory.cache import CacheServer, MemoryCache

LONG = Terms(60_000, 60_000, 60_000, 60_000, 0)


@pytest.mark.anyio
async def test_each_process_is_heard() -> None:
    """Whichever entries they take at first, a few rounds later every process has one of its own."""
    cache, time = MemoryCache(CacheServer()), [0.0]
    incarnation = cache.server.incarnation
    reporters = [Reporter(f"process {at}", Counters(cache_hits=at), lambda: time[0]) for at in range(20)]
    for _ in range(10):
        for at, one in enumerate(reporters):
            await one.publish(cache, incarnation, "cut off" if at == 3 else "")
        time[0] += EVERY
    found = {report.process: report for report in await read_reports(cache, incarnation)}
    assert sorted(found) == sorted(f"process {at}" for at in range(20))
    assert all(found[f"process {at}"].counts["cache_hits"] == at for at in range(20))
    assert [name for name, report in found.items() if report.closed] == ["process 3"]
    await reporters[3].withdraw(cache, incarnation)
    assert len(await read_reports(cache, incarnation)) == 19


@pytest.mark.anyio
async def test_nothing_is_sent_before_it_is_time() -> None:
    """Between two reports the cache is left alone."""
    cache, time, counters = MemoryCache(CacheServer()), [0.0], Counters()
    one = Reporter("bot", counters, lambda: time[0])
    await one.publish(cache, cache.server.incarnation, "")
    counters.cache_hits = 5
    await one.publish(cache, cache.server.incarnation, "")
    (report,) = await read_reports(cache, cache.server.incarnation)
    assert report.counts["cache_hits"] == 0
    time[0] += EVERY
    await one.publish(cache, cache.server.incarnation, "")
    (report,) = await read_reports(cache, cache.server.incarnation)
    assert report.counts["cache_hits"] == 5


@pytest.mark.anyio
async def test_what_is_no_report_is_left_out() -> None:
    """A later release may leave something else in an entry; it is neither an error nor written over."""
    cache = MemoryCache(CacheServer())
    incarnation = cache.server.incarnation
    names = [f"report:{slot}" for slot in range(SLOTS)]
    await cache.begin(incarnation, names, "other", LONG)
    await cache.end(incarnation, [End(name, "other", "0" * 32, b"\x01 strange") for name in names], LONG)
    await Reporter("bot", Counters()).publish(cache, incarnation, "")
    assert await read_reports(cache, incarnation) == []
    assert set(await cache.get(incarnation, names, "t", LONG)) == {b"\x01 strange"}


def test_sums_and_shares() -> None:
    """Counts add up, the time that the cache was closed is the longest of all, and no read is no share."""
    reports = [
        Report("a", "one", {"cache_hits": 3, "cache_misses": 1, "cache_closed_seconds": 60}),
        Report("b", "two", {"cache_hits": 4, "cache_closed_seconds": 7, "of a later release": 9}),
    ]
    sums = totals(reports)
    assert (sums["cache_hits"], sums["cache_misses"], sums["cache_closed_seconds"]) == (7, 1, 60)
    assert hit_rate(7, 1) == 0.875
    assert hit_rate(0, 0) is None

"""What the cache is doing, and beginning it anew."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from gateway.backend import Health
from gateway.cache.authority import Authority
from gateway.cache.opening import keeping_stores
from gateway.cache.permit import State
from gateway.cache.reports import Report, hit_rate, read_reports, totals
from gateway.cli.exits import ExitCode
from gateway.cli.output import note, print_json, print_line, print_table
from gateway.cli.session import Session
from gateway.config import open_context
from gateway.errors import GatewayError
from gateway.findings import Finding, ok, warn
from gateway.records.version import HybridClock

__all__ = ["ask_cache", "cache_findings", "clear_cache", "show_status", "told", "unused"]

PATIENCE: Final = 5.0
"""Seconds for which the server is waited for."""


def show_status(session: Session, *, as_json: bool) -> ExitCode:
    """Print what the stores say of the cache, and what its server says.

    Raises:
        StoreError: A store cannot be opened.
    """
    found = session.run(_status(session))
    if as_json:
        print_json({**found, "processes": [msgspec.to_builtins(one) for one in found["processes"]]})
        return ExitCode.OK if found["open"] else ExitCode.PROBLEM
    print_table(
        ("store", "state", "for", "because", "since", "by"),
        [
            (
                one["store"],
                one["state"],
                lasting(one["seconds"]),
                one["reason"],
                one["changed_at"],
                one["changed_by"],
            )
            for one in found["stores"]
        ],
        marked="state",
    )
    print_line("")
    if found["cache"] is None:
        print_line("STORAGE_BACKENDS names no cache")
    else:
        print_line(f"{found['cache']}: {found['summary']}", "green" if found["ok"] else "bold red")
        for sentence in told(found["processes"]) if found["ok"] else ():
            print_line(sentence)
        note(f"cached kinds: {', '.join(found['kinds'])}")
    return ExitCode.OK if found["open"] else ExitCode.PROBLEM


def lasting(seconds: float | None) -> str:
    """Return a stretch of time as people say it; empty for none."""
    if seconds is None:
        return ""
    for length, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {name}"
    return f"{max(0.0, seconds):.0f} s"


def told(processes: Sequence[Report]) -> list[str]:
    """Return what the bots say of the cache, in sentences; nothing if none of them said anything lately."""
    if not processes:
        return ["no bot has used it within the last half minute"]
    sums = totals(processes)
    rate = hit_rate(sums["cache_hits"], sums["cache_misses"])
    share = "nothing was read yet" if rate is None else f"{rate:.1%} of the reads were hits"
    reads = sums["cache_hits"] + sums["cache_misses"]
    lines = [
        f"{len(processes)} bots: {share} ({reads:,} reads, {sums['cache_skipped']:,} of them not worth asking); "
        f"{sums['cache_fills_refused']:,} stale fills refused, {sums['cache_errors']:,} errors, closed "
        f"{sums['cache_closings']:,} times, unused for {lasting(sums['cache_closed_seconds'])} in all"
    ]
    return lines + unused(processes)


def unused(processes: Sequence[Report]) -> list[str]:
    """Return how many bots do not read from the cache, for each reason."""
    reasons = Counter(one.closed for one in processes if one.closed)
    return [f"{count} of {len(processes)} do not read from it: {reason}" for reason, count in reasons.items()]


async def _status(session: Session) -> dict[str, Any]:
    now = datetime.now(UTC)
    stores = [
        {"store": home.store.name, "state": "none", "reason": "", "changed_at": "", "changed_by": ""}
        | (home.describe() or {})
        | {"seconds": home.age(now)}
        for home in await _authorities(session)
    ]
    configuration = session.configuration
    cache = configuration.cache
    processes: list[Report] = []
    health = None if cache is None else await ask_cache(session, PATIENCE, processes)
    return {
        "cache": None if cache is None else cache.instance,
        "ok": health is not None and health.ok,
        "summary": None if health is None else health.summary,
        "details": {} if health is None else dict(health.details),
        "kinds": sorted(kind.name for kind in configuration.cached),
        "open": bool(stores) and all(one["state"] == State.OPEN for one in stores),
        "stores": stores,
        "processes": processes,
        "totals": totals(processes),
        "hit_rate": hit_rate(totals(processes)["cache_hits"], totals(processes)["cache_misses"]),
    }


async def _authorities(session: Session) -> list[Authority]:
    """Look at the rows of all stores."""
    async with session.stores(*session.instances) as stores:
        homes = [
            Authority(store, session.configuration.settings.cache_permit, HybridClock(), _now)
            for store in keeping_stores(stores.stores)
        ]
        for home in homes:
            await home.look()
        return homes


def _now() -> float:
    return asyncio.get_running_loop().time()


def clear_cache(session: Session, *, forget: bool, as_json: bool) -> None:
    """Close the cache in front of every store, and wait until nobody reads from it.

    Raises:
        StoreError: A store could not be written.
    """
    closed = session.run(_clear(session, forget=forget))
    if as_json:
        print_json({"closed": closed, "forgotten": forget})
    elif not closed:
        print_line("no store has a cache in front of it")
    else:
        print_line(f"closed in front of {', '.join(closed)}", "green")
        note("forgotten" if forget else "the bots open it again, empty, once all of them know")


async def _clear(session: Session, *, forget: bool) -> list[str]:
    homes = [home for home in await _authorities(session) if home.describe() is not None]
    names = [home.store.name for home in homes]
    if not names:
        return []
    # To be opened for writing is all that it takes: whoever writes beside a cache closes it first.
    async with session.stores(*names, writable=names) as stores:
        if forget:
            for store in stores.stores:
                await Authority(store, 1.0, HybridClock(), _now).forget()
    return names


async def ask_cache(session: Session, timeout: float, processes: list[Report] | None = None) -> Health:
    """Return what the configured cache says of itself; one that does not answer in time says so.

    Args:
        session: Names the cache.
        timeout: Seconds.
        processes: Gets what the bots told about it.
    """
    configuration = session.configuration
    cache = configuration.cache
    if cache is None or cache.spec.open_cache is None:
        return Health(ok=False, summary="STORAGE_BACKENDS names no cache")
    try:
        async with asyncio.timeout(timeout):
            opened = await cache.spec.open_cache(
                open_context(configuration, cache, tuple(session.registry.kinds), True)
            )
            try:
                health = await opened.health()
                if health.ok and processes is not None:
                    processes += await read_reports(opened, (await opened.contact()).incarnation)
                return health
            finally:
                await opened.close()
    except TimeoutError:
        return Health(ok=False, summary=f"no answer within {timeout:g} s")
    except GatewayError as error:
        return Health(ok=False, summary=str(error))


def cache_findings(session: Session) -> list[Finding]:
    """Check the cache. One that is down is slow, and nothing worse."""
    cache = session.configuration.cache
    if cache is None:
        return []
    subject = f"cache {cache.instance}"
    processes: list[Report] = []
    health = session.run(ask_cache(session, PATIENCE, processes))
    slow = "the bots go on without it, at the speed of their stores"
    if not health.ok:
        return [warn(subject, health.summary, slow)]
    if closed := unused(processes):
        return [warn(subject, "; ".join([health.summary, *closed]), slow)]
    return [ok(subject, "; ".join([health.summary, *told(processes)]))]

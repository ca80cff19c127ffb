"""Whether every store answers, within a time that a probe can wait for."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from gateway.backend import Health
from gateway.cache.reports import Report, hit_rate, totals
from gateway.cli.actions.caching import ask_cache, unused
from gateway.cli.actions.mirroring import look_everywhere, mirror_text
from gateway.cli.exits import ExitCode
from gateway.cli.output import note as tell
from gateway.cli.output import print_json, print_line, print_table
from gateway.cli.session import Session
from gateway.cli.values import time_text
from gateway.config import open_context
from gateway.dispatch import open_store
from gateway.errors import GatewayError

__all__ = ["show_health"]

_GRACE: Final = 0.25
"""Seconds beyond the timeout in which a store that can be interrupted says so itself."""


@dataclass(slots=True)
class _Answer:
    """What one store said, and how long it took in seconds."""

    health: Health
    seconds: float


def show_health(session: Session, *, timeout: float, as_json: bool) -> ExitCode:
    """Print each store's own answer.

    Args:
        session: Names the stores.
        timeout: Seconds after which a store that did not answer is down.
        as_json: Whether to print one document.
    """
    started = datetime.now(UTC)
    answers, stuck = _ask_all(session, timeout)
    ok = all(one.health.ok for one in answers.values())
    cache = _cache(session, timeout)
    mirrors, held = _mirrors(session, timeout)
    stuck = stuck or held
    code = ExitCode.OK if ok else ExitCode.UNAVAILABLE
    if as_json:
        stores = [_described(name, one) for name, one in answers.items()]
        caches = [_described(name, one) for name, one in cache.items()]
        print_json(
            {
                "ok": ok,
                "checked_at": time_text(started),
                "stores": stores,
                "caches": caches,
                "mirrors": mirrors,
            }
        )
    else:
        rows = [
            (name, "ok" if one.health.ok else "fail", f"{one.seconds * 1000:.0f} ms", one.health.summary)
            for name, one in (answers | cache).items()
        ]
        print_table(("store", "state", "took", "says"), rows, marked="state")
        for one in mirrors:
            print_line(mirror_text(one), "yellow" if one["problems"] else "")
    if stuck:
        # A thread inside a system call that never returns, as on a dead network disk, would keep the process alive
        # for ever, and a probe with it.
        sys.stdout.flush()
        os._exit(int(code))
    return code


def _mirrors(session: Session, timeout: float) -> tuple[list[dict[str, Any]], bool]:
    """Return what waits for the mirrors, and whether that keeps a thread of ours for itself; it does not count."""
    found: list[dict[str, Any]] = []

    def ask() -> None:
        try:
            found.extend(asyncio.run(look_everywhere(session, every=False, patience=timeout)))
        except Exception as error:  # noqa: BLE001 - whatever it is, the stores' answers are what a probe wants
            tell(f"what waits for the mirrors is not known: {error}")

    thread = threading.Thread(target=ask, daemon=True, name="health mirrors")
    thread.start()
    thread.join(timeout + _GRACE)
    return list(found), thread.is_alive()


def _cache(session: Session, timeout: float) -> dict[str, _Answer]:
    """Ask the cache; it does not count, since the bots go on without it."""
    cache, began = session.configuration.cache, time.monotonic()
    if cache is None:
        return {}
    processes: list[Report] = []
    health = session.run(ask_cache(session, timeout, processes))
    if health.ok:
        sums = totals(processes)
        details: dict[str, Any] = {
            **health.details,
            "processes": len(processes),
            "hit_rate": hit_rate(sums["cache_hits"], sums["cache_misses"]),
            "totals": sums,
        }
        share = details["hit_rate"]
        hits = [] if share is None else [f"{share:.1%} hits"]
        health = Health(health.ok, "; ".join([health.summary, *hits, *unused(processes)]), details)
    return {cache.instance: _Answer(health, time.monotonic() - began)}


def _ask_all(session: Session, timeout: float) -> tuple[dict[str, _Answer], bool]:
    """Ask all stores at once; return their answers, and whether a store keeps a thread of ours for itself."""
    names = (
        session.instances
    )  # reads the configuration: what is wrong with it is said before any thread starts
    answers: dict[str, _Answer] = {}
    threads = [
        # A thread each: a store that blocks its event loop must not hold up the others' answers.
        threading.Thread(
            target=_ask, args=(session, name, timeout, answers), daemon=True, name=f"health {name}"
        )
        for name in names
    ]
    end = time.monotonic() + timeout + _GRACE
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    stuck = any(thread.is_alive() for thread in threads)
    given = dict(answers)
    late = _late(timeout)
    return {name: given.get(name, _Answer(late, timeout)) for name in names}, stuck


def _ask(session: Session, name: str, timeout: float, answers: dict[str, _Answer]) -> None:
    """Ask one store; the answer is noted before the store is closed, which may take longer than it may."""
    began = time.monotonic()
    config, kinds = session.configuration.store(name), tuple(session.registry.kinds)

    def note(health: Health) -> None:
        answers.setdefault(name, _Answer(health, time.monotonic() - began))

    async def ask() -> None:
        try:
            async with asyncio.timeout(timeout):
                # In a plugin manager of its own: the session's would let stores of other threads answer too.
                store = await open_store(
                    config.spec, open_context(session.configuration, config, kinds, True)
                )
                try:
                    note(await store.health())
                finally:
                    await store.close()
        except TimeoutError:
            note(_late(timeout))

    try:
        asyncio.run(ask())
    except GatewayError as error:
        note(Health(ok=False, summary=str(error)))
    except Exception as error:  # noqa: BLE001 - whatever a plugin raises, a probe is told and the others are asked
        note(Health(ok=False, summary=f"{type(error).__name__}; run `gateway doctor`"))


def _late(timeout: float) -> Health:
    return Health(ok=False, summary=f"no answer within {timeout:g} s; it hangs, or is too slow for --timeout")


def _described(name: str, one: _Answer) -> dict[str, Any]:
    health = one.health
    return {
        "name": name,
        "ok": health.ok,
        "summary": health.summary,
        "latency_ms": round(one.seconds * 1000, 1),
        "details": dict(health.details),
    }

"""What has yet to reach the mirrors, looked at through the stores: beside running bots, or without any."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn

from rich.console import Group
from rich.live import Live
from rich.text import Text

from gateway.backend import Capability
from gateway.cli.exits import ExitCode
from gateway.cli.output import console_of, print_json, print_line, print_table, table_of
from gateway.cli.session import Session
from gateway.cli.values import time_text
from gateway.config import open_context
from gateway.dispatch import Store, open_store
from gateway.errors import ConfigurationError, GatewayError
from gateway.findings import Finding, fail, ok, warn
from gateway.journal.file import JournalFile
from gateway.mirror.bounds import Bounds, age_text
from gateway.mirror.homes import Home, home_of
from gateway.mirror.state import behind
from gateway.mirror.survey import Standing, survey, unknown
from gateway.records.version import HybridClock

__all__ = [
    "bounds_of",
    "home",
    "lasting",
    "look",
    "mirror_findings",
    "modes",
    "primary_of",
    "show_status",
    "watch_status",
]

_PATIENCE: Final = 5.0
_MEMORY: Final = "its journal is in the memory of the bots' processes"
_OLD: Final = timedelta(minutes=5)
_LATE: Final = 10.0
"""Seconds after which a change that waits is no longer on its way: the mirror hangs, or does not keep up."""
_COLUMNS: Final = ("mirror", "written", "waiting", "oldest", "relay", "state")


def primary_of(session: Session, target: str) -> str:
    """Return the store whose mirror another store is.

    Raises:
        ConfigurationError: There is one store only, or none of that name.
    """
    names = session.instances
    if len(names) != 2:
        raise ConfigurationError(
            f"there is one store only, {names[0]}, so nothing is mirrored; name two in STORAGE_BACKENDS"
        )
    if target not in names:
        raise ConfigurationError(
            f"no store {target!r} is configured; STORAGE_BACKENDS names {', '.join(names)}"
        )
    return next(name for name in names if name != target)


def lasting(session: Session) -> tuple[str, ...]:
    """Return the stores that keep intents where somebody else can see them."""
    kept = {Capability.JOURNAL, Capability.DURABLE}
    stores = session.configuration.stores
    return tuple(store.instance for store in stores if store.spec.capabilities & kept)


def bounds_of(session: Session) -> Bounds:
    """Return how much may wait for a mirror, by the settings."""
    settings = session.configuration.settings
    return Bounds(settings.journal_rows, timedelta(seconds=settings.journal_age), settings.journal_policy)


def modes(session: Session, primary: str, target: str) -> dict[str, list[str]]:
    """Return the kinds that are mirrored from one store to another now, by mode; with a share, some of their keys."""
    plan, found = session.plan(), dict[str, list[str]]()
    for kind in session.kinds():
        route = plan.listing(kind)
        ways = {(route.primary, name) for name in route.mirrors}
        if plan.keyed(kind):
            ways |= {(other, one) for one, other in ways}
        if (primary, target) in ways:
            found.setdefault(plan.mode_of(kind).value, []).append(kind.name)
    return found


@asynccontextmanager
async def home(session: Session, primary: str, *, writable: bool = False) -> AsyncIterator[Home]:
    """Open what a primary keeps of its mirrors.

    Args:
        session: Names the store.
        primary: Instance name.
        writable: Whether it is to be changed.

    Raises:
        ConfigurationError: There is no such store, or its journal is in memory.
        StoreError: It cannot be opened.
    """
    configuration = session.configuration
    config, kinds = configuration.store(primary), tuple(session.registry.kinds)
    capabilities = config.spec.capabilities
    if not capabilities & {Capability.JOURNAL, Capability.DURABLE}:
        raise ConfigurationError(f"{primary}: {_MEMORY}, where nobody else can look")
    file = JournalFile(configuration.settings.journal_path)
    store = Store(primary, config.spec)
    if Capability.JOURNAL in capabilities:
        # Not by `session.stores`, which closes caches for whoever writes: no cache holds these rows.
        context = open_context(configuration, config, kinds, not writable)
        store = await open_store(config.spec, context, timeout=configuration.settings.timeout)
    try:
        yield home_of(store, file, kinds, session.tenant, HybridClock())
    finally:
        await file.close()
        if Capability.JOURNAL in capabilities:
            await store.close()


async def look(session: Session, primary: str, target: str, patience: float = _PATIENCE) -> Standing:
    """Return how a pair stands; a store that cannot be asked in time is said to be unknown."""
    try:
        async with asyncio.timeout(patience), home(session, primary) as kept:
            return await survey(kept, primary, target, session.tenant, bounds_of(session))
    except TimeoutError:
        return unknown(primary, target, f"{primary} gave no answer within {patience:g} s")
    except GatewayError as error:
        return unknown(primary, target, str(error))


async def look_everywhere(
    session: Session, *, every: bool, patience: float = _PATIENCE
) -> list[dict[str, Any]]:
    """Return how all pairs stand, JSON-ready.

    Args:
        session: Names the stores.
        every: Whether those are among them that no kind takes, and of which there is nothing to say.
        patience: Seconds that a store may take to answer.
    """
    if len(session.instances) != 2:
        return []
    one, other = session.instances
    pairs = ((one, other), (other, one))
    found = await asyncio.gather(*(look(session, *pair, patience) for pair in pairs))
    shown = []
    for pair, standing in zip(pairs, found, strict=True):
        taken = modes(session, *pair)
        if taken or every or not _idle(standing):
            shown.append({**standing.described(), "modes": taken})
    return shown


def _idle(standing: Standing) -> bool:
    """Tell whether nothing is to be said of a way that no kind takes: not even that nothing is known of it."""
    return standing.quiet or standing.unknown is not None


def show_status(session: Session, *, every: bool, as_json: bool) -> ExitCode:
    """Print how all pairs stand.

    Raises:
        ConfigurationError: The settings cannot work.
    """
    found = session.run(look_everywhere(session, every=every))
    if as_json:
        print_json(_document(found))
    elif not found:
        print_line("nothing is mirrored: no kind is written to two stores")
    else:
        print_table(_COLUMNS, [_cells(one) for one in found], marked="state")
        for one in found:
            for problem in one["problems"]:
                print_line(f"{_way(one)}: {problem}", "yellow")
    return _code(found)


def _document(found: list[dict[str, Any]]) -> dict[str, Any]:
    at = time_text(datetime.now(UTC))
    return {"ok": _code(found) is ExitCode.OK, "checked_at": at, "mirrors": found}


def _code(found: list[dict[str, Any]]) -> ExitCode:
    if any(one["unknown"] is not None for one in found):
        return ExitCode.UNAVAILABLE
    return ExitCode.PROBLEM if any(one["problems"] for one in found) else ExitCode.OK


def watch_status(session: Session, interval: float, *, every: bool, as_json: bool) -> ExitCode:
    """Print how all pairs stand again and again, until interrupted: on a terminal in place, elsewhere line by line."""
    try:
        _watch(session, interval, every=every, as_json=as_json)
    except KeyboardInterrupt:  # how it is meant to end, so nothing is said of it
        return ExitCode.INTERRUPTED


def _watch(session: Session, interval: float, *, every: bool, as_json: bool) -> NoReturn:
    if as_json or not sys.stdout.isatty():
        while True:
            found = session.run(look_everywhere(session, every=every))
            if as_json:
                print_json(_document(found))
            else:
                print_table(_COLUMNS, [_cells(one) for one in found], marked="state")
            sys.stdout.flush()
            time.sleep(interval)
    with Live(console=console_of(sys.stdout), auto_refresh=False, screen=False) as live:
        while True:
            found = session.run(look_everywhere(session, every=every))
            problems = [f"{_way(one)}: {problem}" for one in found for problem in one["problems"]]
            live.update(
                Group(
                    Text(f"{time_text(datetime.now(UTC))}    ctrl-c ends", style="dim"),
                    table_of(_COLUMNS, [_cells(one) for one in found], marked="state"),
                    *(Text(problem, style="yellow") for problem in problems),
                ),
                refresh=True,
            )
            time.sleep(interval)


def _way(one: dict[str, Any]) -> str:
    return f"{one['primary']} -> {one['mirror']}"


def _cells(one: dict[str, Any]) -> tuple[Any, ...]:
    depth = one["depth"]
    waiting = "?" if depth is None else f"{depth:,}" + (" or more" if one["depth_is_bound"] else "")
    oldest = "" if not depth else age_text(timedelta(seconds=one["oldest_seconds"]))
    relay = one["relay_where"] if one["relayed"] else ""
    return (_way(one), _modes_text(one["modes"]), waiting, oldest, relay, _word(one))


def mirror_text(one: dict[str, Any]) -> str:
    """Return one line on a pair."""
    _, written, waiting, oldest, _, word = _cells(one)
    said = "; ".join(one["problems"]) or word
    return (
        f"{_way(one)}: {written}; {waiting} waiting{f', the oldest for {oldest}' if oldest else ''}; {said}"
    )


def _word(one: dict[str, Any]) -> str:
    if one["unknown"] is not None:
        return "unknown"
    if one.get("suspended") or one.get("behind_since") is not None:
        return "needs a copy"
    if one["full"]:
        return "full"
    if one["paused"]:
        return "paused"
    if one["problems"]:
        return "warn"
    return "behind" if (one["oldest_seconds"] or 0) > _LATE else "ok"


def _modes_text(modes: dict[str, list[str]]) -> str:
    if not modes:
        return "no kind"
    largest = max(modes, key=lambda mode: len(modes[mode]))
    rest = [f"{kind}: {mode}" for mode, kinds in modes.items() if mode != largest for kind in kinds]
    return ", ".join((f"{largest} ({len(modes[largest])} kinds)", *rest))


def mirror_findings(session: Session) -> list[Finding]:
    """Check what has yet to reach the mirrors."""
    if len(session.instances) != 2:
        return []
    found = []
    for one in session.instances:
        primary = primary_of(session, one)
        try:
            taken = modes(session, primary, one)
        except ConfigurationError:  # the control store cannot be read, which is a finding of its own
            taken = {}
        standing = session.run(look(session, primary, one))
        if taken or not _idle(standing):
            found.append(_finding(standing, taken))
    return found


def _finding(standing: Standing, taken: dict[str, list[str]]) -> Finding:
    subject = f"mirror {standing.mirror}"
    if standing.problems:
        lost = standing.full is not None or (standing.state is not None and behind(standing.state))
        level = fail if lost else warn
        return level(subject, "; ".join(standing.problems), "see `gateway mirror status`")
    depth = 0 if standing.facts is None else standing.facts.depth
    if depth and standing.age > _OLD:
        return warn(
            subject,
            f"{depth:,} changes wait, the oldest for {age_text(standing.age)}",
            "see whether the mirror is up and fast enough: `gateway mirror status --watch`",
        )
    waits = (
        f"{depth:,} changes wait, the oldest for {age_text(standing.age)}"
        if depth
        else "nothing waits for it"
    )
    return ok(subject, f"{waits}; {_modes_text(taken)}")

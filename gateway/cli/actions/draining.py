"""Waiting until a mirror has everything; where no process hands it over, it is handed over here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.backend import Capability
from gateway.cli.actions.mirroring import bounds_of, home, lasting, primary_of
from gateway.cli.exits import ExitCode
from gateway.cli.output import note, print_json, print_line
from gateway.cli.progress import Meter, metered
from gateway.cli.session import Session
from gateway.dispatch import StoreSet
from gateway.errors import StoreBusyError, StoreLockedError, StoreUnavailableError
from gateway.journal.numbers import Numbers
from gateway.mirror.circuit import Circuit
from gateway.mirror.contract import Pair
from gateway.mirror.homes import Home
from gateway.mirror.lease import Lease
from gateway.mirror.relay import Relay
from gateway.mirror.survey import Standing, survey
from gateway.records.row import Row

__all__ = ["Drained", "drain_mirrors"]

_Name = tuple[str, int, int]
"""The owner, the number and the part of an intent."""
_LOOK: Final = 0.2
_NAMED: Final = 20_000
"""Up to how many changes are told from those that bots write meanwhile."""


@dataclass(frozen=True, slots=True)
class Drained:
    """How waiting for a mirror ended.

    Attributes:
        mirror: Instance name.
        handed: How many changes were there at first, and are not any more.
        left: How many of them are left.
        newer: How many were written meanwhile, and have yet to arrive.
        why: Why some are left; None if none is.
    """

    mirror: str
    handed: int
    left: int
    newer: int
    why: str | None

    def described(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return {
            "mirror": self.mirror,
            "handed_over": self.handed,
            "left": self.left,
            "newer": self.newer,
            "why": self.why,
        }


def drain_mirrors(session: Session, target: str | None, timeout: float, *, as_json: bool) -> ExitCode:
    """Wait until a mirror, or every one, has what was waiting for it; what bots write meanwhile is not waited for.

    Raises:
        ConfigurationError: It is no mirror, or its journal is in the memory of a bot.
        StoreError: A store could not be used.
    """
    names = session.instances if target is None else (target,)
    primaries = {name: primary_of(session, name) for name in names}
    # Without a name: what can be seen, unless that is nothing; then the first says why.
    seen = tuple(name for name in names if primaries[name] in lasting(session))
    targets = (seen or names) if target is None else names
    end = time.monotonic() + timeout
    with metered() as meter:
        done = session.run(_drain_all(session, targets, end, meter))
    failed = any(one.why is not None for one in done)
    if as_json:
        print_json({"ok": not failed, "mirrors": [one.described() for one in done]})
    else:
        _print(done)
    return ExitCode.PROBLEM if failed else ExitCode.OK


def _print(done: Sequence[Drained]) -> None:
    for one in done:
        if one.why is None:
            moved = f"{one.handed:,} changes handed over" if one.handed else "nothing was waiting"
            newer = f"; {one.newer:,} that were written meanwhile are on their way" if one.newer else ""
            print_line(f"{one.mirror}: has everything that was waiting ({moved}){newer}", "green")
        else:
            print_line(f"{one.mirror}: {one.left:,} changes are left: {one.why}", "bold red")


async def _drain_all(session: Session, targets: Sequence[str], end: float, meter: Meter) -> list[Drained]:
    return [await _drain(session, target, end, meter) for target in targets]


async def _drain(session: Session, target: str, end: float, meter: Meter) -> Drained:
    primary = primary_of(session, target)
    async with home(session, primary) as kept:
        look = _Looking(session, kept, primary, target, meter)
        while True:
            standing = await look.once()
            why = _obstacle(standing)
            if not look.left or why is not None or time.monotonic() >= end:
                return look.drained(why)
            if standing.relayed or not await _relay(session, primary, target, end, look):
                await asyncio.sleep(_LOOK)


class _Looking:
    """Counts what is left of what there was at first, and shows how far it has come.

    Attributes:
        left: How many changes are left.
        newer: How many were written meanwhile.
    """

    def __init__(self, session: Session, kept: Home, primary: str, target: str, meter: Meter) -> None:
        self._session = session
        self._home = kept
        self._pair = (primary, target)
        self._meter = meter
        self._most = 0
        self._named: set[_Name] | None = None
        self._unlisted = _NAMED
        self.left = self.newer = 0

    async def once(self) -> Standing:
        """Look; a store that cannot be asked is an error here."""
        tenant, target = self._session.tenant, self._pair[1]
        standing = await survey(self._home, *self._pair, tenant, bounds_of(self._session))
        if standing.facts is None:
            raise StoreUnavailableError(str(standing.unknown))
        self.left, self.newer = standing.facts.depth, 0
        if 0 < self.left <= _NAMED:
            # Beside bots that write there is always something, which says nothing of what was there before.
            found = await self._home.journal.pending(target, tenant, 2 * _NAMED)
            names = {(one.owner, one.number, one.part) for one in found}
            self._named = names if self._named is None else self._named & names
            # Those of kinds that are not known here are counted, and not listed.
            self._unlisted = min(self._unlisted, max(0, self.left - len(found)))
            self.left = len(self._named) + self._unlisted
            self.newer = len(names - self._named)
        self._most = max(self._most, self.left)
        self._meter.show(target, self._most - self.left, self._most)
        return standing

    def drained(self, why: str | None) -> Drained:
        """Return how it ended."""
        if not self.left:
            why = None
        elif why is None:
            why = "the time is over; look with `gateway mirror status`, or wait longer with --timeout"
        return Drained(self._pair[1], self._most - self.left, self.left, self.newer, why)


def _obstacle(standing: Standing) -> str | None:
    """Return why waiting is of no use."""
    state = standing.state
    if state is not None and state.paused:
        return f"it is paused by {state.paused_by}: {state.pause_reason}; first `gateway mirror resume {state.target}`"
    return None


async def _relay(session: Session, primary: str, target: str, end: float, look: _Looking) -> bool:
    """Hand over what is left, as a bot would; tell whether it could be begun.

    A store that takes one writer at a time is kept from this process by a bot, which hands it over itself.
    """
    capabilities = session.configuration.store(primary).spec.capabilities
    written = [target]
    if Capability.JOURNAL in capabilities or Capability.MULTI_PROCESS not in capabilities:
        written.append(primary)
    try:
        async with (
            session.stores(primary, target, writable=written) as stores,
            home(session, primary) as kept,
        ):
            await _relay_between(session, stores, kept, (primary, target), end, look)
    except (StoreLockedError, StoreBusyError):
        return False
    return True


async def _relay_between(
    session: Session, stores: StoreSet, kept: Home, names: tuple[str, str], end: float, look: _Looking
) -> None:
    primary, target = names
    refused = 0

    def note_refused(_: str, row: Row, error: Exception) -> None:
        nonlocal refused
        refused += 1
        if refused == 1:
            note(f"{target} refuses a row of {row.kind.name} for good: {error}", "yellow")

    # The rows and their acknowledgement go through the store that is open for writing.
    journal = stores[primary] if kept.notebook is None else kept.journal
    # It was opened for writing, which keeps every other process from one that takes a single writer.
    exclusive = Capability.MULTI_PROCESS not in stores[primary].capabilities
    pair = Pair(stores[primary], stores[target], journal, session.tenant, Circuit(), exclusive)
    async with home(session, primary, writable=True) as writable:
        lease = Lease(writable.states, target, Numbers().owner)
        relay = Relay(pair, None, lease, refused=note_refused)
        draining = asyncio.create_task(relay.drain(max(0.0, end - time.monotonic())))
        try:
            while not draining.done():
                await asyncio.wait((draining,), timeout=_LOOK)
                await look.once()
                if not look.left:  # what else there is has been written meanwhile, and that may have no end
                    return
            await draining
        finally:
            draining.cancel()
            await asyncio.wait((draining,))
            await relay.aclose()

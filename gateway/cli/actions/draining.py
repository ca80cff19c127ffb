"""Waiting until a mirror has everything; where no process hands it over, it is handed over here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from gateway.backend import Capability
from gateway.cli.actions.mirroring import bounds_of, home, primary_of
from gateway.cli.exits import ExitCode
from gateway.cli.output import note, print_json, print_line
from gateway.cli.progress import Meter, metered
from gateway.cli.session import Session
from gateway.dispatch import StoreSet
from gateway.errors import PhaseError, StoreBusyError, StoreError, StoreLockedError, StoreUnavailableError
from gateway.journal.numbers import Numbers
from gateway.mirror.bounds import age_text
from gateway.mirror.circuit import Circuit
from gateway.mirror.contract import Pair
from gateway.mirror.homes import Home
from gateway.mirror.lease import Lease
from gateway.mirror.relay import Relay
from gateway.mirror.state import behind
from gateway.mirror.survey import Standing, survey
from gateway.records.row import Row

__all__ = ["Drained", "await_arrival", "drain_mirrors"]

_LOOK: Final = 0.2
_FRESH: Final = timedelta(seconds=5)
"""What is younger than this is on its way, if bots run: they hand it over before another store leads."""


@dataclass(frozen=True, slots=True)
class Drained:
    """How waiting for a mirror ended.

    Attributes:
        mirror: Instance name.
        handed: How many changes were there at first, and are not any more.
        left: How many are left.
        why: Why; None if none is.
    """

    mirror: str
    handed: int
    left: int
    why: str | None

    def described(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return {"mirror": self.mirror, "handed_over": self.handed, "left": self.left, "why": self.why}


def drain_mirrors(session: Session, target: str | None, timeout: float, *, as_json: bool) -> ExitCode:
    """Wait until nothing is left for a mirror, or for every one.

    Raises:
        ConfigurationError: It is no mirror, or its journal is in the memory of a bot.
        StoreError: A store could not be used.
    """
    names = session.instances if target is None else (target,)
    primaries = {name: primary_of(session, name) for name in names}
    # Without a name: what can be seen, unless that is nothing; then the first says why.
    seen = tuple(name for name in names if primaries[name] in _lasting(session))
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


def _lasting(session: Session) -> tuple[str, ...]:
    """Return the stores that keep intents where somebody else can see them."""
    lasting = {Capability.JOURNAL, Capability.DURABLE}
    stores = session.configuration.stores
    return tuple(store.instance for store in stores if store.spec.capabilities & lasting)


def _print(done: Sequence[Drained]) -> None:
    for one in done:
        if one.why is None:
            moved = f"{one.handed:,} changes handed over" if one.handed else "nothing was waiting"
            print_line(f"{one.mirror}: has everything ({moved})", "green")
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
    """Counts what is left, and shows how far it has come."""

    def __init__(self, session: Session, kept: Home, primary: str, target: str, meter: Meter) -> None:
        self._session = session
        self._home = kept
        self._pair = (primary, target)
        self._meter = meter
        self._most = 0
        self.left = 0

    async def once(self) -> Standing:
        """Look; a store that cannot be asked is an error here."""
        standing = await survey(self._home, *self._pair, self._session.tenant, bounds_of(self._session))
        if standing.facts is None:
            raise StoreUnavailableError(str(standing.unknown))
        self.left = standing.facts.depth
        self._most = max(self._most, self.left)
        self._meter.show(self._pair[1], self._most - self.left, self._most)
        return standing

    def drained(self, why: str | None) -> Drained:
        """Return how it ended."""
        if not self.left:
            why = None
        elif why is None:
            why = "the time is over; look with `gateway mirror status`, or wait longer with --timeout"
        return Drained(self._pair[1], self._most - self.left, self.left, why)


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
        try:
            draining = asyncio.create_task(relay.drain(max(0.0, end - time.monotonic())))
            while not draining.done():
                await asyncio.wait((draining,), timeout=_LOOK)
                await look.once()
            await draining
        finally:
            await relay.aclose()


async def await_arrival(
    session: Session, moved: Iterable[tuple[str, str]], seconds: float, *, running: bool
) -> None:
    """Return once stores that are to lead have what those have written that lead now.

    Args:
        session: Names the stores.
        moved: From which store to which other the lead passes.
        seconds: How long to wait.
        running: Whether bots run, which hand over what they have written just now.

    Raises:
        PhaseError: A store that is to lead lacks something, or may lack it, for the other one cannot be asked.
    """
    for source, target in moved:
        if source not in _lasting(session):
            continue
        try:
            await _await_one(session, source, target, seconds, running=running)
        except StoreError as error:
            raise PhaseError(
                f"whether {target} has everything cannot be known: {error}. To let it lead all the same, add --force, "
                "which is kept with the decision; running bots then do not wait for it either"
            ) from error


async def _await_one(session: Session, source: str, target: str, seconds: float, *, running: bool) -> None:
    async with home(session, source) as kept:
        end = time.monotonic() + seconds
        while True:
            standing = await _asked(session, kept, source, target)
            if _arrived(standing, running, time.monotonic() >= end):
                return
            await asyncio.sleep(_LOOK)


async def _asked(session: Session, kept: Home, source: str, target: str) -> Standing:
    standing = await survey(kept, source, target, session.tenant, bounds_of(session))
    if standing.facts is None:
        raise StoreUnavailableError(str(standing.unknown))
    return standing


def _arrived(standing: Standing, running: bool, late: bool) -> bool:
    """Tell whether a store that is to lead has everything; refuse what waiting cannot help, or not any longer."""
    target, state = standing.mirror, standing.state
    depth = 0 if standing.facts is None else standing.facts.depth
    if state is not None and behind(state):
        raise PhaseError(
            f"{target} cannot lead: {standing.problems[0]}. To let it lead all the same, add --force, which is kept "
            "with the decision"
        )
    if not depth or (running and standing.age < _FRESH and not (state is not None and state.paused)):
        return True
    if late or (state is not None and state.paused):
        why = f" ({standing.problems[0]})" if standing.problems else ""
        raise PhaseError(
            f"{depth:,} changes have yet to reach {target}{why}, the oldest for {age_text(standing.age)}; "
            f"run `gateway mirror drain {target}`. To let it lead all the same, add --force, which is kept with the "
            "decision"
        )
    return False

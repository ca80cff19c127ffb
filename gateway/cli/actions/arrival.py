"""Waiting until a store that is to lead has what those have written that lead now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from gateway.cli.actions.mirroring import bounds_of, home, lasting
from gateway.cli.session import Session
from gateway.errors import PhaseError, StoreError, StoreUnavailableError
from gateway.mirror.bounds import age_text
from gateway.mirror.homes import Home
from gateway.mirror.state import behind
from gateway.mirror.survey import Standing, survey

__all__ = ["await_arrival"]

_LOOK: Final = 0.2
_FRESH: Final = timedelta(seconds=5)
"""What is younger than this is on its way, if bots run: they hand it over before another store leads."""


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
        if source not in lasting(session):
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

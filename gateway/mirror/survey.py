"""How the way to a mirror stands, as anybody can see who can read the primary; beside running bots, or without any."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.errors import GatewayError
from gateway.intents import JournalFacts
from gateway.mirror.bounds import Bounds, age_of, age_text
from gateway.mirror.fullness import fullness
from gateway.mirror.homes import Home
from gateway.mirror.state import behind, claims
from gateway.records.mirroring import MirrorState
from gateway.records.version import version_time

__all__ = ["Standing", "survey", "unknown"]

_NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Standing:
    """How the way from a primary to one of its mirrors stands.

    Attributes:
        primary: Instance name.
        mirror: Instance name.
        facts: What waits; None if that is not known.
        state: The mirror's state; None if that is not known.
        unknown: Why something is not known; None if everything is.
        at: When this was looked at.
        full: By what the journal has reached its bound; None while it has not.
        limit: Up to how many changes were counted.
        strays: What waits in the same journal for stores that are not configured.
    """

    primary: str
    mirror: str
    facts: JournalFacts | None
    state: MirrorState | None
    unknown: str | None
    at: datetime
    full: str | None = None
    limit: int = 0
    strays: tuple[JournalFacts, ...] = ()

    @property
    def age(self) -> timedelta:
        """How long the oldest change has been waiting; nothing if none is, or none is known."""
        return timedelta(0) if self.facts is None else age_of(self.facts, self.at)

    @property
    def relayed(self) -> bool:
        """Whether some process says that it replays what waits."""
        return self.state is not None and not claims(self.state, _NOBODY, self.at)

    @property
    def quiet(self) -> bool:
        """Whether there is nothing to say of it."""
        return not (self.problems or (self.facts is not None and self.facts.depth))

    @property
    def problems(self) -> tuple[str, ...]:
        """What an operator ought to know, one sentence each, the worst first."""
        found = [] if self.unknown is None else [f"not known: {self.unknown}"]
        state = self.state
        if state is not None:
            found += _state_problems(self, state)
        if self.full is not None:
            found.append(f"the journal is full: {self.full}")
        for one in self.strays:
            found.append(
                f"{one.depth:,} changes wait for {one.target}, which STORAGE_BACKENDS does not name, and nobody hands "
                f"them over. If {self.mirror} is that store, give it its name back, or run `gateway copy --from "
                f"{self.primary} --to {self.mirror}`; then, or if it is gone, run `gateway mirror forget {one.target}`"
            )
        return tuple(found)

    def described(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        state, facts = self.state, self.facts
        shown: dict[str, Any] = {
            "primary": self.primary,
            "mirror": self.mirror,
            "depth": None if facts is None else facts.depth,
            "depth_is_bound": facts is not None and facts.depth >= self.limit,
            "oldest": _time_of(None if facts is None else facts.oldest),
            "oldest_seconds": None if facts is None else round(self.age.total_seconds(), 3),
            "unknown": self.unknown,
            "full": self.full,
            "relayed": self.relayed,
            "problems": list(self.problems),
        }
        if state is not None:
            shown |= state.model_dump(mode="json", exclude={"target"})
            shown["behind_since_time"] = _time_of(state.behind_since)
        return shown


async def survey(home: Home, primary: str, mirror: str, tenant: str, bounds: Bounds) -> Standing:
    """Return how a pair stands. What cannot be read is said to be unknown, never left out.

    Args:
        home: The primary's.
        primary: Instance name.
        mirror: Instance name.
        tenant: Whose rows.
        bounds: How much may wait.
    """
    now = datetime.now(UTC)
    try:
        state = await home.states.read(mirror)
        found = await home.journal.facts(tenant, bounds.rows)
        facts = next((one for one in found if one.target == mirror), JournalFacts(mirror, 0, None))
        full = await fullness(home.journal, tenant, facts, state.refused, bounds, now)
    except GatewayError as error:
        return unknown(primary, mirror, str(error))
    strays = tuple(one for one in found if one.target not in {primary, mirror})
    return Standing(primary, mirror, facts, state, None, now, full, bounds.rows, strays)


def unknown(primary: str, mirror: str, why: str) -> Standing:
    """Return what can be said of a pair of which nothing can be known."""
    return Standing(primary, mirror, None, None, why, datetime.now(UTC))


def _state_problems(standing: Standing, state: MirrorState) -> list[str]:
    found = []
    if behind(state):
        since = _time_of(state.behind_since) or "its beginning"
        still = "; changes for it are not kept at present" if state.suspended else ""
        found.append(
            f"it lacks what was written since {since} ({state.behind_reason}){still}. Once it answers, run "
            f"`gateway copy --from {standing.primary} --to {standing.mirror}`"
        )
    if state.paused:
        found.append(
            f"paused by {state.paused_by}: {state.pause_reason}. End it with `gateway mirror resume {standing.mirror}`"
        )
    if state.circuit != "closed" and standing.relayed:
        found.append(f"it does not take writes: {state.last_error or 'no reason is known'}")
    if state.refused:
        found.append(f"it refuses {state.refused:,} rows for good; see `gateway divergences`")
    waits = standing.facts is not None and standing.facts.depth > 0
    if waits and not standing.relayed and not state.paused and standing.age > timedelta(minutes=1):
        found.append(
            f"changes have waited for {age_text(standing.age)} and no process hands them over; start a bot, or run "
            f"`gateway mirror drain {standing.mirror}`"
        )
    return found


def _time_of(version: int | None) -> str | None:
    if version is None:
        return None
    return version_time(version).isoformat(timespec="milliseconds").replace("+00:00", "Z")

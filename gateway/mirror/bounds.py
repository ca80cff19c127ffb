"""How much may wait for a mirror, and what happens then. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from gateway.intents import JournalFacts
from gateway.records.codec import from_micros
from gateway.records.version import version_time

__all__ = ["Bounds", "JournalPolicy", "age_of", "age_text", "excess"]


class JournalPolicy(StrEnum):
    """What happens when a journal has reached its bound."""

    BLOCK = "block"
    """Writes of mirrored kinds wait, and then fail with `JournalFullError`. Nothing is lost, on any store."""
    DEGRADE = "degrade"
    """The mirror is given up until a copy has brought it what it lacks; the bots go on."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may wait for one mirror.

    Attributes:
        rows: Intents.
        age: Age of the oldest.
        policy: What happens beyond that.
    """

    rows: int = 1_000_000
    age: timedelta = timedelta(days=7)
    policy: JournalPolicy = JournalPolicy.BLOCK


def age_of(facts: JournalFacts, now: datetime) -> timedelta:
    """Return how long the first intent has been waiting; nothing if there is none, or a clock runs ahead.

    By when it was written, which is not what its version says if it is of history that is brought in now.
    """
    if facts.oldest is None:
        return timedelta(0)
    since = version_time(facts.oldest) if facts.since is None else from_micros(facts.since)
    return max(timedelta(0), now - since)


def age_text(age: timedelta) -> str:
    """Return an age for people."""
    seconds = age.total_seconds()
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def excess(facts: JournalFacts, bounds: Bounds, now: datetime) -> str | None:
    """Return by what a journal has reached its bound; None while it has not.

    Args:
        facts: What waits, counted at least up to the bound.
        bounds: The bound.
        now: Aware time.
    """
    if facts.depth >= bounds.rows:
        return f"{facts.depth:,} or more changes wait, and STORAGE_JOURNAL_ROWS is {bounds.rows:,}"
    age = age_of(facts, now)
    if age >= bounds.age:
        return f"changes have waited for {age_text(age)}, and STORAGE_JOURNAL_AGE is {age_text(bounds.age)}"
    return None

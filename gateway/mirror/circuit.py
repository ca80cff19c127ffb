"""Circuits: whether a mirror that has failed is worth trying again.

While a circuit is closed, everything goes to the mirror. The first failure opens it: nothing goes there until a pause
is over, and then one attempt. Its success closes the circuit, its failure makes the pause longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from typing import Final, NamedTuple

from tenacity import AsyncRetrying, RetryCallState, wait_random_exponential

__all__ = ["CLOSED", "Circuit", "CircuitState", "Contact", "backoff", "failed"]

_WAIT: Final = wait_random_exponential(multiplier=0.2, max=30, min=0.05)
_RETRYING: Final = AsyncRetrying()


class CircuitState(StrEnum):
    """What a circuit lets through."""

    CLOSED = "closed"
    """Everything."""
    OPEN = "open"
    """Nothing, until the pause is over; then one attempt."""


class Contact(NamedTuple):
    """What is known of a mirror's health.

    Attributes:
        state: What is let through.
        failures: How many attempts have failed since the last that did not; those of an open circuit do not count.
        until: When the pause is over, on the clock of whoever asks.
        error: What failed last; None while closed.
    """

    state: CircuitState
    failures: int = 0
    until: float = 0.0
    error: str | None = None


CLOSED: Final = Contact(CircuitState.CLOSED)
"""What is known at first, and after every success."""


def failed(contact: Contact, now: float, error: str, pauses: Callable[[int], float]) -> Contact:
    """Return what is known after a failed attempt.

    Failures while the circuit is open make no pause longer: they are of attempts that began before, or of callers who
    insist, and there may be hundreds of them.
    """
    if contact.state is CircuitState.OPEN and now < contact.until:
        return contact._replace(error=error)
    failures = contact.failures + 1
    return Contact(CircuitState.OPEN, failures, now + pauses(failures), error)


def backoff(failures: int) -> float:
    """Return how long to pause after so many failures, in seconds: exponential up to half a minute, drawn at random."""
    call = RetryCallState(_RETRYING, None, (), {})
    call.attempt_number = failures
    return _WAIT(call)


class Circuit:
    """The circuit that the feed and the relay of one pair share.

    Args:
        pauses: How long to pause after so many failures, in seconds.
        clock: Seconds that only grow.
    """

    __slots__ = ("_clock", "_pauses", "contact")

    def __init__(
        self, pauses: Callable[[int], float] = backoff, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pauses = pauses
        self._clock = clock
        self.contact = CLOSED

    def __repr__(self) -> str:
        return f"<Circuit {self}>"

    def __str__(self) -> str:
        error = self.contact.error
        return self.contact.state.value if error is None else f"{self.contact.state.value}: {error}"

    @property
    def closed(self) -> bool:
        """Whether everything goes to the mirror."""
        return self.contact.state is CircuitState.CLOSED

    @property
    def pause(self) -> float:
        """Seconds until the mirror may be tried; 0 if it may now."""
        if self.contact.state is not CircuitState.OPEN:
            return 0.0
        return max(0.0, self.contact.until - self._clock())

    def may_try(self) -> bool:
        """Tell whether the mirror may be tried now; with an open circuit, once."""
        return self.closed or self.pause <= 0

    def succeeded(self) -> None:
        """Take note that the mirror has answered well."""
        self.contact = CLOSED

    def failed(self, error: Exception) -> None:
        """Take note that it has not."""
        self.contact = failed(self.contact, self._clock(), str(error), self._pauses)

"""A circuit breaker: after some failures in a row nobody asks for a while, then one does. Pure."""

from __future__ import annotations

__all__ = ["Breaker"]


class Breaker:
    """Counts failures in a row.

    Args:
        failures: How many open it.
        pause: Seconds for which it stays open; doubled with every further failure, up to eight times that.
    """

    __slots__ = ("_failures", "_limit", "_pause", "_until")

    def __init__(self, failures: int = 3, pause: float = 0.5) -> None:
        self._limit = failures
        self._pause = pause
        self._failures = 0
        self._until = 0.0

    def __repr__(self) -> str:
        return f"<Breaker failures={self._failures}>"

    def allows(self, now: float) -> bool:
        """Tell whether to ask now. Of those who come after the pause, the first asks, the others wait for it."""
        if self._failures < self._limit:
            return True
        if now < self._until:
            return False
        self._until = now + self._pause
        return True

    def succeeded(self) -> None:
        """Take note of an answer."""
        self._failures = 0

    def failed(self, now: float) -> None:
        """Take note that there was none."""
        self._failures += 1
        beyond = min(self._failures - self._limit, 3)
        if beyond >= 0:
            self._until = now + self._pause * 2**beyond

"""Budgets: so many a second of what costs more than it may at the rate of a burst."""

from __future__ import annotations

import time

__all__ = ["Budget"]


class Budget:
    """Gives out so many a second, as they are asked for; unused ones are worth one more second's at most.

    Looking at the clock costs about as much as all the rest, so it is looked at only once the second's are used up.

    Args:
        per_second: How many; at least 1.
    """

    __slots__ = ("_left", "_per_second", "_since")

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._left = 0
        self._since = float("-inf")

    def __repr__(self) -> str:
        return f"<Budget {self._per_second}/s left={self._left}>"

    def take(self) -> bool:
        """Take one; False if there were enough."""
        if self._left:
            self._left -= 1
            return True
        now = time.monotonic()
        if now - self._since < 1:
            return False
        self._since, self._left = now, self._per_second - 1
        return True

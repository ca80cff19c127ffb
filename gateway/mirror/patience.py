"""Patience: which intents are tried again later, and when. Pure: it is told the time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final

from gateway.intents import Intent
from gateway.mirror.replay import Number

__all__ = ["LONGEST", "Patience"]

LONGEST: Final = 600.0
"""Seconds after which a refused row is tried again, at the latest."""
_MISSING: Final = 100_000
# A backlog of a million goes through here, while the loop has callers to serve.
_number_of: Final = attrgetter("owner", "number")
_version_of: Final = attrgetter("version")


class Patience:
    """Remembers which intents were no use to try, within bounds; those beyond are tried at every look.

    Args:
        seconds: For how long an intent is kept whose row the primary does not have.
        refused: How many refused ones are remembered.
    """

    def __init__(self, seconds: float, refused: int) -> None:
        self._seconds = seconds
        self._most = refused
        self._refused: dict[Number, tuple[int, float]] = {}
        self._missing: dict[Number, float] = {}
        self._seen: set[Number] = set()

    def __repr__(self) -> str:
        return f"<Patience refused={len(self._refused)} missing={len(self._missing)}>"

    @property
    def refused(self) -> int:
        """How many refused intents are remembered."""
        return len(self._refused)

    def waits(self, intents: Iterable[Intent], now: float) -> bool:
        """Tell whether all of these are to be tried later."""
        return all(self._later((one.owner, one.number), now) for one in intents)

    def due(
        self,
        page: Sequence[Intent],
        now: float,
        before: int | None = None,
        owner: str = "",
        held: Sequence[tuple[int, int]] = (),
    ) -> list[Intent]:
        """Return those of a page that are to be tried now, each number with all its parts.

        Args:
            page: Intents in order, each number with all its parts.
            now: Seconds that only grow.
            before: Only numbers all of whose versions are smaller.
            owner: Whose numbers are held.
            held: First and last numbers that are in other hands, in order.
        """
        chosen: list[Intent] = []
        spans = iter(held)
        span = next(spans, None)
        known = bool(self._refused or self._missing)
        for number, parts in groupby(page, _number_of):
            if known and (number in self._refused or number in self._missing):
                self._seen.add(number)
            if number[0] == owner:
                while span is not None and span[1] < number[1]:
                    span = next(spans, None)
                if span is not None and span[0] <= number[1]:
                    continue
            whole = list(parts)
            if before is not None and max(map(_version_of, whole)) >= before:
                continue
            if not known or not self._later(number, now):
                chosen += whole
        return chosen

    def _later(self, number: Number, now: float) -> bool:
        return number in self._refused and now < self._refused[number][1]

    def refuse(self, numbers: Iterable[Number], now: float) -> None:
        """Take note of intents whose rows the mirror refuses; the pause grows each time."""
        for number in numbers:
            tries = self._refused.get(number, (0, 0.0))[0] + 1
            if tries > 1 or len(self._refused) < self._most:
                self._refused[number] = tries, now + min(LONGEST, 2.0**tries)
                self._seen.add(number)

    def expired(self, numbers: Iterable[Number], now: float) -> set[Number]:
        """Take note of intents whose rows the primary does not have; return those that have been waited for enough.

        What counts is how long this process has known it, not how old the version is: history is written with the
        versions of its own time.
        """
        gone: set[Number] = set()
        for number in numbers:
            if number not in self._missing and len(self._missing) >= _MISSING:
                continue
            self._seen.add(number)
            if now - self._missing.setdefault(number, now) >= self._seconds:
                gone.add(number)
        return gone

    def forget(self, numbers: Iterable[Number]) -> None:
        """Forget intents that are done."""
        for number in numbers:
            self._refused.pop(number, None)
            self._missing.pop(number, None)

    def clear(self) -> None:
        """Forget all of them: the journal has nothing."""
        self._refused.clear()
        self._missing.clear()

    def begin(self) -> None:
        """Begin to go through the journal from its start."""
        self._seen.clear()

    def end(self) -> None:
        """Forget what the journal does not have any more, once all of it was gone through."""
        self._refused = {one: what for one, what in self._refused.items() if one in self._seen}
        self._missing = {one: when for one, when in self._missing.items() if one in self._seen}

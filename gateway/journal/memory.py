"""A journal in memory, for primaries that are gone with the process anyway."""

from __future__ import annotations

import time
from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from typing import Final

from gateway.intents import Intent, JournalFacts, Stretch
from gateway.journal.notes import Note

__all__ = ["MemoryJournal"]

_Place = tuple[str, str]
_Number = tuple[str, int, int]
_LAST: Final = 2**63


class MemoryJournal:
    """Intents of one primary that keeps nothing itself. Implements `gateway.intents.Journal`.

    How many there are is bounded by who writes them; see `gateway.mirror.bounds`.
    """

    def __init__(self) -> None:
        self._intents: dict[_Place, dict[_Number, tuple[Intent, int]]] = {}
        self._order: dict[_Place, list[_Number]] = {}

    def __repr__(self) -> str:
        return f"<MemoryJournal {sum(map(len, self._intents.values()))}>"

    async def note(self, notes: Sequence[Note]) -> None:
        """Keep intents; see `LocalJournal.note`."""
        self.note_now(notes)

    def note_now(self, notes: Iterable[Note]) -> None:
        """Keep intents; see `LocalJournal.note_now`."""
        now = time.time_ns() // 1_000
        for target, intent in notes:
            place, number = (target, intent.tenant), (intent.owner, intent.number, intent.part)
            held, order = self._intents.setdefault(place, {}), self._order.setdefault(place, [])
            if number not in held:
                if not order or number > order[-1]:
                    order.append(number)
                else:
                    insort(order, number)
                held[number] = intent, now

    async def forget(self, stretch: Stretch) -> None:
        """Remove the intents of writes that did not happen, for every mirror."""
        for target, tenant in list(self._intents):
            await self.acknowledge(target, tenant, (stretch,))

    async def pending(
        self, target: str, tenant: str, limit: int, *, before: int | None = None, after: Stretch | None = None
    ) -> Sequence[Intent]:
        """Return intents; see `Journal.pending`."""
        held, order = self._intents.get((target, tenant), {}), self._order.get((target, tenant), [])
        at = 0 if after is None else bisect_right(order, (after.owner, after.last, _LAST))
        found: list[Intent] = []
        while at < len(order) and len(found) < limit:
            owner, number, _ = order[at]
            end = bisect_right(order, (owner, number, _LAST), at)
            # Steps are given as a whole: whoever is given a part of one would acknowledge all of it.
            step = [held[one][0] for one in order[at:end]]
            if before is None or all(intent.version < before for intent in step):
                found += step
            at = end
        return found

    async def acknowledge(self, target: str, tenant: str, done: Sequence[Stretch]) -> int:
        """Remove intents; see `Journal.acknowledge`."""
        held, order = self._intents.get((target, tenant), {}), self._order.get((target, tenant), [])
        removed = 0
        for owner, first, last in done:
            begin = bisect_right(order, (owner, first, -1))
            end = max(begin, bisect_right(order, (owner, last, _LAST)))
            for number in order[begin:end]:
                del held[number]
            del order[begin:end]
            removed += end - begin
        return removed

    async def facts(self, tenant: str, limit: int) -> Sequence[JournalFacts]:
        """Return what is left; see `Journal.facts`."""
        return [
            JournalFacts(
                target,
                min(len(held), limit),
                min(one.version for one, _ in held.values()),
                min(noted for _, noted in held.values()),
            )
            for (target, whose), held in sorted(self._intents.items())
            if whose == tenant and held
        ]

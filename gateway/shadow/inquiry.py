"""Inquiries: a difference is looked at again and again until it is explained, or nothing is left to explain it.

Where it can be asked whether the mirror has caught up, stores are not read while it has not; a difference is believed
once the mirror has what it lacks, says so, and yet lacks it. Where nobody can be asked, time has to do: a difference is
believed if it outlasts a fixed number of looks, which is enough for mirrors that are written before the caller returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from gateway.backend import GroupSummary, Summarize
from gateway.compare import Outcome, RowComparison
from gateway.records.codec import Value
from gateway.records.row import Key
from gateway.records.version import MAX_VERSION
from gateway.shadow.awaited import Asking, Awaited
from gateway.shadow.looks import Counted, Pair, RowRead
from gateway.shadow.sights import Sight, behind, explained, gone, remaining, standing

__all__ = [
    "RECHECK_DELAYS",
    "CountFinding",
    "Found",
    "Patience",
    "differing_groups",
    "inquire",
    "inquire_count",
]

RECHECK_DELAYS: Final = (0.01, 0.04, 0.15, 0.8)
"""Seconds before each further look at a difference; about one second in all."""
_LONGEST_PAUSE: Final = 5.0
_SHORTEST_PAUSE: Final = 0.01
_DOUBT: Final = 3
"""Looks after which the leading store is asked twice, though no difference has lasted."""
_ENOUGH: Final = 3
"""Looks after which new differences are left to the next read, if all that were there before are explained."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a difference is looked at.

    Attributes:
        delays: Seconds before each of the first looks.
        seconds: How long to wait for a mirror to catch up; later, the comparison ends as `lagging`.
        purge: How long a row that only the follower has must stay there before it is believed. Retention removes rows
            from the leader first, and nothing in the stores tells that it is on its way to the follower.
        closing: Set when nobody is going to wait any more.
    """

    delays: Sequence[float] = RECHECK_DELAYS
    seconds: float = 300.0
    purge: float = 30.0
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    def pauses(self) -> Iterator[float]:
        """Yield the seconds before each look, without end."""
        yield from self.delays
        pause = max([_SHORTEST_PAUSE, *self.delays[-1:]])
        while True:
            pause = min(2 * pause, _LONGEST_PAUSE)
            yield pause


@dataclass(frozen=True, slots=True)
class CountFinding:
    """A group of rows that two stores count differently.

    Attributes:
        mine: What the leading store says; None if it has no such group.
        theirs: What the other says.
    """

    mine: GroupSummary | None
    theirs: GroupSummary | None


@dataclass(frozen=True, slots=True)
class Found:
    """How an inquiry ended.

    Attributes:
        outcome: `lagging`, `diverged` or `unstable`.
        rows: The rows that differ, as they were seen last.
        listed: The keys among them that differ in the listing only.
        misplaced: The first key at which the orders of two listings part.
        counts: The groups that differ.
    """

    outcome: Outcome
    rows: tuple[RowComparison, ...] = ()
    listed: frozenset[Key] = frozenset()
    misplaced: Key | None = None
    counts: tuple[CountFinding, ...] = ()


_LAGGING: Final = Found(Outcome.LAGGING)


class _Clock:
    """Counts looks and seconds of one inquiry, and pauses between looks."""

    def __init__(self, patience: Patience, *, asked: bool) -> None:
        self._patience = patience
        self._asked = asked
        self._pauses = patience.pauses()
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()
        self._looks = 0

    @property
    def age(self) -> float:
        """Seconds since the inquiry began."""
        return self._loop.time() - self._started

    @property
    def closing(self) -> bool:
        """Whether the inquiry has to come to an end. One that goes by time keeps its time."""
        return self._patience.closing.is_set() and (self._asked or self.outlasted)

    @property
    def doubtful(self) -> bool:
        """Whether it is time to ask if the question has one answer at all."""
        return self._looks % _DOUBT == 0

    @property
    def enough(self) -> bool:
        """Whether differences that are new in this look are no reason for another one."""
        return self._looks >= _ENOUGH

    @property
    def outlasted(self) -> bool:
        """Whether the looks that every difference gets are over."""
        return self._looks >= len(self._patience.delays)

    @property
    def purge_is_over(self) -> bool:
        """Whether no removal by age explains anything any more."""
        return self.age >= self._patience.purge

    async def pause(self) -> bool:
        """Wait until the next look is due, and return whether there is to be one."""
        if self.age > self._patience.seconds:
            return False
        pause = next(self._pauses)
        if self._asked or self.outlasted:
            try:
                async with asyncio.timeout(pause):
                    await self._patience.closing.wait()
            except TimeoutError:
                pass
        else:
            await asyncio.sleep(pause)
        self._looks += 1
        return True


async def inquire(
    pair: Pair,
    request: RowRead,
    patience: Patience,
    asking: Asking | None,
    suspects: Sequence[Key] = (),
) -> Found:
    """Find out what is behind a difference between two stores' answers.

    Args:
        pair: The stores.
        request: What was asked.
        patience: How long to look.
        asking: Tells whether the mirror has caught up; None where nobody can.
        suspects: Rows that differed in the bot's own answer; by now they may not be in the listing any more.

    Raises:
        StoreError: A store cannot answer, so nothing is known.
        TimeoutError: A store does not answer in time.
    """
    clock = _Clock(patience, asked=asking is not None)
    base: Sight | None = None
    while await clock.pause():
        caught: Collection[Key] = ()
        if base is not None and asking is not None:
            caught = await _caught(pair, request, base, asking)
            if not (caught or _answerable(base)):
                if clock.closing:
                    break
                continue  # still behind, so both stores can be left alone
        after = await pair.look(request, suspects if base is None else base.suspects)
        if after.clear:
            break
        if base is not None:
            found = await _judged(pair, request, _Looks(base, after, caught, asking is None), clock)
            if found is not None:
                return found
            if clock.doubtful and await pair.wavers(request, after.suspects):
                return Found(Outcome.UNSTABLE)
            if clock.enough and explained(base, after):
                break
            if clock.closing or (asking is None and clock.outlasted and not _may_be_purge(base, after)):
                break
        base = after
    return _LAGGING


def _answerable(base: Sight) -> bool:
    """Tell whether there is a difference that needs no catching up to be judged."""
    return base.misplaced is not None or any(standing(base, key) for key in base.suspects)


def _may_be_purge(base: Sight, after: Sight) -> bool:
    return any(gone(row) for row in remaining(base, after).values())


async def _caught(pair: Pair, request: RowRead, base: Sight, asking: Asking) -> set[Key]:
    """Return the keys whose newer row has reached the store that had the older one, or nothing, in the last look."""
    ways: tuple[list[Awaited], list[Awaited]] = ([], [])
    for key in base.suspects:
        row = base.rows.get(key)
        if row is not None and row.outcome is not Outcome.MATCH:
            way = behind(row)
            ways[way.to_right].append(Awaited(request.kind, request.tenant, key, way.version))
    left, right = pair.reader.name, pair.shadow.name
    to_left = await asking.ask(right, left, ways[False])
    to_right = await asking.ask(left, right, ways[True])
    answers = zip(chain(*ways), chain(to_left, to_right), strict=True)
    return {one.key for one, arrived in answers if arrived and one.key is not None}


@dataclass(frozen=True, slots=True)
class _Looks:
    """Two looks, one after the other, and which keys had caught up in between; by time, that is not asked."""

    before: Sight
    after: Sight
    caught: Collection[Key]
    by_time: bool

    def believed(self, clock: _Clock) -> dict[Key, RowComparison]:
        """Return the differences that nothing explains any more."""
        if self.by_time and not clock.outlasted:
            return {}
        return {
            key: row
            for key, row in remaining(self.before, self.after).items()
            if (self.by_time or key in self.caught or standing(self.after, key))
            and (clock.purge_is_over or not gone(self.after.rows[key]))
        }

    def misplaced(self, clock: _Clock) -> Key | None:
        """Return the key at which the orders part in both looks."""
        certain = self.before.misplaced is not None and (clock.outlasted or not self.by_time)
        return self.after.misplaced if certain else None


async def _judged(pair: Pair, request: RowRead, looks: _Looks, clock: _Clock) -> Found | None:
    """Return the end of the inquiry, or None if it has to go on."""
    rows, misplaced = looks.believed(clock), looks.misplaced(clock)
    if not rows and misplaced is None:
        return None
    unstable, order_wavers = await pair.unstable(request, rows, looks.after)
    if order_wavers:
        misplaced = None
    kept = {key: row for key, row in rows.items() if key not in unstable}
    if not kept and misplaced is None:
        return Found(Outcome.UNSTABLE)
    listed = frozenset(key for key in kept if looks.after.rows[key].outcome is Outcome.MATCH)
    return Found(Outcome.DIVERGED, tuple(kept.values()), listed, misplaced)


async def inquire_count(pair: Pair, request: Summarize, patience: Patience, asking: Asking | None) -> Found:
    """Find out why two stores count differently.

    Counts carry no versions. So they are believed only if no row changed in either store from one look to the next,
    by the fingerprints of all rows, and the one that follows has everything. Both stores read the whole kind for that.

    Args:
        pair: The stores.
        request: What is counted.
        patience: How long to look.
        asking: Tells whether the mirror has caught up; None where nobody can.

    Raises:
        StoreError: A store cannot answer, so nothing is known.
        TimeoutError: A store does not answer in time.
    """
    clock = _Clock(patience, asked=asking is not None)
    base: Counted | None = None
    while await clock.pause():
        arrived = base is None or asking is None or await _all_arrived(pair, request, asking)
        if arrived:
            after = await pair.count(request)
            if not differing_groups(after.mine, after.theirs):
                break
            # The counts of the look before were made between two equal fingerprints: nothing changed around them.
            if base is not None and after.digests == base.digests:
                found = _judged_counts(base, clock, by_time=asking is None)
                if found is not None:
                    return found
            base = after
        if clock.closing or (asking is None and clock.outlasted and clock.purge_is_over):
            break
    return _LAGGING


def _judged_counts(base: Counted, clock: _Clock, *, by_time: bool) -> Found | None:
    """Return the end of the inquiry into counts during which nothing changed, or None if it has to go on."""
    if differing_groups(base.mine, base.again):
        return Found(Outcome.UNSTABLE)
    counts = differing_groups(base.mine, base.theirs)
    if (by_time and not clock.outlasted) or (_fewer(counts) and not clock.purge_is_over):
        return None
    return Found(Outcome.DIVERGED, counts=counts) if counts else None


async def _all_arrived(pair: Pair, request: Summarize, asking: Asking) -> bool:
    everything = Awaited(request.kind, request.tenant, None, MAX_VERSION - 1)
    left, right = pair.reader.name, pair.shadow.name
    return (await asking.ask(left, right, [everything]))[0] and (await asking.ask(right, left, [everything]))[
        0
    ]


def _fewer(counts: Sequence[CountFinding]) -> bool:
    """Tell whether the leader has fewer rows of a group, as it has while rows are removed by age."""
    return any((one.mine.rows if one.mine else 0) < (one.theirs.rows if one.theirs else 0) for one in counts)


def differing_groups(
    mine: Sequence[GroupSummary], theirs: Sequence[GroupSummary]
) -> tuple[CountFinding, ...]:
    """Return the groups that two stores count differently."""
    left, right = _by_value(mine), _by_value(theirs)
    pairs = (CountFinding(left.get(name), right.get(name)) for name in dict.fromkeys((*left, *right)))
    return tuple(pair for pair in pairs if pair.mine != pair.theirs)


def _by_value(groups: Sequence[GroupSummary]) -> Mapping[tuple[type, Value], GroupSummary]:
    return {(type(group.value), group.value): group for group in groups}

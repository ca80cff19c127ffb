"""A model of many processes around one cached row: nobody ever reads what was out of date before the read began.

The decisions are those of `gateway.cache.permit`, the cache is the reference, the store is a number, and time is made
up: every step of every process takes a random while, servers restart and evict, networks part, processes are killed.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cache.contract import End, Fill, Miss, Terms
from gateway.cache.permit import Epoch, Known, State, Step, changes, learn, may_read, next_step
from gateway_memory.cache import CacheServer

PERMIT, FENCE, LEAD = 1.0, 3.0, 1.0
CALL = FENCE - LEAD
"""How long a call to the store may take."""
PAUSE = 2.0
END_OF_TIME = 150.0
ABSENT = Epoch(State.CLOSED, "", "", PERMIT, 0.0)
Steps = Generator[float, None, None]


@dataclass
class Result:
    """What came to pass.

    Attributes:
        stale: Sentences about reads that were out of date.
        hits: Reads that the cache answered.
        plain: Writes beside the cache.
        fenced: Writes that were announced.
        openings: How often the row was opened.
    """

    stale: list[str] = field(default_factory=list)
    hits: int = 0
    plain: int = 0
    fenced: int = 0
    openings: int = 0


class World:
    """The store with its row, the cache server, and the time."""

    def __init__(self, chance: random.Random, *, evicts: bool) -> None:
        self.chance = chance
        self.now = 0.0
        self.result = Result()
        self.server = CacheServer(evicts=evicts, now=lambda: self.now)
        self.stored = 0
        self.seen = 0
        """The newest version that was acknowledged or returned."""
        self.versions = count(1)
        self.epoch, self.stamp = ABSENT, 0
        self._events: list[tuple[float, int, Steps]] = []
        self._order = count()

    def start(self, steps: Steps, after: float = 0.0) -> None:
        """Let something happen, beginning after a while."""
        heapq.heappush(self._events, (self.now + after, next(self._order), steps))

    def run(self) -> None:
        """Let everything happen until the end of time."""
        while self._events and self._events[0][0] < END_OF_TIME:
            self.now, _, steps = heapq.heappop(self._events)
            pause = next(steps, None)
            if pause is not None:
                self.start(steps, pause)

    def little(self) -> float:
        """Return how long something takes that is mostly fast."""
        return self.chance.choice((0.001, 0.01, 0.05)) * self.chance.random()

    def long(self, bound: float) -> float:
        """Return how long something takes that is now and then slow."""
        return self.chance.random() * bound if self.chance.random() < 0.3 else self.little()

    def change(self, stamp: int, epoch: Epoch) -> bool:
        """Replace the row if it has this stamp."""
        if stamp != self.stamp:
            return False
        self.result.openings += epoch.state is State.OPEN
        self.epoch, self.stamp = epoch, self.stamp + 1
        return True


class Process:
    """One process: it looks at the row, reads and writes."""

    def __init__(self, world: World, name: str, *, plain: bool = False) -> None:
        self.world = world
        self.name = name
        self.plain = plain
        """Whether it has no cache, and keeps that of others closed while it runs."""
        self.offset = world.chance.random() * 1000
        self.known: Known | None = None
        self.reached = not plain
        self.frozen = False
        """Whether it begins nothing, and notices nothing; what it has sent goes on."""
        self.blind = False
        """Whether the store's row cannot be looked at from here."""
        self.alive = True
        self._tokens = count()

    def clock(self) -> float:
        """Return the time as this process counts it."""
        return self.world.now + self.offset

    def reaches(self, epoch: Epoch) -> bool:
        """Tell whether a call for an epoch would be served."""
        return self.alive and self.reached and epoch.incarnation == self.world.server.incarnation

    def terms(self) -> Terms:
        """Return the terms of a call."""
        probation = round(FENCE * 1000) if self.world.server.evicts else 0
        return Terms(30_000, 5_000, round(FENCE * 1000), 60_000, probation)

    def look(self) -> Steps:
        """Look at the row."""
        world = self.world
        began = self.clock()
        yield world.long(0.5)
        while self.blind:
            yield 0.05
        epoch, stamp = world.epoch, world.stamp
        yield world.long(0.5)
        if self.known is None or (stamp, 0) >= (self.known.stamp or (0, 0)):
            self.known = learn(self.known, epoch, (stamp, 0) if stamp else None, began, self.clock())

    def tend(self) -> Steps:
        """Keep watch for ever."""
        world = self.world
        while self.alive:
            yield from self.thawed()
            yield from self.look()
            wanted = Epoch(State.OPENING, f"{self.name}{world.now}", "", PERMIT, FENCE)
            reached = world.server.incarnation if self.reached else None
            found = changes(
                [self.known],
                self.clock(),
                incarnation=reached,
                wanted=wanted,
                pause=PAUSE,
                holding=self.plain,
            )
            for due in found:
                yield from self.change(due.epoch)
            yield PERMIT / 3

    def thawed(self) -> Steps:
        """Wait until it runs."""
        while self.frozen:
            yield 0.05

    def change(self, epoch: Epoch) -> Steps:
        """Compare and set the row."""
        known, began = self.known, self.clock()
        yield self.world.little()
        if known is not None:
            self.world.change((known.stamp or (0, 0))[0], epoch)
            stamp = self.world.stamp
            self.known = learn(
                self.known, self.world.epoch, (stamp, 0) if stamp else None, began, self.clock()
            )
        yield self.world.little()

    def write(self) -> Steps:
        """Write a new version, as `CachedStore` does."""
        world = self.world
        version, token, able = next(world.versions), f"{self.name}{next(self._tokens)}", True
        epoch: Epoch | None = None
        names: set[str] = set()
        late = 0
        while True:
            step, pause = next_step(self.known, self.clock(), able=able, fence=FENCE)
            if step is Step.PLAIN:
                epoch = None
                world.result.plain += 1
                break
            if step is Step.WAIT:
                yield pause
            elif step is Step.LOOK or self.known is None:
                yield from self.look()
            elif step is Step.CLOSE:
                yield from self.change(replace(self.known.epoch, state=State.CLOSED))
            else:
                epoch, announced = self.known.epoch, self.clock()
                yield world.long(2 * LEAD)
                able = self.reached and epoch.incarnation == world.server.incarnation
                if able:
                    names.add(epoch.name)
                    world.server.begin(epoch.name, token, self.terms())
                    yield world.long(2 * LEAD)
                    if self.clock() - announced <= LEAD:
                        world.result.fenced += 1
                        break
                    late += 1
                    able = late < 3
        for name in names - {"" if epoch is None else epoch.name}:
            world.server.end(End(name, token, "", None), self.terms())
        yield world.long(CALL / 2)
        won, world.stored = version > world.stored, max(world.stored, version)
        newest = world.stored
        if not self.alive:
            return
        yield world.long(CALL / 2)
        world.seen = max(world.seen, version)
        yield world.long(5.0)
        if epoch is not None and self.reaches(epoch):
            value = str(version).encode() if won else None
            world.server.end(End(epoch.name, token, f"{newest:032x}", value), self.terms())

    def read(self) -> Steps:
        """Read, as `CachedReader` does."""
        world = self.world
        least, token, found, lease = world.seen, f"{self.name}{next(self._tokens)}", None, False
        epoch = may_read([self.known], self.clock())
        if epoch is not None and self.reached:
            yield world.long(0.5)
            if epoch.incarnation == world.server.incarnation:
                found = world.server.get(epoch.name, token, self.terms())
                lease = found is Miss.LEASED
        if isinstance(found, bytes):
            version = int(found)
            world.result.hits += 1
        else:
            yield world.long(3.0)
            version = world.stored
        yield world.little()
        if version < least:
            world.result.stale.append(
                f"{self.name} at {world.now:.3f} got {version}, {least} was known before"
            )
        world.seen = max(world.seen, version)
        if lease and epoch is not None:
            yield world.long(5.0)
            if self.reaches(epoch):
                mark = f"{version:032x}"
                world.server.fill(Fill(epoch.name, token, mark, str(version).encode()), self.terms())

    def live(self) -> Steps:
        """Read and write for ever, reading more."""
        world = self.world
        while self.alive:
            yield from self.thawed()
            yield world.long(1.0) + 0.05
            world.start(self.read() if world.chance.random() < 0.94 else self.write())


def trouble(world: World, processes: Sequence[Process]) -> Steps:
    """Let things go wrong now and then."""
    chance = world.chance
    spawned = count()
    while True:
        yield chance.random() * 25
        victim = chance.choice(processes)
        match chance.randrange(7):
            case 0:
                world.server.restart(keep=chance.random() < 0.5)
            case 1 | 2 if world.server.evicts:
                world.server.evict()
            case 3:
                victim.reached = False
                yield chance.random() * 5
                victim.reached = True
            case 4:
                victim.reached = False
                yield 0.01 + chance.random()
                victim.reached = True
            case 5:
                other = chance.choice(processes)
                victim.blind, other.reached = True, False
                yield chance.random() * 8
                victim.blind, other.reached = False, True
            case 6 if victim.alive and sum(one.alive for one in processes) > 1:
                victim.alive = False
                fresh = Process(world, f"{victim.name}+{next(spawned)}")
                world.start(fresh.tend())
                world.start(fresh.live())


def sleeping(world: World, process: Process) -> Steps:
    """Let a process run for a moment, again and again, and be stopped for longer than others wait for it.

    The first thing that it does when it goes on is to write.
    """
    while True:
        yield 2.0 * world.chance.random()
        process.frozen = True
        yield 10.0 + 15.0 * world.chance.random()
        process.frozen = False
        world.start(process.write())


def simulate(seed: int, *, evicts: bool = True, faults: bool = True, plain: bool = False) -> Result:
    """Run a world to its end; with a process that has no cache, if wanted, and that is stopped most of the time."""
    world = World(random.Random(seed), evicts=evicts)
    processes = [Process(world, name) for name in "abc"]
    for one in processes:
        world.start(one.tend())
        world.start(one.live(), after=world.chance.random())
    if plain:
        beside = Process(world, "plain", plain=True)
        for steps in (beside.tend(), beside.live(), sleeping(world, beside)):
            world.start(steps)
    if faults:
        world.start(trouble(world, processes))
    world.run()
    return world.result


@settings(max_examples=24, deadline=None)
@given(seed=st.integers(0, 2**32), evicts=st.booleans(), plain=st.booleans())
def test_no_read_is_older_than_what_was_known_before_it_began(seed: int, evicts: bool, plain: bool) -> None:
    """Whatever restarts, is evicted, parted, killed or stopped: reads never go back."""
    assert simulate(seed, evicts=evicts, plain=plain).stale == []


def test_the_model_notices_who_does_not_look_before_it_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was stopped and believes the cache to be closed still, writes what others read old."""
    right = next_step

    def trusting(known: Known | None, now: float, **more: Any) -> tuple[Step, float]:
        if known is not None and known.epoch.state is State.CLOSED:
            now = min(now, known.began + PERMIT)
        return right(known, now, **more)

    runs = [simulate(seed, evicts=seed % 2 == 0, faults=False, plain=True) for seed in range(6)]
    assert sum(run.hits for run in runs) > 50
    assert not any(run.stale for run in runs)
    monkeypatch.setitem(globals(), "next_step", trusting)
    assert any(simulate(seed, evicts=seed % 2 == 0, faults=False, plain=True).stale for seed in range(40))


def test_the_cache_is_used_and_left_aside() -> None:
    """The model is worth something: rows are read from the cache, and writes go both ways."""
    runs = [simulate(seed) for seed in range(8)]
    assert sum(run.hits for run in runs) > 130
    assert sum(run.plain for run in runs) > 30
    assert sum(run.fenced for run in runs) > 30
    assert sum(run.openings for run in runs) > 8


def test_the_model_notices_a_missing_probation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the server evicts, an entry that is trusted from the beginning gives stale reads."""
    right = Process.terms
    monkeypatch.setattr(Process, "terms", lambda self: right(self)._replace(probation_ms=0))
    assert any(simulate(seed).stale for seed in range(47, 90))


def _no_wait(step: tuple[Step, float]) -> tuple[Step, float]:
    return (Step.PLAIN, 0.0) if step[0] is Step.WAIT else step


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("next_step", lambda good: lambda *a, **k: _no_wait(good(*a, **k))),
        ("may_read", lambda good: lambda known, now: good(known, now - 20 * PERMIT)),
        ("learn", lambda good: lambda before, *rest: replace(good(before, *rest), since=rest[2] - 100.0)),
    ],
)
def test_the_model_notices_a_broken_rule(
    name: str, broken: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one of the waits, a permit that ends, or the time of opening, some run finds a stale read.

    Where the server evicts, probation keeps entries from readers for as long as the time of opening would.
    """
    monkeypatch.setitem(globals(), name, broken(globals()[name]))
    assert any(simulate(seed, evicts=seed % 2 == 0).stale for seed in range(150))

"""What lanes, feeds, relays and those who look after them know of each other.

A *pair* is a journal's store and one of its mirrors. It has a feed, which hands over what was written just now, and a
relay, which hands over what the feed did not. Both share a circuit, so that a mirror that fails is tried now and then,
and not by every write.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from gateway.backend import Capability, Step
from gateway.dispatch import Store
from gateway.errors import GatewayError, StoreError
from gateway.intents import Journal
from gateway.journal.numbers import Numbers
from gateway.lanes.outcomes import Sink
from gateway.mirror.circuit import Circuit
from gateway.records.row import Row

__all__ = [
    "Claim",
    "FeedOptions",
    "FeedStatus",
    "Feeding",
    "Mirroring",
    "Pair",
    "Permission",
    "Refused",
    "RelayOptions",
    "RelayStatus",
    "Relaying",
    "Unquestioned",
    "Waiter",
]

Waiter = Callable[[str, GatewayError | None], None]
"""Is told once that a mirror, by name, has all steps that were offered, or why it has not. Must not raise."""

Refused = Callable[[str, Row, GatewayError], None]
"""Is told, each time it is tried, of a row that a mirror, by name, refuses for good. Must return at once."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A store that leads, and one of its mirrors.

    Attributes:
        primary: Where the rows are.
        sink: Writes to the mirror, behind the cache if there is one; never the one that keeps intents.
        journal: Where the primary's intents are.
        tenant: Whose rows.
        circuit: Whether the mirror is worth trying; the feed and the relay share it.
        exclusive: Whether this process alone writes the primary. What another one left behind then is all it ever did.
    """

    primary: Store
    sink: Sink
    journal: Journal
    tenant: str
    circuit: Circuit
    exclusive: bool = False

    @property
    def target(self) -> str:
        """Instance name of the mirror."""
        return self.sink.name

    @property
    def transactional(self) -> bool:
        """Whether an intent is there exactly if its row was committed."""
        return Capability.JOURNAL in self.primary.capabilities


@dataclass(frozen=True, slots=True)
class FeedOptions:
    """Bounds of a feed.

    Attributes:
        rows: Steps that wait for the mirror, at most; what is beyond is left to the relay.
        batch: Steps of one write to the mirror, at most (an offer of more goes on its own).
        linger: Seconds to gather before writing, while nobody waits.
        retry: Seconds for which a write that somebody waits for is tried again after a transient failure.
        done: Steps that are acknowledged together.
        done_seconds: Seconds after which they are acknowledged, however few.
    """

    rows: int = 20_000
    batch: int = 1_000
    linger: float = 0.01
    retry: float = 2.0
    done: int = 1_000
    done_seconds: float = 0.5


@dataclass(frozen=True, slots=True)
class RelayOptions:
    """Pace and bounds of a relay.

    Attributes:
        poll: Seconds between two looks into the journal while the mirror keeps up.
        grace: Seconds for which an intent is left to who wrote it.
        batch: Rows of one write to the mirror.
        parallel: Batches at the same time.
        patience: Seconds for which an intent is kept whose row the primary does not have, where intents are written
            before the row is.
        poison: Refused rows whose pauses are remembered; others are tried at every look.
    """

    poll: float = 1.0
    grace: float = 3.0
    batch: int = 500
    parallel: int = 4
    patience: float = 600.0
    poison: int = 10_000


@dataclass(frozen=True, slots=True)
class FeedStatus:
    """What a feed is at.

    Attributes:
        waiting: Steps that were taken and are not written.
        written: Steps that the mirror has by it.
        left: Steps that were left to the relay.
        failures: Writes to the mirror that failed.
        circuit: `closed` or `open`, with the last error behind it if there is one.
        paused: Why nothing is handed over; None if it is.
        lag: Seconds from when the primary had what was written last until the mirror had it.
    """

    waiting: int
    written: int
    left: int
    failures: int
    circuit: str
    paused: str | None
    lag: float = 0.0


@dataclass(frozen=True, slots=True)
class RelayStatus:
    """What a relay is at.

    Attributes:
        relayed: Rows that the mirror has by it.
        refused: Intents whose rows the mirror refuses for good, as far as remembered; they stay in the journal.
        failures: Looks or writes that failed.
        error: What failed last; None if the last look went well.
        claim: What its permission said last.
        complete: Whether it has gone through all of the journal since it was made, so that it knows what is refused.
    """

    relayed: int
    refused: int
    failures: int
    error: str | None
    claim: Claim
    complete: bool = True


class Claim(StrEnum):
    """Whether a relay may work."""

    GRANTED = "granted"
    PAUSED = "paused"
    """Somebody said that nothing is to reach the mirror."""
    TAKEN = "taken"
    """Another process's relay is at it."""


class Permission(Protocol):
    """Whether this process's relay of one pair may work: the lease in the mirror's state record."""

    async def claim(self) -> Claim:
        """Take the lease, or go on with it. Asked before every page, so it must be cheap while the lease is fresh.

        Raises:
            StoreError: The state record cannot be read; the relay waits and asks again.
        """
        ...

    async def release(self) -> None:
        """Let go of the lease, if it is this process's. Does not raise."""
        ...


@dataclass(slots=True)
class Unquestioned:
    """A permission that is always given: one process, nobody to ask. `claimed` is what it says."""

    claimed: Claim = field(default=Claim.GRANTED)

    async def claim(self) -> Claim:
        """Return what was set."""
        return self.claimed

    async def release(self) -> None:
        """Do nothing."""


class Feeding(Protocol):
    """What is known of `gateway.mirror.feed.Feed`.

    Made as `Feed(pair, numbers.owner, options, counters)`.
    """

    @property
    def target(self) -> str:
        """Instance name of the mirror."""
        ...

    def offer(
        self, steps: Sequence[Step], first: int, waiter: Waiter | None = None, traces: tuple[str, ...] = ()
    ) -> None:
        """Take what the primary has just committed, unless it is better left to the relay. Never waits.

        Args:
            steps: As given to the mirror: updates as groups of the rows that they came to, and
                `gateway.lanes.outcomes.NOTHING` for a step that need not reach the mirror.
            first: The number of the first step; the others follow.
            waiter: Is told how it ended; with one, the steps are always taken and nothing lingers.
            traces: The `traceparent` of those of the writes that are traced.
        """
        ...

    @property
    def source(self) -> str:
        """Instance name of the primary."""
        ...

    @property
    def owner(self) -> str:
        """Whose numbers it is offered."""
        ...

    @property
    def answers(self) -> bool:
        """Whether the mirror answered well when it was last asked."""
        ...

    def failed(self, error: StoreError) -> None:
        """Take note that the mirror did not answer a read: it is left alone for a while."""
        ...

    def held(self) -> list[tuple[int, int]]:
        """Return the numbers in its hands as first and last, in order: the relay leaves them alone."""
        ...

    async def caught_up(self, version: int) -> bool:
        """Tell whether the mirror has everything up to a version, by this feed and by the journal.

        Waits for what the feed has in hand, for as long as the mirror takes; put a timeout around it.

        Raises:
            StoreError: The journal could not answer.
        """
        ...

    async def flush(self) -> None:
        """Write everything that was taken before, without lingering, and acknowledge what is done.

        Raises:
            StoreError: The journal could not acknowledge. A mirror's failure is none of this call's.
        """
        ...

    def pause(self, why: str) -> None:
        """Hand nothing over from now on: everything is left to the relay, and who waits is told `why`."""
        ...

    def resume(self) -> None:
        """Hand over again."""
        ...

    def status(self) -> FeedStatus:
        """Return what it is at."""
        ...

    async def aclose(self, deadline: float) -> None:
        """Finish within so many seconds; what is not finished stays in the journal."""
        ...


class Relaying(Protocol):
    """What is known of `gateway.mirror.relay.Relay`.

    Made as `Relay(pair, feed, permission, options, refused)`; `feed` is None in a process that only relays.
    """

    def start(self) -> None:
        """Begin to work."""
        ...

    def wake(self) -> None:
        """Look now, not at the next poll: the mirror was resumed, say."""
        ...

    async def drain(self, deadline: float, *, before: int | None = None, politely: bool = False) -> bool:
        """Hand over everything that is in the journal, grace or not; tell whether nothing is left.

        Args:
            deadline: Seconds.
            before: Only what has a smaller version; None for all that is there by then.
            politely: What is another process's to hand over is waited for. Nothing is on its way any more then.

        Raises:
            StoreError: The journal could not answer, at the end.
        """
        ...

    async def settled(self) -> None:
        """Return once whatever it has read from the primary by now has reached the mirror, or has not.

        What it reads later is what the primary has later.
        """
        ...

    def status(self) -> RelayStatus:
        """Return what it is at."""
        ...

    async def aclose(self) -> None:
        """Stop at once and release the lease; what is under way is done again by the next relay."""
        ...


class Mirroring(Protocol):
    """What the engine needs of `gateway.mirror.facade.Mirrors`."""

    @property
    def numbers(self) -> Numbers:
        """This gateway's."""
        ...

    @property
    def crowded(self) -> bool:
        """Whether `admit` has anything to say; nearly always False, and asked before every write."""
        ...

    def journaled(self, sink: Sink) -> Sink:
        """Return what the lane of a store writes to, so that intents are kept with the write."""
        ...

    def feed(self, primary: str, mirror: str) -> Feeding:
        """Return the feed of a pair; the same one each time."""
        ...

    async def admit(self, targets: tuple[str, ...]) -> None:
        """Wait while the journal of one of these mirrors is full and the policy is to block. Only asked when crowded.

        Raises:
            JournalFullError: It stayed full; nothing was written.
        """
        ...

    def noted(self, targets: tuple[str, ...]) -> tuple[str, ...]:
        """Return the mirrors among these whose intents are written: all, but for those that were given up by policy.

        Asked for each batch, so it returns the same object when all are.
        """
        ...

    async def drained(self, primary: str, mirror: str, before: int, deadline: float) -> bool:
        """Hand over what is in a pair's journal before a version, and tell whether nothing of it is left.

        Raises:
            StoreError: The journal could not answer.
        """
        ...

    async def settled(self, primary: str, mirror: str) -> bool:
        """Return once no row is on its way to a mirror that the primary had when this was called.

        For who removes rows from both: what is still on its way would come back after that. What this gateway has on
        its way is waited for; what other processes have is as long as the mirror keeps up.

        Returns:
            Whether that is certain. It is not while a mirror is behind to which other processes bring rows too.
        """
        ...

    async def close(self) -> None:
        """Stop the relays, give the feeds a bounded time to finish, release leases. Lanes are closed before."""
        ...

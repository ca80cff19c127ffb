"""Mirrors for tests: feeds and relays between opened stores, with paces that tests choose."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

from gateway import Gateway
from gateway.backend import Capability
from gateway.dispatch import Store
from gateway.errors import GatewayError
from gateway.intents import Journal
from gateway.journal.memory import MemoryJournal
from gateway.journal.numbers import Numbers
from gateway.journal.sink import JournaledStore
from gateway.lanes.outcomes import Sink
from gateway.mirror.circuit import Circuit
from gateway.mirror.contract import FeedOptions, Pair, RelayOptions, Unquestioned
from gateway.mirror.feed import Feed
from gateway.mirror.relay import Relay
from gateway.mirror.way import Way
from gateway.records.row import Row
from gateway.records.stamp import DEFAULT_TENANT
from gateway.records.version import MAX_VERSION

__all__ = ["QUICK_FEED", "QUICK_RELAY", "Rig", "drained"]

QUICK_FEED = FeedOptions(linger=0.001, retry=0.0, done_seconds=0.005)
QUICK_RELAY = RelayOptions(poll=0.01, grace=0.0, batch=20, patience=600.0)


def brief(_: int) -> float:
    """Pause for a moment, however often something failed."""
    return 0.01


class Rig:
    """Feeds and relays for every two stores. Implements `gateway.mirror.contract.Mirroring`.

    A store that keeps intents itself is its own journal; for another one, intents are kept in memory here, and can
    be handed to the next `Rig` as a file would be.

    Attributes:
        refused: Rows that a mirror refused, with the mirror's name, in the order they were tried.
        full: What `admit` raises; None admits everything.
        given_up: Mirrors that get no intents.
    """

    def __init__(
        self,
        stores: dict[str, Store],
        *,
        feed: FeedOptions = QUICK_FEED,
        relay: RelayOptions = QUICK_RELAY,
        journals: dict[str, MemoryJournal] | None = None,
        pauses: Callable[[int], float] = brief,
        tenant: str = DEFAULT_TENANT,
        exclusive: bool = False,
    ) -> None:
        self.numbers = Numbers()
        self.journals = journals or {name: MemoryJournal() for name in stores}
        self.refused: list[tuple[str, Row]] = []
        self.full: GatewayError | None = None
        self.given_up: frozenset[str] = frozenset()
        self.pairs: dict[tuple[str, str], Pair] = {}
        self.feeds: dict[tuple[str, str], Feed] = {}
        self.relays: dict[tuple[str, str], Relay] = {}
        self.permissions: dict[tuple[str, str], Unquestioned] = {}
        for one, other in permutations(stores, 2):
            journal = self.journal_of(stores[one])
            pair = Pair(stores[one], stores[other], journal, tenant, Circuit(pauses), exclusive)
            permission = Unquestioned()
            self.pairs[one, other] = pair
            self.feeds[one, other] = Feed(pair, self.numbers.owner, feed)
            self.permissions[one, other] = permission
            self.relays[one, other] = Relay(pair, self.feeds[one, other], permission, relay, self._refuse)

    def _refuse(self, target: str, row: Row, _: GatewayError) -> None:
        self.refused.append((target, row))

    def journal_of(self, store: Store) -> Journal:
        """Return where the intents of a store are."""
        return store if Capability.JOURNAL in store.capabilities else self.journals[store.name]

    @property
    def crowded(self) -> bool:
        """Whether writes are not admitted."""
        return self.full is not None

    def journaled(self, sink: Sink) -> Sink:
        """Return what a lane writes to."""
        return (
            sink
            if Capability.JOURNAL in sink.capabilities
            else JournaledStore(sink, self.journals[sink.name])
        )

    def feed(self, primary: str, mirror: str) -> Feed:
        """Return the feed of a pair."""
        return self.feeds[primary, mirror]

    def way(self, primary: str, mirror: str, *, waits: bool = False, reports: bool = True) -> Way:
        """Return the way from a store to its mirror."""
        return Way((self.feeds[primary, mirror],), (mirror,), waits, reports)

    async def admit(self, targets: tuple[str, ...]) -> None:  # noqa: ARG002 - the contract gives them
        """Raise what the test set."""
        if self.full is not None:
            raise self.full

    def noted(self, targets: tuple[str, ...]) -> tuple[str, ...]:
        """Return the mirrors that get intents."""
        return tuple(name for name in targets if name not in self.given_up) if self.given_up else targets

    async def drained(self, primary: str, mirror: str, before: int, deadline: float) -> bool:
        """Hand over what is left of a pair."""
        return await self.relays[primary, mirror].drain(deadline, before=before)

    async def settled(self, primary: str, mirror: str) -> bool:
        """Return once nothing is on its way."""
        await self.feeds[primary, mirror].flush()
        await self.relays[primary, mirror].settled()
        return True

    async def drain(self, deadline: float = 10.0) -> None:
        """Hand over everything that is left, of every pair."""
        for (primary, mirror), relay in self.relays.items():
            assert await relay.drain(deadline), (
                f"{mirror} still lacks something of {primary}: {relay.status()}"
            )

    def start(self) -> None:
        """Let the relays begin."""
        for relay in self.relays.values():
            relay.start()

    async def close(self, deadline: float = 1.0) -> None:
        """Stop."""
        for relay in self.relays.values():
            await relay.aclose()
        for feed in self.feeds.values():
            await feed.aclose(deadline)


async def drained(gateway: Gateway, seconds: float = 60.0) -> None:
    """Wait until every mirror of an open gateway has everything that was written, by whatever process."""
    mirrors = gateway.engine.mirrors
    assert mirrors is not None
    for primary, mirror in permutations(gateway.engine.stores, 2):
        assert await mirrors.drained(primary, mirror, MAX_VERSION, seconds), (
            f"{mirror} lacks writes of {primary}"
        )

"""Looking after one pair: what operators and other processes decided, and how much waits for the mirror.

Once a second the mirror's state is read, and what it says is done here: held back, given up, taken up again. The
journal is counted only while the mirror is behind, and so that counting takes a twentieth of the time at most.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from gateway.dispatch import Store
from gateway.errors import GatewayError, StoreUnavailableError
from gateway.intents import JournalFacts, stretches_of
from gateway.mirror.bounds import Bounds, JournalPolicy, age_of
from gateway.mirror.contract import Feeding, Pair, Relaying
from gateway.mirror.fullness import fullness
from gateway.mirror.homes import States
from gateway.mirror.lease import Lease
from gateway.mirror.state import SETTLED, reported, resumed_intents, suspended
from gateway.records.mirroring import MirrorState
from gateway.records.version import version_at

__all__ = ["Watch"]

_log: Final = logging.getLogger(__name__)
_SHARE: Final = 20
_STEPS: Final = 100
_DROPPED: Final = 5_000
_DROPPING: Final = 0.5
_HEALTH: Final = 2.0


class Watch:
    """Looks after one pair of this gateway.

    Args:
        pair: The stores and their journal.
        mirror: The store that is the mirror.
        states: Where the mirror's state is.
        feed: The pair's.
        relay: The pair's.
        lease: The relay's permission.
        bounds: How much may wait.
        upcoming: The number that this gateway will give to its next step.

    Attributes:
        state: The mirror's state when it was last read; None before that.
        facts: What waited when it was last counted.
        full: Why nothing more may be written; None while there is room, and where the policy is not to block.
        count_from: By which number this gateway alone may have filled the journal since it was counted.
        lost: Why the state, or the journal, could not be read last; None if it could.
    """

    def __init__(
        self,
        pair: Pair,
        mirror: Store,
        states: States,
        feed: Feeding,
        relay: Relaying,
        lease: Lease,
        bounds: Bounds,
        upcoming: Callable[[], int] = lambda: 0,
    ) -> None:
        self.pair = pair
        self.feed = feed
        self.relay = relay
        self.state: MirrorState | None = None
        self.facts = JournalFacts(pair.target, 0, None)
        self.full: str | None = None
        self.lost: str | None = None
        self._mirror = mirror
        self._states = states
        self._lease = lease
        self._bounds = bounds
        self._upcoming = upcoming
        self.count_from = upcoming() + bounds.rows
        self._left = -1
        self._count_at = self._known_at = float("-inf")
        self._clock: Callable[[], float] = asyncio.get_running_loop().time

    def __repr__(self) -> str:
        return f"<Watch {self.pair.primary.name}->{self.pair.target}>"

    @property
    def given_up(self) -> bool:
        """Whether intents are not written, by policy."""
        return self.state is not None and self.state.suspended

    @property
    def believed(self) -> bool:
        """Whether what is known of the state is fresh enough to go by, where going wrong would lose something."""
        return self._clock() - self._known_at < SETTLED.total_seconds() / 2

    async def look(self) -> None:
        """Look once. What cannot be read is tried again at the next look, and what was known holds until then."""
        asked = self._clock()
        try:
            self._adopt(await self._states.read(self.pair.target))
            self._known_at = asked
            if self._worth_counting():
                await self.count()
            if self.given_up:
                await self._drop()
                await self._take_up()
            await self._probe()
            await self._report()
        except GatewayError as error:
            if self.lost is None:
                _log.debug("the way to %s cannot be looked after: %s", self.pair.target, error)
            self.lost = str(error)
        else:
            self.lost = None

    def _adopt(self, state: MirrorState) -> None:
        """Do what a state says that is new."""
        before, self.state = self.state, state
        self._lease.saw(state)
        held = before is not None and before.paused
        if state.paused:
            self.feed.pause(f"by {state.paused_by}, {state.pause_reason}")
            if not held:
                _log.warning(
                    "mirror %s is paused by %s: %s", state.target, state.paused_by, state.pause_reason
                )
        elif held:
            self.feed.resume()
            self.relay.wake()
            _log.warning("mirror %s is written again", state.target)

    def _worth_counting(self) -> bool:
        """Tell whether the mirror may be behind, and it is time to count again."""
        feed = self.feed.status()
        left, self._left = self._left, feed.left
        behind = self.facts.depth > 0 or feed.left != left or feed.paused is not None
        behind = behind or not self.pair.circuit.closed or self.given_up
        return behind and self._clock() >= self._count_at

    async def count(self) -> None:
        """Count what waits, and decide by it.

        Raises:
            StoreError: The journal could not answer.
        """
        began, first = self._clock(), self._upcoming()
        target, bounds = self.pair.target, self._bounds
        journal, tenant = self.pair.journal, self.pair.tenant
        found = await journal.facts(tenant, bounds.rows)
        self.facts = next((one for one in found if one.target == target), JournalFacts(target, 0, None))
        reason = await fullness(journal, tenant, self.facts, self._refused, bounds, datetime.now(UTC))
        took = self._clock() - began
        self._count_at = self._clock() + _SHARE * took
        # Not for every few rows: near the bound, counting takes longest.
        self.count_from = first + max(bounds.rows - self.facts.depth, bounds.rows // _STEPS, 1)
        if bounds.policy is JournalPolicy.DEGRADE:
            self.full = None
            if reason is not None and not self.given_up:
                await self._give_up(reason)
            return
        if reason is not None and self.full is None:
            _log.error("%s: %s; writes of mirrored kinds wait", target, reason)
        elif reason is None and self.full is not None:
            _log.warning("%s: there is room in the journal again", target)
        self.full = reason

    def postpone(self) -> None:
        """Take it that there is room for some time, without counting."""
        self.count_from = self._upcoming() + max(self._bounds.rows // _STEPS, 1)

    async def _give_up(self, reason: str) -> None:
        """Write no more intents for the mirror, in every process, and leave the mark that it lacks something."""
        since = self.facts.oldest if self.facts.oldest is not None else version_at(datetime.now(UTC))
        self.state = await self._states.change(self.pair.target, partial(suspended, since=since, why=reason))
        source, target = self.pair.primary.name, self.pair.target
        _log.error(
            "mirror %s is given up: %s. It lacks what is written from version %d on, until it answers again and "
            "`gateway copy --from %s --to %s` has run",
            target,
            reason,
            since,
            source,
            target,
        )

    async def _drop(self) -> None:
        """Remove intents of a mirror that was given up, for a while; the next look goes on."""
        pair, end = self.pair, self._clock() + _DROPPING
        while self._clock() < end:
            intents = await pair.journal.pending(pair.target, pair.tenant, _DROPPED)
            if not intents:
                return
            done = stretches_of((one.owner, one.number) for one in intents)
            await pair.journal.acknowledge(pair.target, pair.tenant, done)

    async def _take_up(self) -> None:
        """Write intents again once the mirror answers and there is room."""
        pair = self.pair
        if self._is_paused or await pair.journal.pending(pair.target, pair.tenant, 1):
            return
        if not await self._answers():
            return
        now = datetime.now(UTC)
        became = await self._states.change(pair.target, lambda state: resumed_intents(state, now))
        if became is not None:
            self.state = became
            source, target = pair.primary.name, pair.target
            _log.warning(
                "mirror %s answers, and intents are written for it again; what it lacks needs "
                "`gateway copy --from %s --to %s`",
                target,
                source,
                target,
            )

    async def _probe(self) -> None:
        """Ask a mirror that has failed whether it answers again, where no relay of this process would find out.

        Another process may have the lease, or may have handed over all that was left: then nothing here is ever tried,
        and the feed would leave everything to the relay for good.
        """
        circuit = self.pair.circuit
        idle = not self._lease.held or not self.facts.depth
        if circuit.closed or not idle or self._is_paused or not circuit.may_try():
            return
        if await self._answers():
            circuit.succeeded()
        else:
            circuit.failed(StoreUnavailableError(circuit.contact.error or "no answer", backend=""))

    @property
    def _refused(self) -> int:
        """How many changes the mirror refuses; what was found before counts until the relay has seen all there are."""
        status, known = self.relay.status(), 0 if self.state is None else self.state.refused
        if not self._lease.held:
            return known
        return status.refused if status.complete else max(status.refused, known)

    @property
    def _is_paused(self) -> bool:
        return self.state is not None and self.state.paused

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(_HEALTH):
                return (await self._mirror.health()).ok
        except TimeoutError:
            return False

    async def _report(self) -> None:
        """Let everybody know how the mirror does, as long as it is this process that replays."""
        if self.state is None or not self._lease.held:
            return
        contact = self.pair.circuit.contact
        told = {
            "circuit": contact.state.value,
            "error": contact.error or "",
            "refused": self._refused,
            "now": datetime.now(UTC),
        }
        report: Callable[[MirrorState], MirrorState | None] = partial(reported, **told)  # type: ignore[arg-type] # as named
        if report(self.state) is not None:
            self.state = await self._states.change(self.pair.target, report) or self.state

    def status(self) -> dict[str, Any]:
        """Return facts for people, JSON-ready."""
        state, feed, relay = self.state, self.feed.status(), self.relay.status()
        return {
            "primary": self.pair.primary.name,
            "mirror": self.pair.target,
            "depth": self.facts.depth,
            "limit": self._bounds.rows,
            "oldest_seconds": round(age_of(self.facts, datetime.now(UTC)).total_seconds(), 3),
            "circuit": feed.circuit,
            "paused": feed.paused,
            "full": self.full,
            "behind_since": None if state is None else state.behind_since,
            "suspended": self.given_up,
            "feed": {
                "waiting": feed.waiting,
                "written": feed.written,
                "left": feed.left,
                "failures": feed.failures,
                "lag": round(feed.lag, 6),
            },
            "relay": {
                "claim": relay.claim.value,
                "relayed": relay.relayed,
                "refused": relay.refused,
                "failures": relay.failures,
                "error": relay.error,
            },
            "lost": self.lost,
        }

"""Who replays: one process for each pair, by a lease in the mirror's state.

Two at once do no harm, for every row carries its version; the lease only saves the work. So it is not fenced, and a
process that is known to be gone is not waited for.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from gateway.errors import GatewayError
from gateway.mirror.contract import Claim
from gateway.mirror.homes import States
from gateway.mirror.state import LEASE, claimed, here, released
from gateway.records.mirroring import MirrorState

__all__ = ["Lease"]

_log: Final = logging.getLogger(__name__)
_RENEW: Final = LEASE.total_seconds() / 3
_ASK: Final = 1.0


def _now() -> datetime:
    return datetime.now(UTC)


class Lease:
    """This process's permission to replay intents of one pair. A `gateway.mirror.contract.Permission`.

    Args:
        states: Where the mirror's state is.
        target: Instance name of the mirror.
        owner: This gateway's name in the state.
        wall: The wall clock, which all processes compare.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        states: States,
        target: str,
        owner: str,
        *,
        wall: Callable[[], datetime] = _now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._states = states
        self._target = target
        self._owner = owner
        self._wall = wall
        self._clock = clock
        self._answer = Claim.TAKEN
        self._good_until = float("-inf")
        self._had = False

    def __repr__(self) -> str:
        return f"<Lease {self._target} {self._answer.value}>"

    @property
    def held(self) -> bool:
        """Whether this process had it when it last asked."""
        return self._answer is Claim.GRANTED

    async def claim(self) -> Claim:
        """Take the lease, or go on with it; see `Permission.claim`."""
        if self._clock() < self._good_until:
            return self._answer
        seen: list[MirrorState] = []

        def take(state: MirrorState) -> MirrorState | None:
            seen[:] = [state]
            return claimed(state, self._owner, here(), self._wall())

        # The answer is as old as the question.
        began = self._clock()
        if await self._states.change(self._target, take) is not None:
            self._answer, self._had = Claim.GRANTED, True
        else:
            self._answer = Claim.PAUSED if seen and seen[0].paused else Claim.TAKEN
        self._good_until = began + (_RENEW if self.held else _ASK)
        return self._answer

    def saw(self, state: MirrorState) -> None:
        """Take note of a state that was read for another reason: ask again at once if it says otherwise."""
        mine = state.relay_owner == self._owner
        if state.paused != (self._answer is Claim.PAUSED) or mine != self.held:
            self._good_until = float("-inf")
        if self.held and not mine:
            self._answer = Claim.TAKEN  # whoever has it now speaks for the mirror, not this process

    async def release(self) -> None:
        """Let go of the lease, if it is this process's; see `Permission.release`."""
        had, self._had = self._had, False
        self._answer, self._good_until = Claim.TAKEN, float("-inf")
        if not had:
            return
        try:
            await self._states.change(self._target, lambda state: released(state, self._owner))
        except GatewayError as error:  # it runs out by itself
            _log.debug("the lease on %s was not given back: %s", self._target, error)

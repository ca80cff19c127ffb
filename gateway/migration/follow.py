"""Following the control store: a running bot takes over each decision within moments, without a restart."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.errors import ConfigurationError, MirrorBehindError, StoreError
from gateway.migration.control import ControlStore, MemberId
from gateway.migration.decisions import ControlState, resolve
from gateway.routing import RoutingPlan
from gateway.telemetry import Counters

__all__ = ["PlanFollower"]

_log: Final = logging.getLogger(__name__)


class PlanFollower:
    """Watches the control store and hands over each new plan.

    A follower that loses sight of the control store (it is gone, damaged, or went back to an older epoch)
    keeps the plan it has, says so once in the log and in `lost`, and goes on looking. It never falls back to
    the environment, which may be phases behind.

    A plan that cannot be followed yet, because a store that is to lead lacks something, is tried again and again;
    `held` says why.

    Args:
        store: The control store.
        base: The plan from the environment.
        poll: Seconds between two looks; a change is followed within twice that.
        on_change: Called in the event loop with each new plan, in the order of epochs, and awaited. If it fails, the
            plan counts as not followed, and the next look tries again.
        beat: Seconds between two notes to the control store that this gateway runs.
        counters: Where losses of sight are counted.
    """

    def __init__(
        self,
        store: ControlStore,
        base: RoutingPlan,
        poll: float,
        on_change: Callable[[RoutingPlan], Awaitable[None] | None],
        *,
        beat: float = 5.0,
        counters: Counters | None = None,
    ) -> None:
        self.member = MemberId.draw()
        self.plan = base
        self.lost: str | None = None
        self.held: str | None = None
        self._store = store
        self._base = base
        self._poll = poll
        self._beat = beat
        self._on_change = on_change
        self._counters = counters or Counters()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._beat_due = 0.0
        self._registered = False

    def __repr__(self) -> str:
        sight = f" lost: {self.lost}" if self.lost else ""
        return f"<PlanFollower epoch={self.plan.epoch}{sight}>"

    async def start(self) -> RoutingPlan:
        """Read what was decided so far, begin to follow, and return the plan to start with.

        Raises:
            ConfigurationError: The control store cannot be read. A bot that has no plan yet must not guess
            one.
        """
        state = await asyncio.to_thread(self._store.state)
        self.plan = resolve(self._base, state)
        self._task = asyncio.create_task(self._follow(), name="gateway-follow")
        return self.plan

    async def aclose(self) -> None:
        """Stop following and leave the list of members. Calling it again does nothing."""
        self._closing.set()
        task, self._task = self._task, None
        if task is None:
            return
        await task
        if self._registered:
            try:
                await asyncio.to_thread(self._store.leave, self.member)
            except ConfigurationError as error:
                self._lose(error)

    async def _follow(self) -> None:
        while not self._closing.is_set():
            await self._look()
            try:
                await asyncio.wait_for(self._closing.wait(), self._poll)
            except TimeoutError:
                continue

    async def _look(self) -> None:
        """Look once; whatever goes wrong is reported, and the plan stays."""
        known = self.plan.epoch
        try:
            state = await asyncio.to_thread(self._read, known)
            if state is not None:
                await self._take_over(state)
            await self._say_alive(changed=self.plan.epoch != known)
        except ConfigurationError as error:
            self._lose(error)
        except Exception as error:  # noqa: BLE001 - a follower that dies would leave the bot behind without a word
            self._lose(error)
        else:
            self._see()

    def _read(self, known: int) -> ControlState | None:
        """Return the decisions if the epoch moved on since; runs in a thread."""
        epoch = self._store.epoch()
        if epoch < known:
            raise ConfigurationError(
                f"the control store {self._store.path} is gone or went back from epoch {known} to {epoch}; "
                "bring it back, or restart the bots to let them begin anew"
            )
        return self._store.state() if epoch > known else None

    async def _take_over(self, state: ControlState) -> None:
        """Take a plan over, however long that takes; the gateway is heard of meanwhile."""
        closing = asyncio.create_task(self._closing.wait())
        adopting = asyncio.create_task(self._adopt(state), name="gateway-adopt")
        try:
            while not adopting.done() and not self._closing.is_set():
                await asyncio.wait(
                    (adopting, closing), timeout=self._beat, return_when=asyncio.FIRST_COMPLETED
                )
                if not adopting.done():
                    await self._say_alive(changed=False)
            if adopting.done():
                await adopting
        finally:
            closing.cancel()
            adopting.cancel()
            await asyncio.gather(closing, adopting, return_exceptions=True)

    async def _adopt(self, state: ControlState) -> None:
        plan = resolve(self._base, state)
        # The plan counts as followed only once the gateway took it; if that fails, the next look tries again.
        try:
            taken = self._on_change(plan)
            if taken is not None:
                await taken
        except (MirrorBehindError, StoreError) as error:
            if self.held is None:
                _log.error(
                    "epoch %d is not followed yet, and epoch %d still is: %s",
                    plan.epoch,
                    self.plan.epoch,
                    error,
                )
            self.held = str(error)
            return
        if self.held is not None:
            _log.warning("epoch %d is followed now", plan.epoch)
        self.held = None
        self.plan = plan
        self._counters.plan_changes += 1

    async def _say_alive(self, *, changed: bool) -> None:
        if not changed and time.monotonic() < self._beat_due:
            return
        if await asyncio.to_thread(self._note):
            self._registered = True
            self._beat_due = time.monotonic() + self._beat

    def _note(self) -> bool:
        """Note this member, but make no control store only for that. Runs in a thread."""
        present = self._store.file.present()
        if present:
            self._store.beat(self.member, self.plan.epoch)
        return present

    def _lose(self, error: Exception) -> None:
        self._counters.control_lost += 1
        if self.lost is None:
            _log.warning(
                "the control store is out of sight; keeping the plan of epoch %d: %s", self.plan.epoch, error
            )
        self.lost = str(error)

    def _see(self) -> None:
        if self.lost is not None:
            _log.warning("the control store is in sight again, at epoch %d", self.plan.epoch)
            self.lost = None

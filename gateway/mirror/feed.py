"""Feeds: what the primary has just committed, handed on to one of its mirrors.

Nobody waits for a mirror, unless the operator asked for `sync`. So a feed gathers for some milliseconds, writes many
rows at once, and acknowledges their intents in bulk. It holds no more than a bound and tries nothing twice: whatever it
does not take, and whatever fails, is in the journal, and the relay gets to it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from itertools import chain
from typing import Final

from gateway.backend import Step, WriteBatch
from gateway.columns import ColumnBatch
from gateway.errors import GatewayClosedError, GatewayError, StoreError, StoreUnavailableError
from gateway.lanes.outcomes import NOTHING
from gateway.lanes.persistent import apart, persistently
from gateway.mirror.acknowledging import Acknowledger, Span
from gateway.mirror.contract import FeedOptions, FeedStatus, Pair, Waiter
from gateway.telemetry import Counters, background, pair_attributes

__all__ = ["Feed"]

_log: Final = logging.getLogger(__name__)
_STOPPING: Final = 1.0
"""Seconds that a write under way gets to notice that it is cancelled."""


class _Offer:
    """What one commit left for the mirror."""

    __slots__ = ("at", "first", "steps", "traces", "turn", "waiter")

    def __init__(
        self,
        steps: Sequence[Step],
        first: int,
        waiter: Waiter | None,
        turn: int,
        at: float,
        traces: tuple[str, ...],
    ) -> None:
        self.at = at
        self.traces = traces
        self.steps = steps
        self.first = first
        self.waiter = waiter
        self.turn = turn

    @property
    def span(self) -> Span:
        return self.first, self.first + len(self.steps) - 1


class Feed:
    """Hands the commits of one primary to one mirror. Implements `gateway.mirror.contract.Feeding`.

    Args:
        pair: The stores, their journal and their circuit.
        owner: Whose numbers it is offered.
        options: Its bounds.
        counters: The gateway's.
    """

    def __init__(
        self, pair: Pair, owner: str, options: FeedOptions | None = None, counters: Counters | None = None
    ) -> None:
        self._pair = pair
        self.source: str = pair.primary.name
        self.target: str = pair.target
        self.owner: str = owner
        self._options = options or FeedOptions()
        self._counters = counters or Counters()
        self._offers: deque[_Offer] = deque()
        self._writing: list[_Offer] = []
        self._rows = 0
        self._waiters = 0
        # Offers are numbered as they are taken, and handled in that order; a barrier waits for one of these numbers.
        self._taken = self._handled = self._hurry = 0
        self._barriers: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._paused: str | None = None
        self._closing = False
        self._lingering = False
        self._wake: asyncio.Future[None] | None = None
        self._done = Acknowledger(pair, owner, self._options.done, self._options.done_seconds)
        self._loop = asyncio.get_running_loop()
        self._worker = self._loop.create_task(self._run(), name=f"feed {pair.primary.name}-{pair.target}")
        self._worker.add_done_callback(self._stopped)
        self.written = self.left = self.failures = 0
        self._lag = 0.0

    def __repr__(self) -> str:
        return f"<Feed {self._pair.primary.name}->{self.target} waiting={self._rows} {self._pair.circuit}>"

    @property
    def answers(self) -> bool:
        """Whether the mirror answered well when it was last asked."""
        return self._pair.circuit.closed

    def failed(self, error: StoreError) -> None:
        """Take note that the mirror did not answer; see `Feeding.failed`."""
        self._pair.circuit.failed(error)

    def offer(
        self, steps: Sequence[Step], first: int, waiter: Waiter | None = None, traces: tuple[str, ...] = ()
    ) -> None:
        """Take what the primary has just committed; see `Feeding.offer`."""
        if waiter is None:
            if not self._takes(len(steps)):
                self.left += len(steps)
                return
        elif self._paused is not None or self._closing:
            self.left += len(steps)
            waiter(self.target, self._refusal())
            return
        else:
            self._waiters += 1
        self._taken += 1
        self._rows += len(steps)
        self._offers.append(_Offer(steps, first, waiter, self._taken, self._loop.time(), traces))
        wake = self._wake
        if wake is not None and (not self._lingering or self._urgent) and not wake.done():
            wake.set_result(None)

    def _takes(self, count: int) -> bool:
        if self._closing or self._paused is not None:
            return False
        if not self._rows:
            return self._pair.circuit.may_try()
        return self._pair.circuit.closed and self._rows + count <= self._options.rows

    def _refusal(self) -> GatewayError:
        if self._paused is None:
            return GatewayClosedError("the gateway is closed; the mirror gets the row from the journal")
        return StoreUnavailableError(
            f"this mirror is paused: {self._paused}. It gets the row from the journal after "
            f"`gateway mirror resume {self.target}`",
            backend=self.target,
        )

    @property
    def _urgent(self) -> bool:
        """Whether there is no more gathering: somebody waits, or there is enough."""
        return (
            self._waiters > 0
            or self._rows >= self._options.batch
            or self._hurry > self._handled
            or self._closing
        )

    def held(self) -> list[Span]:
        """Return the numbers in its hands; see `Feeding.held`."""
        offers = [offer.span for offer in (*self._writing, *self._offers)]
        return sorted((*offers, *self._done.held()))

    def pause(self, why: str) -> None:
        """Hand nothing over; see `Feeding.pause`."""
        self._paused = why
        self._leave(self._refusal())

    def resume(self) -> None:
        """Hand over again; see `Feeding.resume`."""
        self._paused = None

    def status(self) -> FeedStatus:
        """Return what it is at; see `Feeding.status`."""
        circuit = str(self._pair.circuit)
        return FeedStatus(
            self._rows, self.written, self.left, self.failures, circuit, self._paused, self._lag
        )

    async def caught_up(self, version: int) -> bool:
        """Tell whether the mirror has everything up to a version; see `Feeding.caught_up`."""
        pair = self._pair
        if self._paused is not None or not pair.circuit.closed:
            return False
        await self.flush()
        return not await pair.journal.pending(pair.target, pair.tenant, 1, before=version + 1)

    async def flush(self) -> None:
        """Write and acknowledge everything that was taken before; see `Feeding.flush`."""
        await self._barrier()
        await self._done.now()

    async def _barrier(self) -> None:
        if self._handled >= self._taken:
            return
        self._hurry = self._taken
        passed = self._loop.create_future()
        self._barriers.append((self._taken, passed))
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
        await passed

    async def aclose(self, deadline: float) -> None:
        """Finish within so many seconds; see `Feeding.aclose`."""
        self._closing = True
        try:
            async with asyncio.timeout(deadline):
                await self._barrier()
        except TimeoutError:
            pass  # what is not finished is in the journal
        self._worker.cancel()
        await asyncio.wait((self._worker,), timeout=_STOPPING)
        await self._done.aclose(deadline)

    def _stopped(self, worker: asyncio.Task[None]) -> None:
        """Leave nobody waiting for a worker that has ended, whatever ended it."""
        self._closing = True
        error = GatewayClosedError(
            "the gateway was closed before the mirror had the row; it is in the journal"
        )
        error.__cause__ = None if worker.cancelled() else worker.exception()
        self._leave(error)

    async def _run(self) -> None:
        """Write batch after batch, for as long as the feed lives."""
        while True:
            await self._gather()
            self._writing = self._take()
            try:
                await self._write(self._writing)
            except asyncio.CancelledError:
                closed = GatewayClosedError("the gateway was closed while the mirror was being written")
                self._fail(self._writing, closed)
                raise
            except Exception as error:  # noqa: BLE001 - a feed that dies would leave all to the relay, and waiters alone
                _log.exception("%r failed, and goes on", self)
                self._failed(self._writing, StoreError(f"failed with {error!r}", backend=self.target))
            finally:
                self._pass(self._writing)
                self._writing = []

    async def _gather(self) -> None:
        """Return when there is something to write, and either enough of it or enough time has passed."""
        while not self._offers:
            self._wake = self._loop.create_future()
            await self._wake
        if not self._urgent:
            self._lingering = True
            wake = self._wake = self._loop.create_future()
            timer = self._loop.call_later(self._options.linger, _set, wake)
            try:
                await wake
            finally:
                timer.cancel()
                self._lingering = False
        self._wake = None

    def _take(self) -> list[_Offer]:
        """Take what fits one write."""
        taken: list[_Offer] = []
        offers, rows = self._offers, 0
        while offers and (not taken or rows + len(offers[0].steps) <= self._options.batch):
            rows += len(offers[0].steps)
            taken.append(offers.popleft())
        return taken

    async def _write(self, offers: list[_Offer]) -> None:
        """Write offers as one batch. Refused rows among them are found, and left to the relay."""
        if not offers:
            return  # they were left to the relay while it lingered
        whole = len(offers) == 1 and isinstance(offers[0].steps, ColumnBatch)
        steps: Sequence[Step] = (
            offers[0].steps
            if whole
            else [step for offer in offers for step in offer.steps if step is not NOTHING]
        )
        patience = self._options.retry if any(offer.waiter is not None for offer in offers) else 0.0
        described = pair_attributes(self.source, self.target, len(steps))
        try:
            with background("gateway.mirror.feed", described, chain(*(offer.traces for offer in offers))):
                refused = await apart(lambda part: persistently(lambda: self._send(part), patience), steps)
        except GatewayError as error:
            self._failed(offers, error)
            return
        self._pair.circuit.succeeded()
        self._succeed(offers, steps, refused)

    def _failed(self, offers: list[_Offer], error: GatewayError) -> None:
        self.failures += 1
        self._pair.circuit.failed(error)
        self._fail(offers, error)
        self._leave(error)

    async def _send(self, steps: Sequence[Step]) -> None:
        if steps:
            await self._pair.sink.write(WriteBatch(steps))
            self._counters.batches += 1
            self._counters.rows_written += len(steps)

    def _succeed(self, offers: list[_Offer], steps: Sequence[Step], refused: dict[int, GatewayError]) -> None:
        self.written += len(steps) - len(refused)
        self._lag = self._loop.time() - offers[0].at
        if not refused:
            for offer in offers:
                self._done.add(*offer.span)
                self._tell(offer, None)
            return
        self.left += len(refused)
        written = 0
        for offer in offers:
            error: GatewayError | None = None
            for number, step in enumerate(offer.steps, offer.first):
                refusal = None if step is NOTHING else refused.get(written)
                written += step is not NOTHING
                error = error or refusal
                if refusal is None:
                    self._done.add(number, number)
            self._tell(offer, error)

    def _fail(self, offers: Sequence[_Offer], error: GatewayError) -> None:
        for offer in offers:
            self.left += len(offer.steps)
            self._tell(offer, error)

    def _leave(self, error: GatewayError) -> None:
        """Leave everything that nobody waits for to the relay; when closed or paused, all of it."""
        everything = self._closing or self._paused is not None
        left = [offer for offer in self._offers if offer.waiter is None or everything]
        kept = [offer for offer in self._offers if offer.waiter is not None and not everything]
        self._offers = deque(kept)
        self._fail(left, error)
        self._rows -= sum(len(offer.steps) for offer in left)
        if not kept and not self._writing:  # what is being written has yet to end, and `_pass` follows it
            self._reached(self._taken)

    def _tell(self, offer: _Offer, error: GatewayError | None) -> None:
        waiter, offer.waiter = offer.waiter, None
        if waiter is not None:
            self._waiters -= 1
            self._counters.mirror_failures += error is not None
            waiter(self.target, error)

    def _pass(self, offers: Sequence[_Offer]) -> None:
        """Let barriers down that waited for these offers, and take them off the count."""
        if offers:
            self._rows -= sum(len(offer.steps) for offer in offers)
            self._reached(self._offers[0].turn - 1 if self._offers else self._taken)

    def _reached(self, turn: int) -> None:
        self._handled = max(self._handled, turn)
        while self._barriers and self._barriers[0][0] <= self._handled:
            passed = self._barriers.popleft()[1]
            if not passed.done():
                passed.set_result(None)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

"""Relays: what has yet to reach a mirror, read again from the primary and written there, for as long as it takes.

A relay never gives up. A mirror that fails is tried again and again, with growing pauses; a row that the mirror refuses
is set aside, reported, and tried again and again too, while the others go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.errors import GatewayError, StoreError
from gateway.intents import Intent, Stretch, stretches_of
from gateway.mirror.contract import Claim, Feeding, Pair, Permission, Refused, RelayOptions, RelayStatus
from gateway.mirror.patience import Patience
from gateway.mirror.replay import Number, Page, Replayed, onward, page_of, replay
from gateway.records.version import version_at

__all__ = ["Relay"]

_log: Final = logging.getLogger(__name__)
_ELSEWHERE: Final = 0.02
_SELDOM: Final = 0.5


class Relay:
    """Replays the journal of one primary to one mirror. Implements `gateway.mirror.contract.Relaying`.

    Args:
        pair: The stores, their journal and their circuit.
        feed: Whose numbers are left alone while it has them in hand; None where there is no feed.
        permission: Whether this process's relay may work.
        options: Its pace and bounds.
        refused: Is told of rows that the mirror refuses.
    """

    def __init__(
        self,
        pair: Pair,
        feed: Feeding | None,
        permission: Permission,
        options: RelayOptions | None = None,
        refused: Refused | None = None,
    ) -> None:
        self._pair = pair
        self._feed = feed
        self._permission = permission
        self._options = options or RelayOptions()
        self._refused = refused
        self._patience = Patience(self._options.patience, self._options.poison)
        self._turn = asyncio.Lock()
        self._batches: set[asyncio.Task[Replayed]] = set()
        self._look = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._claim = Claim.GRANTED
        self._error: str | None = None
        self._failures = 0
        self._relayed = 0
        self._complete = False

    def __repr__(self) -> str:
        return f"<Relay {self._pair.primary.name}->{self._pair.target} relayed={self._relayed} {self._pair.circuit}>"

    def start(self) -> None:
        """Begin to work; see `Relaying.start`."""
        if self._task is None:
            name = f"relay {self._pair.primary.name}-{self._pair.target}"
            self._task = asyncio.get_running_loop().create_task(self._run(), name=name)

    def wake(self) -> None:
        """Look now; see `Relaying.wake`."""
        self._look.set()

    def status(self) -> RelayStatus:
        """Return what it is at; see `Relaying.status`."""
        refused = self._patience.refused
        return RelayStatus(
            self._relayed, refused, self._failures, self._error, self._claim, complete=self._complete
        )

    async def aclose(self) -> None:
        """Stop at once; see `Relaying.aclose`."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._permission.release()

    async def settled(self) -> None:
        """Return once whatever it has read from the primary is on the mirror, or is not; see `Relaying.settled`."""
        batches = tuple(self._batches)
        if batches:
            await asyncio.wait(batches)

    async def drain(self, deadline: float, *, before: int | None = None, politely: bool = False) -> bool:
        """Hand over everything that is in the journal; see `Relaying.drain`."""
        rest = _ELSEWHERE
        try:
            async with asyncio.timeout(deadline):
                while not await self._drained(before, politely=politely):
                    await self._rest(max(self._pair.circuit.pause, rest))
                    rest = min(_SELDOM, 1.5 * rest)  # a refused row may be all that is left, for hours
        except TimeoutError:
            return False
        return True

    async def _drained(self, before: int | None, *, politely: bool) -> bool:
        """Try once to hand over what is left; unless politely, whoever's turn it is, since two at once do no harm."""
        pair = self._pair
        if await self._is_empty(before):
            return True
        if self._feed is not None and pair.circuit.closed:
            with contextlib.suppress(StoreError):
                await self._feed.flush()
            if await self._is_empty(before):
                return True
        if politely:
            with contextlib.suppress(StoreError):
                await self._round(self._aged(), leased=True)
            return await self._is_empty(before)
        self._claim = await self._permission.claim()
        if self._claim is not Claim.PAUSED:
            with contextlib.suppress(StoreError):  # noted, and the circuit knows how long to wait
                await self._round(before, leased=False)
        return await self._is_empty(before)

    async def _is_empty(self, before: int | None) -> bool:
        return not await self._pair.journal.pending(self._pair.target, self._pair.tenant, 1, before=before)

    async def _run(self) -> None:
        while True:
            try:
                await self._round(self._aged(), leased=True)
            except GatewayError as error:
                _log.debug("the relay to %s: %s", self._pair.target, error)
            except Exception as error:  # noqa: BLE001 - a relay that dies would leave the mirror behind without a word
                self._failures += 1
                self._error = repr(error)
                _log.exception("%r failed, and goes on", self)
            await self._rest(self._pair.circuit.pause or self._options.poll)

    async def _rest(self, seconds: float) -> None:
        """Wait for so many seconds, or until somebody wakes it."""
        self._look.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._look.wait()

    def _aged(self) -> int:
        """Return the version before which intents are no longer left to who wrote them."""
        return version_at(datetime.now(UTC) - timedelta(seconds=self._options.grace))

    async def _round(self, before: int | None, *, leased: bool) -> None:
        """Go through the journal once.

        Raises:
            StoreError: The journal, the primary or the mirror failed; the circuit knows if it was the mirror.
        """
        if not self._pair.circuit.may_try():
            return
        try:
            async with self._turn:
                if await self._is_worth_it(before) and (not leased or await self._may()):
                    await self._go_through(before, leased=leased)
        except GatewayError as error:
            self._failures += 1
            self._error = str(error)
            raise
        self._error = None

    async def _is_worth_it(self, before: int | None) -> bool:
        """Tell whether something may be due: nearly always nothing is, and then this is the only look."""
        pair = self._pair
        limit = self._patience.refused + 1
        found = await pair.journal.pending(pair.target, pair.tenant, limit, before=before)
        if not found:
            self._patience.clear()
            self._complete = True
        return bool(found) and not (before is not None and self._patience.waits(found, time.monotonic()))

    async def _may(self) -> bool:
        before, self._claim = self._claim, await self._permission.claim()
        if before is not self._claim:
            _log.info("relay to %s: %s", self._pair.target, self._claim.value)
        return self._claim is Claim.GRANTED

    async def _go_through(self, before: int | None, *, leased: bool) -> None:
        """Hand over page after page; the next is read while one is written and the last is acknowledged."""
        self._patience.begin()
        reading = asyncio.ensure_future(self._page(None))
        telling: asyncio.Future[None] = asyncio.ensure_future(self._acknowledge(()))
        try:
            while True:
                page = await reading
                after = onward(page, before)
                if after is not None:
                    reading = asyncio.ensure_future(self._page(after))
                due = self._due(page.intents, before)
                if due and leased and not await self._may():
                    return
                done = await self._hand_over(due) if due else []
                await telling
                telling = asyncio.ensure_future(self._acknowledge(done))
                if after is None:
                    break
            self._patience.end()
            self._complete = True
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await asyncio.gather(telling, return_exceptions=True)
        await telling

    async def _page(self, after: Stretch | None) -> Page:
        return await page_of(self._pair, self._options.batch * self._options.parallel, after)

    def _due(self, page: Sequence[Intent], before: int | None) -> list[Intent]:
        feed, now = self._feed, time.monotonic()
        if feed is None:
            return self._patience.due(page, now, before)
        return self._patience.due(page, now, before, feed.owner, feed.held())

    async def _hand_over(self, intents: Sequence[Intent]) -> list[Number]:
        """Hand over some intents and return the numbers that are done.

        With an open circuit, a single row has to get through first: thousands would only meet the same error.
        """
        undone: set[Number] = set()
        rest = intents
        if not self._pair.circuit.closed:
            undone |= await self._replay(intents[:1])
            rest = intents[1:]
        size = self._options.batch
        parts = [rest[at : at + size] for at in range(0, len(rest), size)]
        results = await asyncio.gather(*map(self._replay, parts), return_exceptions=True)
        failure: BaseException | None = None
        for part, result in zip(parts, results, strict=True):
            if isinstance(result, BaseException):
                failure = failure or result
                undone.update((one.owner, one.number) for one in part)
            else:
                undone |= result
        done = [number for one in intents if (number := (one.owner, one.number)) not in undone]
        self._patience.forget(done)
        if failure is not None:
            await self._acknowledge(done)
            raise failure
        return done

    async def _replay(self, intents: Sequence[Intent]) -> set[Number]:
        """Hand over a batch and return the numbers that are not done."""
        batch = asyncio.create_task(replay(self._pair, intents), name=f"replay to {self._pair.target}")
        self._batches.add(batch)
        batch.add_done_callback(self._batches.discard)
        found = await batch
        now = time.monotonic()
        self._relayed += found.written
        self._patience.refuse(found.refused, now)
        if self._refused is not None:
            for row, error in found.refused.values():
                self._refused(self._pair.target, row, error)
        return set(found.refused) | self._awaited(found.missing, now)

    def _awaited(self, missing: set[Number], now: float) -> set[Number]:
        """Return those of some numbers whose rows may still come: all, until patience ends or their owner is gone."""
        owner = None if self._feed is None else self._feed.owner
        if self._pair.exclusive:
            missing = {number for number in missing if number[0] == owner}
        return missing - self._patience.expired(missing, now)

    async def _acknowledge(self, done: Sequence[Number]) -> None:
        if done:
            await self._pair.journal.acknowledge(self._pair.target, self._pair.tenant, stretches_of(done))

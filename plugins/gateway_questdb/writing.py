"""Storing batches: one transaction a table and request, groups over several tables by writing them down first."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from gateway.backend import Step, WriteReceipt
from gateway.columns import ColumnBatch
from gateway.errors import GatewayError, StoreUnavailableError
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway.unfinished import outlives
from gateway_questdb.connections import Readers
from gateway_questdb.errors import suspended
from gateway_questdb.groups import Begun, Groups
from gateway_questdb.layout import Layout
from gateway_questdb.lines import simple, text_of
from gateway_questdb.lookups import stamps_of
from gateway_questdb.plans import Plan, Stamp, keys_to_compare, logs_of, plan_of, requests_of, without_losers
from gateway_questdb.posts import Posts
from gateway_questdb.recovery import Recovery
from gateway_questdb.senders import Senders
from gateway_questdb.tables import Tables
from gateway_questdb.values import LEAST_LONG, encoder
from gateway_questdb.waiting import Waiting

__all__ = ["KEYS_AT_ONCE", "Writer", "parts"]

KEYS_AT_ONCE: Final = 200
"""Keys in one question."""
_MANY: Final = 2_000
"""Rows of one request from which on their lines are written in a thread, so that others get to run meanwhile."""
_LOOK_EVERY: Final = 1.0
"""Seconds after which a write looks again whether its table is suspended."""
_CLOSING: Final = 5.0
"""Seconds that closing waits for batches that are under way; a server that hangs would let it wait for ever."""

_log = logging.getLogger(__name__)

Item = TypeVar("Item")


class Writer:
    """Writes, one batch after the other.

    Args:
        tables: Layouts of all kinds.
        senders: To write with what needs the official client, and threads.
        posts: To write rows with that lines can hold.
        readers: To look up what is stored.
        waiting: To look at the tables.
        groups: Where groups over several tables are written down.
        most: Rows of one request.
        instance: Instance name, for errors.

    Attributes:
        recovery: Finishes groups that a crash left behind.
    """

    def __init__(
        self,
        tables: Tables,
        senders: Senders,
        posts: Posts,
        readers: Readers,
        waiting: Waiting,
        groups: Groups,
        *,
        most: int,
        instance: str,
    ) -> None:
        self._tables = tables
        self._senders = senders
        self._posts = posts
        self._readers = readers
        self._waiting = waiting
        self._groups = groups
        self._most = most
        self._instance = instance
        self._turn = asyncio.Lock()
        self._running: asyncio.Task[WriteReceipt] | None = None
        self._closed = False
        self._looked: dict[str, float] = {}
        self.recovery = Recovery(groups, tables, waiting, self._store_group)

    async def write(self, steps: Sequence[Step]) -> WriteReceipt:
        """Store a batch. When this is cancelled, a batch that was begun goes on, and the next one waits for it.

        Raises:
            StoreError: Nothing of it counts as acknowledged.
        """
        return await self._in_turn(lambda: self._write(steps))

    async def _in_turn(self, work: Callable[[], Coroutine[Any, Any, WriteReceipt]]) -> WriteReceipt:
        # Who gives up here has begun nothing: behind a server that hangs, no more than one batch stays in memory.
        await self._turn.acquire()
        if self._closed:
            self._turn.release()
            raise self._gone()
        task = self._running = asyncio.ensure_future(work())
        task.add_done_callback(self._ended)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            own = asyncio.current_task()
            if task.cancelled() and (own is None or not own.cancelling()):
                raise self._gone() from None  # closing ended it
            outlives(task)
            raise

    def _ended(self, task: asyncio.Task[WriteReceipt]) -> None:
        self._running = None
        self._turn.release()
        if not task.cancelled():
            task.exception()  # whoever gave up does not ask for it

    def _gone(self) -> StoreUnavailableError:
        return StoreUnavailableError(
            "the store was closed before the write was acknowledged; open the gateway again, and repeat it",
            backend=self._instance,
        )

    async def _write(self, steps: Sequence[Step]) -> WriteReceipt:
        logs = logs_of(steps)
        if logs is not None:
            await self._store({kind: list(parts(rows, self._most)) for kind, rows in logs.items()})
            return WriteReceipt()
        plan = plan_of(steps)
        for rows in plan.steps.values():
            for row in rows:
                self._tables[row.kind]  # refuses what nobody registered before anything is stored
        plan = without_losers(plan, await self._stored(plan))
        begun = await self._begin(plan)
        await self._store(requests_of(plan, self._most))
        if begun is not None:
            await self._finish([begun])
        return WriteReceipt(superseded=plan.superseded)

    async def _stored(self, plan: Plan) -> dict[tuple[KindSpec, str, Key], Stamp]:
        """Return the stamps of what is stored under the keys that may be superseded."""
        wanted = keys_to_compare(plan)
        if not wanted:
            return {}
        await self._waiting.applied(sorted({self._tables[kind].table for kind, _ in wanted}))
        found: dict[tuple[KindSpec, str, Key], Stamp] = {}
        for (kind, tenant), keys in wanted.items():
            layout = self._tables[kind]
            for some in parts(keys, KEYS_AT_ONCE):
                for version, digest, *key in await self._readers.fetch(stamps_of(layout, tenant, some)):
                    place = (kind, tenant, tuple(LEAST_LONG if part is None else part for part in key))
                    found[place] = (version, LEAST_LONG if digest is None else digest)
        return found

    async def _begin(self, plan: Plan) -> Begun | None:
        """Write down the groups of a batch that lie in several tables; None if there are none."""
        if not plan.spanning:
            return None
        rows = [row for at in plan.spanning for row in plan.steps[at]]
        for row in rows:
            encoder(self._tables[row.kind])(row)  # what cannot be stored is refused before anything is
        return await self._groups.begin(rows)

    async def _store(self, requests: Mapping[KindSpec, Sequence[Sequence[Row]]]) -> None:
        """Store rows, a transaction a request, and look whether their tables take them in."""
        layouts = [
            self._tables[kind] for kind in requests
        ]  # refuses what nobody registered before anything is stored
        due = self._due([layout.table for layout in layouts])
        sends = [
            self._send(layout, rows)
            for layout, several in zip(layouts, requests.values(), strict=True)
            for rows in several
        ]
        await _all([*sends, self._look(due)] if due else sends)

    async def _send(self, layout: Layout, rows: Sequence[Row]) -> None:
        if not simple(layout):
            encode = encoder(layout)
            await self._senders.send(layout.table, lambda: [encode(row) for row in rows])
        elif len(rows) < _MANY:
            await self._posts.post(text_of(layout, rows))
        else:
            await self._posts.post(await self._senders.in_thread(lambda: text_of(layout, rows)))

    async def write_columns(self, batch: ColumnBatch) -> WriteReceipt:
        """Store rows given by column, in every respect as `write` does with the same rows.

        Raises:
            StoreError: Nothing of it counts as acknowledged.
        """
        layout = self._tables[batch.kind]
        if not layout.log or not simple(layout):
            return await self.write(batch.rows())
        return await self._in_turn(lambda: self._write_columns(batch))

    async def _write_columns(self, batch: ColumnBatch) -> WriteReceipt:
        await self._store({batch.kind: list(parts(batch, self._most))})
        return WriteReceipt()

    def _due(self, tables: Sequence[str]) -> list[str]:
        """Return the tables that nobody looked at for a while."""
        now = time.monotonic()
        due = [table for table in tables if now - self._looked.get(table, -_LOOK_EVERY) >= _LOOK_EVERY]
        self._looked.update(dict.fromkeys(due, now))
        return due

    async def _look(self, tables: Sequence[str]) -> None:
        """Refuse a table that is suspended: it takes rows and never shows them."""
        for name, state in (await self._waiting.look(tables)).items():
            if state.suspended:
                self._looked.pop(name, None)
                raise suspended(name, self._instance, state.reason)

    async def _finish(self, begun: Sequence[Begun]) -> None:
        try:
            await self._groups.done(begun)
        except GatewayError as error:
            # Its rows are stored; not to have noted that costs writing them once more.
            _log.warning("a group is stored, but it was not noted; it will be stored once more: %s", error)

    async def _store_group(self, rows: Sequence[Row]) -> None:
        """Store the rows of a group that was written down already."""
        await self._store(requests_of(Plan({0: tuple(rows)}), self._most))

    async def close(self) -> None:
        """Wait for batches that are under way, but not for ever, and close the connections that were kept for them."""
        try:
            async with asyncio.timeout(_CLOSING):
                await self._turn.acquire()  # whoever came before has had its turn then
        except TimeoutError:
            self._closed, running = True, self._running
            if running is not None:
                _log.warning(
                    "%s: a write that the server did not answer was given up in closing", self._instance
                )
                running.cancel()
                await asyncio.wait([running])
        else:
            self._closed = True
            self._turn.release()
        await self._posts.close()


def parts(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Yield a sequence in parts of at most so many."""
    for at in range(0, len(items), size):
        yield items[at : at + size]


async def _all(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Wait for all; the first failure is raised once all have ended."""
    if len(work) == 1:
        await work[0]
        return
    outcomes = await asyncio.gather(*work, return_exceptions=True)
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if failures:
        raise failures[0]

"""Whether what a store committed has reached its mirror; nobody may believe a difference between the two before.

A journaled mirror may be minutes behind. As long as an intent for a row is pending, the row has not arrived, and a
difference means nothing. Once none is, and the mirror still has not what the primary had before that was asked, it has
lost it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from gateway.intents import Intent, Journal, Stretch
from gateway.records.kind import KindSpec
from gateway.records.row import Key

__all__ = ["Asking", "Awaited", "CaughtUp", "JournalCaughtUp"]


class Awaited(NamedTuple):
    """What is to have reached a mirror.

    Attributes:
        kind: Of which kind.
        tenant: Whose row.
        key: Which row; None for all of the kind.
        version: What was written up to this version.
    """

    kind: KindSpec
    tenant: str
    key: Key | None
    version: int


class CaughtUp(Protocol):
    """Tells whether writes have reached a mirror. Whoever writes mirrors implements it."""

    async def __call__(self, source: str, mirror: str, rows: Sequence[Awaited]) -> Sequence[bool]:
        """Return for each whether the mirror has it, or has lost it for good.

        True only if everything that the source had committed of it *when this was called*, by any process, has been
        acknowledged by the mirror. False while that is not known: an intent is pending, a feed has not heard back, or
        intents of that age were dropped, so that the mirror needs a backfill. A store that mirrors nothing to the other
        has nothing pending: True.

        Args:
            source: Instance name of the store that had the rows.
            mirror: Instance name of the store that is to get them.
            rows: What is asked about.

        Raises:
            StoreError: It cannot be told.
        """
        ...


class JournalCaughtUp:
    """Asks journals alone: right for every process that writes, and later than a feed would know.

    Args:
        journal_of: Returns the journal of a store, by instance name; None for one that mirrors nothing.
        page: Intents read at a time.
        most: Intents looked through at most; of a longer backlog, what it holds is not known.
    """

    def __init__(
        self, journal_of: Callable[[str], Journal | None], *, page: int = 1_000, most: int = 20_000
    ) -> None:
        self._journal_of = journal_of
        self._page = page
        self._most = most

    def __repr__(self) -> str:
        return f"<JournalCaughtUp most={self._most}>"

    async def __call__(self, source: str, mirror: str, rows: Sequence[Awaited]) -> Sequence[bool]:
        """Return for each whether no intent for it is pending; see `CaughtUp`."""
        journal = self._journal_of(source)
        if journal is None:
            return [True] * len(rows)
        answers: dict[Awaited, bool] = {}
        for tenant in {row.tenant for row in rows}:
            own = [row for row in rows if row.tenant == tenant]
            answers.update(await self._answers(journal, mirror, tenant, own))
        return [answers[row] for row in rows]

    async def _answers(
        self, journal: Journal, mirror: str, tenant: str, rows: Sequence[Awaited]
    ) -> dict[Awaited, bool]:
        """Look through the intents for those of the rows. Mostly there are hardly any, and one look is enough.

        Neither their versions nor their order say where to look: history is written late, with old versions, and a
        step may hold younger rows beside an old one.
        """
        pending: dict[tuple[str, Key | None], int] = {}
        after: Stretch | None = None
        page, left = self._page, self._most
        while left > 0:
            found = await journal.pending(mirror, tenant, page, after=after)
            _note(pending, found)
            if len(found) < page:
                return {row: not _is_pending(pending, row) for row in rows}
            left -= page
            resumed = _resumed(found)
            if resumed is None:
                page *= 2  # one step fills the page
            else:
                after = resumed
        return dict.fromkeys(rows, False)


def _resumed(found: Sequence[Intent]) -> Stretch | None:
    """Return after what to go on. A page might end within a step, so its last one is read again."""
    first, last = found[0], found[-1]
    if (first.owner, first.number) == (last.owner, last.number):
        return None
    before = next(one for one in reversed(found) if (one.owner, one.number) != (last.owner, last.number))
    return Stretch(before.owner, before.number, before.number)


def _note(pending: dict[tuple[str, Key | None], int], intents: Sequence[Intent]) -> None:
    """Keep the smallest pending version of each key, and of each kind under no key."""
    for intent in intents:
        for key in (intent.key, None):
            name = (intent.kind.name, key)
            pending[name] = min(pending.get(name, intent.version), intent.version)


def _is_pending(pending: dict[tuple[str, Key | None], int], row: Awaited) -> bool:
    smallest = pending.get((row.kind.name, row.key))
    return smallest is not None and smallest <= row.version


_GATHER: Final = 0.01


class _Round:
    """Questions about one pair of stores that are asked together."""

    def __init__(self, future: asyncio.Future[Sequence[bool]]) -> None:
        self.rows: list[Awaited] = []
        self.future = future


class Asking:
    """Puts the questions of many comparisons together, so that a store is asked a few times a second at most.

    Args:
        caught_up: Whom to ask.
        timeout: Seconds after which no answer is one.
        gather: Seconds in which questions come together.
    """

    def __init__(self, caught_up: CaughtUp, *, timeout: float = 5.0, gather: float = _GATHER) -> None:
        self._caught_up = caught_up
        self._timeout = timeout
        self._gather = gather
        self._rounds: dict[tuple[str, str], _Round] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Asking under way={len(self._tasks)}>"

    async def ask(self, source: str, mirror: str, rows: Sequence[Awaited]) -> Sequence[bool]:
        """Return for each whether it has reached the mirror; see `CaughtUp`.

        Raises:
            StoreError: It cannot be told.
            TimeoutError: There was no answer in time.
        """
        if not rows:
            return ()
        pair = (source, mirror)
        asked = self._rounds.get(pair)
        if asked is None:
            loop = asyncio.get_running_loop()
            asked = self._rounds[pair] = _Round(loop.create_future())
            task = loop.create_task(self._run(pair, asked), name=f"caught up {source}>{mirror}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        at = len(asked.rows)
        asked.rows.extend(rows)
        answers = await asyncio.shield(asked.future)  # others wait for it too
        return answers[at : at + len(rows)]

    async def _run(self, pair: tuple[str, str], asked: _Round) -> None:
        await asyncio.sleep(self._gather)
        # From here on others begin a round of their own: an answer counts only for what was seen before the question.
        del self._rounds[pair]
        try:
            async with asyncio.timeout(self._timeout):
                answers = await self._caught_up(*pair, tuple(asked.rows))
        except BaseException as error:
            if not isinstance(error, Exception):
                asked.future.cancel()
                raise
            asked.future.set_exception(error)
            asked.future.exception()  # whoever waited may have been cancelled meanwhile
        else:
            asked.future.set_result(answers)

    async def aclose(self) -> None:
        """Stop asking."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

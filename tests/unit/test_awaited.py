"""Whether a mirror has caught up, by the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gateway.errors import StoreUnavailableError
from gateway.intents import Intent, Stretch
from gateway.journal.memory import MemoryJournal
from gateway.records import POSITIONS, TRADES, KindSpec
from gateway.shadow.awaited import Asking, Awaited, JournalCaughtUp

pytestmark = pytest.mark.anyio
TENANT = "t"


def _intent(number: int, key: str, version: int, kind: KindSpec = POSITIONS, part: int = 0) -> Intent:
    return Intent("bot", number, part, kind, TENANT, (key,), version, "")


def _row(key: str | None, version: int, kind: KindSpec = POSITIONS) -> Awaited:
    return Awaited(kind, TENANT, None if key is None else (key,), version)


def _journal(*intents: Intent) -> MemoryJournal:
    journal = MemoryJournal()
    journal.note_now(("new", intent) for intent in intents)
    return journal


async def test_a_row_is_awaited_while_an_intent_of_it_is_pending() -> None:
    """Only the row's own intents count, and only up to the version in question."""
    journal = _journal(_intent(1, "a", 10), _intent(2, "b", 30))
    caught_up = JournalCaughtUp(lambda _name: journal)
    asked = [_row("a", 10), _row("a", 9), _row("b", 20), _row("b", 30), _row("c", 30)]
    assert list(await caught_up("old", "new", asked)) == [False, True, True, False, True]
    await journal.acknowledge("new", TENANT, (Stretch("bot", 1, 1),))
    assert list(await caught_up("old", "new", asked)) == [True, True, True, False, True]


async def test_a_whole_kind_is_awaited_while_any_row_of_it_is() -> None:
    """Without a key, every intent of the kind counts, and none of another kind."""
    caught_up = JournalCaughtUp(lambda _name: journal)
    journal = _journal(_intent(1, "a", 10))
    assert list(await caught_up("old", "new", [_row(None, 99), _row(None, 99, TRADES)])) == [False, True]


async def test_another_mirrors_backlog_does_not_matter() -> None:
    """What one mirror has yet to get says nothing of another; a store without a journal mirrors nothing."""
    journal = _journal(_intent(1, "a", 10))
    caught_up = JournalCaughtUp({"old": journal}.get)
    assert list(await caught_up("old", "other", [_row("a", 10)])) == [True]
    assert list(await caught_up("new", "old", [_row("a", 10)])) == [True]


async def test_history_that_is_written_late_is_awaited_too() -> None:
    """Neither the age of a version nor its place in the journal says that nothing older is pending."""
    journal = _journal(_intent(1, "now", 1_000), _intent(2, "now too", 1_001), _intent(3, "old", 5))
    caught_up = JournalCaughtUp(lambda _name: journal)
    assert list(await caught_up("old", "new", [_row("old", 5), _row("else", 5)])) == [False, True]


async def test_a_row_of_a_step_with_younger_rows_is_awaited() -> None:
    """What a step wrote beside the row does not hide it."""
    journal = _journal(_intent(1, "a", 10), _intent(1, "b", 11, part=1), _intent(1, "c", 12, part=2))
    caught_up = JournalCaughtUp(lambda _name: journal)
    asked = [_row("a", 10), _row("b", 11), _row("c", 12), _row("d", 12)]
    for row, there in zip(asked, (False, False, False, True), strict=True):
        assert list(await caught_up("old", "new", [row])) == [there]


@pytest.mark.parametrize("parts", [1, 7, 40])
async def test_a_long_backlog_is_looked_through_page_by_page(parts: int) -> None:
    """No intent is passed over where a page ends, within a step neither; what is beyond the bound is not known."""
    intents = [
        _intent(number, f"k{number}.{part}", 5, part=part) for number in range(30) for part in range(parts)
    ]
    journal = _journal(*intents)
    asked = [_row(str(intent.key[0]), 5) for intent in intents]
    full = JournalCaughtUp(lambda _name: journal, page=10, most=100_000)
    assert list(await full("old", "new", [*asked, _row("else", 5)])) == [False] * len(asked) + [True]
    short = JournalCaughtUp(lambda _name: journal, page=10, most=20)
    assert list(await short("old", "new", [_row("else", 5)])) == [False]


class _Counting:
    """Answers True for even versions, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, int]] = []
        self.fault: Exception | None = None

    async def __call__(self, source: str, mirror: str, rows: Sequence[Awaited]) -> Sequence[bool]:
        """Answer, or fail if told to."""
        self.asked.append((source, mirror, len(rows)))
        await asyncio.sleep(0)
        if self.fault is not None:
            raise self.fault
        return [row.version % 2 == 0 for row in rows]


async def test_questions_of_a_moment_are_asked_together() -> None:
    """Many comparisons cost one question for each pair, and each gets its own answers."""
    counting = _Counting()
    asking = Asking(counting)
    answers = await asyncio.gather(
        *(asking.ask("old", "new", [_row("a", version), _row("a", version + 1)]) for version in range(50)),
        asking.ask("new", "old", [_row("a", 2)]),
        asking.ask("old", "new", []),
    )
    assert [list(answer) for answer in answers[:2]] == [[True, False], [False, True]]
    assert [list(answer) for answer in answers[-2:]] == [[True], []]
    assert sorted(counting.asked) == [("new", "old", 1), ("old", "new", 100)]
    await asking.aclose()


async def test_a_question_that_fails_fails_for_all_and_the_next_one_is_asked_again() -> None:
    """Nobody hangs because the journal could not answer."""
    counting = _Counting()
    counting.fault = StoreUnavailableError("the journal is away")
    asking = Asking(counting)
    answers = await asyncio.gather(
        *(asking.ask("old", "new", [_row("a", 2)]) for _ in range(3)), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [StoreUnavailableError] * 3
    counting.fault = None
    assert list(await asking.ask("old", "new", [_row("a", 2)])) == [True]
    await asking.aclose()

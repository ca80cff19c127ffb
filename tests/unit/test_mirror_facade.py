"""All mirrors of a gateway: pauses, bounds and what becomes of writes beyond them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from gateway.dispatch import Store
from gateway.errors import GatewayClosedError, JournalFullError, StoreUnavailableError
from gateway.mirror.bounds import Bounds, JournalPolicy
from gateway.mirror.facade import Mirrors
from gateway.mirror.state import cleared, paused, resumed, resumed_intents, suspended
from gateway.mirror.survey import survey
from gateway.records.activity import EVENTS, Event
from gateway.records.stamp import DEFAULT_TENANT
from gateway.shadow.awaited import Awaited
from tests.two_stores import NOW, Two, two, until

__all__ = ["two"]

Make = Callable[..., Awaitable[Mirrors]]


@pytest.mark.anyio
async def test_what_is_written_reaches_the_mirror_and_leaves_the_journal(two: Two) -> None:
    """In both directions there is a feed, the same one each time."""
    mirrors = two.mirrors()
    await mirrors.start()
    (row,) = await two.write(mirrors)
    assert await mirrors.drained("a", "b", 2**62, 5)
    assert await two.has(row)
    assert await mirrors.homes["a"].journal.facts(DEFAULT_TENANT, 9) == []
    assert mirrors.feed("a", "b") is mirrors.feed("a", "b")
    assert mirrors.feed("b", "a") is not mirrors.feed("a", "b")
    assert not mirrors.crowded


@pytest.mark.anyio
async def test_a_pause_holds_back_and_a_resume_hands_over(two: Two) -> None:
    """While it is paused nothing reaches the mirror; afterwards everything does, without anybody's help."""
    mirrors = two.mirrors()
    states = mirrors.homes["a"].states
    await states.change("b", partial(paused, by="ann", why="moving", now=NOW))
    await mirrors.start()
    (row,) = await two.write(mirrors)
    assert mirrors.status()[0]["paused"] == "by ann, moving"
    assert not await mirrors.drained("a", "b", 2**62, 0.1)
    assert not await two.has(row)
    await states.change("b", resumed)
    await until(lambda: mirrors.status()[0]["paused"] is None)
    assert await mirrors.drained("a", "b", 2**62, 5)
    assert await two.has(row)


@pytest.mark.anyio
async def test_a_full_journal_blocks_and_then_refuses(two: Two) -> None:
    """The write waits for room and gets in when there is some; without, it fails and says what to do."""
    mirrors = two.mirrors(Bounds(rows=5))
    two.gates["b"].faults = [StoreUnavailableError("down")] * 1000
    await mirrors.start()
    await two.write(mirrors, 5)
    await until(lambda: mirrors.crowded)
    with pytest.raises(JournalFullError, match=r"STORAGE_JOURNAL_ROWS is 5.*Nothing was written") as caught:
        await mirrors.admit(("b",))
    assert (caught.value.target, caught.value.transient) == ("b", True)
    assert "full" in mirrors.status()[0]
    standing = await survey(mirrors.homes["a"], "a", "b", DEFAULT_TENANT, Bounds(rows=5))
    assert any("the journal is full" in problem for problem in standing.problems)
    waiting = asyncio.ensure_future(admitted(mirrors))
    two.gates["b"].faults = []
    await waiting
    assert await mirrors.drained("a", "b", 2**62, 5)
    await until(lambda: not mirrors.crowded)
    await mirrors.admit(("b",))


@pytest.mark.anyio
@pytest.mark.timeout(60)
async def test_closing_sends_away_who_waits_for_room(two: Two) -> None:
    """Writes that wait while the journal is full end when the gateway closes, and closing does not wait for them."""
    mirrors = two.mirrors(Bounds(rows=5), feed=_nothing_fed(), wait=30.0)
    await mirrors.start()
    await two.write(mirrors, 6, hand_on=False)
    waiting = [asyncio.ensure_future(mirrors.admit(("b",))) for _ in range(3)]
    await until(lambda: mirrors.status()[0]["full"] is not None)
    assert not any(one.done() for one in waiting)
    await mirrors.close()
    for one in waiting:
        with pytest.raises(GatewayClosedError, match="nothing was written"):
            await one


async def admitted(mirrors: Mirrors) -> None:
    """Ask until there is room, as a bot that tries again does."""
    while True:
        try:
            await mirrors.admit(("b",))
        except JournalFullError:
            continue
        return


@pytest.mark.anyio
async def test_the_count_is_asked_for_when_this_gateway_alone_may_have_filled_the_journal(two: Two) -> None:
    """Between two looks, more is written than there was room for: the next write finds out, and not a look."""
    mirrors = two.mirrors(Bounds(rows=5), feed=_nothing_fed())
    await mirrors.start()
    await two.write(mirrors, 6, hand_on=False)
    assert mirrors.crowded
    with pytest.raises(JournalFullError):
        await mirrors.admit(("b",))


def _nothing_fed() -> Any:
    from gateway.mirror.contract import FeedOptions

    return FeedOptions(rows=1)


@pytest.mark.anyio
async def test_age_fills_a_journal_too(two: Two) -> None:
    """A single change that has waited for too long counts."""
    mirrors = two.mirrors(Bounds(age=timedelta(milliseconds=1)))
    two.gates["b"].faults = [StoreUnavailableError("down")] * 1000
    await mirrors.start()
    await two.write(mirrors)
    await until(lambda: mirrors.crowded)
    with pytest.raises(JournalFullError, match="STORAGE_JOURNAL_AGE"):
        await mirrors.admit(("b",))


@pytest.mark.anyio
async def test_a_mirror_is_given_up_and_taken_up_again_by_policy(
    two: Two, caplog: pytest.LogCaptureFixture
) -> None:
    """It gets no intents while it is down, then it does again; that it lacks something is marked, loudly, until a copy."""
    mirrors = two.mirrors(Bounds(rows=5, policy=JournalPolicy.DEGRADE))
    down = Down(two.b)
    two.gates["b"].faults = [StoreUnavailableError("down")] * 1000
    watch = mirrors._watches["a", "b"]
    watch._mirror = down  # type: ignore[assignment] # stands for the store's health
    await mirrors.start()
    rows = await two.write(mirrors, 6)
    await until(lambda: mirrors.noted(("b",)) == ())
    await mirrors.admit(("b",))
    await until(lambda: _empty(mirrors))
    state = await mirrors.homes["a"].states.read("b")
    assert (state.suspended, state.behind_since) == (True, rows[0].version)
    assert any(
        record.levelno == logging.ERROR and "gateway copy --from a --to b" in record.getMessage()
        for record in caplog.records
    )
    await two.write(mirrors)
    assert await _empty(mirrors)
    down.ok = True
    two.gates["b"].faults = []
    await until(lambda: mirrors.noted(("b",)) == ("b",))
    (row,) = await two.write(mirrors)
    await until(lambda: two.has(row))
    state = await mirrors.homes["a"].states.read("b")
    assert (state.suspended, state.behind_since) == (False, rows[0].version)
    assert state.resumed_at is not None
    standing = await survey(mirrors.homes["a"], "a", "b", DEFAULT_TENANT, Bounds())
    assert any("gateway copy --from a --to b" in problem for problem in standing.problems)


async def _empty(mirrors: Mirrors) -> bool:
    return not await mirrors.homes["a"].journal.facts(DEFAULT_TENANT, 9)


@pytest.mark.anyio
async def test_a_mirror_that_answers_again_is_written_again_though_nothing_is_left_to_relay(two: Two) -> None:
    """Another process may have relayed what was left; without a try of its own, a feed would rest for good."""
    mirrors = two.mirrors()
    down = Down(two.b)
    watch = mirrors._watches["a", "b"]
    watch._mirror = down  # type: ignore[assignment] # stands for the store's health
    watch.pair.circuit.failed(StoreUnavailableError("down"))
    await mirrors.start()
    await until(lambda: down.asked > 1)
    assert not watch.pair.circuit.closed
    down.ok = True
    await until(lambda: watch.pair.circuit.closed)
    (row,) = await two.write(mirrors)
    await until(lambda: two.has(row))
    assert mirrors.feed("a", "b").status().written == 1


class Down:
    """What is asked of a mirror's health."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.ok = False
        self.asked = 0

    async def health(self) -> Any:
        """Answer what the test says."""
        self.asked += 1
        from gateway.backend import Health

        return Health(self.ok, "as the test says")


@pytest.mark.anyio
async def test_closing_with_a_dead_mirror_is_bounded(two: Two) -> None:
    """What it did not get stays in the journal."""
    mirrors = two.mirrors()
    two.gates["b"].gate.clear()
    await mirrors.start()
    await two.write(mirrors, 3)
    async with asyncio.timeout(5):
        await mirrors.close()
        await mirrors.close()
    (facts,) = await mirrors.homes["a"].journal.facts(DEFAULT_TENANT, 9)
    assert facts.depth == 3
    two.gates["b"].gate.set()


@pytest.mark.anyio
async def test_arrival_is_told_of_what_is_on_the_mirror_alone(two: Two) -> None:
    """While a row waits for the mirror it has not arrived; once the mirror has it, it has, at once and not later."""
    mirrors = two.mirrors()
    two.gates["b"].faults = [StoreUnavailableError("down")] * 3
    await mirrors.start()
    (row,) = await two.write(mirrors)
    other = two.stamper.stamp(EVENTS, Event(timestamp=NOW, session_id="s", event_type="t"))
    asked = [
        Awaited(EVENTS, DEFAULT_TENANT, row.key, row.version),
        Awaited(EVENTS, DEFAULT_TENANT, other.key, 1),
    ]
    assert list(await mirrors.caught_up("a", "b", asked)) == [False, True]
    assert list(await mirrors.caught_up("b", "a", asked)) == [True, True]
    assert list(await mirrors.caught_up("a", "nobody", asked)) == [True, True]
    two.gates["b"].faults.clear()
    assert await mirrors.drained("a", "b", 2**62, 5)
    assert list(await mirrors.caught_up("a", "b", asked)) == [True, True]
    (late,) = await two.write(mirrors)
    assert list(
        await mirrors.caught_up("a", "b", [Awaited(EVENTS, DEFAULT_TENANT, late.key, late.version)])
    ) == [True]
    assert await two.has(late)


@pytest.mark.anyio
async def test_nothing_is_said_to_have_arrived_that_was_given_up(two: Two) -> None:
    """Whoever gave up the mirror, rows without an intent have not arrived until a copy has cleared the mark."""
    mirrors = two.mirrors()
    states = mirrors.homes["a"].states
    await mirrors.start()
    asked = [Awaited(EVENTS, DEFAULT_TENANT, ("x",), version) for version in (9, 10, 11)]
    assert list(await mirrors.caught_up("a", "b", asked)) == [True, True, True]
    await states.change("b", partial(suspended, since=10, why="full"))
    assert list(await mirrors.caught_up("a", "b", asked)) == [False, False, False]
    await states.change("b", partial(resumed_intents, now=NOW))
    assert list(await mirrors.caught_up("a", "b", asked)) == [True, False, False]
    await states.change("b", partial(cleared, began=NOW + timedelta(hours=1)))
    assert list(await mirrors.caught_up("a", "b", asked)) == [True, True, True]

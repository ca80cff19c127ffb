"""Deadlines: one timer for many calls."""

from __future__ import annotations

import asyncio

import pytest

from gateway.deadlines import Deadlines

pytestmark = pytest.mark.anyio


async def watched(deadlines: Deadlines, work: asyncio.Event) -> str:
    """Wait for an event under the deadline, the way a store call does."""
    call = deadlines.begin()
    try:
        await work.wait()
    except asyncio.CancelledError:
        if deadlines.gave_up(call):
            return "gave up"
        raise
    else:
        return "done"
    finally:
        deadlines.end(call)


async def test_a_call_that_takes_too_long_is_given_up() -> None:
    """The call ends, and its task goes on as if nobody had cancelled it."""
    deadlines = Deadlines(0.05)
    assert await watched(deadlines, asyncio.Event()) == "gave up"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_calls_in_time_are_left_alone() -> None:
    """A call that ends in time is not touched, and the timer stops when nothing is under way."""
    deadlines = Deadlines(0.05)
    work = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, work.set)
    assert await watched(deadlines, work) == "done"
    await asyncio.sleep(0.1)  # longer than every deadline: a timer that outlived the call would have fired
    assert repr(deadlines) == "<Deadlines 0.05 s, 0 calls>"


async def test_a_cancellation_from_elsewhere_is_passed_on() -> None:
    """Cancelling the caller is no time-out."""
    deadlines = Deadlines(5)
    task = asyncio.create_task(watched(deadlines, asyncio.Event()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_without_a_time_nothing_is_watched() -> None:
    """None means that calls may take as long as they like."""
    deadlines = Deadlines(None)
    call = deadlines.begin()
    assert repr(deadlines) == "<Deadlines None s, 0 calls>"
    deadlines.end(call)

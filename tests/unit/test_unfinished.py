"""Work that goes on after its caller gave up: who watches hears of it, and nobody else is disturbed."""

from __future__ import annotations

import asyncio

import pytest

from gateway.unfinished import outlives, watched


@pytest.mark.anyio
async def test_who_watches_gets_what_is_not_done_yet() -> None:
    """What ended already is no concern, and each task hears of its own calls alone."""
    loop = asyncio.get_running_loop()
    pending, done = loop.create_future(), loop.create_future()
    done.set_result(None)

    async def elsewhere() -> None:
        outlives(loop.create_future())

    with watched() as found:
        outlives(pending)
        outlives(done)
    await elsewhere()
    assert found == [pending]


@pytest.mark.anyio
async def test_an_error_of_such_work_is_not_reported_as_forgotten() -> None:
    """Its caller was told that the outcome is unknown; how it failed in the end interests nobody."""
    reported: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reported.append(context))
    work = loop.create_future()
    outlives(work)
    work.set_exception(ValueError("late"))
    await asyncio.sleep(0)
    del work
    loop.set_exception_handler(None)
    assert reported == []

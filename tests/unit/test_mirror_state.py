"""The state of a mirror, and its bounds: pure decisions, and the places that keep them."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.backend import OpenContext
from gateway.dispatch import open_store
from gateway.intents import JournalFacts
from gateway.journal.file import JournalFile
from gateway.mirror.bounds import Bounds, age_of, age_text, excess
from gateway.mirror.contract import Claim
from gateway.mirror.homes import LocalStates, MemoryStates, States, StoredStates
from gateway.mirror.lease import Lease
from gateway.mirror.state import (
    LEASE,
    SETTLED,
    behind,
    claimed,
    claims,
    cleared,
    here,
    paused,
    released,
    reported,
    resumed,
    resumed_intents,
    suspended,
)
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.mirroring import MirrorState
from gateway.records.stamp import DEFAULT_TENANT
from gateway.records.version import HybridClock, version_at
from gateway_memory.plugin import gateway_backends

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
FRESH = MirrorState(target="b")


def test_a_pause_says_who_and_why_and_keeps_since_when() -> None:
    """A second pause changes the reason and not the beginning; resuming leaves no trace, and twice is once."""
    first = paused(FRESH, "ann", "disk\nfull", NOW)
    assert (first.paused, first.paused_by, first.pause_reason) == (True, "ann", "disk full")
    again = paused(first, "bob", "x" * 5000, NOW + timedelta(hours=1))
    assert (again.paused_by, again.paused_at) == ("bob", NOW)
    assert len(again.pause_reason) == 1024
    assert resumed(again) == FRESH
    assert resumed(FRESH) is None


def test_one_gateway_replays_until_its_lease_ends() -> None:
    """Another one takes over when the lease has ended, was given back, or is dated beyond belief; not before."""
    held = claimed(FRESH, "one", "1@elsewhere", NOW)
    assert held is not None
    assert claimed(held, "two", "2@elsewhere", NOW + LEASE / 2) is None
    assert claimed(held, "one", "1@elsewhere", NOW + LEASE / 2) is not None
    assert claimed(held, "two", "2@elsewhere", NOW + LEASE) is not None
    assert claimed(held, "two", "2@elsewhere", NOW - 2 * LEASE) is not None
    assert released(held, "two") is None
    given_back = released(held, "one")
    assert given_back == FRESH
    assert claimed(paused(FRESH, "ann", "why", NOW), "one", "1@elsewhere", NOW) is None


def test_a_process_that_is_gone_is_not_waited_for() -> None:
    """Of this machine it is known which processes run; of others it is not."""
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    pid = int(ended.stdout)
    gone = claimed(FRESH, "one", f"{pid}@{socket.gethostname()}", NOW)
    assert gone is not None
    assert claims(gone, "two", NOW)
    assert not claims(gone.model_copy(update={"relay_where": f"{pid}@elsewhere"}), "two", NOW)
    assert not claims(gone.model_copy(update={"relay_where": here()}), "two", NOW)
    assert not claims(gone.model_copy(update={"relay_where": "no such thing"}), "two", NOW)
    assert here() == f"{os.getpid()}@{socket.gethostname()}"


def test_reports_are_written_only_when_they_say_something_new() -> None:
    """The last error stays when all is well again, with the time it was first said."""
    broken = reported(FRESH, "open", "refused", 2, NOW)
    assert broken is not None
    assert (broken.circuit, broken.last_error, broken.last_error_at, broken.refused) == (
        "open",
        "refused",
        NOW,
        2,
    )
    assert reported(broken, "open", "refused", 2, NOW + LEASE) is None
    well = reported(broken, "closed", "", 0, NOW + LEASE)
    assert well is not None
    assert (well.circuit, well.last_error, well.last_error_at) == ("closed", "refused", NOW)
    assert reported(well, "closed", "", 0, NOW) is None


def test_the_mark_goes_only_with_a_copy_that_began_late_enough() -> None:
    """Not while intents are not written, not with one that began before every process wrote them again."""
    lacking = suspended(FRESH, 700, "too many")
    assert behind(lacking)
    assert (lacking.behind_since, lacking.behind_reason) == (700, "too many")
    again = suspended(lacking, 500, "another reason")
    assert (again.behind_since, again.behind_reason) == (500, "too many")
    assert cleared(lacking, NOW + timedelta(days=1)) is None
    back = resumed_intents(again, NOW)
    assert back is not None
    assert behind(back)
    assert not back.suspended
    assert resumed_intents(back, NOW) is None
    assert cleared(back, NOW + SETTLED / 2) is None
    clear = cleared(back, NOW + SETTLED)
    assert clear == FRESH
    assert cleared(FRESH, NOW) is None
    assert resumed_intents(paused(lacking, "ann", "why", NOW), NOW) is None


@given(depth=st.integers(0, 20), age=st.integers(0, 200))
def test_the_bound_is_reached_by_number_or_by_age(depth: int, age: int) -> None:
    """By whichever comes first, and never by a journal that is within both."""
    now = datetime(2026, 11, 21, tzinfo=UTC)
    facts = JournalFacts("b", depth, version_at(now - timedelta(seconds=age)) if depth else None)
    found = excess(facts, Bounds(rows=10, age=timedelta(seconds=100)), now)
    assert (found is not None) == (depth >= 10 or (depth > 0 and age >= 100))


def test_ages_are_said_in_fitting_units() -> None:
    """A clock that runs ahead makes no negative age."""
    assert [age_text(timedelta(seconds=one)) for one in (0.25, 90, 240, 9000, 400_000)] == [
        "0.2 s",
        "90.0 s",
        "4.0 min",
        "2.5 h",
        "4.6 days",
    ]
    assert age_of(JournalFacts("b", 1, version_at(NOW + LEASE)), NOW) == timedelta(0)


@pytest.fixture(params=["store", "file", "memory"])
async def states(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[States]:
    """Give each place that keeps states."""
    if request.param == "memory":
        yield MemoryStates()
    elif request.param == "file":
        file = JournalFile(tmp_path / "journal.db")
        yield LocalStates(file, "a", DEFAULT_TENANT)
        await file.close()
    else:
        spec = gateway_backends()[0]
        store = await open_store(spec, OpenContext("a", spec.settings(), BUILTIN_KINDS, tmp_path))
        yield StoredStates(store, DEFAULT_TENANT, HybridClock())
        await store.close()


@pytest.mark.anyio
async def test_changes_of_many_are_all_kept(states: States) -> None:
    """Each change sees the one before it; a mirror has its own state; leaving it as it is writes nothing."""
    assert await states.read("b") == FRESH
    assert await states.change("b", resumed) is None

    def one_more(state: MirrorState) -> MirrorState:
        return state.model_copy(update={"refused": state.refused + 1})

    await asyncio.gather(*(states.change("b", one_more) for _ in range(20)))
    became = await states.change("b", partial(paused, by="ann", why="because", now=NOW))
    assert became == await states.read("b")
    assert became is not None
    assert (became.refused, became.paused_at) == (20, NOW)
    assert await states.read("c") == MirrorState(target="c")


class Clocks:
    """A wall clock and a monotonic one that a test moves together."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def wall(self) -> datetime:
        """Return the time of day."""
        return NOW + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        """Return the seconds."""
        return self.seconds


def lease(states: States, owner: str, clocks: Clocks) -> Lease:
    """Return a gateway's lease."""
    return Lease(states, "b", owner, wall=clocks.wall, clock=clocks.monotonic)


@pytest.mark.anyio
async def test_a_lease_passes_on(states: States) -> None:
    """One has it; the other gets it when it is given back, and when it was not prolonged for long enough."""
    clocks = Clocks()
    one, two = lease(states, "one", clocks), lease(states, "two", clocks)
    assert [await one.claim(), await two.claim(), await one.claim()] == [
        Claim.GRANTED,
        Claim.TAKEN,
        Claim.GRANTED,
    ]
    clocks.seconds = LEASE.total_seconds() / 2
    assert [await one.claim(), await two.claim()] == [Claim.GRANTED, Claim.TAKEN]
    clocks.seconds += LEASE.total_seconds() / 2 + 1
    assert await two.claim() is Claim.TAKEN, "it was prolonged"
    clocks.seconds += LEASE.total_seconds()
    assert await two.claim() is Claim.GRANTED
    one.saw(await states.read("b"))
    assert await one.claim() is Claim.TAKEN
    await one.release()
    assert (await states.read("b")).relay_owner == "two"
    await two.release()
    clocks.seconds += 2
    assert await one.claim() is Claim.GRANTED


@pytest.mark.anyio
async def test_a_pause_is_noticed_by_the_lease(states: States) -> None:
    """As soon as the state was seen, and ended as soon."""
    clocks = Clocks()
    one = lease(states, "one", clocks)
    assert await one.claim() is Claim.GRANTED
    held = await states.change("b", partial(paused, by="ann", why="because", now=NOW))
    assert held is not None
    one.saw(held)
    assert await one.claim() is Claim.PAUSED
    free = await states.change("b", resumed)
    assert free is not None
    one.saw(free)
    assert await one.claim() is Claim.GRANTED

"""The hybrid clock and the ids made from it."""

from __future__ import annotations

import os
import threading
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ClockError
from gateway.records.version import COUNTER_BITS, HybridClock, RecordIds, version_at, version_time

WALL = st.lists(st.integers(1_700_000_000_000, 1_700_000_060_000), min_size=1, max_size=200)


@given(WALL)
def test_versions_grow_whatever_the_wall_clock_does(readings: list[int]) -> None:
    """Versions are strictly increasing even while the wall clock steps back."""
    ticks = iter(readings)
    clock = HybridClock(timedelta(hours=1), wall_ms=lambda: next(ticks))
    versions = [clock.next() for _ in readings]
    assert versions == sorted(set(versions))


@given(WALL, st.integers(0, 30_000))
def test_what_was_observed_is_left_behind(readings: list[int], ahead_ms: int) -> None:
    """After a version was observed, the next one is greater."""
    clock = HybridClock(timedelta(hours=1), wall_ms=lambda: readings[0])
    seen = (readings[0] + ahead_ms) << COUNTER_BITS
    clock.observe(seen)
    assert clock.next() > seen


def test_a_version_too_far_ahead_is_refused_and_not_learned() -> None:
    """A version beyond the bound raises and leaves the clock as it was."""
    clock = HybridClock(timedelta(seconds=60), wall_ms=lambda: 1_700_000_000_000)
    before = clock.next()
    with pytest.raises(ClockError, match=r"61\.0 s ahead"):
        clock.observe((1_700_000_000_000 + 61_000) << COUNTER_BITS)
    assert clock.next() == before + 1


def test_many_versions_in_one_millisecond_stay_apart() -> None:
    """The counter carries into the time when one millisecond is not enough."""
    clock = HybridClock(wall_ms=lambda: 1_700_000_000_000)
    versions = {clock.next() for _ in range(2 * 2**COUNTER_BITS)}
    assert len(versions) == 2 * 2**COUNTER_BITS


def test_threads_never_share_a_version() -> None:
    """Versions made by several threads at once are all different."""
    clock = HybridClock()
    made: list[int] = []

    def work() -> None:
        made.extend([clock.next() for _ in range(5_000)])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 20_000


@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC)))
def test_a_version_tells_its_time(moment: datetime) -> None:
    """The time of a version is the moment it was made from, to the millisecond."""
    assert timedelta(0) <= moment - version_time(version_at(moment)) < timedelta(milliseconds=1)


@given(st.lists(st.integers(0, 2**63 - 1), min_size=2, max_size=50, unique=True))
def test_ids_are_uuids_of_version_7_in_the_order_of_versions(versions: list[int]) -> None:
    """Ids are valid, distinct, and sort as their versions do."""
    ids = RecordIds()
    made = [ids.next(version) for version in sorted(versions)]
    assert made == sorted(set(made))
    assert all(uuid.UUID(made_id).version == 7 for made_id in made)
    assert all(uuid.UUID(made_id).variant == uuid.RFC_4122 for made_id in made)


def test_a_forked_process_makes_ids_of_its_own() -> None:
    """After a fork the same version gives another id in the child."""
    ids = RecordIds()
    ours = ids.next(1 << COUNTER_BITS)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, ids.next(1 << COUNTER_BITS).encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reader, 64).decode()
    os.close(reader)
    os.close(writer)
    assert len(theirs) == len(ours) == 32
    assert theirs != ours

"""Who may use the cache, and when."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache.permit import (
    Epoch,
    Known,
    State,
    Step,
    changes,
    learn,
    may_read,
    next_step,
    patience_of,
    rest_of,
)

PAUSE = 5.0
STATES = st.sampled_from(State)
TIMES = st.floats(0, 1000, allow_nan=False)


def epoch(state: State = State.OPEN, name: str = "e", incarnation: str = "i", fence: float = 8.0) -> Epoch:
    """Return an epoch with a permit of a second."""
    return Epoch(state, name, incarnation, 1.0, fence)


def known(
    state: State = State.OPEN, began: float = 100.0, name: str = "e", since: float | None = None
) -> Known:
    """Return what a look that began at a time showed."""
    first = began if since is None else since
    return Known(epoch(state, name), (1, 1), began, first, None if state is State.OPEN else first)


def due(*rows: Known | None, now: float = 100.0, incarnation: str | None = "i", **more: bool) -> list[Epoch]:
    """Return what the rows are to say next."""
    found = changes(rows, now, incarnation=incarnation, wanted=epoch(name="fresh"), pause=PAUSE, **more)
    return [change.epoch for change in found]


def test_an_open_row_may_be_read_until_the_permit_ends() -> None:
    """The permit counts from the beginning of the look, and ends at its end exactly."""
    assert may_read([known()], 100.0) == epoch()
    assert may_read([known()], 100.999) == epoch()
    assert may_read([known()], 101.0) is None


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [None],
        [known(), None],
        [known(State.CLOSED)],
        [known(State.OPENING)],
        [known(), known(State.OPENING)],
        [known(), known(name="other")],
        [known(), replace(known(), epoch=epoch(incarnation="other"))],
        [known(), known(began=98.0)],
    ],
)
def test_every_row_must_be_open_under_one_epoch(rows: list[Known | None]) -> None:
    """A store whose row is not known, not open, or names another epoch may be written without the cache."""
    assert may_read(rows, 100.0) is None


def test_a_writer_announces_unless_the_row_is_closed() -> None:
    """Open or opening: announce, or close if that cannot be done."""
    for state in (State.OPEN, State.OPENING):
        assert next_step(known(state), 100.0, able=True) == (Step.FENCE, 0.0)
        assert next_step(known(state), 100.0, able=False) == (Step.CLOSE, 0.0)


def test_a_writer_waits_until_nobody_reads() -> None:
    """After a closed row was seen, everybody who saw it open stops within a permit; then the cache is left aside."""
    row = known(State.CLOSED, began=100.0, since=100.5)
    assert next_step(row, 100.75, able=True) == (Step.WAIT, 0.75)
    assert next_step(row, 101.5, able=True) == (Step.PLAIN, 0.0)


def test_a_writer_looks_again_when_its_knowledge_is_old() -> None:
    """Nothing is done by what was seen too long ago, whatever it was."""
    for state in State:
        row = known(state)
        patience = patience_of(row.epoch)
        assert next_step(row, 100.0 + patience, able=True) == (Step.LOOK, 0.0)
        assert next_step(row, 100.0 + patience - 0.001, able=True)[0] is not Step.LOOK
    assert next_step(None, 100.0, able=True) == (Step.LOOK, 0.0)


def test_a_writer_first_says_how_long_it_may_take() -> None:
    """A closed row that speaks of shorter writes is changed before one is begun; a row that is not there is not made."""
    row = known(State.CLOSED, began=100.0)
    assert next_step(row, 101.5, able=False, fence=8.1) == (Step.CLOSE, 0.0)
    assert next_step(row, 101.5, able=False, fence=8.0) == (Step.PLAIN, 0.0)
    absent = Known(Epoch(State.CLOSED, "", "", 1.0, 0.0), None, 101.0, 100.0, 100.0)
    assert next_step(absent, 101.5, able=False, fence=8.1) == (Step.PLAIN, 0.0)


def test_opening_outlasts_every_write_begun_before() -> None:
    """A row rests longer than a writer may act on what it saw, and its write last."""
    assert rest_of(epoch()) > patience_of(epoch()) + epoch().fence


def test_the_way_to_open() -> None:
    """No row, or a closed one after the pause: opening under a new name. Opening, after its rest: open."""
    absent = Known(Epoch(State.CLOSED, "", "", 1.0, 0.0), None, 100.0, 100.0, 100.0)
    assert due(absent) == [epoch(State.OPENING, "fresh")]
    closed = known(State.CLOSED)
    assert due(closed, now=100.0 + PAUSE - 0.1) == []
    assert due(closed, now=100.0 + PAUSE) == [epoch(State.OPENING, "fresh")]
    opening = known(State.OPENING)
    rest = rest_of(opening.epoch)
    assert due(opening, now=100.0 + rest - 0.1) == []
    assert due(opening, now=100.1 + rest) == [epoch(State.OPEN)]
    assert due(known()) == []


def test_the_way_to_closed() -> None:
    """Another server, a fence too short, a holder: closed. A server out of reach: only what is not open yet."""
    closed = [epoch(State.CLOSED)]
    for state in (State.OPEN, State.OPENING):
        assert due(known(state), incarnation="other") == [epoch(State.CLOSED)]
        assert due(known(state), holding=True) == closed
        short = replace(known(state), epoch=epoch(state, fence=7.9))
        assert due(short) == [epoch(State.CLOSED, fence=7.9)]
    assert due(known(State.OPENING), incarnation=None) == closed
    assert due(known(), incarnation=None) == []
    assert due(known(State.CLOSED), now=200.0, holding=True) == []
    assert due(known(State.CLOSED), now=200.0, incarnation=None) == []


def test_two_rows_come_to_one_epoch() -> None:
    """A row follows the epoch that another has; of two that differ, the second is closed."""
    assert due(known(), known(State.CLOSED), now=200.0) == [epoch(State.OPENING)]
    assert due(known(State.CLOSED), known(), now=200.0) == [epoch(State.OPENING)]
    both = due(known(State.CLOSED), known(State.CLOSED), now=200.0)
    assert both == [epoch(State.OPENING, "fresh")] * 2
    assert due(known(), known(name="other")) == [epoch(State.CLOSED, "other")]


def test_what_one_process_needs_is_not_taken_back_by_another() -> None:
    """A new epoch has the longest fence and permit that anybody needed."""
    patient = replace(known(State.CLOSED), epoch=Epoch(State.CLOSED, "e", "i", 3.0, 60.0))
    (opened,) = due(patient, now=200.0)
    assert (opened.permit, opened.fence) == (3.0, 60.0)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(("permit", "fence"), [(1.0, 60.0), (3.0, 8.0)])
def test_no_row_follows_an_epoch_with_less_than_it_agreed_to(order: int, permit: float, fence: float) -> None:
    """What another store's row has open is closed first, and both are opened with the longest fence and permit."""
    patient = replace(known(State.CLOSED), epoch=Epoch(State.CLOSED, "old", "i", permit, fence))
    rows = [patient, known(began=200.0)][::order]
    found = due(*rows, now=200.0)[::order]
    assert found == [Epoch(State.OPENING, "fresh", "i", permit, fence), epoch(State.CLOSED)]
    opening = replace(known(State.OPENING, began=200.0), epoch=found[0])
    rows = [opening, replace(known(State.CLOSED, began=200.0), epoch=found[1])][::order]
    assert due(*rows, now=300.0)[::order][1:] == [found[0]], "and then it follows"


def test_a_row_stays_closed_for_as_long_as_its_own_permit() -> None:
    """Whoever read by what it said before may do so for that long, however short this process's own pause is."""
    patient = replace(known(State.CLOSED), epoch=Epoch(State.CLOSED, "e", "i", 20.0, 8.0))
    assert due(patient, now=119.0) == []
    assert due(patient, now=120.0) == [Epoch(State.OPENING, "fresh", "i", 20.0, 8.0)]


@given(state=STATES, began=TIMES, took=st.floats(0, 5))
def test_the_same_row_seen_again_only_prolongs(state: State, began: float, took: float) -> None:
    """Since when it is known, and since when it is not open, stay as they were."""
    before = known(state, began=began)
    again = learn(before, before.epoch, before.stamp, began + 10, began + 10 + took)
    assert again == replace(before, began=began + 10)
    late = learn(again, before.epoch, before.stamp, began + 5, began + 6)
    assert late.began == again.began, "a look that began earlier and ended later takes nothing back"


@given(state=STATES, gap=st.floats(0, 100))
def test_quiet_is_only_what_is_certain(state: State, gap: float) -> None:
    """A row that changed may have been open between, unless it was closed a moment ago."""
    before = known(State.CLOSED, began=100.0, since=50.0)
    after = learn(before, epoch(state, "next"), (2, 2), 100.0 + gap, 100.0 + gap)
    if state is State.OPEN:
        assert after.quiet is None
    else:
        assert after.quiet == (50.0 if gap < 2.0 else 100.0 + gap)

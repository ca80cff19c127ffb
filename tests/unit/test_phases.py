"""The phases of a migration and the steps between them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigurationError, PhaseError
from gateway.migration.phases import ORDER, Phase, check_step, neighbours

PHASES = st.sampled_from(ORDER)


def test_the_order_is_the_one_of_a_migration() -> None:
    """The five phases follow each other from the old store alone to the new one alone."""
    assert [phase.value for phase in ORDER] == ["legacy", "dual_write", "shadow_read", "cutover", "complete"]


@given(PHASES)
def test_standing_still_is_always_allowed(phase: Phase) -> None:
    """Setting the phase one stands in is no step, and never refused."""
    check_step(phase, phase)


@given(PHASES, PHASES)
def test_only_neighbours_can_follow(current: Phase, wanted: Phase) -> None:
    """A step is allowed exactly when it goes one place on, or one back from anything but complete."""
    distance = ORDER.index(wanted) - ORDER.index(current)
    allowed = distance in {0, 1} or (distance == -1 and current is not Phase.COMPLETE)
    if allowed:
        check_step(current, wanted)
    else:
        with pytest.raises(PhaseError):
            check_step(current, wanted)


@given(st.lists(PHASES, max_size=30))
def test_no_walk_leaves_complete_or_skips_a_phase(wishes: list[Phase]) -> None:
    """Whatever is asked for, the phase moves one place at a time and stays complete for good."""
    at = Phase.LEGACY
    for wish in wishes:
        before = at
        try:
            check_step(at, wish)
        except PhaseError:
            continue
        at = wish
        assert abs(ORDER.index(at) - ORDER.index(before)) <= 1
        assert before is not Phase.COMPLETE or at is Phase.COMPLETE


@given(PHASES, PHASES)
def test_the_message_names_a_step_that_is_allowed(current: Phase, wanted: Phase) -> None:
    """Following the advice of a refusal, again and again, ends where one wanted to go."""
    at, steps = current, 0
    while (message := _refusal(at, wanted)) is not None:
        if at is Phase.COMPLETE:
            assert "swap the two" in message
            return
        advice = Phase(message.rpartition("go to ")[2].removesuffix(" first"))
        assert _refusal(at, advice) is None
        at, steps = advice, steps + 1
        assert steps < len(ORDER)


def _refusal(current: Phase, wanted: Phase) -> str | None:
    try:
        check_step(current, wanted)
    except PhaseError as error:
        return str(error)
    return None


def test_neighbours_are_the_only_ways_out() -> None:
    """The neighbours of the ends are one phase, of the middle two, and of the last none."""
    assert neighbours(Phase.LEGACY) == (Phase.DUAL_WRITE,)
    assert neighbours(Phase.CUTOVER) == (Phase.SHADOW_READ, Phase.COMPLETE)
    assert neighbours(Phase.COMPLETE) == ()


def test_a_refused_step_is_a_configuration_error() -> None:
    """Whoever catches configuration errors catches a refused step too."""
    with pytest.raises(ConfigurationError, match="go to dual_write first"):
        check_step(Phase.LEGACY, Phase.CUTOVER)

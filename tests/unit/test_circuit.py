"""Circuits: when a mirror that failed is tried again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import StoreUnavailableError
from gateway.mirror.circuit import CLOSED, Circuit, CircuitState, backoff, failed

DOWN = StoreUnavailableError("down", backend="b")


class Clock:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def double(failures: int) -> float:
    """Pause a second, then twice as long each time."""
    return 2.0 ** (failures - 1)


def test_one_failure_opens_and_one_success_closes() -> None:
    """A failure stops everything for a pause; after it one attempt may be made, and its success ends the matter."""
    clock = Clock()
    circuit = Circuit(double, clock)
    assert circuit.closed
    circuit.failed(DOWN)
    assert (circuit.closed, circuit.may_try(), circuit.pause) == (False, False, 1.0)
    assert str(circuit) == "open: b: down"
    clock.now += 1
    assert (circuit.closed, circuit.may_try(), circuit.pause) == (False, True, 0.0)
    circuit.succeeded()
    assert circuit.closed
    assert str(circuit) == "closed"


def test_a_failed_attempt_makes_the_pause_longer() -> None:
    """Each attempt after a pause that fails too doubles the next pause."""
    clock = Clock()
    circuit = Circuit(double, clock)
    for pause in (1.0, 2.0, 4.0, 8.0):
        circuit.failed(DOWN)
        assert circuit.pause == pause
        clock.now += pause


def test_a_crowd_of_failures_counts_once() -> None:
    """What fails while the circuit is open was under way before, or insists; the pause does not grow by it."""
    clock = Clock()
    circuit = Circuit(double, clock)
    for _ in range(500):
        circuit.failed(DOWN)
        clock.now += 0.001
    assert circuit.contact.failures == 1
    assert circuit.pause < 1


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=50))
def test_an_open_circuit_always_opens_a_way_again(events: list[tuple[float, bool]]) -> None:
    """Whatever happened, the pause is bounded by what the policy says, so a mirror is never given up."""
    clock = Clock()
    circuit = Circuit(lambda failures: min(30.0, double(failures)), clock)
    for wait, ok in events:
        clock.now += wait
        if ok:
            circuit.succeeded()
        else:
            circuit.failed(DOWN)
        assert circuit.pause <= 30
        assert circuit.closed == (circuit.contact.error is None)
    clock.now += 30
    assert circuit.may_try()


@given(st.integers(1, 1_000))
def test_pauses_are_drawn_within_bounds(failures: int) -> None:
    """A pause is never so short that a dead mirror is hammered, and never longer than half a minute."""
    assert 0.05 <= backoff(failures) <= max(0.2, min(30.0, 0.2 * 2 ** min(failures, 30)))


def test_a_decision_changes_nothing_it_was_given() -> None:
    """Deciding is pure: the same contact and the same time give the same answer."""
    opened = failed(CLOSED, 5.0, "down", double)
    assert opened == failed(CLOSED, 5.0, "down", double)
    assert (opened.state, opened.until) == (CircuitState.OPEN, 6.0)
    assert CLOSED.state is CircuitState.CLOSED

"""kill -9 at every named place of the write path, one by one: nothing acknowledged is lost, nothing is doubled."""

from __future__ import annotations

import inspect
import random
import signal
from functools import partial

import pytest

from gateway.mirror.contract import RelayOptions
from gateway.mirror.facade import MirrorOptions
from tests.crash.conftest import MakeWorld
from tests.crash.crash_lab import TASKS
from tests.crash.crash_points import POINTS, Point, place_of

pytestmark = pytest.mark.anyio


def case_id(value: object) -> str:
    """Return what a parameter is called."""
    text = value.name if isinstance(value, Point) else str(value)
    return text.replace(" ", "_").replace(",", "_").replace("'", "")


# What is before one place is mostly what is after the one before it. So each function's end is tried with its first
# pair of stores on every run, and its beginning and the other pairs where there is time.
CASES = [
    pytest.param(
        point,
        pair,
        marks=[] if point.after and not at else [pytest.mark.soak],
        id=f"{case_id(point)}-{case_id(pair)}",
    )
    for point in POINTS.values()
    for at, pair in enumerate(point.pairs)
]


@pytest.mark.parametrize("point", POINTS.values(), ids=case_id)
def test_the_place_is_real(point: Point) -> None:
    """A place names a function that is there, so that a renamed one does not pass for a place that holds."""
    owner, name, function = place_of(point)
    assert inspect.isfunction(function)
    assert vars(owner)[name] is function


@pytest.mark.parametrize(("point", "pair"), CASES)
async def test_a_bot_that_dies_there(
    point: Point, pair: str, make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bot dies at that very place; what it left behind is put right by whoever opens the stores next."""
    seed = f"{point.name} {pair}"
    computes = not pair.startswith("questdb")  # which cannot read and write in one step
    world = make_world(pair, seed, computes=computes)
    if not computes:
        # An intent whose row never came is kept for ten minutes where other processes may still write the row.
        options = partial(MirrorOptions, relay=RelayOptions(patience=1.0))
        monkeypatch.setattr("gateway.gateway.MirrorOptions", options)
    nth = random.Random(seed).randrange(point.most) + 1
    pace = "relayed" if point.relayed else "quick"
    calls, tasks = 150 if point.ends else 20_000, 1 if point.alone else TASKS
    life = world.live(point=(point.name, nth), pace=pace, calls=calls, tasks=tasks)
    assert life.wait() == -signal.SIGKILL, f"nobody came by for the {nth}th time\n{world.log}"
    assert world.ledger.told[life.notes.name][-1] == f"dies {point.name}"
    await world.check(deep=True)

"""Following the control store: plans are taken over at once, and never guessed."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.errors import ConfigurationError
from gateway.migration.control import ControlStore
from gateway.migration.follow import PlanFollower
from gateway.migration.phases import Phase
from gateway.records import TRADES
from gateway.routing import KindPlan, RoutingPlan
from gateway.telemetry import Counters

pytestmark = pytest.mark.anyio

PAIR = ("old", "new")
BASE = RoutingPlan(PAIR, KindPlan(Phase.DUAL_WRITE))
POLL = 0.01


class Followed:
    """A follower, what it handed over, and a way to wait for the next plan."""

    def __init__(self, control: ControlStore) -> None:
        self.control = control
        self.counters = Counters()
        self.plans: list[RoutingPlan] = []
        self.fail = False
        self.arrived = asyncio.Event()
        self.follower = PlanFollower(control, BASE, POLL, self.take, beat=0.02, counters=self.counters)

    def take(self, plan: RoutingPlan) -> None:
        """Take a plan over as the gateway would, or fail to."""
        if self.fail:
            self.fail = False
            raise RuntimeError("the gateway could not take the plan")
        self.plans.append(plan)
        self.arrived.set()

    def decide(self, phase: Phase) -> None:
        """Decide as an operator would in another process."""
        self.arrived.clear()
        self.control.set_phase("trades", phase, who="ana", why="test", base=BASE)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that the follower does; fail if it never does."""
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - looks at files, as another process would
                await asyncio.sleep(POLL / 2)


@pytest.fixture
async def followed(tmp_path: Path) -> AsyncIterator[Followed]:
    """A follower of a control store that is not there yet."""
    it = Followed(ControlStore(tmp_path / "control.db", PAIR))
    await it.follower.start()
    yield it
    await it.follower.aclose()


async def test_a_plan_to_start_with_is_what_was_decided(tmp_path: Path) -> None:
    """Starting reads earlier decisions at once, and hands over nothing twice."""
    it = Followed(ControlStore(tmp_path / "control.db", PAIR))
    it.decide(Phase.SHADOW_READ)
    plan = await it.follower.start()
    assert plan.plan_of(TRADES).phase is Phase.SHADOW_READ
    assert plan.epoch == 1
    await it.until(lambda: len(it.control.members()) == 1)
    await it.follower.aclose()
    assert it.plans == []


async def test_every_decision_is_followed(followed: Followed) -> None:
    """Each change arrives as a whole plan, in the order of epochs, without a restart."""
    for epoch, phase in enumerate((Phase.SHADOW_READ, Phase.CUTOVER, Phase.SHADOW_READ), 1):
        followed.decide(phase)
        await asyncio.wait_for(followed.arrived.wait(), 10)
        plan = followed.plans[-1]
        assert plan.plan_of(TRADES).phase is phase
        assert plan.epoch == epoch
    assert followed.follower.plan is followed.plans[-1]


async def test_a_follower_is_listed_with_its_epoch_and_leaves(followed: Followed) -> None:
    """Whoever shows the phases sees which epoch each running bot follows, and no bot that was closed."""
    followed.decide(Phase.SHADOW_READ)
    await followed.until(lambda: [member.epoch for member in followed.control.members()] == [1])
    (member,) = followed.control.members()
    assert (member.id, member.id.pid) == (followed.follower.member, os.getpid())
    await followed.follower.aclose()
    assert followed.control.members() == ()


async def test_looking_makes_no_control_store(followed: Followed) -> None:
    """A bot that nobody decides about leaves no file behind."""
    await followed.until(lambda: followed.follower._task is not None)
    await followed.follower.aclose()
    assert not followed.control.path.exists()


async def test_a_lost_control_store_keeps_the_plan(
    followed: Followed, caplog: pytest.LogCaptureFixture
) -> None:
    """When the file goes away the bot stays where it is and says so once; when it is back, it follows."""
    followed.decide(Phase.SHADOW_READ)
    await asyncio.wait_for(followed.arrived.wait(), 10)
    await followed.until(lambda: len(followed.control.members()) == 1)
    path = followed.control.path
    away = path.with_name("away.db")
    with caplog.at_level(logging.WARNING, logger="gateway.migration.follow"):
        path.rename(away)
        await followed.until(lambda: followed.counters.control_lost >= 3)
        assert followed.follower.plan.plan_of(TRADES).phase is Phase.SHADOW_READ
        assert followed.follower.lost is not None
        assert len([record for record in caplog.records if "out of sight" in record.message]) == 1
        away.rename(path)
        await followed.until(lambda: followed.follower.lost is None)
    followed.decide(Phase.CUTOVER)
    await asyncio.wait_for(followed.arrived.wait(), 10)
    assert followed.plans[-1].plan_of(TRADES).phase is Phase.CUTOVER


async def test_a_damaged_control_store_keeps_the_plan(followed: Followed) -> None:
    """Damage is reported, and not taken for a decision."""
    followed.decide(Phase.SHADOW_READ)
    await asyncio.wait_for(followed.arrived.wait(), 10)
    followed.control.path.write_bytes(b"x" * 4096)
    await followed.until(lambda: followed.follower.lost is not None)
    assert "damaged" in str(followed.follower.lost)
    assert followed.follower.plan.epoch == 1
    followed.control.path.unlink()


async def test_an_older_copy_is_not_followed(followed: Followed, tmp_path: Path) -> None:
    """A control store put back from a backup, with an older epoch, does not move the bot back silently."""
    followed.decide(Phase.SHADOW_READ)
    followed.decide(Phase.CUTOVER)
    await followed.until(lambda: followed.follower.plan.epoch == 2)
    older = ControlStore(tmp_path / "older.db", PAIR)
    older.set_phase("trades", Phase.SHADOW_READ, who="ana", why="test", base=BASE)
    older.path.replace(followed.control.path)
    await followed.until(lambda: followed.follower.lost is not None)
    assert "went back from epoch 2 to 1" in str(followed.follower.lost)
    assert followed.follower.plan.plan_of(TRADES).phase is Phase.CUTOVER


async def test_a_plan_that_was_not_taken_comes_again(followed: Followed) -> None:
    """If taking a plan over fails, the follower lives on and hands it over again."""
    followed.fail = True
    followed.decide(Phase.SHADOW_READ)
    await asyncio.wait_for(followed.arrived.wait(), 10)
    assert followed.counters.control_lost >= 1
    assert followed.follower.plan.epoch == 1


async def test_a_bot_without_a_plan_does_not_guess_one(tmp_path: Path) -> None:
    """Starting with a control store that cannot be read is refused."""
    (tmp_path / "control.db").write_bytes(b"x" * 4096)
    it = Followed(ControlStore(tmp_path / "control.db", PAIR))
    with pytest.raises(ConfigurationError, match="damaged"):
        await it.follower.start()
    await it.follower.aclose()


async def test_closing_twice_does_nothing(followed: Followed) -> None:
    """A follower may be closed again."""
    await followed.follower.aclose()
    await followed.follower.aclose()
    assert followed.follower._task is None

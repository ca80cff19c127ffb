"""Several bots on one store, killed at random: those that survive bring the mirror what the dead ones left."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest

from tests.crash.conftest import MakeWorld
from tests.crash.crash_lab import Life, World, until
from tests.servers import Database

pytestmark = pytest.mark.anyio

BOTS = ("a", "b", "c")


@pytest.fixture
def intents_in(request: pytest.FixtureRequest) -> Callable[[World], int]:
    """Counts the intents in the store that leads, without opening a gateway, whose relay would take part."""

    def count(world: World) -> int:
        if world.backends.startswith("sqlite"):
            with closing(sqlite3.connect(world.directory / "gateway.db")) as file:
                return int(file.execute("SELECT count(*) FROM gateway_intents").fetchone()[0])
        database: Database = request.getfixturevalue("crash_database")
        rows = database.execute("SELECT tenant_id::text, count(*) FROM gateway.intents GROUP BY 1")
        return int(dict(rows).get(world.environ["STORAGE_TENANT"], 0))

    return count


@pytest.mark.parametrize("pair", ["sqlite,postgres", "postgres,sqlite"])
async def test_a_fleet_of_mortals(pair: str, make_world: MakeWorld) -> None:
    """Three bots write the same kinds, and some the same keys; each is killed, by turns, and comes back."""
    world = make_world(pair, f"fleet {pair}")
    chance = random.Random(world.seed)
    lives: dict[str, Life] = {bot: world.live(bot=bot, tasks=6) for bot in BOTS}
    for turn in range(4):
        bot = chance.choice(BOTS) if turn else "a"
        for life in lives.values():
            assert await asyncio.to_thread(life.reaches, chance.randrange(1, 80)), world.log
        lives[bot].kill()
        assert lives[bot].wait() == -signal.SIGKILL, world.log
        lives[bot] = world.live(bot=bot, tasks=6, pace=chance.choice(("quick", "relayed")))
    for life in lives.values():
        assert await asyncio.to_thread(life.reaches, 20), world.log
        life.kill()
        assert life.wait() == -signal.SIGKILL, world.log
    await world.check(deep=True)


@pytest.mark.parametrize("pair", ["sqlite,postgres", "postgres,sqlite"])
async def test_the_survivor_relays(
    pair: str, make_world: MakeWorld, intents_in: Callable[[World], int]
) -> None:
    """Two of three bots die with much that the mirror has not; the third, which writes nothing more, brings it all."""
    world = make_world(pair, f"survivor {pair}")
    relaying = world.live(bot="b", pace="relayed")
    assert await asyncio.to_thread(relaying.reaches, 100), world.log
    survivor = world.live(bot="c", calls=30, stays=True)
    assert await asyncio.to_thread(survivor.reaches, 25), world.log
    assert world.live(bot="a", point=("before the mirror write", 3)).wait() == -signal.SIGKILL, world.log
    assert intents_in(world)  # the one that relays goes on writing, and so is always behind
    relaying.kill()
    assert relaying.wait() == -signal.SIGKILL, world.log
    assert await asyncio.to_thread(until, lambda: intents_in(world) == 0)
    assert survivor.running(), world.log
    survivor.kill()
    survivor.wait()
    await world.check(deep=True)

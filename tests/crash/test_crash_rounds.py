"""Bots and servers that are killed again and again, at random: nothing is lost, nothing doubled, both stores alike."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.crash.conftest import MakeWorld
from tests.crash.crash_rounds import Rounds
from tests.servers.server import Server

pytestmark = pytest.mark.anyio

MORTAL: Final = {"postgres": "mortal_postgres", "questdb": "mortal_questdb"}
PAIRS: Final = {"sqlite,postgres": 10, "json,sqlite": 8, "postgres,questdb": 7}
"""The stores, and how many rounds every run of the tests goes through: 25 in all."""
AGAIN: Final = 20
"""Rounds in one world of the soak test."""


@pytest.fixture
def servers_of(request: pytest.FixtureRequest) -> Callable[[str], dict[str, Server]]:
    """Gives the servers of a pair that may be killed."""
    return lambda pair: {
        name: request.getfixturevalue(MORTAL[name]) for name in pair.split(",") if name in MORTAL
    }


@pytest.mark.parametrize("pair", PAIRS)
async def test_some_rounds(
    pair: str, make_world: MakeWorld, servers_of: Callable[[str], dict[str, Server]]
) -> None:
    """A few rounds, the same ones in every run."""
    world = make_world(pair, f"some {pair}")
    await Rounds(world, servers_of(pair)).run(PAIRS[pair])
    assert world.ledger.acked > 100


@pytest.mark.soak
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("pair", PAIRS)
async def test_many_rounds(
    pair: str, make_world: MakeWorld, servers_of: Callable[[str], dict[str, Server]], tmp_path: Path
) -> None:
    """300 rounds, or STORAGE_TEST_CRASH_ROUNDS, others in every run; STORAGE_TEST_CRASH_SEED repeats one."""
    seed = os.environ.get("STORAGE_TEST_CRASH_SEED") or secrets.token_hex(4)
    left, acked, turn = int(os.environ.get("STORAGE_TEST_CRASH_ROUNDS", "300")), 0, 0
    while left > 0:
        world = make_world(pair, f"{seed} {turn}", tmp_path / str(turn))
        await Rounds(world, servers_of(pair)).run(min(left, AGAIN))
        acked += world.ledger.acked
        left, turn = left - AGAIN, turn + 1
        print(f"{pair}, seed {seed}: {turn * AGAIN} rounds, {acked} calls acknowledged", flush=True)  # noqa: T201 - of a long test one wants to see how far it is

"""Several processes read and write the same positions through Redis, and are killed: no read ever goes back."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway import Gateway
from gateway_redis.cache import RedisCache
from gateway_redis.settings import RedisSettings
from tests.holding import hold
from tests.open_cache import incarnation_of, open_cache
from tests.prepared import environ_of
from tests.servers import RedisServer

BOT = """
import asyncio, json, random, sys, time
from datetime import datetime, UTC
from gateway import Gateway
from gateway.errors import GatewayError
from gateway.records import POSITIONS

NOW = datetime(2026, 3, 12, tzinfo=UTC)

async def main(backends, directory, seed):
    chance = random.Random(seed)
    async with Gateway(backends, data_dir=directory, env_file=None) as gateway:
        async def work():
            while True:
                key = f"k{chance.randrange(4)}"
                began = time.monotonic_ns()
                try:
                    if chance.random() < 0.12:
                        ack = await gateway.save_position(
                            condition_id=key, side="YES", entry_price=chance.randrange(9), opened_at=NOW)
                        version = ack.version
                    else:
                        row = await gateway.engine.get(POSITIONS, (key,))
                        version = 0 if row is None else row.version
                except GatewayError:
                    continue
                print(json.dumps([key, began, time.monotonic_ns(), version]), flush=True)
                await asyncio.sleep(0.02 * chance.random())
        async def tell():
            while True:
                await asyncio.sleep(0.05)
                counters = gateway.counters.snapshot()
                print(json.dumps({name: counters[name] for name in counters if "cache" in name}), flush=True)
        await asyncio.gather(tell(), *(work() for _ in range(8)))
asyncio.run(main(*sys.argv[1:]))
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """A version that somebody was told of.

    Attributes:
        key: Of the position.
        began: When the call began, in nanoseconds of the machine's monotonic clock.
        ended: When it was answered.
        version: The version read, or acknowledged.
    """

    key: str
    began: int
    ended: int
    version: int


class Bot:
    """A process that reads and writes, and writes down what it sees."""

    def __init__(self, backends: str, directory: Path, environ: dict[str, str], seed: int) -> None:
        self._output = directory / f"bot-{seed}.jsonl"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("STORAGE_")}
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", BOT, backends, str(directory / "data"), str(seed)],
                stdout=output,
                env={**inherited, **environ},
            )

    def kill(self) -> None:
        """End it as `kill -9` does."""
        assert self._process.poll() is None, "the bot ended by itself"
        self._process.kill()
        self._process.wait()

    def lines(self) -> list[Any]:
        """Return what it wrote so far; a last line that is not whole is left out."""
        text = self._output.read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def hits(self) -> int:
        """Return how many of its reads the cache answered."""
        with self._output.open("rb") as output:
            # Not all of it: this is asked again and again.
            output.seek(max(0, self._output.stat().st_size - 65_536))
            told = [line for line in output.read().split(b"\n")[1:-1] if line.startswith(b"{")]
        return int(json.loads(told[-1])["cache_hits"]) if told else 0

    def seen(self) -> list[Seen]:
        """Return what it was told."""
        return [Seen(*line) for line in self.lines() if isinstance(line, list)]


def steps_back(seen: list[Seen]) -> list[tuple[Seen, Seen]]:
    """Return the calls that were told less than what somebody knew before they began, each with what that was."""
    found: list[tuple[Seen, Seen]] = []
    for key in {one.key for one in seen}:
        ours = [one for one in seen if one.key == key]
        known: Seen | None = None
        ended = iter(sorted(ours, key=lambda one: one.ended))
        following = next(ended, None)
        for one in sorted(ours, key=lambda one: one.began):
            while following is not None and following.ended < one.began:
                known = following if known is None or following.version > known.version else known
                following = next(ended, None)
            if known is not None and one.version < known.version:
                found.append((one, known))
    return found


def test_the_check_finds_a_step_back() -> None:
    """A read that began after a newer version was known is found, and one that began before it is not."""
    written, stale, early = Seen("k", 0, 10, 7), Seen("k", 11, 12, 6), Seen("k", 9, 12, 6)
    assert steps_back([written, stale, early, Seen("other", 20, 30, 1)]) == [(stale, written)]


@pytest.fixture
def redis_url(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server of this test's own, since it is killed."""
    yield from hold(request, RedisServer.made)


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_no_read_is_older_than_what_any_process_knew(
    store: str, tmp_path: Path, redis_url: RedisServer, request: pytest.FixtureRequest
) -> None:
    """Bots are killed with SIGKILL and the cache too, and still every read is as new as all that was known before."""
    environ = {"STORAGE_TIMEOUT": "1", "STORAGE_CACHE_PERMIT": "0.15", "STORAGE_REDIS_URL": redis_url.url()}
    if store == "postgres":
        environ |= environ_of(request.getfixturevalue("prepared_database").app_url)
    asyncio.run(_already_open(store, tmp_path / "data", environ))
    chance = random.Random(store)
    bots = [Bot(f"{store},redis", tmp_path, environ, seed) for seed in range(3)]
    everybody = list(bots)
    _wait_for_hits(everybody, 150)
    for seed in range(3, 6):
        victim = bots.pop(0)
        time.sleep(
            chance.random() / 2
        )  # not a wait for anything: it picks the point at which the crash comes
        victim.kill()
        bots.append(Bot(f"{store},redis", tmp_path, environ, seed))
        everybody.append(bots[-1])
    _wait_for_hits(bots[-1:], 50)
    redis_url.kill()
    redis_url.start()
    _wait_for_hits(bots, max(bot.hits() for bot in bots) + 50)
    for bot in bots:
        bot.kill()
    seen = [one for bot in everybody for one in bot.seen()]
    assert len(seen) > 500
    assert steps_back(seen) == []


async def _already_open(store: str, directory: Path, environ: dict[str, str]) -> None:
    """Have the store say that the cache is open, which no bot has used yet."""
    incarnation = await incarnation_of(RedisCache(RedisSettings(url=environ["STORAGE_REDIS_URL"])))
    async with Gateway(store, data_dir=directory, environ=environ, env_file=None) as plain:
        await open_cache(plain, incarnation, timeout=1.0, permit=0.15)


def _wait_for_hits(bots: list[Bot], hits: int) -> None:
    """Return once the cache has answered so many reads of each bot."""
    end = time.monotonic() + 60
    while any(bot.hits() < hits for bot in bots):
        assert time.monotonic() < end, f"the cache is not used: {[bot.lines()[-1:] for bot in bots]}"
        time.sleep(0.1)

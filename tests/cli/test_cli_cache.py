"""`gateway cache`, and what other commands do about a cache in front of the stores."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway import Gateway
from gateway_memory.cache import server_named
from tests.open_cache import copied, prepared_file

NOW = datetime(2026, 3, 12, tzinfo=UTC)
LIFE = "prepared"
QUICK = {"STORAGE_TIMEOUT": "0.5", "STORAGE_CACHE_PERMIT": "0.15"}


@pytest.fixture
def fresh(workplace: Any) -> dict[str, str]:
    """Variables of a bot with a cache of this test's own."""
    variables = {"STORAGE_BACKENDS": "sqlite,memory_cache", "STORAGE_MEMORY_CACHE_URL": str(workplace.path)}
    return {**QUICK, **variables, "STORAGE_DATA_DIR": str(workplace.path / "storage")}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in front of which the cache is open."""
    return prepared_file(tmp_path_factory.mktemp("prepared"), LIFE, timeout=0.5, cache_permit=0.15)


@pytest.fixture
def cached(fresh: dict[str, str], prepared: Path) -> dict[str, str]:
    """The same, for a cache that is open already."""
    copied(prepared, Path(fresh["STORAGE_DATA_DIR"]))
    server_named(fresh["STORAGE_MEMORY_CACHE_URL"], 1_000).incarnation = LIFE
    return fresh


def live(environ: dict[str, str], act: Callable[[Gateway], Any] | None = None) -> Any:
    """Open a gateway, wait until its cache is open, and do something."""

    async def work() -> Any:
        async with Gateway(environ=environ, env_file=None) as gateway:
            await opened(gateway)
            await gateway.save_position(condition_id="a", side="YES", entry_price=1, opened_at=NOW)
            return None if act is None else await act(gateway)

    return asyncio.run(work())


async def opened(gateway: Gateway) -> None:
    """Return once the cache is in use."""
    end = time.monotonic() + 30
    while not in_use(gateway):
        assert time.monotonic() < end, "the cache is never opened"
        await asyncio.sleep(0.02)


def in_use(gateway: Gateway) -> bool:
    """Tell whether a gateway may read from the cache."""
    return gateway.engine.cache is not None and bool(gateway.engine.cache.status()["in_use"])


def test_status_says_whether_the_cache_is_used(workplace: Any, fresh: dict[str, str]) -> None:
    """Before a bot used it there is nothing; afterwards it is open, and says since when and by whom."""
    cached = fresh
    workplace.run("schema", "upgrade", env=cached)
    before = workplace.run("cache", "status", "--json", env=cached)
    assert before.code == 1
    assert before.json["stores"] == [
        {
            "store": "sqlite",
            "state": "none",
            "reason": "",
            "changed_at": "",
            "changed_by": "",
            "seconds": None,
        }
    ]
    live(cached)
    after = workplace.run("cache", "status", "--json", env=cached)
    assert after.code == 0
    assert after.json["cache"] == "memory_cache"
    assert after.json["kinds"] == ["bot_state", "daily_stats", "positions"]
    (row,) = after.json["stores"]
    assert row["state"] == "open"
    assert row["changed_by"].startswith("process ")
    shown = workplace.run("cache", "status", env=cached)
    assert shown.code == 0
    assert "open" in shown.out
    assert "in memory" in shown.out
    assert "closed in front of" in workplace.run("cache", "clear", "--forget", env=cached).out
    assert "no store has a cache" in workplace.run("cache", "clear", env=cached).out
    none = workplace.run("cache", "status", env={**cached, "STORAGE_BACKENDS": "sqlite"})
    assert "names no cache" in none.out


def test_what_bots_say_of_the_cache_is_shown(workplace: Any, cached: dict[str, str]) -> None:
    """While a bot runs: its hit rate, what went wrong, and when it does not read, since when and why."""

    async def look(bot: Gateway) -> None:
        for _ in range(4):
            await bot.load_position("a")
        shown = ""
        end = time.monotonic() + 30
        while "of the reads were hits" not in shown:  # a bot tells every five seconds
            assert time.monotonic() < end, shown
            shown = (await asyncio.to_thread(workplace.run, "cache", "status", env=cached)).out
        assert "1 bots" in shown
        assert "do not read from it" not in shown
        for command in ("doctor", "health"):
            assert "hits" in (await asyncio.to_thread(workplace.run, command, env=cached)).out
        async with bot.engine.cache.keeper.held():  # type: ignore[union-attr]
            while "1 of 1 do not read from it: sqlite: closed since" not in shown:
                assert time.monotonic() < end, shown
                shown = (await asyncio.to_thread(workplace.run, "cache", "status", env=cached)).out
            assert "because rows are being written beside the cache" in " ".join(shown.split())
            found = (await asyncio.to_thread(workplace.run, "cache", "status", "--json", env=cached)).json
            assert found["stores"][0]["seconds"] >= 0
            assert found["totals"]["cache_closings"] == 1
            assert 0 <= found["hit_rate"] <= 1

    live(cached, look)
    assert "no bot has used it" in workplace.run("cache", "status", env=cached).out


def test_clear_begins_anew(workplace: Any, cached: dict[str, str]) -> None:
    """Clearing closes the cache; a bot opens it under another epoch. Forgetting leaves no trace of it."""
    live(cached)
    epoch = workplace.run("cache", "status", "--json", env=cached).json["stores"][0]["epoch"]
    assert workplace.run("cache", "clear", "--json", env=cached).json == {
        "closed": ["sqlite"],
        "forgotten": False,
    }
    (row,) = workplace.run("cache", "status", "--json", env=cached).json["stores"]
    assert row["state"] == "closed"
    live(cached)
    (row,) = workplace.run("cache", "status", "--json", env=cached).json["stores"]
    assert row["state"] == "open"
    assert row["epoch"] != epoch
    assert "closed in front of sqlite" in workplace.run("cache", "clear", "--forget", env=cached).out
    (row,) = workplace.run("cache", "status", "--json", env=cached).json["stores"]
    assert row["state"] == "none"


def test_what_a_command_writes_is_seen_through_the_cache(
    workplace: Any, cached: dict[str, str], tmp_path: Path
) -> None:
    """A copy into a store that a running bot reads through a cache is seen by its next read."""
    other = tmp_path / "other"
    environ = {**cached, "STORAGE_NEW_URL": str(workplace.path / "new.db")}

    async def work() -> None:
        source = {"STORAGE_DATA_DIR": str(other)}
        async with Gateway(
            f"old=sqlite:{workplace.path / 'old.db'}", environ=source, env_file=None
        ) as elsewhere:
            await elsewhere.save_position(condition_id="b", side="YES", entry_price=7, opened_at=NOW)
        bot_environ = {**environ, "STORAGE_BACKENDS": "new=sqlite,memory_cache"}
        async with Gateway(environ=bot_environ, env_file=None) as bot:
            await opened(bot)
            assert await bot.load_position("b") is None
            copy_environ = {
                **environ,
                "STORAGE_BACKENDS": f"old=sqlite:{workplace.path / 'old.db'},new=sqlite",
            }
            done = await asyncio.to_thread(
                workplace.run, "copy", "--from", "old", "--to", "new", "--json", env=copy_environ
            )
            assert done.code == 0, done.err
            position = await bot.load_position("b")
            assert position is not None
            assert position.entry_price == 7
            rows = {one["kind"] for one in done.json["kinds"]}
            assert "cache_epochs" not in rows, "what a store knows of its cache is its own"
            await opened(bot)

    asyncio.run(work())


def test_a_bot_without_the_cache_keeps_it_closed(workplace: Any, cached: dict[str, str]) -> None:
    """A bot that names no cache, for a store that has one, is seen by those that read through it."""

    async def work(reader: Gateway) -> None:
        plain = {**cached, "STORAGE_BACKENDS": "sqlite"}
        async with Gateway(environ=plain, env_file=None) as writer:
            assert not in_use(reader)
            for at in range(2, 6):
                await writer.save_position(condition_id="a", side="YES", entry_price=at, opened_at=NOW)
                position = await reader.load_position("a")
                assert position is not None
                assert position.entry_price == at
        await opened(reader)

    assert workplace.path.is_dir()
    live(cached, work)


def test_a_cache_that_is_down_is_a_warning(workplace: Any, cached: dict[str, str]) -> None:
    """Doctor warns, health shows it, and neither fails: the bots go on."""
    live(cached)
    sound = workplace.run("doctor", "--json", env=cached)
    assert {"level": "ok", "subject": "cache memory_cache"}.items() <= _of(sound.json["checks"]).items()
    gone = {
        **cached,
        "STORAGE_BACKENDS": "sqlite,redis",
        "STORAGE_REDIS_URL": "redis://127.0.0.1:1/0",
    }
    del gone["STORAGE_MEMORY_CACHE_URL"]
    health = workplace.run("health", "--json", env=gone)
    assert health.code == 0
    assert health.json["ok"]
    assert [one["ok"] for one in health.json["caches"]] == [False]
    found = _of(workplace.run("doctor", "--json", env=gone).json["checks"])
    assert found["level"] == "warn"
    assert server_named(str(workplace.path), 1).evicted == 0


def _of(checks: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the finding about the cache."""
    return next(one for one in checks if one["subject"].startswith("cache "))

"""Fixtures of the demo's tests: a short run of the bot in this process, on real stores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import islice
from pathlib import Path

import pytest

from gateway import Gateway
from gateway.demo.acks import AckLog
from gateway.demo.market import generated_market
from gateway.demo.paper_bot import PaperBot
from gateway.demo.processes import storage_environ
from gateway.demo.status import Files

MARKET = generated_market(7)

RunBot = Callable[[], AbstractAsyncContextManager[PaperBot]]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Return the places of a demo."""
    return Files(tmp_path)


@pytest.fixture
def environ(files: Files) -> dict[str, str]:
    """Return the environment of a demo whose bot writes to both stores."""
    return storage_environ(files, {"PATH": "/usr/bin"}) | {"STORAGE_PHASE": "dual_write"}


@pytest.fixture
def run_bot(files: Files, environ: dict[str, str]) -> RunBot:
    """Return a context manager that starts a bot where the one before left off."""

    @asynccontextmanager
    async def run() -> AsyncIterator[PaperBot]:
        with AckLog(files.acks) as acks:
            async with Gateway(environ=environ, env_file=None) as gateway:
                bot = PaperBot(gateway, MARKET, acks)
                await bot.recover()
                yield bot

    return run


@pytest.fixture
async def traded(run_bot: RunBot, files: Files) -> Files:
    """Return the places of a demo in which the bot has worked through 150 ticks and stopped."""
    async with run_bot() as bot:
        for tick in islice(MARKET.ticks(0), 150):
            await bot.on_tick(tick)
        await bot.finish()
    return files

"""Fixtures of the demo's tests: a short run of the bot in this process, on real stores."""

from __future__ import annotations

import asyncio
import os
import shutil
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


def environ_of(files: Files) -> dict[str, str]:
    """Return the environment of a demo whose bot writes to both stores."""
    # No test here is about power cuts, and without fsync the many short runs are quick.
    own = {"STORAGE_PHASE": "dual_write", "STORAGE_JSON_FSYNC": "false"}
    return storage_environ(files, {"PATH": os.environ["PATH"]}) | own


@pytest.fixture
def environ(files: Files) -> dict[str, str]:
    """Return the environment of a demo whose bot writes to both stores."""
    return environ_of(files)


def bots(files: Files, environ: dict[str, str]) -> RunBot:
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
def run_bot(files: Files, environ: dict[str, str]) -> RunBot:
    """Return what starts a bot on the stores of this test."""
    return bots(files, environ)


@pytest.fixture(scope="session")
def traded_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory in which the bot has worked through 150 ticks and stopped."""
    files = Files(tmp_path_factory.mktemp("traded"))

    async def trade() -> None:
        async with bots(files, environ_of(files))() as bot:
            for tick in islice(MARKET.ticks(0), 150):
                await bot.on_tick(tick)
            await bot.finish()

    asyncio.run(trade())
    return files.work


@pytest.fixture
def traded(traded_once: Path, files: Files) -> Files:
    """Return the places of a demo in which the bot has traded, free to be damaged."""
    shutil.copytree(traded_once, files.work, dirs_exist_ok=True)
    return files

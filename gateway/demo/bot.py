"""The bot's process: `python -m gateway.demo.bot --work DIR`.

Its storage comes from the environment, like that of any bot. It ends when its standard input does, or at
SIGTERM and Ctrl-C, with everything written. So it cannot outlive whoever started it, however that ended.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway import Gateway, GatewayError
from gateway.demo.acks import AckLog
from gateway.demo.market import TickFeed, generated_market, recorded_market
from gateway.demo.paper_bot import PaperBot
from gateway.demo.status import BotStatus, Files

__all__ = ["main"]

_TELL_EVERY: Final = 0.15


@dataclass(frozen=True, slots=True)
class Options:
    """What the bot is started with.

    Attributes:
        files: Where it meets its audience.
        data: Directory of recorded data; None for the generator.
        seed: Of the generator.
        rate: Ticks a second.
    """

    files: Files
    data: Path | None
    seed: int
    rate: float


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bot until it is told to stop; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m gateway.demo.bot", description="A paper-trading bot.")
    parser.add_argument(
        "--work", type=Path, required=True, help="directory for its status and acknowledgement log"
    )
    parser.add_argument(
        "--data", type=Path, help="directory with recorded ticks; without it they are generated"
    )
    parser.add_argument("--seed", type=int, default=7, help="seed of the generator")
    parser.add_argument("--rate", type=float, default=60.0, help="ticks a second")
    given = parser.parse_args(argv)
    try:
        asyncio.run(_run(Options(Files(given.work), given.data, given.seed, given.rate)))
    except GatewayError as error:
        sys.stderr.write(f"the bot stopped: {error}\n")
        return 1
    return 0


async def _run(options: Options) -> None:
    stop = asyncio.Event()
    _stop_when_told(stop)
    market = recorded_market(options.data) if options.data is not None else generated_market(options.seed)
    feed = TickFeed(market, options.rate, options.files.closing_bell.exists, stop)
    with AckLog(options.files.acks) as acks:
        async with Gateway() as gateway:
            bot = PaperBot(gateway, market, acks)
            start = await bot.recover()
            herald = _Herald(bot, acks, gateway, options.files.status)
            telling = asyncio.create_task(herald.tell())
            try:
                await _trade(bot, feed, start, herald)
            finally:
                telling.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await telling
                herald.say()


async def _trade(bot: PaperBot, feed: TickFeed, start: int, herald: _Herald) -> None:
    async for tick in feed.play(start):
        herald.idle = False
        if tick is None:
            await bot.on_close()
            herald.idle = True
        else:
            await bot.on_tick(tick)
    await bot.finish()


class _Herald:
    """Tells the audience how the bot is doing."""

    def __init__(self, bot: PaperBot, acks: AckLog, gateway: Gateway, path: Path) -> None:
        self._bot = bot
        self._acks = acks
        self._gateway = gateway
        self._path = path
        self.idle = False

    async def tell(self) -> None:
        """Say it a few times a second."""
        while True:
            self.say()
            await asyncio.sleep(_TELL_EVERY)

    def say(self) -> None:
        """Say it once."""
        bot = self._bot
        BotStatus(
            pid=os.getpid(),
            tick=bot.tick,
            trades=bot.trades,
            acknowledged=self._acks.count,
            open=bot.open,
            recovered=bot.recovered,
            found_open=bot.found_open,
            write_p50_ms=bot.write_p50_ms,
            idle=self.idle,
            counters=self._gateway.counters.snapshot(),
        ).write(self._path)


def _stop_when_told(stop: asyncio.Event) -> None:
    """Set an event at a signal, or at the end of standard input."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        # Where the loop cannot catch signals (Windows) their default handling ends the process.
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        with contextlib.suppress(RuntimeError):  # the loop has ended, so there is nothing left to stop
            loop.call_soon_threadsafe(stop.set)

    # Reads the descriptor, not the file object: its lock would be held when the interpreter shuts down.
    threading.Thread(target=watch, name="standard input", daemon=True).start()


if __name__ == "__main__":
    raise SystemExit(main())

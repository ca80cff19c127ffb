"""Rounds: a bot lives, and the bot or one of the servers is killed, at random places and times."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tests.crash.crash_lab import Life, World
from tests.servers import PostgresServer
from tests.servers.server import Server

__all__ = ["Rounds"]

PACES: Final = ("usual", "quick", "quick", "relayed")
MODES: Final = ("journaled", "journaled", "journaled", "journaled,trades:sync,positions:sync")
CHECKED: Final = 0.3
"""Share of the rounds after which the stores are looked at; a bot begins the others with what was left behind."""


class Rounds:
    """Random rounds in one world.

    Args:
        world: Where.
        servers: What may be killed beside bots, by the name of the store.
    """

    def __init__(self, world: World, servers: Mapping[str, Server]) -> None:
        self._world = world
        self._servers = servers
        self._random = random.Random(world.seed)
        self.done: list[str] = []
        """What happened so far."""

    async def run(self, count: int, *, checked: float = CHECKED) -> None:
        """Go through so many rounds, and make sure of everything now and then, and at the end."""
        kinds: Sequence[Callable[[], None]] = [
            *(self._kill, self._kill, self._kill_young, self._close),
            *((self._crash_beside, self._crash_beside, self._crash_both) if self._servers else ()),
            *((self._kill_connection,) if "postgres" in self._servers else ()),
        ]
        for at in range(count):
            kind = self._random.choice(kinds)
            self.done.append(kind.__name__)
            try:
                await asyncio.to_thread(kind)
                for server in self._servers.values():
                    await asyncio.to_thread(server.start)
                if at == count - 1 or self._random.random() < checked:
                    await self._world.check(deep=at == count - 1)
            except BaseException as error:
                error.add_note(f"seed {self._world.seed}, round {at}, {self.done[-10:]}\n{self._world.log}")
                raise

    def _live(self, calls: int = 1_000_000) -> Life:
        pace, mode = self._random.choice(PACES), self._random.choice(MODES)
        return self._world.live(calls=calls, pace=pace, mirror_mode=mode)

    def _pause(self, most: float) -> None:
        time.sleep(self._random.random() * most)  # a moment of any length, in which anything may happen

    def _end(self, life: Life) -> None:
        life.kill()
        assert life.wait() == -signal.SIGKILL, f"it had ended by itself\n{self._world.log}"

    def _kill(self) -> None:
        """Kill a bot while it writes."""
        life = self._live()
        assert life.reaches(self._random.randrange(1, 300))
        self._pause(0.02)
        self._end(life)

    def _kill_young(self) -> None:
        """Kill a bot while it opens its gateway, or a little later."""
        life = self._live()
        self._pause(0.8)
        self._end(life)

    def _close(self) -> None:
        """Let a bot close its gateway; kill it while it does, or not."""
        life = self._live(self._random.randrange(1, 200))
        if self._random.random() < 0.5:
            assert life.wait() == 0, self._world.log
            return
        life.reaches(1)
        self._pause(0.3)
        life.kill()
        assert life.wait() in {0, -signal.SIGKILL}, self._world.log

    def _crash_beside(self) -> None:
        """Kill a server while a bot writes, and the bot while the server is away, or after it has come back."""
        server = self._random.choice(list(self._servers.values()))
        life = self._live()
        assert life.reaches(self._random.randrange(1, 200))
        server.kill()
        if self._random.random() < 0.6:
            self._pause(0.3)
            server.start()
            assert life.reaches(life.acked() + self._random.randrange(1, 150))
        else:
            self._pause(0.5)
        self._end(life)

    def _crash_both(self) -> None:
        """Kill a bot and a server at once."""
        server = self._random.choice(list(self._servers.values()))
        life = self._live()
        assert life.reaches(self._random.randrange(1, 200))
        life.kill()
        server.kill()
        assert life.wait() == -signal.SIGKILL

    def _kill_connection(self) -> None:
        """Kill the process that serves a connection of the bot's; PostgreSQL then starts all of them anew."""
        server = self._servers["postgres"]
        assert isinstance(server, PostgresServer)
        life = self._live()
        assert life.reaches(self._random.randrange(1, 200))
        found = server.execute("SELECT pid FROM pg_stat_activity WHERE usename = 'gw_app' ORDER BY pid")
        if found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._random.choice(found)[0], signal.SIGKILL)
        assert life.reaches(life.acked() + self._random.randrange(1, 100))
        self._end(life)

"""One server: connects when it is asked something, finds out who answers, and waits longer the more often it fails."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from redis.exceptions import NoScriptError, ReadOnlyError

from gateway.errors import CacheError, CacheMovedError
from gateway_redis.errors import DRIVER_ERRORS, translate
from gateway_redis.identity import Identity, read_identity
from gateway_redis.link import Answers, Link, Words, good
from gateway_redis.scripts import ALL, LIFE, MOVED

__all__ = ["LIFE_MS", "Node"]

LIFE_MS: Final = 7 * 86_400_000
"""How long the mark of a database lasts after it was last asked for; bots ask for it every few seconds."""

_FIRST_WAIT: Final = 0.05
_LONGEST_WAIT: Final = 2.0
"""Seconds between attempts to connect, growing from the first to the second, varied by half."""

_chance = random.SystemRandom()

Connect = Callable[[], Awaitable[tuple[Link, str]]]
"""Opens a connection to wherever the server is now, and says where that is."""


class Node:
    """A server, or whoever is the master now.

    Args:
        connect: Opens a connection; called again after each failure.
        life_key: Where the mark of the database is kept; empty keeps none.
        connect_timeout: Seconds that connecting may take.
        timeout: Seconds within which the server must answer.
    """

    def __init__(self, connect: Connect, life_key: str, connect_timeout: float, timeout: float) -> None:
        self._connect = connect
        self._life_key = life_key
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._link: Link | None = None
        self._identity: Identity | None = None
        self._where = ""
        self._connecting: asyncio.Task[Link] | None = None
        self._failures = 0
        self._failure = ""
        self._next_attempt = 0.0
        self._closed = False
        self._endings: set[asyncio.Task[None]] = set()
        self.connects = 0
        """How often it connected."""

    def __repr__(self) -> str:
        return f"<Node {self._where or 'not connected yet'}, {self._link}>"

    @property
    def identity(self) -> Identity | None:
        """Who answers on the connection that is open; None while there is none."""
        return self._identity if self._link is not None and self._link.open else None

    @property
    def where(self) -> str:
        """Where the server was last found."""
        return self._where

    async def link(self) -> Link:
        """Return an open connection, made now if there is none.

        Raises:
            CacheError: It cannot be made, or it is too soon after a failure to try again.
        """
        if self._link is not None and self._link.open:
            return self._link
        if self._closed:
            raise CacheError("the cache was closed; open the gateway again")
        if self._connecting is None or self._connecting.done():
            self._refuse_hurry()
            self._connecting = asyncio.get_running_loop().create_task(self._attempt())
        # Shielded: several wait for it, and the one who gives up must not end it for the others.
        return await asyncio.shield(self._connecting)

    async def ask(self, *commands: Words) -> Answers:
        """Send commands and return their answers.

        Raises:
            CacheError: No answer, or an error of the server.
        """
        link = await self.link()
        try:
            return good(await link.ask(*commands))
        except DRIVER_ERRORS as error:
            raise self._noticed(error) from error

    async def run(self, link: Link, commands: Sequence[Words], before: Words | None = None) -> Answers:
        """Run scripts, and return for each an answer, or the exception for what the server refused.

        Args:
            link: The connection that the caller made sure of.
            commands: `EVALSHA` and what follows.
            before: A command to be sent before each of them.

        Raises:
            CacheError: The connection is gone; something may have been done.
        """
        answers = await _run(link, commands, before)
        for answer in answers:
            if answer == MOVED or isinstance(answer, NoScriptError):
                return await self._again(link, commands, before, answers)
        return answers

    async def _again(
        self, link: Link, commands: Sequence[Words], before: Words | None, answers: Answers
    ) -> Answers:
        """Mend what made the server run some of the commands not at all."""
        lost = [at for at, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if lost:
            # Somebody has emptied the server's store of scripts.
            await self.ask(*(("SCRIPT", "LOAD", script.text) for script in ALL))
            for at, answer in zip(lost, await _run(link, [commands[at] for at in lost], before), strict=True):
                answers[at] = answer
        if MOVED in answers:
            reason = "the database was emptied, and the cache starts anew"
            self._give_up(reason)
            moved = CacheMovedError(f"{self._where}: {reason}")
            answers = [moved if answer == MOVED else answer for answer in answers]
        return answers

    def failed(self, error: Exception) -> CacheError:
        """Return the gateway's error for one that `run` returned."""
        return self._noticed(error)

    async def refresh(self) -> Identity:
        """Ask the server who it is; a connection to one that has become another is given up and made anew.

        Raises:
            CacheError: It cannot be reached.
        """
        link = await self.link()
        try:
            now = await self._marked(link, await self._look(link))
        except CacheMovedError:
            # A replica: its name may lead to the master by now, so the next call resolves it again.
            self._give_up("the server is a replica now")
            raise
        except NoScriptError:
            now = None  # connecting anew brings the scripts back
        except DRIVER_ERRORS as error:
            raise self._noticed(error) from error
        if now != self._identity:
            self.drop("the server has become another one")
            await self.link()
        if self.identity is None:
            raise CacheError(f"{self._where}: the connection was lost")
        return self.identity

    def drop(self, reason: str) -> None:
        """Give up the connection; the next call makes a new one. What is left of the old one ends by itself."""
        link, self._link = self._link, None
        if link is not None:
            link.give_up(CacheError(f"{self._where}: {reason}"))
            ending = asyncio.get_running_loop().create_task(link.close())
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)

    async def close(self) -> None:
        """Release everything. Calling it again does nothing."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        self.drop("the cache was closed")
        await asyncio.gather(*self._endings, return_exceptions=True)

    def _noticed(self, error: BaseException) -> CacheError:
        if isinstance(error, ReadOnlyError):
            self._give_up("the server is a replica now")
        return translate(error, self._where)

    def _give_up(self, reason: str) -> None:
        if self._link is not None:
            self._link.give_up(CacheError(f"{self._where}: {reason}"))

    def _refuse_hurry(self) -> None:
        wait = self._next_attempt - asyncio.get_running_loop().time()
        if wait > 0:
            raise CacheError(f"{self._failure}; the next attempt is in {wait:.1f} s")

    async def _attempt(self) -> Link:
        """Connect, once."""
        loop = asyncio.get_running_loop()
        self.drop("it is made anew")
        try:
            async with asyncio.timeout(self._connect_timeout):
                link = await self._open()
        except (*DRIVER_ERRORS, CacheError) as error:
            wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2**self._failures) * _chance.uniform(0.5, 1.5)
            self._failures = min(self._failures + 1, 10)
            self._next_attempt = loop.time() + wait
            told = translate(error, self._where or "Redis")
            self._failure = str(told)
            raise told from error
        self._failures, self._link = 0, link
        self.connects += 1
        return link

    async def _open(self) -> Link:
        link, self._where = await self._connect()
        try:
            # Before the scripts are sent: an old server would not understand them, and should be told so.
            identity = await self._look(link)
            good(await link.ask(*(("SCRIPT", "LOAD", script.text) for script in ALL)))
            self._identity = await self._marked(link, identity)
        except BaseException:
            await link.close()
            raise
        return link

    async def _look(self, link: Link) -> Identity:
        """Ask who answers."""
        said = good(await link.ask(*(("INFO", name) for name in ("server", "replication", "memory"))))
        identity = read_identity(b"\n".join(said), self._where)
        if identity.role != "master":
            raise CacheMovedError(f"{self._where}: the server is a replica; the cache needs the master")
        return identity

    async def _marked(self, link: Link, identity: Identity) -> Identity:
        """Ask how the database is marked, and mark it if it is not."""
        if not self._life_key or identity.evicts:
            return identity
        asked = link.ask(("EVALSHA", LIFE.digest, 1, self._life_key, secrets.token_hex(8), LIFE_MS))
        (life,) = good(await asked)
        return replace(identity, life=life.decode())


async def _run(link: Link, commands: Sequence[Words], before: Words | None) -> Answers:
    if before is None:
        return await link.ask(*commands)
    return (await link.ask(*(one for command in commands for one in (before, command))))[1::2]

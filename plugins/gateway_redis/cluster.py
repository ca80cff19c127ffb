"""A cluster: each master has a part of the keys, and any of them knows which."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from redis.crc import key_slot
from redis.exceptions import AskError, MovedError

from gateway.errors import CacheError, CacheMovedError
from gateway_redis.address import Address, Place
from gateway_redis.connecting import connect, described
from gateway_redis.errors import DRIVER_ERRORS, translate
from gateway_redis.identity import Identity, incarnation_of
from gateway_redis.link import Link, Words, good
from gateway_redis.node import Node
from gateway_redis.scripts import Call

__all__ = ["Cluster", "SlotMap", "read_slots"]

SLOTS: Final = 16_384

SlotMap = Mapping[Place, Sequence[tuple[int, int]]]
"""Which ranges of slots each master has; both ends are included."""


def read_slots(answer: Any, asked: Place) -> SlotMap:
    """Return the map that `CLUSTER SLOTS` answers.

    Args:
        answer: Ranges, each with its master first.
        asked: Whom was asked; a node that does not know its own address leaves it out.

    Raises:
        CacheError: It is no such answer, or slots are missing.
    """
    found: dict[Place, list[tuple[int, int]]] = {}
    try:
        for first, last, (host, port, *_), *_ in answer:
            name = host.decode() if host else asked[0]
            found.setdefault((name, int(port)), []).append((int(first), int(last)))
    except (TypeError, ValueError) as error:
        raise CacheError(f"{described(asked)}: no map of a cluster; is it one?") from error
    held = sum(last - first + 1 for ranges in found.values() for first, last in ranges)
    if held != SLOTS:
        raise CacheError(f"{described(asked)}: {SLOTS - held} of the cluster's slots are served by nobody")
    return found


class Cluster:
    """The masters of a cluster.

    An entry whose slot moves goes on where it moved to: the server keeps an entry in one place at a time. What makes
    another cluster of it is another set of masters, or one of them being started anew. The others go on serving their
    own entries until the next look, since those have lost nothing.

    Args:
        address: Nodes to ask first.
        prefix: How keys begin.
        connect_timeout: Seconds that connecting may take.
        timeout: Seconds within which a server must answer.
    """

    def __init__(self, address: Address, prefix: str, connect_timeout: float, timeout: float) -> None:
        self._address = address
        self._space = address.space_of(prefix)
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._nodes: dict[Place, Node] = {}
        self._owners: list[Place] = []
        self._identities: tuple[Identity, ...] = ()
        self._named = ""
        self._finding: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Cluster {self._address}, {len(self._nodes)} masters>"

    async def identities(self) -> Sequence[Identity]:
        """Ask for the map, and each master who it is."""
        await self._find()
        return self._identities

    async def run(self, incarnation: str, call: Call, probation: int) -> list[Any]:
        """Run a script for each entry by itself, on the master that has it; see `Servers.run`."""
        if not self._named:
            await self._find()
        count = len(call.keys)
        commands = [call.command("", probation, "", slice(at, at + 1)) for at in range(count)]
        slots = [key_slot(key.encode()) for key in call.keys]
        answers = await self._round(incarnation, commands, slots, range(count))
        moved = [at for at, answer in enumerate(answers) if isinstance(answer, MovedError)]
        if moved:
            await self._find()
            again = await self._round(incarnation, commands, slots, moved)
            for at in moved:
                answers[at] = again[at]
        for at, answer in enumerate(answers):
            if isinstance(answer, AskError):
                answers[at] = await self._asked(incarnation, commands[at], answer)
        where = str(self._address)
        return [
            translate(answer, where) if isinstance(answer, Exception) else answer[0] for answer in answers
        ]

    def facts(self) -> dict[str, Any]:
        """Return facts for people."""
        return {
            "masters": sorted(map(described, self._nodes)),
            "connects": sum(n.connects for n in self._nodes.values()),
        }

    async def close(self) -> None:
        """Release everything."""
        if self._finding is not None:
            self._finding.cancel()
            await asyncio.gather(self._finding, return_exceptions=True)
        nodes, self._nodes, self._named = list(self._nodes.values()), {}, ""
        await asyncio.gather(*(node.close() for node in nodes))

    async def _round(
        self, incarnation: str, commands: Sequence[Words], slots: Sequence[int], chosen: Iterable[int]
    ) -> list[Any]:
        """Run some of the commands, those of one master in one piece; answers stand where their commands do."""
        parts: dict[Place, list[int]] = {}
        for at in chosen:
            parts.setdefault(self._owners[slots[at]], []).append(at)
        answers: list[Any] = [None] * len(commands)

        async def part(place: Place, own: list[int]) -> None:
            found = await self._part(incarnation, place, [commands[at] for at in own])
            for at, answer in zip(own, found, strict=True):
                answers[at] = answer

        if len(parts) == 1:
            await part(*next(iter(parts.items())))
        else:
            await asyncio.gather(*(part(place, own) for place, own in parts.items()))
        return answers

    async def _part(
        self, incarnation: str, place: Place, commands: Sequence[Words], before: Words | None = None
    ) -> list[Any]:
        """Run commands on one master; if it cannot be asked at all, that is the answer to each."""
        try:
            node = self._nodes[place]
            link = await node.link()
            self._must_be(incarnation, node)
            return await node.run(link, commands, before)
        except CacheError as error:
            return [error] * len(commands)

    async def _asked(self, incarnation: str, command: Words, ask: AskError) -> Any:
        """Follow an entry that is just moving to another master."""
        place = (str(ask.host), int(ask.port))
        if place not in self._nodes:
            return CacheError(f"{self._address}: a slot moves to a server that is not in the map yet")
        return (await self._part(incarnation, place, [command], ("ASKING",)))[0]

    def _must_be(self, incarnation: str, node: Node) -> None:
        """Make sure that the masters are those that were meant, and that the one to be asked is still one of them."""
        if node.identity not in self._identities:
            self._named = ""  # it was started anew; the next call finds out what that makes of the cluster
        if self._named != incarnation:
            raise CacheMovedError(f"{self._address}: other masters answer than those that were meant")

    async def _find(self) -> None:
        """Ask for the map and for every master, once for all who want to know."""
        if self._finding is None or self._finding.done():
            self._finding = asyncio.get_running_loop().create_task(self._map())
        await asyncio.shield(self._finding)

    async def _map(self) -> None:
        slots = await self._slots()
        gone = [place for place in self._nodes if place not in slots]
        for place in gone:
            await self._nodes.pop(place).close()
        for place in slots:
            if place not in self._nodes:
                self._nodes[place] = self._node(place)
        owners: list[Place] = [("", 0)] * SLOTS
        for place, ranges in slots.items():
            for first, last in ranges:
                owners[first : last + 1] = [place] * (last - first + 1)
        identities = await asyncio.gather(*(node.refresh() for node in self._nodes.values()))
        self._owners, self._identities = owners, tuple(identities)
        self._named = incarnation_of(identities, self._space)

    async def _slots(self) -> SlotMap:
        """Ask those who are known, then those whom the address names, until one answers."""
        failure: Exception = CacheError(f"{self._address}: nobody was asked")
        for place, node in list(self._nodes.items()):
            try:
                return read_slots((await node.ask(("CLUSTER", "SLOTS")))[0], place)
            except CacheError as error:
                failure = error
        for place in self._address.places:
            if place in self._nodes:
                continue
            try:
                return await self._slots_from(place)
            except CacheError as error:
                failure = error
        raise failure

    async def _slots_from(self, place: Place) -> SlotMap:
        """Ask a server that may well be a replica, over a connection for this one question."""
        try:
            async with asyncio.timeout(self._connect_timeout):
                link = await connect(self._address, place, self._timeout)
                try:
                    return read_slots(good(await link.ask(("CLUSTER", "SLOTS")))[0], place)
                finally:
                    await link.close()
        except DRIVER_ERRORS as error:
            raise translate(error, described(place)) from error

    def _node(self, place: Place) -> Node:
        async def opened() -> tuple[Link, str]:
            return await connect(self._address, place, self._timeout), described(place)

        return Node(opened, "", self._connect_timeout, self._timeout)

"""The cache: the contract's operations, one script each."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final

from gateway.backend import Health
from gateway.cache.contract import Contact, End, EndAnswer, Fill, FillAnswer, Miss, Terms
from gateway.errors import CacheError, CacheMovedError
from gateway_redis.address import Shape
from gateway_redis.cluster import Cluster
from gateway_redis.errors import OutgrownError
from gateway_redis.identity import Identity, incarnation_of
from gateway_redis.scripts import BEGIN, END, FILL, GET, LIFT, Call
from gateway_redis.servers import Master, Servers
from gateway_redis.settings import RedisSettings

__all__ = ["RedisCache", "key_of"]

_LONGEST_NAME: Final = 200
_MISSES: Final = {1: Miss.LEASED, 2: Miss.WAIT, 3: Miss.FENCED}
_FILLS: Final = {0: FillAnswer.REFUSED, 1: FillAnswer.STORED}
_ENDS: Final = {0: EndAnswer.LIFTED, 1: EndAnswer.STORED, 2: EndAnswer.LOST}


def key_of(prefix: str, name: str) -> str:
    """Return the key of an entry.

    A long name is replaced by its hash of 256 bits; that two names have one hash is as good as impossible, so the
    name itself need not be kept.
    """
    if len(name) <= _LONGEST_NAME:
        return f"{prefix}:{name}"
    return f"{prefix}:#{blake2b(name.encode(), digest_size=32).hexdigest()}"


class RedisCache:
    """A cache on the servers of the settings' address. Opening it connects to nobody.

    Args:
        settings: Where they are.

    Raises:
        ConfigurationError: The settings cannot be used.
    """

    def __init__(self, settings: RedisSettings) -> None:
        address = settings.address()
        self._prefix = settings.key_prefix
        self._address = address
        self._closed = False
        waits = (settings.connect_timeout, settings.command_timeout)
        self._servers: Servers = (
            Cluster(address, self._prefix, *waits)
            if address.shape is Shape.CLUSTER
            else Master(address, self._prefix, *waits)
        )

    def __repr__(self) -> str:
        return f"<RedisCache {self._servers}{', closed' if self._closed else ''}>"

    async def contact(self) -> Contact:
        """Ask the servers who they are; see `Cache.contact`."""
        self._must_be_open()
        found = await self._servers.identities()
        incarnation = incarnation_of(found, self._address.space_of(self._prefix))
        return Contact(incarnation, self._evicts(found), self._described(found))

    async def get(
        self, incarnation: str, names: Sequence[str], token: str, terms: Terms
    ) -> Sequence[bytes | Miss]:
        """Return values or leases; see `Cache.get`."""
        call = Call(GET, [self._key(name) for name in names], (token, terms.lease_ms))
        answers = await self._run(incarnation, call, terms)
        return [answer if isinstance(answer, bytes) else _MISSES[answer] for answer in _all(answers)]

    async def fill(self, incarnation: str, fills: Sequence[Fill], terms: Terms) -> Sequence[FillAnswer]:
        """Keep what was read; see `Cache.fill`."""
        own = [(fill.token, fill.mark, fill.value) for fill in fills]
        call = Call(FILL, [self._key(fill.name) for fill in fills], (terms.value_ms,), own)
        return [_FILLS[answer] for answer in _all(await self._run(incarnation, call, terms))]

    async def begin(self, incarnation: str, names: Sequence[str], token: str, terms: Terms) -> None:
        """Put up fences; see `Cache.begin`."""
        call = Call(BEGIN, [self._key(name) for name in names], (token, terms.fence_ms))
        _all(await self._run(incarnation, call, terms))

    async def end(self, incarnation: str, ends: Sequence[End], terms: Terms) -> Sequence[EndAnswer]:
        """Take down fences; see `Cache.end`."""
        answers = await self._run(incarnation, self._ending(ends, terms), terms)
        # A full server does not take a value; an end without one frees memory, and it takes that.
        full = [at for at, answer in enumerate(answers) if isinstance(answer, OutgrownError)]
        if full:
            call = self._ending([ends[at]._replace(value=None) for at in full], terms)
            for at, answer in zip(full, await self._run(incarnation, call, terms), strict=True):
                answers[at] = answer
        return [_ENDS[answer] for answer in _all(answers)]

    def _ending(self, ends: Sequence[End], terms: Terms) -> Call:
        lifts = all(end.value is None for end in ends)
        own = [
            (end.token, end.mark, *(("", b"") if end.value is None else (terms.value_ms, end.value)))
            for end in ends
        ]
        return Call(LIFT if lifts else END, [self._key(end.name) for end in ends], (terms.floor_ms,), own)

    async def health(self) -> Health:
        """Return whether the servers answer."""
        facts = self._servers.facts()
        try:
            contact = await self.contact()
        except CacheError as error:
            return Health(ok=False, summary=str(error), details=facts)
        evicting = ", and may evict" if contact.evicts else ""
        details = {
            **facts,
            "incarnation": contact.incarnation,
            "evicts": contact.evicts,
            "detail": contact.detail,
        }
        return Health(ok=True, summary=f"answers; {contact.detail}{evicting}", details=details)

    async def close(self) -> None:
        """Release everything. Calling it again does nothing."""
        self._closed = True
        await self._servers.close()

    async def _run(self, incarnation: str, call: Call, terms: Terms) -> list[Any]:
        self._must_be_open()
        return await self._servers.run(incarnation, call, terms.probation_ms) if call.keys else []

    def _key(self, name: str) -> str:
        return key_of(self._prefix, name)

    def _must_be_open(self) -> None:
        if self._closed:
            raise CacheError("the cache was closed; open the gateway again")

    def _evicts(self, found: Sequence[Identity]) -> bool:
        # A cluster keeps no mark by which an emptied database would be noticed, so nobody trusts young entries there.
        return self._address.shape is Shape.CLUSTER or any(one.evicts for one in found)

    def _described(self, found: Sequence[Identity]) -> str:
        kinds = " and ".join(sorted({f"{one.name} {one.version}" for one in found}))
        policies = " and ".join(sorted({one.policy for one in found}))
        return f"{kinds} at {self._address}, when full: {policies}"


def _all(answers: Sequence[Any]) -> Sequence[Any]:
    """Return the answers if there is one for each entry, or raise the worst of what went wrong."""
    errors = [answer for answer in answers if isinstance(answer, CacheError)]
    if errors:
        raise next((one for one in errors if isinstance(one, CacheMovedError)), errors[0])
    return answers

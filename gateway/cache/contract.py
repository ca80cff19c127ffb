"""The contract for cache authors: a server that keeps entries under names, and four operations on an entry.

A cache is a plugin whose `BackendSpec` has `store_of_record=False` and `open_cache`. Prove it with
`gateway.conformance.CacheConformance`; `gateway_memory.cache` is the reference.

An **entry** has a name and holds, each until its own moment by the *server's* clock:

* a *value* with its *mark*, the place of the row in the order of its key's versions,
* a *lease*: the token of the one reader who may fill it,
* *fences*: the tokens of writers between the begin and the end of their writes to the store; a fence is *shared* once
  another one stood beside it, even if only for a moment,
* a *floor*: the greatest mark that a writer reported; nothing below it is taken,
* *since*: when the server first knew of the entry.

Marks are texts of one length, compared as texts. Names, tokens and values are opaque. Every operation is **atomic for
one entry**; several entries in one call are a saving of round trips, not a transaction.

Each operation first forgets what has run out, then:

`get`
    1. an unknown entry is made, with *since* = now;
    2. any fence stands: `FENCED`;
    3. `terms.probation_ms` > 0 and less than that has passed since *since*: `FENCED`;
    4. there is a value: the value;
    5. a lease is held, by whomever: `WAIT`;
    6. otherwise the lease is given to the caller's token for `terms.lease_ms`: `LEASED`.

`fill`
    Taken only if the lease is the fill's token's, no fence stands and the mark is not below the floor: the value is
    kept for `terms.value_ms` (`STORED`). That token's lease ends in any case; otherwise nothing changes (`REFUSED`).

`begin`
    Makes an unknown entry with *since* = now, drops the value and the lease, and puts up the caller's fence for
    `terms.fence_ms`. Every token has a fence of its own; if others stand, it and they are shared from now on. Repeated
    with one token, it lasts anew, and what was shared stays so.

`end`
    Takes down the fence of the end's token. If it had run out or was lost, value and lease are dropped (`LOST`). A mark
    raises the floor to it, never lowers it, for `terms.floor_ms`. A value is kept, for `terms.value_ms` (`STORED`),
    only if that fence was there and never shared, probation is over as in `get` 3, and the mark is not below the floor.
    In every other case: `LIFTED`. (Of two writers at once, the one with the newer row may be killed, and its fence run
    out, before the other one ends. Then nobody knows that the other's row is out of date.)

An entry may be lost at any time, by eviction, by running out, by a server that starts anew. That must look like an
entry that is unknown, and only ever costs reads of the store. What keeps the fence of a lost entry effective is
*probation*: where the server may evict, an entry serves nothing until it is older than any fence could be. So *since*
must live exactly as long as the entry, and an entry must live at least as long as anything it holds; under probation,
keep it for at least twice `terms.probation_ms` after each operation.

**Which server.** A server that is restarted, replaced by its replica, or emptied behind the gateway's back is another
server, even if old entries come back with it. Each such life has its own *incarnation*, and every call names the one it
is meant for. A connection finds out the incarnation when it is made; what finds another one than it was meant for
raises `CacheMovedError`, and nothing may be executed on the wrong one.

**Failures.** Whatever goes wrong is raised as `gateway.errors.CacheError`, whose text holds no password: a call that
did not answer may have been executed or not. Calls have no deadline of their own that is shorter than the settings
say; the core gives up by cancelling, and a connection with an answer outstanding must then not be used again for
another call.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple, Protocol

from gateway.backend import Health

__all__ = ["MARK_DIGITS", "Cache", "Contact", "End", "EndAnswer", "Fill", "FillAnswer", "Miss", "Terms"]

MARK_DIGITS: Final = 32
"""Length of a mark: version and digest as hexadecimal digits. The empty text is no mark."""


class Terms(NamedTuple):
    """How long things last, in milliseconds of the server's clock. All are positive but the probation.

    Attributes:
        value_ms: A value; the core has varied it already, so that entries do not run out together.
        lease_ms: A lease.
        fence_ms: A fence, longer than any write to the store may take.
        floor_ms: A floor, longer than a fence.
        probation_ms: Age from which an entry may serve values; 0 where the server never evicts.
    """

    value_ms: int
    lease_ms: int
    fence_ms: int
    floor_ms: int
    probation_ms: int


class Contact(NamedTuple):
    """What a cache says of its server.

    Attributes:
        incarnation: Which life of which server (of which servers, in a cluster) answers now: 1 to 200 characters.
            It changes with a restart, with a fail-over to a replica and back, and with the membership of a cluster.
        evicts: Whether the server may drop entries before they run out, as with a memory limit and a policy that
            evicts. When in doubt, True.
        detail: For people: version, policy, place; no password.
    """

    incarnation: str
    evicts: bool
    detail: str = ""


class Miss(Enum):
    """Why `get` gives no value."""

    LEASED = "leased"
    """Read the store, then `fill` with the same token."""
    WAIT = "wait"
    """Somebody else is reading the store for it. Read the store and do not fill."""
    FENCED = "fenced"
    """It is being written, or too young to be trusted. Read the store and do not fill."""


class Fill(NamedTuple):
    """What a reader found in the store.

    Attributes:
        name: Of the entry.
        token: The token that holds the lease.
        mark: Place of the row; `"0" * MARK_DIGITS` where there is none.
        value: What to keep.
    """

    name: str
    token: str
    mark: str
    value: bytes


class FillAnswer(Enum):
    """What became of a fill."""

    STORED = "stored"
    """It is kept."""
    REFUSED = "refused"
    """It may be out of date; not kept."""


class End(NamedTuple):
    """How a write ended.

    Attributes:
        name: Of the entry.
        token: The token that the fence was put up with.
        mark: Place of the newest row that the writer knows to be stored; empty if it wrote nothing.
        value: The row itself, if it is what was stored; None keeps nothing.
    """

    name: str
    token: str
    mark: str
    value: bytes | None


class EndAnswer(Enum):
    """What became of an end."""

    STORED = "stored"
    """The fence is down and the value is kept."""
    LIFTED = "lifted"
    """The fence is down; no value is kept."""
    LOST = "lost"
    """The fence was not there any more; value and lease were dropped."""


class Cache(Protocol):
    """A connection, or a pool of them, to a cache. Used from one event loop, with many calls at once.

    Names in one call of `get` and `begin` differ from each other; fills and ends of one call may share a name, and then
    take effect in their order. Answers come in the order of the arguments.
    """

    async def contact(self) -> Contact:
        """Ask the server which life of it this is, connecting anew if necessary.

        Raises:
            CacheError: It cannot be reached, or lacks something; the text says what to do.
        """
        ...

    async def get(
        self, incarnation: str, names: Sequence[str], token: str, terms: Terms
    ) -> Sequence[bytes | Miss]:
        """Return the values of entries, or take leases on them; see the module.

        Raises:
            CacheError: No answer; a lease may have been given.
            CacheMovedError: The server is not that one (any more); nothing was done.
        """
        ...

    async def fill(self, incarnation: str, fills: Sequence[Fill], terms: Terms) -> Sequence[FillAnswer]:
        """Keep what the owner of a lease read from the store; see the module.

        Raises:
            CacheError: No answer; it may have been kept.
            CacheMovedError: The server is not that one (any more); nothing was done.
        """
        ...

    async def begin(self, incarnation: str, names: Sequence[str], token: str, terms: Terms) -> None:
        """Put up a writer's fences before it writes to the store; see the module. Idempotent.

        Raises:
            CacheError: No answer for at least one entry; fences may stand.
            CacheMovedError: The server is not that one (any more); nothing was done on it.
        """
        ...

    async def end(self, incarnation: str, ends: Sequence[End], terms: Terms) -> Sequence[EndAnswer]:
        """Take down a writer's fences after it wrote to the store; see the module. Idempotent but for the answer.

        Raises:
            CacheError: No answer; fences may still stand, until they run out.
            CacheMovedError: The server is not that one (any more); nothing was done.
        """
        ...

    async def health(self) -> Health:
        """Return whether the server answers, with facts for people. Does not raise for one that is down."""
        ...

    async def close(self) -> None:
        """Release everything. Calling it again does nothing; any other call afterwards raises `CacheError`."""
        ...

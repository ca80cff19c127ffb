"""Whether a read is worth asking the cache for, after many that were not. Pure.

Who walks through rows that nobody reads twice pays for the cache and gains nothing. So once hardly any of the last few
hundred questions was answered, only a sample of the reads asks, and the rest goes straight to the store. Not to ask is
always allowed: what is never stale stays so.

The sample has two parts. A *fixed share of the keys* is always asked for, and filled: among them the share of hits is
what it would be among all keys if all were asked for, however many there are. And *every so many reads* one asks,
whichever its key is: so a single key that is read often is found too, though it is none of those.
"""

from __future__ import annotations

from typing import Final

__all__ = ["LOOKS", "RATE", "Sampling"]

RATE: Final = 32
"""One in so many keys, and one in so many reads: a sample asks for about a sixteenth."""
LOOKS: Final = 512
"""Questions after which is judged whether to go on asking for all."""
_WORTH: Final = 8
"""One hit in so many questions is worth asking for all."""
_PROOF: Final = 4
"""Hits in a sample by which it goes back to asking for all."""
_MEMORY: Final = 32
"""Questions of a sample over which hits are counted."""


class Sampling:
    """Decides for one kind of row; starts with asking for all."""

    __slots__ = ("_asked", "_hits", "_reads", "_sparse")

    def __init__(self) -> None:
        self._sparse = False
        self._asked = 0
        self._hits = 0
        self._reads = 0

    def __repr__(self) -> str:
        return f"<Sampling {'a sample' if self._sparse else 'all'} {self._hits}/{self._asked}>"

    @property
    def sparse(self) -> bool:
        """Whether only a sample asks."""
        return self._sparse

    def asks(self, mixed: int) -> bool:
        """Tell whether a read is to ask the cache.

        Args:
            mixed: A number that is the same for the same key, such as its hash.
        """
        if not self._sparse:
            return True
        self._reads += 1
        return mixed % RATE == 0 or self._reads % RATE == 0

    def saw(self, *, hit: bool) -> None:
        """Take note of an answer of the cache."""
        self._asked += 1
        self._hits += hit
        if self._sparse:
            if self._hits >= _PROOF:
                self._begin(sparse=False)
            elif self._asked >= _MEMORY:
                self._begin(sparse=True)
        elif self._asked >= LOOKS:
            self._begin(sparse=self._hits * _WORTH < self._asked)

    def _begin(self, *, sparse: bool) -> None:
        self._sparse = sparse
        self._asked = self._hits = 0

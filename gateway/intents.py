"""Intents: notes, stored with a write, of what has yet to reach a mirror.

An intent names a row and the store that is to get it; it holds no values. Whoever replays it reads the row from the
primary as it is by then and writes that to the mirror. So an intent may be replayed any number of times, in any order
and late, and several of one key are as good as one.

Whoever writes numbers its own intents: `owner` is drawn once for each gateway that is opened, and `number` counts the
steps that it ever wrote. Which intents are done can therefore be said as a few stretches of numbers, without asking
the store for what it gave out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from gateway.records.kind import KindSpec
from gateway.records.row import Key

__all__ = ["Intent", "Journal", "JournalFacts", "JournalStore", "Journaling", "Stretch", "stretches_of"]


class Intent(NamedTuple):
    """A row that has yet to reach a mirror.

    Attributes:
        owner: Whose numbers these are.
        number: Of the step that wrote the row.
        part: Of the row within the step.
        kind: The row's kind.
        tenant: Whose row.
        key: Its canonical key.
        version: The version that was written; what is stored by now may be newer.
        trace: The W3C `traceparent` of the write, if it was traced; empty otherwise.
    """

    owner: str
    number: int
    part: int
    kind: KindSpec
    tenant: str
    key: Key
    version: int
    trace: str


class Stretch(NamedTuple):
    """Numbers of one owner that follow one another.

    Attributes:
        owner: Whose numbers.
        first: The first.
        last: The last; itself within.
    """

    owner: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Journaling:
    """Which intents a batch leaves behind, in its own transaction.

    Attributes:
        owner: Whose numbers.
        first: The number of the batch's first step; the others follow.
        targets: For each step, the instance names of the mirrors that are to get its rows; empty for none.
        traces: By step index, the `traceparent` of a write that was traced.
    """

    owner: str
    first: int
    targets: Sequence[tuple[str, ...]]
    traces: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JournalFacts:
    """What has yet to reach one mirror.

    Attributes:
        target: Instance name of the mirror.
        depth: How many intents; counted up to a limit that the asker gave, so a greater number is not told apart.
        oldest: The smallest version among them; None if there are none. Where they were not all counted, it is the
            smallest among those and the first of each owner. History is written with the versions of its own time, so
            this says what the mirror lacks, and not for how long.
        since: When the first of them was written, in microseconds since 1970; None where the store does not say.
    """

    target: str
    depth: int
    oldest: int | None
    since: int | None = field(default=None, compare=False)


class Journal(Protocol):
    """Where intents are kept: the primary itself, or a file beside a primary that has no transactions."""

    async def pending(
        self, target: str, tenant: str, limit: int, *, before: int | None = None, after: Stretch | None = None
    ) -> Sequence[Intent]:
        """Return intents in the order of owner, number and part.

        Args:
            target: Which mirror's.
            tenant: Whose rows.
            limit: How many at most; but the last step is always whole, since what is acknowledged is a whole step.
            before: Only steps of which every row has a smaller version, so that what was written just now is left to
                who wrote it.
            after: Only those that come after the last one of this stretch, for going on where one has stopped.

        Raises:
            StoreError: The journal could not answer.
        """
        ...

    async def acknowledge(self, target: str, tenant: str, done: Sequence[Stretch]) -> int:
        """Remove intents whose rows have reached the mirror; return how many. Repeating it does nothing.

        Raises:
            StoreError: The journal could not do it; the intents are replayed once more, which does no harm.
        """
        ...

    async def facts(self, tenant: str, limit: int) -> Sequence[JournalFacts]:
        """Return what is left, for every mirror of which there is something.

        Args:
            tenant: Whose rows.
            limit: Up to how many intents are counted for each mirror.

        Raises:
            StoreError: The journal could not answer.
        """
        ...


class JournalStore(Protocol):
    """The hooks of a backend that declares `Capability.JOURNAL`; they mean what those of `Journal` do.

    The intents themselves come with `gateway_write`, in `WriteBatch.journaling`: one for each row of a step and each
    target of that step, in the batch's transaction. A row that lost against a newer one may be left out or not; what
    is there already under an owner's number and part is left as it is. Rows of kinds that the store was not opened
    with are left out of what is returned, and stay, whatever is acknowledged; they are counted.
    """

    async def gateway_intents(
        self, target: str, tenant: str, limit: int, before: int | None, after: Stretch | None
    ) -> Sequence[Intent]:
        """Return intents; see `Journal.pending`."""
        ...

    async def gateway_acknowledge(self, target: str, tenant: str, done: Sequence[Stretch]) -> int:
        """Remove intents; see `Journal.acknowledge`."""
        ...

    async def gateway_journal(self, tenant: str, limit: int) -> Sequence[JournalFacts]:
        """Return what is left; see `Journal.facts`."""
        ...


def stretches_of(numbers: Iterable[tuple[str, int]]) -> list[Stretch]:
    """Return the fewest stretches that hold exactly the given numbers of owners, in order."""
    found: list[tuple[str, int, int]] = []
    for owner, number in sorted(set(numbers)):
        if found and found[-1][2] == number - 1 and found[-1][0] == owner:
            found[-1] = owner, found[-1][1], number
        else:
            found.append((owner, number, number))
    return [Stretch(*one) for one in found]

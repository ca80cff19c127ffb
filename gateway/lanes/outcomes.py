"""Bounds of the queues in front of stores, and what becomes of a write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from enum import StrEnum
from typing import Final, Protocol

from gateway.backend import Capability, Group, Step, Update, WriteBatch, WriteReceipt
from gateway.columns import ColumnBatch
from gateway.errors import GatewayError, StoreError, WriteRejectedError
from gateway.records.row import Row

__all__ = [
    "NOTHING",
    "STORED",
    "Computed",
    "FullPolicy",
    "LaneOptions",
    "Outcome",
    "Sink",
    "concerns_one",
    "own_copy",
    "replicated",
]


class Sink(Protocol):
    """Where a lane's batches go: a store, or what stands in front of one."""

    @property
    def name(self) -> str:
        """Instance name of the store."""
        ...

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the store's backend declared."""
        ...

    async def write(self, batch: WriteBatch) -> WriteReceipt:
        """Store a batch; see `Backend.gateway_write`."""
        ...


class FullPolicy(StrEnum):
    """What a full queue does with the next write."""

    BLOCK = "block"
    """The caller waits for room, in order."""
    REFUSE = "refuse"
    """The caller gets `QueueFullError`."""


class LaneOptions:
    """Bounds of a lane.

    Args:
        rows: Rows accepted but not yet finished, at most.
        batch: Rows of one commit, at most (a single write with more is committed on its own).
        policy: What happens at the bound.
        retry: Seconds for which a transient failure is tried again; every write is idempotent.
    """

    __slots__ = ("batch", "policy", "retry", "rows")

    def __init__(
        self,
        rows: int = 10_000,
        batch: int = 1_000,
        policy: FullPolicy = FullPolicy.BLOCK,
        retry: float = 2.0,
    ) -> None:
        self.rows = rows
        self.batch = batch
        self.policy = policy
        self.retry = retry


class Outcome:
    """What became of one write.

    Attributes:
        superseded: The newest stored version that was newer than one of its rows; 0 if all were stored.
        lost: Which of its steps lost against a newer version, by their index.
        mirrored: Names of the mirrors that have it, of those that were waited for.
        failures: Mirrors that were waited for and do not have it, with their errors.
    """

    __slots__ = ("failures", "lost", "mirrored", "superseded")

    def __init__(self) -> None:
        self.superseded = 0
        self.lost: tuple[int, ...] = ()
        self.mirrored: tuple[str, ...] = ()
        self.failures: dict[str, GatewayError] = {}

    def note_lost(self, superseded: Mapping[int, int], offset: int, steps: int) -> None:
        """Take over what a receipt says of this write's steps, which begin at an offset of the batch."""
        self.lost = tuple(at for at in range(steps) if offset + at in superseded)
        self.superseded = max((superseded[offset + at] for at in self.lost), default=0)


STORED: Final = Outcome()
"""The outcome of nearly every write to one store; shared, and never changed."""


def own_copy(error: GatewayError) -> GatewayError:
    """Return a caller's own copy of an error: several callers of a batch get it, and each may add to theirs."""
    own = copy(error)
    own.__cause__ = error.__cause__ or error
    return own


def concerns_one(error: GatewayError) -> bool:
    """Tell whether a failure is about one write of the batch, so that the others deserve a try of their own."""
    return isinstance(error, WriteRejectedError) or not isinstance(error, StoreError)


class Computed:
    """The `apply` of an update, remembering what it came to: mirrors get that, new on the primary or not.

    A write whose answer was lost is repeated, and the primary then finds it done; the mirror may still need it.

    Attributes:
        rows: What it returned last.
    """

    __slots__ = ("_apply", "rows")

    def __init__(self, apply: Callable[[Sequence[Row | None]], Sequence[Row]]) -> None:
        self._apply = apply
        self.rows: tuple[Row, ...] = ()

    def __call__(self, current: Sequence[Row | None]) -> Sequence[Row]:
        """Compute, and remember."""
        self.rows = tuple(self._apply(current))
        return self.rows


NOTHING: Final = Group(())
"""Stands for a step that need not reach a mirror, so that the others keep their numbers."""


def replicated(steps: Sequence[Step], receipt: WriteReceipt, offset: int) -> Sequence[Step]:
    """Return what mirrors get, step for step: the rows as they are, and the rows that updates came to.

    A row that lost against a newer one is `NOTHING`: the newer one reaches the mirror with its own write.
    """
    if isinstance(steps, ColumnBatch) and not receipt.superseded:
        return steps
    if not receipt.superseded and not any(isinstance(step, Update) for step in steps):
        return steps
    return [_onward(step, at, receipt) for at, step in enumerate(steps, offset)]


def _onward(step: Step, at: int, receipt: WriteReceipt) -> Step:
    if isinstance(step, Update):
        rows = step.apply.rows if isinstance(step.apply, Computed) else receipt.updated.get(at, ())
        return Group(tuple(rows)) if rows else NOTHING
    return step if at not in receipt.superseded or isinstance(step, Group) else NOTHING

"""Bounds of the queues in front of stores, and what becomes of a write."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from gateway.errors import GatewayError

__all__ = ["STORED", "FullPolicy", "LaneOptions", "Outcome"]


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
        mirrored: Names of the followers that have it.
        failures: Followers that do not, with their errors.
    """

    __slots__ = ("failures", "mirrored", "superseded")

    def __init__(self) -> None:
        self.superseded = 0
        self.mirrored: tuple[str, ...] = ()
        self.failures: dict[str, GatewayError] = {}


STORED: Final = Outcome()
"""The outcome of nearly every write to one store; shared, and never changed."""

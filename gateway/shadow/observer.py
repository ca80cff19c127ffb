"""Who gets to see reads after they were answered, to repeat some of them on another store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from gateway.backend import GroupSummary, Summarize
from gateway.query import Query
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row

if TYPE_CHECKING:
    from gateway.dispatch import Store

__all__ = ["ReadObserver"]


class ReadObserver(Protocol):
    """Sees reads that have a shadow. Every method must return at once and never raise."""

    def offer_keys(
        self,
        reader: Store,
        shadow: Store,
        kind: KindSpec,
        tenant: str,
        keys: Sequence[Key],
        rows: Sequence[Row | None],
    ) -> None:
        """Offer a read by key."""
        ...

    def offer_query(self, reader: Store, shadow: Store, query: Query, rows: Sequence[Row]) -> None:
        """Offer a listing."""
        ...

    def offer_summary(
        self, reader: Store, shadow: Store, request: Summarize, groups: Sequence[GroupSummary]
    ) -> None:
        """Offer a count."""
        ...

    def samples(self, kind: KindSpec) -> bool:
        """Tell whether any read of a kind is ever compared."""
        ...

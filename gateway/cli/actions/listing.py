"""Listings as typed on the command line, and the store that answers them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gateway.cli.arguments import parse_time, parse_where
from gateway.cli.session import Session
from gateway.errors import InvalidRecordError
from gateway.filters import time_bounds
from gateway.query import Query
from gateway.records.row import Row

if TYPE_CHECKING:
    from gateway.dispatch import Store

__all__ = ["Listing", "pages_of"]


@dataclass(frozen=True, slots=True)
class Listing:
    """What was typed to select records.

    Attributes:
        kind: Name of the kind.
        where: Filters.
        since: First time, inclusive.
        until: Last time, exclusive.
        order: `asc` or `desc`.
        store: Which store to ask; None asks the one that bots read now.
    """

    kind: str
    where: tuple[str, ...]
    since: str | None
    until: str | None
    order: str
    store: str | None

    def query(self, session: Session, limit: int) -> Query:
        """Return the query.

        Raises:
            InvalidRecordError: A filter, a time or the order is none.
        """
        if self.order not in {"asc", "desc"}:
            raise InvalidRecordError(f"--order is asc or desc, not {self.order!r}")
        kind = session.kind(self.kind)
        since, until = (None if text is None else parse_time(text) for text in (self.since, self.until))
        where = (*parse_where(kind, self.where), *time_bounds(kind, since, until))
        return Query(kind, session.tenant, where, descending=self.order == "desc", limit=limit)

    def reader(self, session: Session) -> str:
        """Return the instance name of the store to ask."""
        return self.store or session.plan().listing(session.kind(self.kind)).reader


async def pages_of(store: Store, query: Query) -> AsyncIterator[Sequence[Row]]:
    """Yield page after page; memory stays bounded however many there are."""
    while True:
        rows = await store.query(query)
        if rows:
            yield rows
        if len(rows) < query.limit:
            return
        query = replace(query, after=rows[-1].position)

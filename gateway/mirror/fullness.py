"""Whether a journal has reached its bound, counting only what can still arrive."""

from __future__ import annotations

from datetime import datetime

from gateway.intents import Journal, JournalFacts
from gateway.mirror.bounds import Bounds, excess
from gateway.records.version import version_at

__all__ = ["fullness"]


async def fullness(
    journal: Journal, tenant: str, facts: JournalFacts, refused: int, bounds: Bounds, now: datetime
) -> str | None:
    """Return by what a journal has reached its bound; None while it has not.

    Rows that the mirror refuses for good stay in the journal, however old they get. They are reported, and count as
    rows; but by their age alone they fill no journal, since one of them would stop all writes after some days.

    Args:
        journal: Asked only where its age is too great and rows are refused.
        tenant: Whose rows.
        facts: What waits, counted at least up to the bound.
        refused: How many changes the mirror refuses.
        bounds: The bound.
        now: Aware time.

    Raises:
        StoreError: The journal could not answer.
    """
    reason = excess(facts, bounds, now)
    if reason is None or not refused or facts.depth >= bounds.rows:
        return reason
    before, limit = version_at(now - bounds.age), refused + 1
    while True:
        found = await journal.pending(facts.target, tenant, limit, before=before)
        if len({(one.owner, one.number) for one in found}) > refused:
            return reason
        if len(found) < limit:
            return None
        limit *= 2  # of a change with several rows all are found

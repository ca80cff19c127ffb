"""What stores keep about the cache in front of them: the row by which all processes agree whether it may be used."""

from __future__ import annotations

from typing import Final

from gateway.records.kind import KindSpec, Record, Shape
from gateway.records.types import Count, Text, Time

__all__ = ["CACHE_EPOCHS", "CacheEpoch"]


class CacheEpoch(Record):
    """Whether a cache may be used, for everybody who reads or writes the store.

    Attributes:
        cache: Which cache; a store has one.
        state: `closed` (nobody uses it), `opening` (writers announce their writes to it) or `open` (it is read, too).
        epoch: A name for the entries of this opening, never used twice; empty before the first.
        incarnation: Which life of which server holds them.
        permit_ms: For how long after looking at this row a process may use the cache, in milliseconds.
        fence_ms: For how long an announced write may last, in milliseconds.
        changed_by: Who wrote this row last: process and host.
        reason: Why.
        changed_at: When, by the clock of whoever did.
    """

    cache: Text
    state: Text
    epoch: Text
    incarnation: Text
    permit_ms: Count
    fence_ms: Count
    changed_by: Text
    reason: Text
    changed_at: Time


CACHE_EPOCHS: Final = KindSpec(
    "cache_epochs", CacheEpoch, key=("cache",), shape=Shape.STATE, schema="supporting", local=True
)

"""Counters: plain integers, since everything that happens often is counted."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["Counters"]


@dataclass(slots=True)
class Counters:
    """Plain integers that only ever grow, one set a gateway.

    Attributes:
        batches: Batches handed to stores.
        rows_written: Rows in them.
        reads: Calls that read.
        write_failures: Batches that a store refused.
        mirror_failures: Writes that the primary has and a mirror has not.
        superseded: Rows that lost against a newer one.
        shadow_match: Comparisons that found both stores alike.
        shadow_lagging: Comparisons that found one behind, and then in step.
        shadow_diverged: Comparisons that found a difference which stays.
        shadow_unstable: Comparisons of reads to which the primary itself gives two answers.
        shadow_failed: Comparisons that a store could not answer.
        shadow_timed_out: Comparisons that a store did not answer in time.
        shadow_dropped: Sampled reads that were not compared because too many waited.
        alerts_failed: Divergences that a plugin was not told of, or that it failed at.
        divergences_dropped: Divergences that are not listed any more, or never were, for want of room.
        control_lost: Looks at the control store that failed.
        plan_changes: Plans taken over from the control store.
        cache_hits: Reads that the cache answered.
        cache_misses: Reads of cached kinds that the store answered, for whatever reason.
        cache_waits: Those of them that found somebody else filling the entry.
        cache_fenced: Those of them that found the entry being written, or too young.
        cache_skipped: Those of them that did not ask, since hardly any had been answered lately.
        cache_fills: Rows that readers put into the cache.
        cache_fills_refused: Rows that a reader wanted to put there, and that may have been out of date.
        cache_written: Rows that writers put into the cache.
        cache_too_large: Rows that were too large for it.
        cache_dropped: Fills and ends of writes that were left out because too many waited.
        cache_errors: Calls to the cache, or looks at its epoch, that failed.
        cache_closings: How often this process closed the cache for everybody.
        cache_closed_seconds: For how long it could not read from the cache, in whole seconds.
        queue_refused: Calls that a full queue or buffer refused.
        journal_refused: Calls that a full journal refused.
    """

    batches: int = 0
    rows_written: int = 0
    reads: int = 0
    write_failures: int = 0
    mirror_failures: int = 0
    superseded: int = 0
    shadow_match: int = 0
    shadow_lagging: int = 0
    shadow_diverged: int = 0
    shadow_unstable: int = 0
    shadow_failed: int = 0
    shadow_timed_out: int = 0
    shadow_dropped: int = 0
    alerts_failed: int = 0
    divergences_dropped: int = 0
    control_lost: int = 0
    plan_changes: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    cache_waits: int = 0
    cache_fenced: int = 0
    cache_skipped: int = 0
    cache_fills: int = 0
    cache_fills_refused: int = 0
    cache_written: int = 0
    cache_too_large: int = 0
    cache_dropped: int = 0
    cache_errors: int = 0
    cache_closings: int = 0
    cache_closed_seconds: int = 0
    queue_refused: int = 0
    journal_refused: int = 0

    def snapshot(self) -> dict[str, int]:
        """Return all of them by name, JSON-ready."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

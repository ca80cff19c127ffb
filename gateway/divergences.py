"""Divergences: differences between two stores that stayed, kept where another process can list them.

They are kept in the control store, one entry for each key, set of fields and pair of stores, however often
it is found. Finding one costs the caller nothing: it goes into a bounded buffer, which is written in a
thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import xxhash

from gateway.compare import FieldDifference, Outcome, RowComparison
from gateway.errors import ConfigurationError
from gateway.migration.control_file import ControlFile
from gateway.records.codec import from_micros, to_micros
from gateway.records.digest import canonical_bytes
from gateway.records.row import Key
from gateway.telemetry import Counters, divergence_span

__all__ = ["Divergence", "DivergenceLog", "divergence_of"]

_log: Final = logging.getLogger(__name__)
_DROPPED: Final = "divergences_dropped"


@dataclass(frozen=True, slots=True)
class Divergence:
    """A difference between two stores that time does not explain. Everything in it is fit to be shown.

    Attributes:
        identity: Equal for the same key, fields and stores; a hash, so that it tells nothing of a private
            key.
        kind: Name of the record kind.
        key: The key, private fields redacted.
        outcome: Always `diverged` for what is kept.
        reason: Why the rows are not in step.
        differences: The fields that differ, with both values.
        versions: Version in the primary and in the shadow; None where there is no row.
        primary: Instance name of the store that answered the bot.
        shadow: Instance name of the store it was compared with.
        first_seen: When it was found first, in UTC.
        last_seen: When it was found last, in UTC.
        count: How often.
    """

    identity: str
    kind: str
    key: Key
    outcome: Outcome
    reason: str
    differences: tuple[FieldDifference, ...]
    versions: tuple[int | None, int | None]
    primary: str
    shadow: str
    first_seen: datetime
    last_seen: datetime
    count: int = 1


def divergence_of(found: RowComparison, *, tenant: str, primary: str, shadow: str) -> Divergence:
    """Return the divergence that a comparison found, the primary's row on its left, seen now."""
    now = datetime.now(UTC)
    named = (*sorted(found.fields), primary, shadow)
    marks = canonical_bytes(found.kind.name, tenant, 0, False, (*found.key, *named))
    return Divergence(
        identity=xxhash.xxh3_128_hexdigest(marks),
        kind=found.kind.name,
        key=found.shown_key,
        outcome=Outcome.DIVERGED,
        reason=found.reason.value if found.reason else "listed in another order",
        differences=found.differences,
        versions=(found.left_version, found.right_version),
        primary=primary,
        shadow=shadow,
        first_seen=now,
        last_seen=now,
    )


class DivergenceLog:
    """Keeps divergences, bounded, and lists them.

    Args:
        file: The control store's file.
        kept: How many are kept; beyond that the ones not seen for longest go, and are counted.
        buffered: How many different ones wait in memory to be written.
        interval: Seconds to gather before writing.
        counters: Where those are counted that there was no room for.
    """

    def __init__(
        self,
        file: ControlFile,
        *,
        kept: int = 10_000,
        buffered: int = 1_000,
        interval: float = 0.2,
        counters: Counters | None = None,
    ) -> None:
        self._file = file
        self._kept = kept
        self._buffered = buffered
        self._interval = interval
        self._counters = counters or Counters()
        self._waiting: dict[str, Divergence] = {}
        self._writer: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._complained = False

    def __repr__(self) -> str:
        return f"<DivergenceLog {self._file.path} waiting={len(self._waiting)}>"

    def record(self, divergence: Divergence) -> None:
        """Take note of a divergence; it is traced now and written soon. Does not wait and does not raise."""
        divergence_span(
            divergence.kind,
            divergence.key,
            reason=divergence.reason,
            fields=[one.field for one in divergence.differences],
            versions=divergence.versions,
            stores=(divergence.primary, divergence.shadow),
        )
        self._buffer(divergence)
        if self._writer is None and self._waiting:
            self._writer = asyncio.get_running_loop().create_task(
                self._write_soon(), name="gateway-divergences"
            )

    def _buffer(self, found: Divergence) -> None:
        known = self._waiting.get(found.identity)
        if known is None and len(self._waiting) >= self._buffered:
            self._counters.divergences_dropped += found.count
        else:
            self._waiting[found.identity] = found if known is None else _joined(known, found)

    async def _write_soon(self) -> None:
        """Write after a while, and again for as long as there is something and it can be written."""
        written = True
        while self._waiting and written:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), self._interval)
            written = await self.flush()
        self._writer = None

    async def flush(self) -> bool:
        """Write what waits, and return whether that worked. If not, it is tried again with the next one."""
        batch, self._waiting = self._waiting, {}
        if not batch:
            return True
        try:
            await asyncio.to_thread(self._save, list(batch.values()))
        except ConfigurationError as error:
            for divergence in batch.values():
                self._buffer(divergence)
            self._complain(error)
            return False
        return True

    def _complain(self, error: ConfigurationError) -> None:
        if not self._complained:
            self._complained = True
            _log.warning("divergences wait in memory, at most %d of them: %s", self._buffered, error)

    async def aclose(self) -> None:
        """Write what waits and stop."""
        self._closing.set()
        if self._writer is not None:
            await self._writer
        await self.flush()

    def listed(self, limit: int = 100, *, kind: str | None = None) -> tuple[Divergence, ...]:
        """Return what is kept, the last seen first. Reads the file; call it in a thread from an event loop.

        Raises:
            ConfigurationError: The control store cannot be read.
        """
        with self._file.reading() as connection:
            if connection is None:
                return ()
            rows = connection.execute(
                "SELECT body FROM divergences WHERE ?1 IS NULL OR json_extract(body, '$.kind') = ?1 "
                "ORDER BY last_seen DESC, identity LIMIT ?2",
                (kind, limit),
            )
            return tuple(_from_json(body) for (body,) in rows)

    def dropped(self) -> int:
        """Return how many kept ones had to go, over all processes, for want of room.

        Raises:
            ConfigurationError: The control store cannot be read.
        """
        with self._file.reading() as connection:
            if connection is None:
                return 0
            row = connection.execute("SELECT value FROM tallies WHERE name = ?", (_DROPPED,)).fetchone()
            return int(row[0]) if row else 0

    def clear(self) -> int:
        """Forget all that is kept, as after a repair; returns how many.

        Raises:
            ConfigurationError: The control store cannot be written.
        """
        with self._file.writing() as connection:
            return connection.execute("DELETE FROM divergences").rowcount

    def _save(self, batch: Iterable[Divergence]) -> None:
        """Join the batch with what is kept, and let the oldest go; runs in a thread."""
        with self._file.writing() as connection:
            for divergence in batch:
                _upsert(connection, divergence)
            (total,) = connection.execute("SELECT count(*) FROM divergences").fetchone()
            gone = max(0, total - self._kept)
            if gone:
                _drop_oldest(connection, gone)
        self._counters.divergences_dropped += gone
        self._complained = False


def _joined(known: Divergence, found: Divergence) -> Divergence:
    """Return one entry for both: the newer one's values, the older one's beginning, and both counts."""
    first = min(known.first_seen, found.first_seen)
    latest = found if found.last_seen >= known.last_seen else known
    return replace(latest, first_seen=first, count=known.count + found.count)


def _upsert(connection: sqlite3.Connection, found: Divergence) -> None:
    row = connection.execute("SELECT body FROM divergences WHERE identity = ?", (found.identity,)).fetchone()
    entry = found if row is None else _joined(_from_json(row[0]), found)
    connection.execute(
        "INSERT OR REPLACE INTO divergences VALUES (?, ?, ?)",
        (entry.identity, to_micros(entry.last_seen), _to_json(entry)),
    )


def _drop_oldest(connection: sqlite3.Connection, count: int) -> None:
    connection.execute(
        "DELETE FROM divergences "
        "WHERE identity IN (SELECT identity FROM divergences ORDER BY last_seen LIMIT ?)",
        (count,),
    )
    connection.execute(
        "INSERT INTO tallies VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
        (_DROPPED, count),
    )


def _to_json(divergence: Divergence) -> str:
    body: dict[str, Any] = {name: getattr(divergence, name) for name in Divergence.__slots__}
    body["differences"] = [[one.field, one.left, one.right] for one in divergence.differences]
    body["first_seen"], body["last_seen"] = to_micros(divergence.first_seen), to_micros(divergence.last_seen)
    return json.dumps(body, ensure_ascii=False)


def _from_json(text: str) -> Divergence:
    body: dict[str, Any] = json.loads(text)
    body["key"] = tuple(body["key"])
    body["outcome"] = Outcome(body["outcome"])
    body["differences"] = tuple(FieldDifference(*one) for one in body["differences"])
    body["versions"] = tuple(body["versions"])
    body["first_seen"], body["last_seen"] = from_micros(body["first_seen"]), from_micros(body["last_seen"])
    return Divergence(**body)

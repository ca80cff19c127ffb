"""Which trace made a row: a bounded table of traced writes in the control store, for whoever finds a divergence.

A divergence is found long after the write, mostly by another process, and its span is linked to the write's trace. Only
writes that are traced come here, and only those that go on to a mirror; they are gathered and written in a thread, so
that no caller waits. Keys are kept as hashes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple

from gateway.backend import Group, Step
from gateway.compare import shown_key
from gateway.divergences.divergence import Divergence
from gateway.errors import ConfigurationError
from gateway.migration.control_file import ControlFile
from gateway.records.digest import digest_of
from gateway.records.row import Key, Row
from gateway.telemetry import divergence_span, traceparent, tracing

__all__ = ["WriteTraces", "traces_of"]

_log: Final = logging.getLogger(__name__)
_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS write_traces "
    "(id INTEGER PRIMARY KEY, mark INTEGER NOT NULL, trace TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS write_traces_marks ON write_traces (mark)",
)


class _Report(NamedTuple):
    """A divergence whose span is yet to be made, and the trace that it was found in."""

    divergence: Divergence
    found_in: str


class WriteTraces:
    """Keeps the traces of writes, and makes the spans of divergences. Nothing here waits for a file, or raises.

    Args:
        file: The control store's file.
        kept: Rows that are remembered, over all processes; the oldest go first.
        buffered: Rows, and divergences, that wait in memory; of rows that come when it is full the trace is not kept.
        interval: Seconds to gather before writing.
    """

    def __init__(
        self, file: ControlFile, *, kept: int = 100_000, buffered: int = 2_000, interval: float = 0.5
    ) -> None:
        self._file = file
        self._kept = kept
        self._buffered = buffered
        self._interval = interval
        self._rows: dict[int, str] = {}
        self._reports: list[_Report] = []
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def __repr__(self) -> str:
        return f"<WriteTraces {self._file.path} waiting={len(self._rows)}>"

    def note(self, steps: Sequence[Step], traces: Mapping[int, str]) -> None:
        """Take note of traced writes that a primary has committed; see `gateway.mirror.way.Traced`."""
        room = self._buffered - len(self._rows)
        rows = ((row, trace) for at, trace in traces.items() for row in _rows_of(steps[at]))
        for row, trace in islice(rows, max(room, 0)):
            self._rows[_mark(row.kind.name, shown_key(row.kind, row.key), row.version)] = trace
        self._start()

    def report(self, divergence: Divergence) -> None:
        """Make the span of a divergence, soon, linked to the traces of the writes and of what found it."""
        if not tracing():
            return
        if len(self._reports) < self._buffered:
            self._reports.append(_Report(divergence, traceparent()))
            self._start()
        else:
            _make_span(divergence, (traceparent(),))

    def _start(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="gateway-write-traces")

    async def _run(self) -> None:
        try:
            while self._rows or self._reports:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), self._interval)
                await self._flush()
        finally:
            self._task = None

    async def _flush(self) -> None:
        rows, self._rows = self._rows, {}
        reports, self._reports = self._reports, []
        wanted = {mark for report in reports for mark in _marks(report.divergence)}
        known: dict[int, str] = {}
        try:
            known = await asyncio.to_thread(self._exchange, rows, wanted)
        except ConfigurationError as error:
            _log.debug("traces of %d writes are lost: %s", len(rows), error)
        for report in reports:
            links = [known.get(mark, "") for mark in _marks(report.divergence)]
            _make_span(report.divergence, (*links, report.found_in))

    def _exchange(self, rows: Mapping[int, str], wanted: set[int]) -> dict[int, str]:
        """Write some traces and look up others, in a thread.

        Raises:
            ConfigurationError: The control store cannot be used.
        """
        if rows:
            with self._file.writing() as connection:
                for statement in _TABLE:
                    connection.execute(statement)
                connection.executemany("INSERT INTO write_traces (mark, trace) VALUES (?, ?)", rows.items())
                connection.execute(
                    "DELETE FROM write_traces WHERE id <= (SELECT max(id) FROM write_traces) - ?",
                    (self._kept,),
                )
        return _found(self._file, wanted) if wanted else {}

    async def aclose(self) -> None:
        """Write what waits, and stop."""
        self._closing.set()
        if self._task is not None:
            await self._task


def traces_of(file: ControlFile, divergence: Divergence) -> dict[str, str]:
    """Return the `traceparent` of the writes that made the rows, by store, as far as they were traced and are kept.

    Args:
        file: The control store's file, which is read: call this in a thread from an event loop.
        divergence: Whose rows.

    Raises:
        ConfigurationError: The control store cannot be read.
    """
    held = zip((divergence.primary, divergence.shadow), divergence.versions, strict=True)
    marks = {
        store: _mark(divergence.kind, divergence.key, version)
        for store, version in held
        if version is not None
    }
    known = _found(file, set(marks.values()))
    return {store: known[mark] for store, mark in marks.items() if mark in known}


def _found(file: ControlFile, wanted: set[int]) -> dict[int, str]:
    with file.reading() as connection:
        if connection is None or not _has_table(connection):
            return {}
        query = "SELECT trace FROM write_traces WHERE mark = ? ORDER BY id DESC LIMIT 1"
        found = ((mark, connection.execute(query, (mark,)).fetchone()) for mark in wanted)
        return {mark: row[0] for mark, row in found if row is not None}


def _rows_of(step: Step) -> Iterator[Row]:
    if isinstance(step, Row):
        yield step
    elif isinstance(step, Group):
        yield from step.rows


def _has_table(connection: sqlite3.Connection) -> bool:
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'write_traces'").fetchone()
    return found is not None


def _mark(kind: str, key: Key, version: int) -> int:
    """Return what a row is known by: a hash that tells nothing of a private key, which is redacted before."""
    return digest_of(kind, "", version, False, key)


def _marks(divergence: Divergence) -> list[int]:
    versions = dict.fromkeys(version for version in divergence.versions if version is not None)
    return [_mark(divergence.kind, divergence.key, version) for version in versions]


def _make_span(divergence: Divergence, links: Sequence[str]) -> None:
    # Why a mirror refuses a row may quote what is in it.
    refused = divergence.subject == "refusal"
    divergence_span(
        divergence.kind,
        divergence.key,
        identity=divergence.identity,
        reason="refused by the mirror" if refused else divergence.reason,
        fields=[one.field for one in divergence.differences],
        versions=divergence.versions,
        stores=(divergence.primary, divergence.shadow),
        links=links,
    )

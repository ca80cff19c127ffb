"""Appending to logs: one write and one fsync a file and batch, undone as a whole if one of them fails."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from gateway.errors import WriteRejectedError
from gateway.records.kind import KindSpec
from gateway.records.row import Row
from gateway_json.documents import marker_line, row_line
from gateway_json.files import Appended, Disk
from gateway_json.index import Change, Entry, LogIndex
from gateway_json.names import day_of
from gateway_json.pending import Moved
from gateway_json.recovery import Recovery
from gateway_json.tree import Tree
from gateway_json.views import ViewCache

__all__ = ["Appends", "day_of_row"]


def day_of_row(row: Row) -> str:
    """Return the day whose file a log row belongs in.

    Raises:
        WriteRejectedError: It has no time, or one beyond the calendar.
    """
    time = row.values[row.kind.index(row.kind.time_field or "")]
    if not isinstance(time, int):
        raise WriteRejectedError(
            f"{row.kind.name}: the row {row.values[0]} has no {row.kind.time_field}, by which logs are "
            "filed; give it one"
        )
    try:
        return day_of(time)
    except ValueError as error:
        raise WriteRejectedError(
            f"{row.kind.name}: the row {row.values[0]} cannot be filed by day: {error}"
        ) from error


class _Part:
    """What one day's file gets."""

    __slots__ = ("day", "kind", "lines", "rows", "scope")

    def __init__(self, kind: KindSpec, scope: Path, day: str) -> None:
        self.kind = kind
        self.scope = scope
        self.day = day
        self.rows: list[Row] = []
        self.lines: list[bytes] = []

    @property
    def path(self) -> Path:
        """The file."""
        return self.scope / f"{self.day}.jsonl"

    def change(self, result: Appended) -> Change:
        """Return where the rows are after an append."""
        start, found = result.start, dict[str, Entry]()
        for row, line in zip(self.rows, self.lines, strict=False):
            found[str(row.values[0])] = Entry(row.version, row.digest, self.day, start)
            start += len(line)
        return Change(self.scope, self.day, found, result.size, result.mtime_ns)


class Appends:
    """Appends rows to their days' files and notes them in the index.

    Args:
        tree: Where the files lie.
        disk: How to write to them.
        index: Told of every row.
        recovery: Mends a file whose last line was torn while the store was open.
        views: Told which files change.
    """

    def __init__(self, tree: Tree, disk: Disk, index: LogIndex, recovery: Recovery, views: ViewCache) -> None:
        self._tree = tree
        self._disk = disk
        self._index = index
        self._recovery = recovery
        self._views = views

    def append(self, rows: Iterable[Row], moves: Iterable[Moved]) -> None:
        """Append rows, then the markers of those that moved here from another day: all of it, or nothing.

        A row is never hidden before its new version is on the disk.
        """
        parts = self._parts(rows, moves)
        done: list[Appended] = []
        try:
            for part in parts:
                self._ready(part)
                done.append(self._disk.append(part.path, b"".join(part.lines)))
            self._index.record([part.change(result) for part, result in zip(parts, done, strict=True)])
        except BaseException:
            self._undo(done)
            raise
        finally:
            for part in parts:
                self._views.forget(part.path)

    def expect(self, rows: Iterable[Row]) -> None:
        """Make sure that the index knows the rows' days as they are now, should a person have edited them."""
        scopes = {(row.kind, self._tree.scope(row.kind, row.tenant), day_of_row(row)) for row in rows}
        for kind, scope, day in scopes:
            self._refresh(kind, scope, day)

    def _parts(self, rows: Iterable[Row], moves: Iterable[Moved]) -> Sequence[_Part]:
        parts: dict[tuple[Path, str], _Part] = {}
        for row in rows:
            part = self._part(parts, row.kind, row.tenant, day_of_row(row))
            part.rows.append(row)
            part.lines.append(row_line(row))
        for move in moves:
            self._part(parts, move.kind, move.tenant, move.day).lines.append(marker_line(move.marker))
        return list(parts.values())

    def _part(self, parts: dict[tuple[Path, str], _Part], kind: KindSpec, tenant: str, day: str) -> _Part:
        scope = self._tree.scope(kind, tenant)
        return parts.setdefault((scope, day), _Part(kind, scope, day))

    def _ready(self, part: _Part) -> None:
        """Make sure that a file ends with a whole line and that the index knows it as it is."""
        self._disk.make_dir(self._tree.root, part.scope)
        if part.path.exists():
            self._recovery.mend_tail(part.kind, part.path)
        self._refresh(part.kind, part.scope, part.day)

    def _refresh(self, kind: KindSpec, scope: Path, day: str) -> None:
        known = self._index.known(scope, day)
        if (scope / f"{day}.jsonl").exists():
            self._index.refresh(kind, scope, day, known)
        elif known is not None:
            self._index.forget(scope, [day])

    def _undo(self, done: Iterable[Appended]) -> None:
        for result in done:
            # The error that brought us here is the one to report; a line that stays is a row that nobody was
            # told of.
            with contextlib.suppress(OSError):
                self._disk.truncate(result.path, result.start)

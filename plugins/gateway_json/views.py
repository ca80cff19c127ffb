"""Views of one day's file: which lines are the current rows, in listing order, without holding the rows.

A file may hold a row several times, since retries and corrections append. Per record id the line with the
greatest (version, digest) counts. A view costs 25 bytes a row; building it takes one pass over the file, and
it is kept, as far as the cache's bound allows, until the file changes.
"""

from __future__ import annotations

import os
import threading
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import msgspec

from gateway.records.codec import from_micros
from gateway.records.kind import KindSpec
from gateway_json.documents import parse_stamp, parse_time, unreadable
from gateway_json.names import day_of

__all__ = ["Line", "View", "ViewCache", "is_line", "lines_of"]

_CACHED_ROWS: Final = 2_000_000
_CACHED_FILES: Final = 64


class Line(NamedTuple):
    """What a line says about its row.

    Attributes:
        record_id: Which row.
        stamp: Version and digest.
        time: The row's time field, in microseconds; 0 for a marker.
        offset: Where the line starts, in bytes.
        deleted: Whether it is a tombstone.
        moved: The day that the row moved to, if the line is a marker.
    """

    record_id: str
    stamp: tuple[int, int]
    time: int
    offset: int
    deleted: bool
    moved: str | None


@dataclass(frozen=True, slots=True)
class View:
    """The current rows of one file, ordered by time and record id; parallel columns."""

    times: array[int] = field(default_factory=lambda: array("q"))
    offsets: array[int] = field(default_factory=lambda: array("q"))
    digests: array[int] = field(default_factory=lambda: array("q"))
    deleted: bytearray = field(default_factory=bytearray)

    def __len__(self) -> int:
        return len(self.times)

    def add(self, line: Line) -> None:
        """Append a row that follows all others in order."""
        self.times.append(line.time)
        self.offsets.append(line.offset)
        self.digests.append(line.stamp[1])
        self.deleted.append(line.deleted)

    def between(self, low: int | None, high: int | None) -> range:
        """Return the places of rows whose time lies in a span of microseconds, both ends included."""
        start = 0 if low is None else bisect_left(self.times, low)
        stop = len(self) if high is None else bisect_right(self.times, high)
        return range(start, stop)


class ViewCache:
    """Keeps the views used last: at most 2,000,000 rows (50 MB) in 64 files.

    A view is used only while its file is the same.
    """

    def __init__(self) -> None:
        self._views: OrderedDict[Path, tuple[tuple[int, ...], View]] = OrderedDict()
        self._rows = 0
        self._lock = threading.Lock()

    def view(self, path: Path, file: BinaryIO, kind: KindSpec) -> View:
        """Return the view of an open file.

        Raises:
            StoreCorruptError: A line is damaged, or lies in the wrong day's file; the message names file and
                line.
        """
        state = os.fstat(file.fileno())
        identity = (state.st_ino, state.st_size, state.st_mtime_ns)
        with self._lock:
            held = self._views.get(path)
            if held is not None and held[0] == identity:
                self._views.move_to_end(path)
                return held[1]
        view = _build(path, file, kind, state.st_size)
        self._keep(path, identity, view)
        return view

    def forget(self, path: Path) -> None:
        """Drop a view whose file is being written."""
        with self._lock:
            self._drop(path)

    def _keep(self, path: Path, identity: tuple[int, ...], view: View) -> None:
        with self._lock:
            self._drop(path)
            self._views[path] = (identity, view)
            self._rows += len(view)
            while self._rows > _CACHED_ROWS or len(self._views) > _CACHED_FILES:
                self._drop(next(iter(self._views)))

    def _drop(self, path: Path) -> None:
        _, view = self._views.pop(path, (None, None))
        self._rows -= len(view) if view is not None else 0


def _build(path: Path, file: BinaryIO, kind: KindSpec, size: int) -> View:
    current: dict[str, Line] = {}
    for line in lines_of(path, file, kind, size):
        held = current.get(line.record_id)
        if held is None or line.stamp > held.stamp:
            current[line.record_id] = line
    view = View()
    rows = [line for line in current.values() if line.moved is None]
    rows.sort(key=lambda line: (line.time, line.record_id))
    for line in rows:
        view.add(line)
    return view


def lines_of(path: Path, file: BinaryIO, kind: KindSpec, size: int) -> Iterator[Line]:
    """Yield what each whole line within the first `size` bytes of a file says.

    A last line without its newline is being written, or was torn by a crash; it was never acknowledged.

    Raises:
        StoreCorruptError: A line is damaged, or its time is of another day.
    """
    day, decoder, offset = path.name.removesuffix(".jsonl"), _decoder(kind), 0
    file.seek(0)
    for number, data in enumerate(file, start=1):
        if offset >= size or not data.endswith(b"\n"):
            return
        try:
            if not data.isspace():  # an editor may leave an empty line behind
                yield _line(decoder.decode(data), day, offset)
        except (ValueError, OverflowError) as error:
            raise unreadable(kind, f"{path} line {number}", error) from error
        offset += len(data)


def is_line(path: Path, kind: KindSpec, data: bytes) -> bool:
    """Tell whether bytes are a whole line of a day's file that lacks nothing but its newline."""
    try:
        _line(_decoder(kind).decode(data), path.name.removesuffix(".jsonl"), 0)
    except (ValueError, OverflowError):
        return False
    return True


def _line(held: _Lean, day: str, offset: int) -> Line:
    stamp = parse_stamp(held.version, held.digest)
    if held.moved is not None:
        return Line(held.record_id, stamp, 0, offset, deleted=False, moved=held.moved)
    time = parse_time(held.time)
    if day_of(time) != day:
        raise ValueError(
            f"its time {from_micros(time)} is of another day; move the line to {day_of(time)}.jsonl"
        )
    return Line(held.record_id, stamp, time, offset, held.deleted, None)


class _Lean(msgspec.Struct):
    """The gateway's columns of a line, and its time, whose name each kind adds."""

    record_id: str
    version: str | int = msgspec.field(name="_version")
    digest: str | int = msgspec.field(name="_digest")
    deleted: bool = msgspec.field(name="_deleted", default=False)
    moved: str | None = msgspec.field(name="_moved", default=None)
    time: str | int | None = None


@lru_cache(maxsize=512)
def _decoder(kind: KindSpec) -> msgspec.json.Decoder[_Lean]:
    """Return a decoder of just what chooses and orders rows, several times faster than decoding all."""
    time: Any = msgspec.field(name=kind.time_field, default=None)
    fields: list[tuple[str, Any, Any]] = [("time", str | int | None, time)]
    lean: Any = msgspec.defstruct("Line", fields, bases=(_Lean,))
    return msgspec.json.Decoder(lean)

"""Legacy sources: formats of older systems that `gateway import` can bring in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from gateway.records.kind import Record

__all__ = ["LegacyItem", "LegacySource"]


@dataclass(frozen=True, slots=True)
class LegacyItem:
    """One thing found in a legacy source: a record, or why it is none.

    Attributes:
        origin: File name, and where in it, for the report.
        record: The record, complete with a stable `record_id` if it belongs to a log; None if it cannot be read.
        at: When the legacy system wrote it. Its version is made from this, so every live write wins against it.
        problem: Why there is no record.
    """

    origin: str
    record: Record | None = None
    at: datetime | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class LegacySource:
    """A format that can be imported. Reading it never changes it.

    Attributes:
        name: As written on the command line.
        summary: One line for `gateway import --help`.
        read: Yields every item found under a path; raises `InvalidRecordError` if the path is not such a source.
    """

    name: str
    summary: str
    read: Callable[[Path], Iterator[LegacyItem]]

"""The edge: the driver's errors become the gateway's, so that bots need to know one family only."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.errors import (
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
)

__all__ = ["translated"]

_BY_CODE: dict[int, tuple[type[StoreError], str]] = {
    sqlite3.SQLITE_BUSY: (
        StoreBusyError,
        "another process kept writing; try again, or raise the busy timeout",
    ),
    sqlite3.SQLITE_LOCKED: (StoreBusyError, "another connection kept writing; try again"),
    sqlite3.SQLITE_FULL: (StoreFullError, "the disk is full; nothing was written"),
    sqlite3.SQLITE_READONLY: (StoreReadOnlyError, "the file may not be written; check its permissions"),
    sqlite3.SQLITE_CANTOPEN: (
        StoreUnavailableError,
        "the file cannot be opened; check that its directory exists",
    ),
    sqlite3.SQLITE_CORRUPT: (
        StoreCorruptError,
        "the file is damaged; restore a backup, it was left as it is",
    ),
    sqlite3.SQLITE_NOTADB: (StoreCorruptError, "the file is no such store; it was left as it is"),
}
_OTHERS = (StoreUnavailableError, "the store does not answer")


@contextmanager
def translated(instance: str) -> Iterator[None]:
    """Raise the driver's errors as the gateway's, with the driver's own words behind ours."""
    try:
        yield
    except sqlite3.Error as error:
        # Extended codes keep the primary one in their lowest byte.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        kind, sentence = _BY_CODE.get(code, _OTHERS)
        raise kind(f"{sentence} ({error})", backend=instance) from error

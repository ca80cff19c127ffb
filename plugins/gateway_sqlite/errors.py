"""SQLite's errors as the gateway's: what they mean, and what to do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from gateway.errors import (
    SchemaError,
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
    WriteRejectedError,
)

__all__ = ["translate", "translated"]

_BUSY: Final = (
    StoreBusyError,
    "another process held the file for longer than the busy timeout; nothing was written. Try again, raise "
    "STORAGE_SQLITE_BUSY_TIMEOUT, or look for a process that keeps a transaction open",
)
_FULL: Final = (
    StoreFullError,
    "the disk is full; nothing was written and nothing stored was touched. Free space, then try again",
)
_READ_ONLY: Final = (
    StoreReadOnlyError,
    "the file may not be written by this process; check the owner and the permissions of the file and its "
    "directory (SQLite writes two more files beside it)",
)
_CORRUPT: Final = (
    StoreCorruptError,
    "the file is damaged or is no SQLite database; it was left as it is. Restore a backup, or save what can "
    "be read with `sqlite3 FILE .recover`",
)
_REJECTED: Final = (WriteRejectedError, "the store refuses this row, and sending it again cannot help")
_UNAVAILABLE: Final = (
    StoreUnavailableError,
    "the file cannot be read or written now; check that its disk is there and in order",
)
_MOVED: Final = (
    StoreUnavailableError,
    "the file was moved or deleted while it was open; put it back and reopen",
)
_SCHEMA: Final = (SchemaError, "the tables are not those this gateway needs; run `gateway schema upgrade`")

_BY_CODE: Final[dict[int, tuple[type[StoreError], str]]] = {
    sqlite3.SQLITE_ERROR: _SCHEMA,
    sqlite3.SQLITE_SCHEMA: _SCHEMA,
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_PROTOCOL: _BUSY,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_AUTH: _READ_ONLY,
    sqlite3.SQLITE_CORRUPT: _CORRUPT,
    sqlite3.SQLITE_NOTADB: _CORRUPT,
    sqlite3.SQLITE_FORMAT: _CORRUPT,
    sqlite3.SQLITE_CONSTRAINT: _REJECTED,
    sqlite3.SQLITE_TOOBIG: _REJECTED,
    sqlite3.SQLITE_MISMATCH: _REJECTED,
    sqlite3.SQLITE_RANGE: _REJECTED,
}
_BY_EXTENDED_CODE: Final[dict[int, tuple[type[StoreError], str]]] = {
    sqlite3.SQLITE_READONLY_DBMOVED: _MOVED,
    # The shared-memory file beside the database could not grow, which a full disk does too.
    sqlite3.SQLITE_IOERR_SHMSIZE: _FULL,
}


def translate(error: sqlite3.Error, backend: str) -> StoreError:
    """Return the gateway's error for one of SQLite's; raise it `from` the original."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return _without_code(error, backend)
    kind, advice = _BY_EXTENDED_CODE.get(code) or _BY_CODE.get(code & 0xFF) or _UNAVAILABLE
    return kind(f"{advice} (SQLite says: {error}, {error.sqlite_errorname})", backend=backend)


def _without_code(error: sqlite3.Error, backend: str) -> StoreError:
    """Translate what the driver raises itself, without asking SQLite."""
    if isinstance(error, (sqlite3.DataError, sqlite3.InterfaceError, sqlite3.NotSupportedError)):
        return WriteRejectedError(f"{_REJECTED[1]} (the driver says: {error})", backend=backend)
    if isinstance(error, sqlite3.OperationalError):
        # "Could not decode to UTF-8 column": the bytes on disk are not the text that was stored.
        return StoreCorruptError(f"{_CORRUPT[1]} (the driver says: {error})", backend=backend)
    return StoreUnavailableError(f"the store is closed or broken (the driver says: {error})", backend=backend)


@contextmanager
def translated(backend: str) -> Iterator[None]:
    """Turn SQLite's errors inside into the gateway's, with the backend's name on them."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, backend) from error

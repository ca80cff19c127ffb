"""A look at the file before anything is touched: is it a store of ours, and does it need an upgrade?

It reads the revision and the fingerprints of the kinds with the driver alone; importing SQLAlchemy and
Alembic costs more than everything else in opening, and is only needed when there is something to upgrade.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from gateway.errors import StoreUnavailableError
from gateway.records.kind import KindSpec
from gateway.sql.fingerprints import fingerprint_of
from gateway.sql.migrations import HEAD, refuse_newer
from gateway_sqlite.connection import connect
from gateway_sqlite.errors import translated
from gateway_sqlite.files import log_of

Found = tuple[str | None, dict[str, str]]
"""Revision of the schema, and the fingerprint each kind's table was made for."""

_LOG_MODE: Final = b"\x02\x02"
"""Bytes 18 and 19 of a file in log mode; see "The Database Header" in SQLite's file format."""

__all__ = ["connect_to_look", "missing_from"]

_TABLES: Final = "SELECT name FROM sqlite_master WHERE name IN ('alembic_version', 'gateway_kinds')"


def connect_to_look(path: Path, busy_timeout: float) -> sqlite3.Connection:
    """Open a file that must be there, to read and never to write it.

    Raises:
        StoreUnavailableError: There is no such file.
        sqlite3.Error: It cannot be opened.
    """
    if not path.is_file():
        raise StoreUnavailableError(
            f"there is no store at {path}; check the path, or let a bot create it first"
        )
    # In a directory that cannot be written SQLite cannot share the file with writers. With no log beside it
    # there are none, and the file can be read as it is: a backup on a read-only disk, for instance.
    alone = not os.access(path.parent, os.W_OK) and not log_of(path).exists()
    return connect(path, "ro&immutable=1" if alone else "ro", busy_timeout)


def missing_from(path: Path, kinds: Sequence[KindSpec], busy_timeout: float, backend: str) -> str | None:
    """Return what the file's schema lacks, as a phrase, or None if it is the one these kinds need.

    Raises:
        SchemaTooNewError: A newer gateway made the schema.
        StoreCorruptError: The file is damaged or is something else.
        StoreError: It cannot be read.
    """
    with translated(backend):
        revision, known = _glance(path) or _look(connect_to_look(path, busy_timeout))
    refuse_newer(revision, backend)
    if revision != HEAD:
        return "it has no schema yet" if revision is None else f"it is at revision {revision}, not {HEAD}"
    changed = [kind.name for kind in kinds if known.get(kind.name) != fingerprint_of(kind)]
    return f"its tables are not up to date for {', '.join(changed)}" if changed else None


def _glance(path: Path) -> Found | None:
    """Read a file that nobody has open without leaving a trace; None if that cannot be done.

    Looking at a file with a write-ahead log makes SQLite create the log, and a connection that may not write
    cannot remove it again. Without a log beside it the file is complete and changes only after one appeared, so
    it is read as it is, and counts if nothing changed meanwhile.
    """
    before = _state(path)
    if before is None:
        return None
    try:
        found = _look(connect(path, "ro&immutable=1", 0))
    except sqlite3.Error:
        # Somebody was writing after all, or it is damaged: the look under locks that follows will tell.
        return None
    return found if _state(path) == before else None


def _state(path: Path) -> tuple[int, int] | None:
    """Return size and time of change of a file in log mode that nobody has open, None for any other."""
    if log_of(path).exists() or not path.is_file():
        return None
    with path.open("rb") as file:
        header = file.read(20)
    if not header.startswith(b"SQLite format 3\x00") or header[18:20] != _LOG_MODE:
        return None
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _look(connection: sqlite3.Connection) -> Found:
    """Read the revision and the fingerprints of the kinds, and close the connection."""
    with closing(connection):
        tables = {name for (name,) in connection.execute(_TABLES)}
        if "alembic_version" not in tables:
            return None, {}
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        revision = None if row is None else row[0]
        if "gateway_kinds" not in tables:
            return revision, {}
        return revision, dict(connection.execute("SELECT name, fingerprint FROM gateway_kinds").fetchall())

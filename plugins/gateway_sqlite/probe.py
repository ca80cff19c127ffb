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
    with translated(backend), closing(connect_to_look(path, busy_timeout)) as connection:
        tables = {name for (name,) in connection.execute(_TABLES)}
        if "alembic_version" not in tables:
            return "it has no schema yet"
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        revision = None if row is None else row[0]
        refuse_newer(revision, backend)
        if revision != HEAD or "gateway_kinds" not in tables:
            return f"it is at revision {revision or 'none'}, not {HEAD}"
        known = dict(connection.execute("SELECT name, fingerprint FROM gateway_kinds").fetchall())
    changed = [kind.name for kind in kinds if known.get(kind.name) != fingerprint_of(kind)]
    return f"its tables are not up to date for {', '.join(changed)}" if changed else None

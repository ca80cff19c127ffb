"""What a SQLite file says of itself, for `gateway doctor`."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any, Final

from gateway.backend import Health
from gateway_sqlite.files import log_of
from gateway_sqlite.settings import SqliteSettings

__all__ = ["INTEGRITY_BYTES", "Identity", "gone", "identity", "read_facts", "read_integrity"]

INTEGRITY_BYTES: Final = 256 * 1024 * 1024
"""Files up to this size are checked page by page when a store that was opened to be read is asked for its health."""

_PROBLEMS: Final = 5

Identity = tuple[int, int]
"""Device and inode: which file it is, whatever its name."""


def identity(path: Path) -> Identity | None:
    """Return which file is at a path now; None if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return (found.st_dev, found.st_ino)


def gone(path: Path) -> str:
    """Return the sentence for a file that is no longer the one that was opened."""
    return f"{path} was moved, deleted or replaced while it was open; put it back and reopen it"


def read_facts(
    connection: sqlite3.Connection,
    path: Path,
    opened: Identity | None,
    settings: SqliteSettings,
    *,
    check: bool,
) -> Health:
    """Return whether the file can be read and is the one that was opened, and facts about both.

    Args:
        connection: A reading connection.
        path: The file.
        opened: Which file was there when it was opened.
        settings: What it was opened with.
        check: Whether to read the whole file. A bot may ask for its health every second; a person asks once.
    """
    details = _facts(connection, path) | {"synchronous": settings.synchronous}
    if identity(path) != opened:
        return Health(ok=False, summary=gone(path), details=details)
    if check and path.stat().st_size <= INTEGRITY_BYTES:
        details["integrity"] = read_integrity(connection)
    if details.get("integrity", "ok") != "ok":
        return Health(
            ok=False,
            summary=f"the file is damaged: {details['integrity']}; restore a backup",
            details=details,
        )
    return Health(ok=True, summary=f"answers; {details['bytes']} bytes", details=details)


def read_integrity(connection: sqlite3.Connection) -> str:
    """Return `ok`, or what `PRAGMA quick_check` found. It reads the whole file."""
    found = [text for (text,) in connection.execute(f"PRAGMA quick_check({_PROBLEMS})")]
    return "; ".join(found)


def _facts(connection: sqlite3.Connection, path: Path) -> dict[str, Any]:
    def pragma(name: str) -> int | str:
        found: int | str = connection.execute(f"PRAGMA {name}").fetchone()[0]
        return found

    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    revision = None
    if "alembic_version" in tables:
        revision = connection.execute("SELECT max(version_num) FROM alembic_version").fetchone()[0]
    log = log_of(path)
    return {
        "path": str(path),
        "bytes": path.stat().st_size if path.exists() else 0,
        "pages": pragma("page_count"),
        "log_bytes": log.stat().st_size if log.exists() else 0,
        "free_pages": pragma("freelist_count"),
        "page_bytes": pragma("page_size"),
        "journal_mode": pragma("journal_mode"),
        "schema_revision": revision,
        "sqlite_version": sqlite3.sqlite_version,
        "writable": os.access(path, os.W_OK),
    }

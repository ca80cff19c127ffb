"""What a SQLite file says of itself, for `gateway doctor`."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from gateway.backend import Health

__all__ = ["read_facts"]


def read_facts(connection: sqlite3.Connection, path: Path, read_only: bool) -> Health:
    """Return facts."""
    connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    return Health(ok=True, summary="answers", details={"path": str(path), "read_only": read_only})

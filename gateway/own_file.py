"""Files of the gateway's own: small SQLite databases that several processes share, each with a form of its own."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import NamedTuple

__all__ = ["Form", "connect", "create", "found"]


class Form(NamedTuple):
    """What a file of one sort looks like.

    Attributes:
        application_id: Marks it as one of ours.
        version: Of its schema.
        schema: The statements that make it.
    """

    application_id: int
    version: int
    schema: tuple[str, ...]


def connect(path: Path, busy_timeout: float) -> sqlite3.Connection:
    """Open a file that is there, for any thread, in autocommit; what is committed outlives a loss of power.

    Args:
        path: The file. One that vanished since must not be made again by a mere look at it.
        busy_timeout: Seconds to wait for other processes.

    Raises:
        sqlite3.Error: It cannot be opened.
    """
    uri = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(
        uri, uri=True, timeout=busy_timeout, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA synchronous=FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def found(connection: sqlite3.Connection) -> tuple[int, int] | None:
    """Return the application id and the schema version of a file; None if nothing is in it."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (objects,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return None if objects == 0 and version == 0 else (int(application), int(version))


def create(connection: sqlite3.Connection, form: Form, busy_timeout: float) -> None:
    """Make the schema, once, whoever comes first.

    Raises:
        sqlite3.Error: It cannot be made, or others held the file for too long.
    """
    _enter_wal(connection, busy_timeout)
    connection.execute("BEGIN IMMEDIATE")
    if found(connection) is None:
        for statement in form.schema:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id={form.application_id}")
        connection.execute(f"PRAGMA user_version={form.version}")
    connection.execute("COMMIT")


def _enter_wal(connection: sqlite3.Connection, busy_timeout: float) -> None:
    # SQLite does not wait when two processes switch one new file to WAL at the same moment, so this does.
    deadline = time.monotonic() + busy_timeout
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return

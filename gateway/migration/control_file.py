"""The file behind the control store: one SQLite database, opened anew for every access.

Opening it each time costs about 0.2 ms, is done a few times a second at most, and notices at once when the
file was moved away or put back; a connection kept open would go on reading a file that no longer has a name.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from gateway import own_file
from gateway.errors import ConfigurationError

__all__ = ["SCHEMA_VERSION", "ControlFile"]

SCHEMA_VERSION: Final = 1
_APPLICATION_ID: Final = 0x53474354  # "SGCT", so that another program's database is never taken for ours

_SCHEMA: Final = (
    "CREATE TABLE epoch (id INTEGER PRIMARY KEY CHECK (id = 1), value INTEGER NOT NULL)",
    "INSERT INTO epoch VALUES (1, 0)",
    """CREATE TABLE phases (
        pair TEXT NOT NULL, kind TEXT NOT NULL, phase TEXT NOT NULL, share REAL NOT NULL, epoch INTEGER NOT
        NULL, who TEXT NOT NULL, why TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (pair, kind))""",
    """CREATE TABLE audit (
        epoch INTEGER PRIMARY KEY, pair TEXT NOT NULL, kind TEXT NOT NULL,
        phase_before TEXT NOT NULL, share_before REAL NOT NULL, phase TEXT NOT NULL, share REAL NOT NULL,
        who TEXT NOT NULL, why TEXT NOT NULL, at INTEGER NOT NULL)""",
    """CREATE TRIGGER audit_kept BEFORE DELETE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END""",
    """CREATE TRIGGER audit_fixed BEFORE UPDATE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END""",
    """CREATE TABLE members (
        instance TEXT PRIMARY KEY, pair TEXT NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL, epoch INTEGER
        NOT NULL, seen_at INTEGER NOT NULL)""",
    """CREATE TABLE divergences (
        identity TEXT PRIMARY KEY, last_seen INTEGER NOT NULL, body TEXT NOT NULL)""",
    "CREATE INDEX divergences_age ON divergences (last_seen)",
    "CREATE TABLE tallies (name TEXT PRIMARY KEY, value INTEGER NOT NULL)",
)
_FORM: Final = own_file.Form(_APPLICATION_ID, SCHEMA_VERSION, _SCHEMA)


class ControlFile:
    """Reads and writes of the control store's database.

    Safe to use from several threads and processes.

    Args:
        path: The file; made, with mode 0600, by the first write.
        busy_timeout: Seconds to wait for another writer.
    """

    def __init__(self, path: Path, *, busy_timeout: float = 5.0) -> None:
        self.path = path
        self._busy_timeout = busy_timeout

    def __repr__(self) -> str:
        return f"<ControlFile {self.path}>"

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection | None]:
        """Give a connection in one consistent read transaction; None while nothing was ever written.

        Raises:
            ConfigurationError: The file cannot be read, or is no control store of this release.
        """
        with self._translated():
            if not self._present():
                yield None
                return
            with closing(own_file.connect(self.path, self._busy_timeout)) as connection:
                connection.execute("BEGIN")
                yield connection if self._version(connection) else None

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Give a connection in one write transaction: committed at the end, rolled back if the body raises.

        Raises:
            ConfigurationError: The file cannot be written, or is no control store of this release.
        """
        with self._translated():
            if not self._present():
                self._make()
            with closing(own_file.connect(self.path, self._busy_timeout)) as connection:
                # Looked at within the transaction: another process may be making the schema at this moment.
                connection.execute("BEGIN IMMEDIATE")
                if self._version(connection) == 0:
                    connection.execute("ROLLBACK")
                    own_file.create(connection, _FORM, self._busy_timeout)
                    connection.execute("BEGIN IMMEDIATE")
                yield connection
                # Without this the transaction is rolled back when the connection closes.
                connection.execute("COMMIT")

    def present(self) -> bool:
        """Return whether the file is there.

        Raises:
            ConfigurationError: That cannot be told, for want of permission.
        """
        with self._translated():
            return self._present()

    def _present(self) -> bool:
        try:
            self.path.stat()
        except FileNotFoundError:
            return False
        return True

    def _make(self) -> None:
        """Make the file empty with mode 0600, which SQLite then gives to the files beside it as well."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))

    def _version(self, connection: sqlite3.Connection) -> int:
        """Return the schema version, 0 for an empty database; refuse what is not ours or too new."""
        found = own_file.found(connection)
        if found is None:
            return 0
        application, version = found
        if application != _APPLICATION_ID:
            raise ConfigurationError(
                f"{self.path} is a database of another program, not a control store; "
                "correct STORAGE_CONTROL_URL"
            )
        if version > SCHEMA_VERSION:
            raise ConfigurationError(
                f"the control store {self.path} was made by a newer gateway (schema {version}, "
                f"this one knows {SCHEMA_VERSION}); upgrade this installation"
            )
        return version

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what the driver and the file system raise into one sentence that says what to do."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise ConfigurationError(
                f"the control store {self.path} cannot be used: {error}. Check that this user may read and "
                "write the file and its directory, that the disk is not full, and that nothing holds it open"
            ) from error
        except sqlite3.DatabaseError as error:
            raise ConfigurationError(
                f"the control store {self.path} is damaged: {error}. Bring it back from a backup, or move it "
                "away and set the phases again with `gateway phase set`; running bots keep theirs till then"
            ) from error
        except OSError as error:
            raise ConfigurationError(
                f"the control store {self.path} cannot be reached: {error.strerror or error}. "
                "Check STORAGE_CONTROL_URL and the directory's permissions"
            ) from error

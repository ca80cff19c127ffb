"""What an operator asks of a store beside the data path: its schema, backups, upkeep, and a close look.

A backend offers each of these by a field of its `BackendSpec`. They are synchronous, open connections of their
own, and run in commands, never in a bot's way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

__all__ = ["BackupReport", "BranchState", "Endpoint", "StoreBackup", "StoreRoles", "StoreSchema"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a store is reached over a network, as far as the rules for production need to know.

    Attributes:
        host: Name or address; None for a socket on this machine.
        user: Who connects; None where nothing says so.
        password: The password; None where none is known. It never leaves the object's owner.
        authenticated: Whether something else than a password proves who connects, as a client certificate does.
        encrypted: Whether the connection is refused unless it is encrypted.
        verified: Whether the server must also prove that it is the one meant.
    """

    host: str | None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    authenticated: bool = False
    encrypted: bool = False
    verified: bool = False


@dataclass(frozen=True, slots=True)
class BranchState:
    """How far a store is on the line of revisions that another package ships.

    Attributes:
        name: The branch.
        owner: The distribution that ships it.
        current: The revision the store is at; None for none.
        head: The latest one; None for a branch that cannot be used.
        problem: What is wrong with the package, as a sentence; None if nothing is.
    """

    name: str
    owner: str
    current: str | None
    head: str | None
    problem: str | None = None


class StoreSchema(Protocol):
    """What a backend's schema can do; `gateway.sql.schema.Schema` is one."""

    def head(self) -> str:
        """Return the revision this gateway needs."""
        ...

    def current(self) -> str | None:
        """Return the revision the store is at; None for a store without a schema."""
        ...

    def branches(self) -> Sequence[BranchState]:
        """Return how far the store is on the lines of revisions that other packages ship."""
        ...

    def check(self) -> list[str]:
        """Return what is wrong, in sentences that say what to do; empty if nothing is."""
        ...

    def upgrade(self) -> list[str]:
        """Bring the schema up to date, and return what was done."""
        ...

    def downgrade(self, revision: str, *, force: bool = False) -> list[str]:
        """Go back to a revision, and return what went."""
        ...

    def sql(self, start: str = "base") -> str:
        """Return the statements of an upgrade, for review."""
        ...


@runtime_checkable
class StoreRoles(Protocol):
    """A schema of a database that has roles; those who may use the store are members of them."""

    def roles(self) -> str:
        """Return the statements that make the roles, for a database administrator to read and run."""
        ...


@dataclass(frozen=True, slots=True)
class BackupReport:
    """One backup, as it was written or read.

    Attributes:
        path: The file.
        taken_at: The moment that it shows, in UTC.
        size: Bytes of the file.
        rows: Rows by kind, tombstones included, of all tenants.
        problems: What is wrong with it, in sentences; a backup that was just written has none.
        unchecked: Names of kinds in it that nobody here registered. Their rows are in it, and their digests could
            not be checked.
    """

    path: Path
    taken_at: datetime
    size: int
    rows: Mapping[str, int]
    problems: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every row in it was found to be what its digest says."""
        return not self.problems


class StoreBackup(Protocol):
    """How a backend backs itself up. Every method reads or writes whole stores, all tenants included."""

    suffix: str
    """How the names of its files end, such as `.db`."""

    def takes(self, source: Path) -> bool:
        """Tell by its first bytes whether a file looks like a backup that this can verify and restore.

        Raises:
            StoreError: The file cannot be read.
        """
        ...

    def write(self, target: Path) -> BackupReport:
        """Write a backup of one moment to a file that does not exist yet, and verify it.

        The file appears under its name only once it is whole and every row in it was read back and matches its
        digest. Nobody else may read it.

        Raises:
            StoreError: The store cannot be read, or what was read back is not what was written; no file is left.
        """
        ...

    def verify(self, source: Path) -> BackupReport:
        """Read a backup and check every row against its own digest, and the counts against what it says of itself.

        Raises:
            StoreError: It is no backup of this backend, or cannot be read.
        """
        ...

    def restore(self, source: Path) -> BackupReport:
        """Bring the rows of a backup into an empty store, whose schema is made first, as a whole or not at all.

        Raises:
            StoreError: The backup does not verify, holds rows of kinds that nobody here registered, or the store
                holds rows already; none was changed.
        """
        ...

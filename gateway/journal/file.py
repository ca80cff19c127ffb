"""The file of the local journal: one SQLite database with a thread that writes it.

Whatever is waiting when the thread gets to it is committed together, with one fsync. Reads open the file anew, in a
thread of the caller's, so that looking through a long journal does not hold up a write.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from gateway import own_file
from gateway.errors import (
    GatewayClosedError,
    SchemaTooNewError,
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
)

__all__ = ["JournalFile"]

_log: Final = logging.getLogger(__name__)
T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

SCHEMA_VERSION: Final = 1
_APPLICATION_ID: Final = 0x53474A4C  # "SGJL", so that another program's database is never taken for ours
_TOGETHER: Final = 256
_CHECK_SECONDS: Final = 1.0
"""Seconds between two looks whether the file is still there. SQLite goes on writing one that was deleted."""
_SHRINK_SECONDS: Final = 60.0
_FREE_PAGES: Final = 4_096
"""Unused pages (16 MB) from which on a file is made smaller, once an outage is over."""
_USED_PAGES: Final = 1_024
"""Used pages (4 MB) up to which that is so cheap that no write notices."""

_SCHEMA: Final = (
    """CREATE TABLE intents (
        source TEXT NOT NULL, target TEXT NOT NULL, tenant TEXT NOT NULL, owner TEXT NOT NULL,
        number INTEGER NOT NULL, part INTEGER NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL,
        version INTEGER NOT NULL, trace TEXT NOT NULL, noted_at INTEGER NOT NULL,
        PRIMARY KEY (source, target, tenant, owner, number, part)) WITHOUT ROWID""",
    """CREATE TABLE states (
        source TEXT NOT NULL, tenant TEXT NOT NULL, target TEXT NOT NULL, body TEXT NOT NULL,
        PRIMARY KEY (source, tenant, target)) WITHOUT ROWID""",
)
_FORM: Final = own_file.Form(_APPLICATION_ID, SCHEMA_VERSION, _SCHEMA)


class _Job:
    """One piece of writing, and who waits for it."""

    __slots__ = ("future", "work")

    def __init__(self, work: Work[Any]) -> None:
        self.work = work
        self.future: Future[Any] = Future()


class JournalFile:
    """Reads and writes of the local journal's database.

    Safe to use from several threads and processes.

    Args:
        path: The file; made, with mode 0600, by the first write.
        busy_timeout: Seconds to wait for another process that writes.
    """

    def __init__(self, path: Path, *, busy_timeout: float = 5.0) -> None:
        self.path = path
        self._busy_timeout = busy_timeout
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._turn = threading.Lock()
        self._closed = False
        # Which file the thread has opened, and when to look next whether it is still the one under its name.
        self._opened_file: tuple[int, int] | None = None
        self._check_at = self._shrink_at = 0.0

    def __repr__(self) -> str:
        return f"<JournalFile {self.path}{' closed' if self._closed else ''}>"

    def present(self) -> bool:
        """Return whether the file is there: without it, nothing was ever noted.

        Raises:
            StoreError: That cannot be told; or it was there, and somebody has taken it away.
        """
        found, opened = self._identity(), self._opened_file
        if opened is not None and found != opened:
            raise StoreUnavailableError(
                f"{self.path} was moved, deleted or replaced while it was in use. Put it back, or stop the bot, start "
                "it again and run `gateway copy`, which brings over what the file had noted",
                backend="journal",
            )
        return found is not None

    def _identity(self) -> tuple[int, int] | None:
        """Return which file is there; None if none is."""
        with self._translated():
            try:
                found = self.path.stat()
            except FileNotFoundError:
                return None
        return found.st_dev, found.st_ino

    async def read(self, work: Work[T], nothing: T) -> T:
        """Return what a piece of reading finds, or `nothing` while there is no file.

        Raises:
            StoreError: The file cannot be read.
        """
        return await asyncio.to_thread(self._read, work, nothing)

    def _read(self, work: Work[T], nothing: T) -> T:
        if not self.present():
            return nothing
        with self._translated(), closing(own_file.connect(self.path, self._busy_timeout)) as connection:
            return work(connection) if self._version(connection) else nothing

    async def write(self, work: Work[T]) -> T:
        """Run a piece of writing in a transaction, and return what it returns once that is on the disk.

        A caller that is cancelled before its turn writes nothing.

        Args:
            work: May be run again if what it shares the transaction with fails.

        Raises:
            StoreError: Nothing was written.
        """
        return await asyncio.wrap_future(self._submit(work))

    def write_now(self, work: Work[T]) -> T:
        """Do what `write` does, in the caller's thread, which waits."""
        return self._submit(work).result()

    def _submit(self, work: Work[T]) -> Future[T]:
        job = _Job(work)
        with self._turn:
            if self._closed:
                raise GatewayClosedError("the gateway is closed; nothing was written")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="gateway journal", daemon=True)
                self._thread.start()
            self._jobs.put(job)
        return job.future

    async def close(self) -> None:
        """Finish what was submitted, and stop the thread. Calling it again does nothing."""
        with self._turn:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
            await asyncio.to_thread(thread.join)

    def _run(self) -> None:
        """Commit batch after batch, until told to end."""
        connection: sqlite3.Connection | None = None
        ended = False
        while not ended:
            jobs, ended = self._take()
            live = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            try:
                if connection is None and live:
                    connection = self._opened()
                    self._opened_file = self._identity()
                if time.monotonic() >= self._check_at:
                    self.present()
                    self._check_at = time.monotonic() + _CHECK_SECONDS
            except StoreError as error:
                _fail(live, error)
                continue
            if connection is not None and live:
                self._commit(connection, live)
                self._shrink(connection)
        if connection is not None:
            connection.close()

    def _take(self) -> tuple[list[_Job], bool]:
        """Return what waits, at least one job, and whether the end was among it."""
        jobs: list[_Job] = []
        job = self._jobs.get()
        while job is not None:
            jobs.append(job)
            if len(jobs) >= _TOGETHER:
                return jobs, False
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return jobs, False
        return jobs, True

    def _commit(self, connection: sqlite3.Connection, jobs: Sequence[_Job]) -> None:
        """Run jobs in one transaction; if one fails, each gets one of its own."""
        try:
            with self._translated():
                results = _transaction(connection, jobs)
        except Exception as error:  # noqa: BLE001 - whatever it is, who waits for it is told
            if len(jobs) == 1:
                _fail(jobs, error)
                return
            for job in jobs:
                self._commit(connection, [job])
        else:
            for job, result in zip(jobs, results, strict=True):
                job.future.set_result(result)

    def _shrink(self, connection: sqlite3.Connection) -> None:
        """Give back to the disk what a long journal took, once hardly anything of it is left."""
        if time.monotonic() < self._shrink_at:
            return
        self._shrink_at = time.monotonic() + _SHRINK_SECONDS
        try:
            (free,) = connection.execute("PRAGMA freelist_count").fetchone()
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            if free >= _FREE_PAGES and pages - free <= _USED_PAGES:
                connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:  # a reader, or a disk that is full: it is tried again
            _log.debug("%s stays as large as it is: %s", self.path, error)

    def _opened(self) -> sqlite3.Connection:
        """Return a connection to a file that has its schema."""
        with self._translated():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Made empty with mode 0600, which SQLite then gives to the files beside it as well.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            connection = own_file.connect(self.path, self._busy_timeout)
            try:
                if not self._version(connection):
                    own_file.create(connection, _FORM, self._busy_timeout)
            except BaseException:
                connection.close()
                raise
            return connection

    def _version(self, connection: sqlite3.Connection) -> int:
        """Return the schema version, 0 for an empty database; refuse what is not ours or too new."""
        found = own_file.found(connection)
        if found is None:
            return 0
        application, version = found
        if application != _FORM.application_id:
            raise StoreCorruptError(
                f"{self.path} is a database of another program, not a journal; move it away, or set STORAGE_DATA_DIR",
                backend="journal",
            )
        if version > SCHEMA_VERSION:
            raise SchemaTooNewError(
                f"{self.path} was made by a newer gateway (schema {version}, this one knows {SCHEMA_VERSION}); "
                "upgrade this installation",
                backend="journal",
            )
        return version

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what the driver and the file system raise into the gateway's own, with a sentence on what to do."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._translation(error) from error
        except OSError as error:
            raise StoreReadOnlyError(
                f"{self.path} cannot be reached: {error.strerror or error}; check STORAGE_DATA_DIR and the "
                "directory's permissions",
                backend="journal",
            ) from error

    def _translation(self, error: sqlite3.Error) -> StoreError:
        code = (getattr(error, "sqlite_errorcode", None) or sqlite3.SQLITE_ERROR) & 0xFF
        place = f"{self.path}: {error}"
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return StoreBusyError(f"{place}; another process holds it for long", backend="journal")
        if code == sqlite3.SQLITE_FULL:
            return StoreFullError(f"{place}; make room on the disk", backend="journal")
        if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}:
            return StoreReadOnlyError(
                f"{place}; give this user the right to read and write it, and its directory",
                backend="journal",
            )
        if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            return StoreCorruptError(
                f"{place}; move it away, then run `gateway copy`, which brings over what it had noted",
                backend="journal",
            )
        return StoreError(f"{place}; check the disk", backend="journal")


def _transaction(connection: sqlite3.Connection, jobs: Sequence[_Job]) -> list[Any]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        results = [job.work(connection) for job in jobs]
        connection.execute("COMMIT")
    except BaseException:
        # Also after a COMMIT that failed: a busy or full one leaves the transaction open.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return results


def _fail(jobs: Sequence[_Job], error: Exception) -> None:
    for job in jobs:
        job.future.set_exception(error)

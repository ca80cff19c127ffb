"""Checkpoints beside the writer: copying the write-ahead log into the main file on a thread of its own.

SQLite copies the log inside the commit that fills it, so one caller in a few hundred waits for thousands of
pages. A second connection does it instead, while the writer goes on appending. The log can begin anew only
when nothing is left to copy, which never happens while somebody appends; so the writer copies the rest, the
little that was appended meanwhile, between two batches.
"""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Final

from gateway.errors import StoreBusyError, StoreError
from gateway_sqlite.connection import StoreConnection

__all__ = ["WRITER_FACTOR", "Checkpointer"]

WRITER_FACTOR: Final = 4
"""How many times the length at which copying begins, the log may have before a commit copies it itself, which
bounds it when the loop is too busy to start a checkpoint."""

_PASSES: Final = 3
"""Each pass copies what was appended during the one before, so that little is left for the writer."""

_PAGES_A_ROW: Final = 2
_PAGES_A_BATCH: Final = 4


class Checkpointer:
    """Starts a checkpoint once enough was written.

    Args:
        connection: A connection of its own, closed with this.
        writer: The writing connection, which copies the rest.
        pages: Length of the log, in pages, at which to begin; it is estimated from the rows written, since
            the driver does not tell.
    """

    __slots__ = ("_connection", "_pages", "_task", "_writer", "_written", "error")

    def __init__(self, connection: StoreConnection, writer: StoreConnection, pages: int) -> None:
        self._connection = connection
        self._writer = writer
        self._pages = pages
        self._written = 0
        self._task: asyncio.Task[None] | None = None
        self.error: StoreError | None = None
        """What the last checkpoint failed with; the data is safe in the log, which grows meanwhile."""

    def __repr__(self) -> str:
        running = self._task is not None and not self._task.done()
        return f"<Checkpointer {self._written}/{self._pages} pages{' running' if running else ''}>"

    def wrote(self, rows: int) -> None:
        """Take note of a committed batch. Returns at once."""
        self._written += rows * _PAGES_A_ROW + _PAGES_A_BATCH
        if self._written >= self._pages and (self._task is None or self._task.done()):
            self._written = 0
            self._task = asyncio.get_running_loop().create_task(self._checkpoint())

    async def _checkpoint(self) -> None:
        try:
            pages = 0
            for _ in range(_PASSES):
                pages = await self._connection.run(_copy_log)
            if pages >= self._pages:
                await self._writer.run(_copy_log)
        except StoreBusyError:
            # Another process is at it, which is as good.
            return
        except StoreError as error:
            self.error = error
            return
        self.error = None

    async def close(self) -> None:
        """Wait for a running checkpoint and close the connection."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        await self._connection.close()


def _copy_log(connection: sqlite3.Connection) -> int:
    """Copy what no reader still needs, without waiting for anybody; return how many pages the log has."""
    _, pages, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return int(pages)

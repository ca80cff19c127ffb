"""A small store in a file, which keeps every promise, and those made of it that do not."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterable
from typing import Any, BinaryIO, ClassVar

from gateway.backend import Capability, OpenContext
from gateway.errors import SchemaError, StoreLockedError, StoreUnavailableError
from gateway.hookspecs import hookimpl
from gateway.records.kind import KindSpec
from gateway.records.row import Row
from gateway_memory.plugin import MEMORY
from gateway_memory.transaction import Table, Transaction
from tests.conformance.broken.specimen import Specimen, breaks, spec_of


class FileStore(Specimen):
    """The reference store with a file behind it: one line of JSON for each batch, appended and synced.

    A line is written whole or, after a crash, cut off; a line that was cut off never was acknowledged.
    """

    capabilities = MEMORY.capabilities - {Capability.PURGE} | {Capability.DURABLE}
    lock: ClassVar[bool] = True

    def __init__(self, context: OpenContext) -> None:
        super().__init__(context)
        self._path = context.data_dir / "rows.jsonl"
        self._kinds = {kind.name: kind for kind in context.kinds}
        self._file = self._opened()
        self._end = 0
        self._load()

    def _opened(self) -> BinaryIO:
        if self._read_only and not self._path.exists():
            raise StoreUnavailableError(f"there is no store at {self._path.name}")
        file = self._path.open("rb" if self._read_only else "a+b")
        if self.lock and not self._read_only:
            self._take_lock(file)
        return file

    def _take_lock(self, file: BinaryIO) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            raise StoreLockedError("another process writes to this file") from error

    def _load(self) -> None:
        """Take in the lines that are new since the last look."""
        self._file.seek(self._end)
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            self._end += len(line)
            for row in self.parsed(json.loads(line)):
                self._tables[row.kind, row.tenant][row.key] = row
        if not self._read_only:
            self._file.truncate(self._end)

    def parsed(self, rows: Iterable[list[Any]]) -> Iterable[Row]:
        """Return the rows of a line."""
        for kind, tenant, version, digest, deleted, values in rows:
            yield Row(self._kinds[kind], tenant, version, digest, deleted, tuple(values))

    def _table(self, kind: KindSpec, tenant: str) -> Table:
        self._check_open()
        if self._read_only:
            self._load()
        return super()._table(kind, tenant)

    def _commit(self, transaction: Transaction) -> None:
        rows = list(transaction.rows.values())
        if any(row.kind.name not in self._kinds for row in rows):
            raise SchemaError("a row is of a kind that this store was not opened with")
        self.append(rows)
        super()._commit(transaction)

    def append(self, rows: list[Row]) -> None:
        """Write a line that survives the process."""
        self._file.write(_line(rows))
        self._file.flush()
        os.fsync(self._file.fileno())

    @hookimpl
    async def gateway_close(self) -> None:
        """Give the file back."""
        self._file.close()
        await super().gateway_close()


FILE = spec_of(FileStore)
"""The file store, which must pass."""


def _line(rows: Iterable[Row]) -> bytes:
    packed = [(row.kind.name, row.tenant, row.version, row.digest, row.deleted, row.values) for row in rows]
    return json.dumps(packed).encode() + b"\n"


@breaks("test_kill_keeps_what_was_acknowledged")
class Buffered(FileStore):
    """Acknowledges what lies in a buffer."""

    def append(self, rows: list[Row]) -> None:
        """Write, and trust in the end of the program."""
        self._file.write(_line(rows))


@breaks("test_kill_leaves_no_half_group")
class LineByLine(FileStore):
    """Writes each row as a line of its own, which takes its time."""

    def append(self, rows: list[Row]) -> None:
        """Leave a gap in which a kill finds it."""
        for row in rows:
            super().append([row])
            time.sleep(0.02)


@breaks("test_a_reopened_store_has_everything")
class StartsAfresh(FileStore):
    """Empties the file when it opens it."""

    def _load(self) -> None:
        if not self._read_only:
            self._file.truncate(0)
        super()._load()


@breaks("test_the_guard_survives_reopening")
class ForgetsVersions(FileStore):
    """Keeps the rows and forgets how new they were."""

    def parsed(self, rows: Iterable[list[Any]]) -> Iterable[Row]:
        """Begin again with version 0."""
        return [row._replace(version=0) for row in super().parsed(rows)]


@breaks("test_a_second_writer_is_refused")
class LetsEverybodyIn(FileStore):
    """Takes no lock."""

    lock = False


@breaks("test_read_only_creates_nothing")
class CreatesWhatItLooksFor(FileStore):
    """Makes the file before it looks at it."""

    def _opened(self) -> BinaryIO:
        self._path.touch()
        return super()._opened()


@breaks("test_read_only_looks_on_beside_a_writer")
class LocksToLook(FileStore):
    """Takes the writer's lock for reading."""

    def _opened(self) -> BinaryIO:
        file = super()._opened()
        if self._read_only:
            self._take_lock(file)
        return file


@breaks("test_processes_lose_nothing", "test_processes_count_together")
class EachForItself(FileStore):
    """Lets several processes write, each of which knows its own rows only and writes all of them."""

    capabilities = FileStore.capabilities | {Capability.MULTI_PROCESS}
    lock = False

    def append(self, rows: list[Row]) -> None:
        """Replace the file by what this process knows."""
        known = {
            (row.kind, row.tenant, row.key): row for table in self._tables.values() for row in table.values()
        }
        known.update({(row.kind, row.tenant, row.key): row for row in rows})
        beside = self._path.with_suffix(f".{os.getpid()}")
        beside.write_bytes(_line(known.values()))
        beside.replace(self._path)

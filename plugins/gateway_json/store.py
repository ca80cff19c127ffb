"""One directory of JSON files, opened: all that the backend can do, as functions that wait for the disk."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from gateway.backend import GroupSummary, Health, RangeDigest, Summarize, WriteBatch, WriteReceipt
from gateway.errors import StoreReadOnlyError, StoreUnavailableError
from gateway.query import Query, ReadRange
from gateway.records.kind import KindSpec, Shape
from gateway.records.row import Key, Row
from gateway_json.files import Disk
from gateway_json.index import LogIndex
from gateway_json.locking import WriterLock
from gateway_json.logs import Logs
from gateway_json.purging import purge_log, purge_states
from gateway_json.queries import Queries
from gateway_json.recovery import STALE, TORN
from gateway_json.report import Report
from gateway_json.states import States
from gateway_json.tree import Tree, names_in
from gateway_json.writer import Writer

__all__ = ["JsonStore"]

_LISTED: Final = 50


class JsonStore:
    """Reads and writes below one directory. Reading is safe from any thread, writing from one at a time.

    Args:
        root: The directory; made if it is missing, unless it is opened for reading only.
        kinds: Every registered kind.
        fsync: Whether a write waits until the disk has it.
        read_only: Take no lock, mend nothing, write nothing: somebody else may be writing.

    Raises:
        StoreLockedError: Another gateway writes here.
        StoreUnavailableError: There is no directory to be read.
        OSError: The directory cannot be used.
    """

    def __init__(
        self, root: Path, kinds: Sequence[KindSpec], *, fsync: bool = True, read_only: bool = False
    ) -> None:
        self._tree = Tree(root)
        self._disk = Disk(fsync=fsync)
        self._kinds = tuple(kinds)
        self._report = Report()
        self._release = contextlib.ExitStack()
        self._lock: WriterLock | None = None
        self._index: LogIndex | None = None
        self._states = States(self._tree, self._report)
        if read_only:
            self._check_created()
            self._logs = Logs(self._tree, self._report, None)
            self._writer: Writer | None = None
        else:
            with contextlib.ExitStack() as opening:
                self._writer = self._open_writer(opening)
                self._release = opening.pop_all()
        self._queries = Queries(self._states, self._logs)

    def __repr__(self) -> str:
        return f"<JsonStore {self._tree.root} {'read-only' if self._writer is None else 'writer'}>"

    @property
    def root(self) -> Path:
        """The directory."""
        return self._tree.root

    def write(self, batch: WriteBatch) -> WriteReceipt:
        """Apply a batch; durable when it returns."""
        return self._writable()[0].write(batch)

    def get(self, kind: KindSpec, tenant: str, keys: Sequence[Key]) -> list[Row | None]:
        """Return the rows of keys, in their order."""
        self._tree.check()
        if kind.shape is Shape.LOG:
            rows = self._logs.get(kind, tenant, [str(key[0]) for key in keys])
            return [rows.get(str(key[0])) for key in keys]
        return [self._states.get(kind, tenant, key) for key in keys]

    def query(self, query: Query) -> list[Row]:
        """Return a page of rows."""
        self._tree.check()
        return self._queries.query(query)

    def summarize(self, request: Summarize) -> list[GroupSummary]:
        """Count live rows."""
        self._tree.check()
        return self._queries.summarize(request)

    def digest(self, span: ReadRange) -> RangeDigest:
        """Return the fingerprint of a stretch of rows."""
        self._tree.check()
        return self._queries.digest(span)

    def purge(self, kind: KindSpec, tenant: str, before: int) -> int:
        """Remove rows older than a moment, in microseconds since 1970; returns how many."""
        _, index = self._writable()
        if kind.shape is Shape.LOG:
            return purge_log(self._tree, self._disk, self._logs, index, kind, tenant, before)
        return purge_states(self._tree, self._disk, self._states, kind, tenant, before)

    def health(self) -> Health:
        """Return what is in the directory, and what was mended or edited.

        Raises:
            OSError: The directory cannot be read, or is no longer the one that was locked.
        """
        self._tree.check()
        if self._lock is not None:
            self._lock.check()
        files, aside = self._count_files()
        findings = self._report.details()
        details = {
            "directory": str(self.root),
            "fsync": self._disk.fsync,
            "files": files,
            "set_aside": aside[:_LISTED],
            "set_aside_count": len(aside),
            **findings,
        }
        return Health(
            ok=True, summary=_summary(self.root, len(aside), len(findings["edited"])), details=details
        )

    def close(self) -> None:
        """Let go of the directory. Calling it again does nothing."""
        self._release.close()

    def _check_created(self) -> None:
        """Refuse a directory that is not there when the store is opened: nobody took it away from under it."""
        try:
            self._tree.check()
        except FileNotFoundError as error:
            raise StoreUnavailableError(
                f"there is no store at {self.root}: it was never created; check the path, or let a bot create "
                "it first"
            ) from error

    def _open_writer(self, opening: contextlib.ExitStack) -> Writer:
        """Lock the directory, mend what a crash left in it, and return its writer."""
        self._disk.make_root(self.root)
        self._lock = WriterLock(self._tree.lock)
        opening.callback(self._lock.release)
        self._index = LogIndex(self._tree, self._report)
        opening.callback(self._index.close)
        self._logs = Logs(self._tree, self._report, self._index)
        writer = Writer(
            self._tree, self._disk, self._kinds, self._report, self._states, self._logs, self._index
        )
        writer.recover()
        return writer

    def _writable(self) -> tuple[Writer, LogIndex]:
        """Return what writing needs, once it is sure that the directory is still the locked one."""
        if self._writer is None or self._index is None or self._lock is None:
            raise StoreReadOnlyError("was opened for reading only; open it again without read_only to write")
        self._lock.check()
        return self._writer, self._index

    def _count_files(self) -> tuple[dict[str, int], list[str]]:
        """Return how many files each kind has, and which were set aside after crashes."""
        files: dict[str, int] = {}
        aside: list[str] = []
        for kind in self._kinds:
            for scope in self._tree.scopes(kind):
                for name in names_in(scope):
                    if STALE in name or TORN in name:
                        aside.append(str(scope / name))
                    elif name.endswith((".json", ".jsonl")):
                        files[kind.name] = files.get(kind.name, 0) + 1
        return files, sorted(aside)


def _summary(root: Path, aside: int, edited: int) -> str:
    parts: list[Any] = [f"JSON files in {root}"]
    if aside:
        parts.append(f"{aside} files set aside after crashes, which you may inspect and remove")
    if edited:
        parts.append(f"{edited} rows edited outside the gateway, which `gateway verify --deep` lists")
    return "; ".join(parts)

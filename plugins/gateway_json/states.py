"""States, counters and queues: one file a key, replaced atomically.

Reading never caches, so that hand edits show at once.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from gateway.errors import StoreCorruptError
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway_json.documents import Marker, document_of
from gateway_json.names import decode_key
from gateway_json.report import Report
from gateway_json.tree import Tree, names_in

__all__ = ["States"]

_CHUNK: Final = 20_000
"""Keys in memory at once while a kind is listed; the directory of a larger one is read once a chunk."""
_SUFFIX: Final = ".json"


class States:
    """Reads the files of keys.

    Args:
        tree: Where they lie.
        report: Told of every row that a person edited.
    """

    def __init__(self, tree: Tree, report: Report) -> None:
        self._tree = tree
        self._report = report

    def get(self, kind: KindSpec, tenant: str, key: Key) -> Row | None:
        """Return the row of a key, a tombstone as it is; None if there never was one."""
        path = self._tree.state(kind, tenant, key)
        row = self._read(kind, tenant, path)
        if row is not None and row.key != key:
            raise _misplaced(path, row)
        return row

    def scan(
        self, kind: KindSpec, tenant: str, *, after: Key | None = None, descending: bool = False
    ) -> Iterator[Row]:
        """Yield rows in the order of their keys, beyond a key if one is given; tombstones included.

        Only the keys of one chunk are in memory, and a file is opened when its turn comes.
        """
        scope = self._tree.scope(kind, tenant)
        while chunk := self._chunk(kind, tenant, scope, after, descending=descending):
            for key, name in chunk:
                row = self._read(kind, tenant, scope / name)
                if row is not None and row.key != key:
                    raise _misplaced(scope / name, row)
                if row is not None:
                    yield row
            after = chunk[-1][0]
            if len(chunk) < _CHUNK:
                return

    def _chunk(
        self, kind: KindSpec, tenant: str, scope: Path, after: Key | None, *, descending: bool
    ) -> Sequence[tuple[Key, str]]:
        """Return the next keys and their file names, in order."""
        named = (
            (self._key_of(kind, tenant, scope / name), name)
            for name in names_in(scope)
            if name.endswith(_SUFFIX)
        )
        present = ((key, name) for key, name in named if key is not None)
        if descending:
            return heapq.nlargest(_CHUNK, (pair for pair in present if after is None or pair[0] < after))
        return heapq.nsmallest(_CHUNK, (pair for pair in present if after is None or pair[0] > after))

    def _key_of(self, kind: KindSpec, tenant: str, path: Path) -> Key | None:
        """Return the key of a file; None if it has just been removed."""
        stem = path.name.removesuffix(_SUFFIX)
        key = decode_key(kind, stem)
        if key is not None:
            return key
        row = self._read(kind, tenant, path)
        if row is not None and self._tree.state(kind, tenant, row.key).name != path.name:
            raise _misplaced(path, row)
        return row.key if row is not None else None

    def _read(self, kind: KindSpec, tenant: str, path: Path) -> Row | None:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        row = document_of(kind).decode(data, str(path), tenant)
        if isinstance(row, Marker):
            raise StoreCorruptError(f"{path} holds a line of a log; move it out of this directory")
        self._report.read(row, str(path))
        return row


def _misplaced(path: Path, row: Row) -> StoreCorruptError:
    return StoreCorruptError(
        f"{path} holds the key {row.key}, which belongs in another file. If it is a copy, move it out of "
        "this directory"
    )

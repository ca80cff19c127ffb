"""The step that is being applied: what makes several files change together.

A step of several rows is written to `_pending.json` first, completely and durably; then its files are
changed; then it is removed. A crash in between leaves it, and the next opening applies it again. That is
harmless however much was done already, since every row carries its version.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.errors import SchemaError, StoreCorruptError
from gateway.records.kind import KindSpec
from gateway.records.row import Row
from gateway_json.documents import Marker, document_of, marker_line, row_line
from gateway_json.files import Disk

__all__ = ["Moved", "Pending"]

_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Moved:
    """A marker, and the log whose day's file gets it.

    Attributes:
        kind: The log.
        tenant: Whose rows.
        day: Where the row was.
        marker: Says where it is now.
    """

    kind: KindSpec
    tenant: str
    day: str
    marker: Marker


class Pending:
    """The file of the step that is being applied.

    Args:
        path: Where it lies.
        disk: How to write it.
    """

    def __init__(self, path: Path, disk: Disk) -> None:
        self.path = path
        self._disk = disk

    def write(self, rows: Iterable[Row], moves: Iterable[Moved]) -> None:
        """Make a step durable. From here on it will be applied, if not now then at the next opening."""
        entries = [_entry(row.kind, row.tenant, row_line(row)) for row in rows]
        entries += [_entry(move.kind, move.tenant, marker_line(move.marker), was=move.day) for move in moves]
        self._disk.replace(self.path, msgspec.json.format(_encode({"rows": entries}), indent=1) + b"\n")

    def read(self, kinds: Mapping[str, KindSpec]) -> tuple[list[Row], list[Moved]]:
        """Return the step that a crash interrupted; two empty lists if there is none.

        Raises:
            StoreCorruptError: The file was damaged from outside; it is replaced only as a whole.
            SchemaError: It names a kind that is not registered now.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return [], []
        try:
            entries = msgspec.json.decode(data)["rows"]
            parts = [self._part(entry, kinds) for entry in entries]
        except (ValueError, KeyError, TypeError) as error:
            raise StoreCorruptError(
                f"{self.path} holds a step that was interrupted, and is damaged ({error}). Restore it from a "
                "backup, "
                "or move it aside if the step may be lost"
            ) from error
        return [part for part in parts if isinstance(part, Row)], [
            part for part in parts if isinstance(part, Moved)
        ]

    def remove(self) -> None:
        """Forget the step, which is complete; should the removal be lost, applying it again is harmless."""
        self.path.unlink(missing_ok=True)

    def _part(self, entry: Mapping[str, Any], kinds: Mapping[str, KindSpec]) -> Row | Moved:
        kind = kinds.get(entry["kind"])
        if kind is None:
            raise SchemaError(
                f"{self.path} holds an interrupted step of the record kind {entry['kind']!r}, which is not "
                "registered; "
                "install the plugin that brings it"
            )
        part = document_of(kind).decode(entry["line"].encode(), str(self.path), entry["tenant"])
        return Moved(kind, entry["tenant"], entry["was"], part) if isinstance(part, Marker) else part


def _entry(kind: KindSpec, tenant: str, line: bytes, was: str | None = None) -> dict[str, Any]:
    # The line is kept as text: parsed into objects, its numbers could come back in another spelling.
    return {"kind": kind.name, "tenant": tenant, "was": was, "line": line.decode().rstrip("\n")}

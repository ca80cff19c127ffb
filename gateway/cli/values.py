"""Stored values as people and scripts read them: times in ISO 8601, JSON as JSON, money as exact text."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from gateway.cli.plain import printable
from gateway.records.codec import Value, from_micros
from gateway.records.row import Key, Row
from gateway.records.types import StorageType
from gateway.records.version import version_time

__all__ = ["cell", "fields_of", "key_text", "meta_of", "readable", "size_text", "time_text"]


def time_text(moment: datetime | None) -> str | None:
    """Return a time as ISO 8601 in UTC with microseconds, `2026-01-02T03:04:05.000006Z`."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def readable(storage: StorageType, value: Value) -> Any:
    """Return a canonical value, JSON-ready. One that a damaged row should not hold is returned as it is."""
    try:
        if storage is StorageType.TIME and isinstance(value, int):
            return time_text(from_micros(value))
        if storage is StorageType.JSON and isinstance(value, str):
            return json.loads(value)
    except (ValueError, OverflowError):
        return value
    return value


def fields_of(row: Row) -> dict[str, Any]:
    """Return a row's fields by name, JSON-ready.

    Made from the stored values and not from the record, so that a row that is no valid record any more can
    still be looked at.
    """
    return {
        spec.name: readable(spec.storage, value)
        for spec, value in zip(row.kind.fields, row.values, strict=True)
    }


def meta_of(row: Row) -> dict[str, Any]:
    """Return what is stored beside the fields, JSON-ready; the digest as text, since it needs 64 bits."""
    return {
        "version": row.version,
        "written_at": time_text(version_time(row.version)),
        "digest": f"{row.digest & (2**64 - 1):016x}",
        "deleted": row.deleted,
    }


def key_text(key: Key) -> str:
    """Return a key for a sentence or a table."""
    return " ".join(cell(value) for value in key)


def cell(value: object) -> str:
    """Return a JSON-ready value as a cell, control characters escaped: a terminal would obey them."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = (
        value
        if isinstance(value, str)
        else json.dumps(value, ensure_ascii=False)
        if isinstance(value, dict | list | tuple)
        else str(value)
    )
    return printable(text)


def size_text(size: int | None) -> str:
    """Return a number of bytes for people."""
    if size is None:
        return ""
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"

"""How much is in each store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gateway.backend import Summarize
from gateway.cli.exits import ExitCode, report
from gateway.cli.output import print_empty, print_json, print_line, print_table
from gateway.cli.session import Session
from gateway.cli.values import size_text, time_text
from gateway.errors import StoreError
from gateway.records.codec import from_micros

__all__ = ["show_stats", "size_on_disk"]

_PLACES: Final = ("path", "directory")
"""Where a store's health says that it keeps its data."""


def show_stats(session: Session, *, as_json: bool) -> ExitCode:
    """Print rows per kind and store. A store that cannot answer is named, and does not hide the others."""
    found = session.run(_stats(session))
    if as_json:
        print_json(found)
    else:
        _print_stats(found)
    down = [one for one in found["stores"] if one["error"]]
    for one in down:
        report("StoreError", one["error"], ExitCode.UNAVAILABLE, as_json=as_json)
    return ExitCode.UNAVAILABLE if down else ExitCode.OK


async def _stats(session: Session) -> dict[str, Any]:
    stores: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for name in session.instances:
        try:
            size, counted = await _store_stats(session, name)
        except StoreError as error:
            stores.append({"name": name, "bytes": None, "error": str(error)})
        else:
            stores.append({"name": name, "bytes": size, "error": None})
            rows += counted
    return {"stores": stores, "kinds": rows}


async def _store_stats(session: Session, name: str) -> tuple[int | None, list[dict[str, Any]]]:
    counted = []
    async with session.stores(name) as stores:
        store = stores[name]
        health = await store.health()
        for kind in session.registry.kinds:
            groups = await store.summarize(Summarize(kind, session.tenant))
            total = sum(group.rows for group in groups)
            first = [group.first for group in groups if group.first is not None]
            last = [group.last for group in groups if group.last is not None]
            counted.append(
                {
                    "kind": kind.name,
                    "store": name,
                    "rows": total,
                    "first": time_text(from_micros(min(first))) if first else None,
                    "last": time_text(from_micros(max(last))) if last else None,
                }
            )
    return size_on_disk(health.details), counted


def size_on_disk(details: Mapping[str, Any]) -> int | None:
    """Return the bytes of a store that keeps its data in files here, its log included; None for others."""
    place = next((details[name] for name in _PLACES if isinstance(details.get(name), str)), None)
    if place is None:
        return None
    path = Path(place)
    files = path.rglob("*") if path.is_dir() else path.parent.glob(f"{path.name}*")
    return sum(_size(file) for file in files)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except FileNotFoundError:  # a bot at work replaced it meanwhile
        return 0


def _print_stats(found: dict[str, Any]) -> None:
    columns = ("kind", "store", "rows", "first", "last")
    filled = {one["kind"] for one in found["kinds"] if one["rows"]}
    rows = sorted([one[name] for name in columns] for one in found["kinds"] if one["kind"] in filled)
    print_table(columns, rows)
    print_empty(one["kind"] for one in found["kinds"] if one["kind"] not in filled)
    print_line("")
    print_table(("store", "size"), [(one["name"], size_text(one["bytes"])) for one in found["stores"]])

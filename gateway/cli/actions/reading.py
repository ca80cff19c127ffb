"""Showing records: one by its key, or a page of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gateway.cli.actions.listing import Listing
from gateway.cli.arguments import parse_fields, parse_key
from gateway.cli.exits import ExitCode
from gateway.cli.output import note, print_json, print_line, print_table
from gateway.cli.session import Session
from gateway.cli.values import cell, fields_of, key_text, meta_of
from gateway.filters import cursor_of, position_from
from gateway.query import Query
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row

__all__ = ["show_record", "show_records"]


def show_record(
    session: Session, name: str, words: Sequence[str], store: str | None, *, as_json: bool
) -> ExitCode:
    """Print one record, or say that there is none.

    Raises:
        InvalidRecordError: The words are no key of this kind.
        StoreError: The store cannot answer.
    """
    kind = session.kind(name)
    key = parse_key(kind, words)
    reader = store or session.plan().route(kind, session.tenant, key).reader
    row = session.run(_get(session, reader, kind, key))
    if row is None or row.deleted:
        return _print_nothing(reader, kind, key, row, as_json=as_json)
    found = {
        "kind": name,
        "store": reader,
        "found": True,
        "record": fields_of(row),
        **meta_of(row),
        "intact": row.intact,
    }
    if as_json:
        print_json(found)
    else:
        _print_record(found)
    return ExitCode.OK


async def _get(session: Session, reader: str, kind: KindSpec, key: Key) -> Row | None:
    async with session.stores(reader) as stores:
        return (await stores[reader].get(kind, session.tenant, (key,)))[0]


def _print_nothing(reader: str, kind: KindSpec, key: Key, row: Row | None, *, as_json: bool) -> ExitCode:
    gone = meta_of(row) if row is not None else None
    if as_json:
        print_json(
            {
                "kind": kind.name,
                "store": reader,
                "found": False,
                "record": None,
                "deleted_at": gone and gone["written_at"],
            }
        )
    else:
        why = f"; it was deleted at {gone['written_at']}" if gone else ""
        note(f"{kind.name}: {reader} holds nothing under {key_text(key)}{why}")
    return ExitCode.PROBLEM


def _print_record(found: dict[str, Any]) -> None:
    print_table((found["kind"], "value"), [(name, cell(value)) for name, value in found["record"].items()])
    print_line("")
    print_line(
        f"in {found['store']}, written at {found['written_at']} "
        f"(version {found['version']}, digest {found['digest']})"
    )
    if not found["intact"]:
        print_line(
            "the values do not give the digest: this row was changed outside the gateway; "
            "see `gateway verify --deep`",
            "bold red",
        )


def show_records(
    session: Session, listing: Listing, *, limit: int, after: str | None, fields: str | None, as_json: bool
) -> None:
    """Print a page of records.

    Raises:
        InvalidRecordError: A filter, time, field or cursor is none.
        StoreError: The store cannot answer.
    """
    query = listing.query(session, limit)
    names = parse_fields(query.kind, fields)
    if after is not None:
        query = replace(query, after=position_from(query.kind, after))
    reader = listing.reader(session)
    rows = session.run(_query(session, reader, query))
    records = [{name: values[name] for name in names} for values in map(fields_of, rows)]
    cursor = cursor_of(rows[-1]) if len(rows) == limit else None
    if as_json:
        print_json({"kind": listing.kind, "store": reader, "records": records, "cursor": cursor})
        return
    shown = names if fields is not None else _worth_showing(records, names)
    print_table(shown, [[cell(record[name]) for name in shown] for record in records])
    note(f"{len(records)} from {reader}" + (f"; more with --after {cursor}" if cursor else ""))


async def _query(session: Session, reader: str, query: Query) -> Sequence[Row]:
    async with session.stores(reader) as stores:
        return await stores[reader].query(query)


def _worth_showing(records: Sequence[dict[str, Any]], names: Sequence[str]) -> Sequence[str]:
    """Leave out columns that hold nothing at all; a wide kind would not fit the screen otherwise."""
    return [name for name in names if not records or any(record[name] is not None for record in records)]

"""Writing records to a file or the standard output, page by page."""

from __future__ import annotations

import csv
import json
import os
import re
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TextIO

from gateway.cli.actions.listing import Listing, pages_of
from gateway.cli.output import json_text, note, print_json
from gateway.cli.progress import metered
from gateway.cli.session import Session
from gateway.cli.values import fields_of
from gateway.errors import ConfigurationError
from gateway.query import Query
from gateway.records.kind import KindSpec
from gateway.records.row import Row
from gateway.records.types import StorageType

__all__ = ["export_records", "opened"]

_PAGE: Final = 1_000
_FORMULA: Final = ("=", "+", "-", "@")
"""What makes a spreadsheet take a cell for a formula and run it; names of markets come from strangers."""
_NUMBER: Final = re.compile(r"-?[0-9.]+", re.ASCII)

Writer = Callable[[Row], None]


def export_records(
    session: Session, listing: Listing, file_format: str, output: Path | None, *, as_json: bool
) -> None:
    """Write the records of a listing.

    Raises:
        ConfigurationError: The format or the file is none that can be written.
        StoreError: The store cannot answer; a file of that name stays as it was.
    """
    if as_json and output is None:
        raise ConfigurationError(
            "--json reports on an export into a file; give --output FILE, or leave --json out"
        )
    query = listing.query(session, _PAGE)
    make = _WRITERS.get(file_format)
    if make is None:
        raise ConfigurationError(f"--format is {' or '.join(_WRITERS)}, not {file_format!r}")
    reader = listing.reader(session)
    with opened(output) as stream:
        rows = session.run(_export(session, reader, query, make(query.kind, stream)))
    if as_json:
        print_json(
            {"kind": listing.kind, "store": reader, "rows": rows, "file": str(output), "format": file_format}
        )
    elif output is not None:
        note(f"{rows:,} of {listing.kind} from {reader} written to {output}")


async def _export(session: Session, reader: str, query: Query, write: Writer) -> int:
    rows = 0
    async with session.stores(reader) as stores:
        with metered() as meter:
            async for page in pages_of(stores[reader], query):
                for row in page:
                    write(row)
                rows += len(page)
                meter.show(query.kind.name, rows, rows)
    return rows


@contextmanager
def opened(output: Path | None) -> Iterator[TextIO]:
    """Give the stream to write to: the standard output, or a file that gets its name once it is whole."""
    if output is None:
        yield sys.stdout
        sys.stdout.flush()
        return
    draft = output.with_name(f".{output.name}.{secrets.token_hex(4)}.part")
    try:
        with open(draft, "x", encoding="utf-8", newline="", opener=_private) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(output)
    except OSError as error:
        raise ConfigurationError(
            f"{output} cannot be written: {error.strerror or error}; "
            "choose another file, or make room and check the permissions"
        ) from error
    finally:
        with suppress(OSError):  # it has its final name by now, or was never made
            draft.unlink()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _json_lines(kind: KindSpec, stream: TextIO) -> Writer:  # noqa: ARG001 - as _table
    def write(row: Row) -> None:
        stream.write(json_text(fields_of(row), stream) + "\n")

    return write


def _table(kind: KindSpec, stream: TextIO) -> Writer:
    table = csv.writer(stream)
    table.writerow(kind.field_names)
    storages = [spec.storage for spec in kind.fields]

    def write(row: Row) -> None:
        table.writerow(map(_plain, storages, fields_of(row).values()))

    return write


def _plain(storage: StorageType, value: Any) -> Any:
    """Return a value as a cell; text that a spreadsheet would run gets an apostrophe before it."""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and value.startswith(_FORMULA):
        money = storage is StorageType.MONEY and _NUMBER.fullmatch(value)
        return value if money else f"'{value}"
    return value


_WRITERS: Final[dict[str, Callable[[KindSpec, TextIO], Writer]]] = {"jsonl": _json_lines, "csv": _table}

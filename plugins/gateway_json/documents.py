"""Rows as JSON that a person can read, and back to exactly the same canonical values.

Times are ISO 8601 in UTC with microseconds, money is text, JSON fields are JSON. A JSON field's text is
spliced in and cut out again token by token, never parsed into objects, so that no number changes its spelling
on the way. The gateway's columns follow the record's own fields: `_version` and `_digest` (as text, since
many tools round numbers beyond 2**53), `_deleted`, and `_tenant` where it is not the default one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import msgspec

from gateway.errors import InvalidRecordError, SchemaTooNewError, StoreCorruptError
from gateway.records.codec import Value, codec_of, from_micros, to_micros
from gateway.records.kind import KindSpec
from gateway.records.row import Row
from gateway.records.stamp import DEFAULT_TENANT
from gateway.records.types import StorageType

__all__ = [
    "Document",
    "Marker",
    "document_of",
    "marker_line",
    "parse_stamp",
    "parse_time",
    "row_line",
    "unreadable",
]

_encode: Final = msgspec.json.Encoder().encode
_INT64: Final = 2**63
_NULL: Final = msgspec.Raw(b"null")
_ANNOTATIONS: Final[Mapping[StorageType, Any]] = {
    StorageType.TEXT: str | None,
    StorageType.INTEGER: int | None,
    StorageType.FLOAT: float | None,
    StorageType.BOOLEAN: bool | None,
    # A person may write a price as a number or a time as microseconds; both are understood.
    StorageType.MONEY: str | int | float | None,
    StorageType.TIME: str | int | None,
    StorageType.JSON: msgspec.Raw,
}


class Marker(msgspec.Struct, frozen=True):
    """A line saying that a row's newest version has another time and is in another day's file.

    Attributes:
        record_id: Which row.
        stamp: Version and digest of the version that moved.
        day: Where it is now.
    """

    record_id: str
    stamp: tuple[int, int]
    day: str


class Document:
    """Encodes and decodes the rows of one kind. Get it from `document_of`."""

    __slots__ = ("_decoder", "_encoders", "_names", "_parsers", "kind")

    def __init__(self, kind: KindSpec) -> None:
        self.kind = kind
        self._names = kind.field_names
        self._encoders = _by_position(kind, _ENCODERS)
        self._parsers = _by_position(kind, _PARSERS)
        self._decoder = msgspec.json.Decoder(_struct_of(kind))

    def fields(self, row: Row) -> dict[str, Any]:
        """Return a row as what JSON holds of it."""
        values: list[Any] = list(row.values)
        for position, encode in self._encoders:
            if values[position] is not None:
                values[position] = encode(values[position])
        content = dict(zip(self._names, values, strict=True))
        content |= {"_version": str(row.version), "_digest": str(row.digest), "_deleted": row.deleted}
        if row.tenant != DEFAULT_TENANT:
            content["_tenant"] = row.tenant
        return content

    def line(self, row: Row) -> bytes:
        """Return a row as one line of JSON."""
        return _encode(self.fields(row)) + b"\n"

    def pretty(self, row: Row) -> bytes:
        """Return a row as an indented JSON document."""
        return msgspec.json.format(_encode(self.fields(row)), indent=2) + b"\n"

    def decode(self, data: bytes, where: str, tenant: str) -> Row | Marker:
        """Return the row that JSON stands for, with the version and digest that it carries.

        What a person edited no longer fits its digest (`Row.intact` is false). It is served with the edited
        values, made canonical, and with the version and digest as they stand in the file, so that
        verification finds it.

        Args:
            data: One JSON object.
            where: File name, and the place in it, for errors.
            tenant: Whose directory the file lies in.

        Raises:
            StoreCorruptError: It is no such row.
            SchemaTooNewError: It has a field that the kind lacks.
        """
        try:
            row = self._row(self._decoder.decode(data), tenant)
            return row if isinstance(row, Marker) or row.intact else _canonical(row)
        except (ValueError, OverflowError, InvalidRecordError) as error:
            raise unreadable(self.kind, where, error) from error

    def _row(self, held: msgspec.Struct, tenant: str) -> Row | Marker:
        *values, version, digest, deleted, owner, moved = msgspec.structs.astuple(held)
        stamp = parse_stamp(version, digest)
        if moved is not None:
            return Marker(str(values[0]), stamp, moved)
        if owner != tenant:
            raise ValueError(f"it belongs to tenant {owner!r} but lies in the directory of {tenant!r}")
        for position, parse in self._parsers:
            if values[position] is not None:
                values[position] = parse(values[position])
        missing = next(
            (name for name, value in zip(self.kind.key, values, strict=False) if value is None), None
        )
        if missing is not None:
            raise ValueError(f"it has no {missing!r}, which is part of the key")
        return Row(self.kind, tenant, *stamp, deleted, tuple(values))


@lru_cache(maxsize=512)
def document_of(kind: KindSpec) -> Document:
    """Return the encoder and decoder of a kind; made once."""
    return Document(kind)


def row_line(row: Row) -> bytes:
    """Return a row as one line of JSON."""
    return document_of(row.kind).line(row)


def marker_line(marker: Marker) -> bytes:
    """Return a marker as one line of JSON."""
    version, digest = marker.stamp
    content = {
        "record_id": marker.record_id,
        "_version": str(version),
        "_digest": str(digest),
        "_moved": marker.day,
    }
    return _encode(content) + b"\n"


def _struct_of(kind: KindSpec) -> type[msgspec.Struct]:
    """Return the typed shape of a document, whose positional names cannot clash with anything."""
    fields: list[tuple[str, Any, Any]] = []
    for position, spec in enumerate(kind.fields):
        default = _NULL if spec.storage is StorageType.JSON else None
        field = msgspec.field(name=spec.name, default=default)
        fields.append((f"f{position}", _ANNOTATIONS[spec.storage], field))
    fields += [
        ("version", str | int, msgspec.field(name="_version")),
        ("digest", str | int, msgspec.field(name="_digest")),
        ("deleted", bool, msgspec.field(name="_deleted", default=False)),
        ("tenant", str, msgspec.field(name="_tenant", default=DEFAULT_TENANT)),
        ("moved", str | None, msgspec.field(name="_moved", default=None)),
    ]
    return msgspec.defstruct("Document", fields, kw_only=True, forbid_unknown_fields=True)


def _canonical(row: Row) -> Row:
    """Return an edited row in canonical values, which the rest of the gateway relies on."""
    if row.deleted:
        return row
    codec = codec_of(row.kind)
    return row._replace(values=tuple(codec.encode(codec.decode(row.values))))


def unreadable(kind: KindSpec, where: str, error: Exception) -> StoreCorruptError | SchemaTooNewError:
    """Return what to raise for content that is no row of a kind."""
    if "unknown field" in str(error):
        return SchemaTooNewError(
            f"{where}: {error}; this gateway's kind {kind.name!r} has no such field. Upgrade the gateway, "
            "or correct the name if the file was edited by hand"
        )
    return StoreCorruptError(
        f"{where} is no {kind.name} row: {error}. Nothing was changed; correct it by hand, or restore it "
        "from a backup"
    )


def _time_text(micros: int) -> str | int:
    """Return a time as ISO 8601; as microseconds where the calendar ends."""
    try:
        return from_micros(micros).isoformat(timespec="microseconds").replace("+00:00", "Z")
    except OverflowError:
        return micros


def parse_stamp(version: str | int, digest: str | int) -> tuple[int, int]:
    """Return version and digest as they stand in a file; raises ValueError if they are no 64-bit numbers."""
    stamp = (int(version), int(digest))
    if not all(-_INT64 <= number < _INT64 for number in stamp):
        raise ValueError(f"its version and digest {stamp} are no 64-bit numbers")
    return stamp


def parse_time(value: object) -> int:
    """Return a time as it stands in a file in microseconds; raises ValueError if it is none."""
    if isinstance(value, int):
        return value
    if not isinstance(value, str):
        raise ValueError("it has no time")  # noqa: TRY004  damaged content, not a caller's mistake
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError(f"the time {value!r} has no zone; end it in Z")
    return to_micros(moment)


def _parse_json(raw: msgspec.Raw) -> str | None:
    text = msgspec.json.format(bytes(raw), indent=-1).decode()
    return None if text == "null" else text


_ENCODERS: Final[dict[StorageType, Callable[[Any], Any]]] = {
    StorageType.TIME: _time_text,
    StorageType.JSON: lambda text: msgspec.Raw(text),
}
_PARSERS: Final[dict[StorageType, Callable[[Any], Value]]] = {
    StorageType.TIME: parse_time,
    StorageType.JSON: _parse_json,
    StorageType.MONEY: str,
}


def _by_position(
    kind: KindSpec, table: Mapping[StorageType, Callable[[Any], Any]]
) -> tuple[tuple[int, Callable[[Any], Any]], ...]:
    return tuple(
        (position, table[spec.storage]) for position, spec in enumerate(kind.fields) if spec.storage in table
    )

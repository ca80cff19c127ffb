"""What stands in the cache: names of entries, marks of rows, and rows as bytes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
import xxhash

from gateway.cache.contract import MARK_DIGITS
from gateway.records.digest import digest_of
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row

__all__ = ["NO_ROW", "OtherShapeError", "mark_of", "mark_of_version", "name_of", "pack", "unpack"]

NO_ROW: Final = "0" * MARK_DIGITS
"""Mark of a key that has no row: every row is newer."""

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(tuple[Any, ...]).decode
_key_text: Final = msgspec.json.Encoder().encode
_SIGN: Final = 2**63


class OtherShapeError(ValueError):
    """A row of the kind as another release of it has it, with other fields."""


@lru_cache(maxsize=512)
def _shape(kind: KindSpec) -> int:
    """Return what stands for the fields of a kind."""
    return xxhash.xxh3_64_intdigest(_encode([(field.name, field.storage.value) for field in kind.fields]))


def name_of(epoch: str, kind: KindSpec, tenant: str, key: Key) -> str:
    """Return the name of a row's entry. Different rows never share one, nor do different epochs or tenants.

    Processes of two releases, of which one knows more fields of the kind, do share it: they write the same row.
    """
    return f"{epoch}:{kind.name}:{tenant}:{_key_text(key).decode()}"


def mark_of(row: Row) -> str:
    """Return the place of a row among the versions of its key, as a text that sorts like `Row.stamp`."""
    return f"{row.version:016x}{row.digest + _SIGN:016x}"


def mark_of_version(version: int) -> str:
    """Return the lowest mark of a version whose digest is not known."""
    return f"{version:016x}{0:016x}"


def pack(kind: KindSpec, tenant: str, key: Key, row: Row | None) -> bytes:
    """Return a row as bytes, or that there is none."""
    if row is None:
        return _encode((kind.name, tenant, key))
    return _encode((_shape(kind), row.version, row.digest, row.deleted, row.values))


def unpack(kind: KindSpec, tenant: str, key: Key, value: bytes) -> Row | None:
    """Return the row that bytes stand for; None if they say that there is none.

    Raises:
        OtherShapeError: They are a row with other fields, which another release keeps.
        ValueError: They are not what `pack` made of a row of this very key, or were changed since.
    """
    try:
        parts = _decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError("is no cached row") from error
    if len(parts) == 3:
        if parts[0] == kind.name and parts[1] == tenant and _same(parts[2], key):
            return None
    elif len(parts) == 5 and isinstance(parts[4], list):
        if parts[0] != _shape(kind):
            raise OtherShapeError("is a row with other fields")
        row = Row(kind, tenant, parts[1], parts[2], parts[3], tuple(parts[4]))
        if len(row.values) == len(kind.fields) and row.key == key and _intact(row):
            return row
    raise ValueError("is the row of another key, or was changed")


def _same(found: object, key: Sequence[object]) -> bool:
    return isinstance(found, list) and tuple(found) == tuple(key)


def _intact(row: Row) -> bool:
    try:
        return row.digest == digest_of(row.kind.name, row.tenant, row.version, row.deleted, row.values)
    except (TypeError, msgspec.MsgspecError):
        return False

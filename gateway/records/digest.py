"""Digests: a 64-bit fingerprint of what a row means, the same in every store.

The canonical bytes are two MessagePack arrays, `[kind, tenant, version, deleted]` and the row's values. MessagePack
tags every value with its type and its length, so no two different rows share their bytes. The values end with the
last one that is not None: a kind that gains optional fields at its end leaves the digests of older rows as they were.
The hash is xxh3-64, read as a signed number because that is what databases can store.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Final

import msgspec
import xxhash

from gateway.records.codec import Value

__all__ = ["canonical_bytes", "digest_of", "digests_of", "share_of"]

_encode: Final = msgspec.msgpack.Encoder().encode
_hash: Final = xxhash.xxh3_64_intdigest
_SIGN: Final = 2**63
_RANGE: Final = 2**64
_NINE_BYTES: Final = 2**32
"""From here on MessagePack takes nine bytes for a number, a mark and the number itself. Versions of our days do."""
_FALSE: Final = _encode(False)


def canonical_bytes(kind: str, tenant: str, version: int, deleted: bool, values: Sequence[Value]) -> bytes:
    """Return the bytes that a row's digest is taken of."""
    return _encode((kind, tenant, version, deleted)) + _encode(_without_tail(values))


def digest_of(kind: str, tenant: str, version: int, deleted: bool, values: Sequence[Value]) -> int:
    """Return a row's digest as a signed 64-bit number."""
    value = _hash(_encode((kind, tenant, version, deleted)) + _encode(_without_tail(values)))
    return value - _RANGE if value >= _SIGN else value


def digests_of(
    kind: str, tenant: str, versions: Sequence[int], columns: Sequence[Sequence[Value]]
) -> list[int]:
    """Return the digests of many live rows of one kind, given by column; each as `digest_of` gives it."""
    kept = list(columns)
    while kept and kept[-1].count(None) == len(versions):
        kept.pop()
    rows: Iterable[Sequence[Value]] = zip(*kept, strict=True) if kept else repeat((), len(versions))
    if kept and None in kept[-1]:
        rows = map(_without_tail, rows)
    if len(versions) and min(versions) < _NINE_BYTES:
        pairs = zip(versions, rows, strict=True)
        return [digest_of(kind, tenant, version, False, values) for version, values in pairs]
    # What stands before the version and behind it is the same for every row, so only the version is packed anew.
    head = _encode((kind, tenant, _NINE_BYTES, False))[:-9]
    found = [
        _hash(head + version.to_bytes(8, "big") + _FALSE + _encode(values))
        for version, values in zip(versions, rows, strict=True)
    ]
    return [value - _RANGE if value >= _SIGN else value for value in found]


def _without_tail(values: Sequence[Value]) -> Sequence[Value]:
    end = len(values)
    while end and values[end - 1] is None:
        end -= 1
    return values[:end]


def share_of(kind: str, tenant: str, key: Sequence[Value]) -> float:
    """Return a stable number in [0, 100) for a key: below N, the key belongs to the first N percent.

    The same key gives the same number in every process and release, and raising the share only adds keys.
    """
    return _hash(_encode((kind, tenant, *key))) % 10_000 / 100

"""File names for keys, tenants and days: reversible, readable, and distinct on every file system.

Text is percent-encoded byte by byte, with lower-case hexadecimal digits; only `a-z A-Z 0-9 - _` stay as they
are, so no name holds a dot, a slash, a space or a letter that a file system might normalise. The parts of a
key are joined by commas. Where a file system ignores case, `BTC` and `btc` would share a file; a name with
capitals therefore ends in `~` and a bit mask of where they stand (`BTC~7`). Names that would grow too long
end in `~~` and a hash instead, and only the file's content tells the key.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.records.codec import Value, from_micros, to_micros
from gateway.records.kind import KindSpec
from gateway.records.row import Key
from gateway.records.types import StorageType

__all__ = ["MAX_NAME", "day_of", "decode_key", "encode_key", "encode_text"]

MAX_NAME: Final = 180
"""Longest name in bytes. File systems take 255; the rest is room for suffixes such as `.json.tmp.stale-7`."""

_PREFIX: Final = 80
_DAY: Final = 86_400_000_000
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_SAFE: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
_EMPTY: Final = "%00"
_WINDOWS_DEVICE: Final = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])", re.ASCII)
_TIME: Final = re.compile(r"(\d{4}-\d{2}-\d{2})_(\d{2})(\d{2})(\d{2})_(\d{6})", re.ASCII)


def encode_key(kind: KindSpec, key: Key) -> str:
    """Return the file name, without a suffix, of a key."""
    parts = [_encode_value(value, spec.storage) for value, spec in zip(key, kind.fields, strict=False)]
    return _join(parts)


def encode_text(text: str) -> str:
    """Return a file name for a single text, such as a tenant."""
    return _join([_quote(text)])


def decode_key(kind: KindSpec, name: str) -> Key | None:
    """Return the key that a file name stands for; None for a hashed name and for one that no key has."""
    if "~~" in name:
        return None
    body, _, mask = name.partition("~")
    try:
        parts = _restore_case(body, mask).split(",")
        key = tuple(
            _decode_value(part, kind.field_spec(field).storage)
            for part, field in zip(parts, kind.key, strict=True)
        )
    except ValueError:
        return None
    # A name that a person made up may decode and still not be the one that the key is looked for under.
    # Only lower-casing is forgiven, which is what file systems do.
    return key if name in {encoded := encode_key(kind, key), encoded.lower()} else None


def day_of(micros: int) -> str:
    """Return the UTC day of a time, `YYYY-MM-DD`.

    Args:
        micros: Microseconds since 1970-01-01 UTC.

    Raises:
        ValueError: The time lies outside the years 1 to 9999.
    """
    ordinal = _EPOCH_DAY + micros // _DAY
    if not 1 <= ordinal <= date.max.toordinal():
        raise ValueError(f"{micros} microseconds lie outside the years 1 to 9999")
    return date.fromordinal(ordinal).isoformat()


def _join(parts: Sequence[str]) -> str:
    body = ",".join(parts)
    mask = sum(1 << position for position, char in enumerate(body) if char.isupper())
    name = f"{body}~{mask:x}" if mask else body
    if len(name) > MAX_NAME:
        digest = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
        return f"{body[:_PREFIX].lower()}~~{digest}"
    if _WINDOWS_DEVICE.fullmatch(name):
        return f"%{ord(name[0]):02x}{name[1:]}"
    return name


def _quote(text: str) -> str:
    if not text:
        return _EMPTY
    return "".join(char if char in _SAFE else _percent(char) for char in text)


def _percent(char: str) -> str:
    return "".join(f"%{byte:02x}" for byte in char.encode())


def _restore_case(body: str, mask: str) -> str:
    """Give a name its capitals back, whatever a case-folding file system made of them."""
    bits = int(mask, 16) if mask else 0
    return "".join(
        char.upper() if bits >> position & 1 else char for position, char in enumerate(body.lower())
    )


def _encode_value(value: Value, storage: StorageType) -> str:
    if storage is StorageType.TIME and isinstance(value, int):
        return _time_name(value)
    return _quote(str(value))


def _decode_value(part: str, storage: StorageType) -> Value:
    if storage is StorageType.TIME:
        return _named_time(part)
    text = "" if part == _EMPTY else unquote_to_bytes(part).decode()
    return int(text) if storage is StorageType.INTEGER else text


def _time_name(micros: int) -> str:
    """Return a time as `2026-03-12_110641_532199`; as a plain number where the calendar ends."""
    try:
        moment = from_micros(micros)
    except OverflowError:
        return str(micros)
    return f"{moment:%Y-%m-%d_%H%M%S_%f}".rjust(24, "0")


def _named_time(part: str) -> int:
    found = _TIME.fullmatch(part)
    if found is None:
        return int(part)
    day, hour, minute, second, fraction = found.groups()
    moment = datetime.fromisoformat(f"{day}T{hour}:{minute}:{second}.{fraction}")
    return to_micros(moment.replace(tzinfo=UTC))

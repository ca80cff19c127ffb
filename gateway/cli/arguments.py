"""What people type, turned into what the gateway takes: times, keys, filters, shares. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from gateway.errors import ConfigurationError, InvalidRecordError
from gateway.filters import conditions, key_of
from gateway.query import Condition
from gateway.records.kind import FieldSpec, KindSpec
from gateway.records.row import Key
from gateway.records.types import StorageType

__all__ = ["parse_fields", "parse_key", "parse_share", "parse_time", "parse_where"]

_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_NULL: Final = "null"
_WORDS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def parse_time(text: str) -> datetime:
    """Read a time in ISO 8601 with `Z` or an offset, or a bare date, which means midnight UTC.

    Raises:
        InvalidRecordError: It is no such time, or it has no zone: nobody can tell which moment is meant.
    """
    written = text.strip()
    try:
        moment = datetime.fromisoformat(written)
    except ValueError as error:
        raise InvalidRecordError(
            f"{text!r} is no time; write it as 2026-01-31T12:00:00Z, with an offset such as +02:00, "
            "or as 2026-01-31"
        ) from error
    if _DAY.fullmatch(written):
        return moment.replace(tzinfo=UTC)
    if moment.tzinfo is None:
        raise InvalidRecordError(
            f"{text!r} has no time zone; add Z for UTC, as in {written}Z, or an offset such as +02:00"
        )
    return moment


def parse_share(text: str) -> float:
    """Read `25%` or `25` as 25 percent.

    Raises:
        ConfigurationError: It is no number between 0 and 100.
    """
    try:
        share = float(text.strip().removesuffix("%"))
    except ValueError:
        share = -1.0
    if not 0 <= share <= 100:
        raise ConfigurationError(f"--share takes a percentage between 0% and 100%, such as 25%, not {text!r}")
    return share


def parse_key(kind: KindSpec, words: Sequence[str]) -> Key:
    """Read the parts of a key, each as its field's type.

    Raises:
        InvalidRecordError: Too few or too many parts, or one the field could not hold.
    """
    typed = words
    if len(words) == len(kind.key):
        typed = [
            _value(kind, kind.field_spec(name), word) for name, word in zip(kind.key, words, strict=True)
        ]
    return key_of(kind, tuple(typed))


def parse_where(kind: KindSpec, filters: Sequence[str]) -> tuple[Condition, ...]:
    """Read filters such as `market_name=BTC` and `price__ge=1`; all of them must hold.

    `null` stands for no value. `__in` takes a comma list, or a JSON list where a value holds a comma.

    Raises:
        InvalidRecordError: It is no filter, the field or operator is unknown, or the field could not hold the
            value.
    """
    return tuple(condition for text in filters for condition in _conditions(kind, text))


def _conditions(kind: KindSpec, text: str) -> tuple[Condition, ...]:
    name, mark, written = text.partition("=")
    name = name.strip()
    if not mark or not name:
        raise InvalidRecordError(f"--where takes field=value or field__ge=value, not {text!r}")
    field, _, suffix = name.partition("__")
    if field not in kind.field_names:
        # The sentence of the gateway itself names the fields there are.
        return conditions(kind, {name: written})
    spec = kind.field_spec(field)
    value: Any = (
        [_value(kind, spec, item) for item in _listed(written)]
        if suffix == "in"
        else _value(kind, spec, written)
    )
    return conditions(kind, {name: value})


def _listed(text: str) -> list[str]:
    """Split the values of `__in`."""
    if not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",")]
    try:
        parts = json.loads(text)
    except ValueError as error:
        raise InvalidRecordError(
            f'--where: {text!r} begins like a JSON list and is none; write it as ["a,b","c"]'
        ) from error
    return [part if isinstance(part, str) else json.dumps(part) for part in parts]


def _value(kind: KindSpec, spec: FieldSpec, text: str) -> Any:
    """Read one value as its field's type.

    Raises:
        InvalidRecordError: It cannot be read as that.
    """
    if text == _NULL and spec.nullable:
        return None
    wrong = f"{kind.name}.{spec.name}: {text!r} is no"
    if spec.storage is StorageType.TIME:
        return parse_time(text)
    if spec.storage is StorageType.BOOLEAN:
        if text.lower() not in _WORDS:
            raise InvalidRecordError(f"{wrong} yes or no; write true or false")
        return _WORDS[text.lower()]
    try:
        if spec.storage is StorageType.INTEGER:
            return int(text)
        if spec.storage is StorageType.FLOAT:
            return float(text)
        if spec.storage is StorageType.JSON:
            return json.loads(text)
    except ValueError as error:
        name = {StorageType.INTEGER: "whole number", StorageType.FLOAT: "number"}.get(spec.storage, "JSON")
        raise InvalidRecordError(f"{wrong} {name}") from error
    return text


def parse_fields(kind: KindSpec, text: str | None) -> tuple[str, ...]:
    """Read a comma list of field names; all fields if there is none.

    Raises:
        InvalidRecordError: The kind has no such field.
    """
    if text is None:
        return kind.field_names
    names = tuple(filter(None, (part.strip() for part in text.split(","))))
    unknown = [name for name in names if name not in kind.field_names]
    if unknown or not names:
        raise InvalidRecordError(
            f"--fields: {kind.name} has no field {unknown[0] if unknown else text!r}; "
            f"its fields are {', '.join(kind.field_names)}"
        )
    return names

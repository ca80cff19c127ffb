"""Between records, which people use, and canonical values, which are stored, compared and hashed.

A canonical value is one of None, str, int, float and bool (see `StorageType`). Every store gives back exactly the
canonical value it was given; that is what makes digests comparable between stores.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Context, Decimal
from functools import lru_cache
from operator import attrgetter
from typing import Annotated, Any, Final, get_args

import msgspec
from pydantic import TypeAdapter, ValidationError

from gateway.errors import InvalidRecordError
from gateway.records.kind import KindSpec, Record
from gateway.records.types import (
    EPOCH,
    JSON_BYTES,
    MONEY_DIGITS,
    MONEY_SCALE,
    TEXT_LENGTH,
    StorageType,
    Text,
    Time,
)

__all__ = [
    "MONEY_CONTEXT",
    "Codec",
    "Value",
    "codec_of",
    "explain",
    "from_micros",
    "make_record",
    "to_micros",
]

Value = str | int | float | bool | None
"""A canonical value."""

MONEY_CONTEXT: Final = Context(prec=2 * MONEY_DIGITS)
"""Arithmetic on money goes through this: the default context would round to 28 digits."""

_DAY: Final = 86_400_000_000
_ESCAPED_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")

_json_encode: Final = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=True
).encode
_json_decode: Final = msgspec.json.Decoder().decode


def to_micros(moment: datetime) -> int:
    """Return an aware time as microseconds since 1970-01-01 UTC, exactly."""
    since = moment - EPOCH
    return since.days * _DAY + since.seconds * 1_000_000 + since.microseconds


def from_micros(micros: int) -> datetime:
    """Return microseconds since 1970-01-01 UTC as an aware time in UTC."""
    return EPOCH + timedelta(microseconds=micros)


def money_text(value: Decimal) -> str:
    """Return a decimal in plain notation without trailing zeros: one spelling for every equal value.

    Raises:
        ValueError: More than 30 digits before the point, or more than 30 after it.
    """
    text = str(value)
    if len(text) < MONEY_SCALE and "E" not in text:
        # The common case, short and plain: only zeros at the end, and the sign of zero, can be superfluous.
        if text[-1] == "0" and "." in text:
            text = text.rstrip("0").rstrip(".")
        return "0" if text == "-0" else text
    text = format(MONEY_CONTEXT.normalize(value), "f")
    whole, _, fraction = text.lstrip("-").partition(".")
    if len(fraction) > MONEY_SCALE or len(whole) > MONEY_DIGITS - MONEY_SCALE:
        raise ValueError(
            f"has {len(whole)} digits before the point and {len(fraction)} after it; stores keep at most "
            f"{MONEY_DIGITS - MONEY_SCALE} and {MONEY_SCALE} exactly. Round it, or choose a larger unit"
        )
    return "0" if text == "-0" else text


def _plain(value: Any) -> Any:
    """Turn mappings and tuples inside a JSON field into what the encoder takes."""
    if isinstance(value, dict | list | str | int | float | None):
        return value
    return dict(value)


def json_text(value: Any) -> str:
    """Return canonical JSON: keys sorted, no spaces, non-ASCII as it is.

    Raises:
        ValueError: NaN, an infinity or a NUL character inside, or more than 8 MiB.
    """
    text = _json_encode(_plain(value) if not isinstance(value, tuple) else value)
    # Every character takes at least one byte, so most values need no second encoding to be measured.
    if len(text) * 4 > JSON_BYTES and len(text.encode()) > JSON_BYTES:
        raise ValueError(
            f"is longer than {JSON_BYTES // 2**20} MiB as JSON; store the document elsewhere and keep a reference"
        )
    if "\\u0000" in text and _ESCAPED_NUL.search(text):
        raise ValueError("holds a NUL character, which not every store can keep; remove it")
    return text


_ENCODERS: Final[dict[StorageType, Callable[[Any], Value]]] = {
    StorageType.FLOAT: lambda value: (
        value + 0.0
    ),  # negative zero becomes zero, as stores would make it anyway
    StorageType.MONEY: money_text,
    StorageType.TIME: to_micros,
    StorageType.JSON: json_text,
}
_DECODERS: Final[dict[StorageType, Callable[[Any], Any]]] = {
    StorageType.TIME: from_micros,
    StorageType.JSON: _json_decode,
}


class Codec:
    """Encodes and decodes the records of one kind. Get it from `codec_of`."""

    __slots__ = ("_decoders", "_encoders", "_getter", "_names", "_plain", "_times", "_validate", "kind")

    def __init__(self, kind: KindSpec) -> None:
        self.kind = kind
        self._names = kind.field_names
        self._getter = attrgetter(*self._names)
        self._encoders = _by_position(kind, _ENCODERS)
        self._decoders = _by_position(kind, _DECODERS)
        self._validate = kind.model.__pydantic_validator__.validate_python
        self._plain = _unconstrained(kind, Text)
        self._times = _unconstrained(kind, Time)

    def encode(self, record: Record) -> list[Value]:
        """Return the canonical values of a record, in the order of `KindSpec.fields`.

        Raises:
            InvalidRecordError: A value that no store could keep exactly; the message names the field.
        """
        got = self._getter(record)
        values: list[Value] = list(got) if len(self._names) > 1 else [got]  # type: ignore[list-item] # attrgetter of one
        for position, encode in self._encoders:
            value = values[position]
            if value is not None:
                try:
                    values[position] = encode(value)
                except (ValueError, TypeError, RecursionError) as error:
                    raise InvalidRecordError(
                        f"{self.kind.name}: field {self._names[position]!r} {error}"
                    ) from error
        # One search through all texts; joining them is four times cheaper than looking into each.
        if "\0" in "".join([value for value in values if type(value) is str]):
            self._refuse_nul(values)
        return values

    def _refuse_nul(self, values: Sequence[Value]) -> None:
        name = next(
            name
            for name, value in zip(self._names, values, strict=True)
            if isinstance(value, str) and "\0" in value
        )
        raise InvalidRecordError(
            f"{self.kind.name}: field {name!r} holds a NUL character, which not every store can keep; remove it"
        )

    def encode_field(self, name: str, value: Any) -> Value:
        """Return the canonical form of one value given for a filter or a key.

        The value is validated exactly as the model would validate the field.

        Raises:
            InvalidRecordError: The field does not exist or does not take such a value.
        """
        kind = self.kind
        # What every key and most filters are: nothing to validate. Only what is not ASCII can be no Unicode.
        if (
            value.__class__ is str
            and name in self._plain
            and len(value) <= TEXT_LENGTH
            and value.isascii()
            and "\0" not in value
        ):
            return value
        if name not in self._names:
            raise InvalidRecordError(
                f"{kind.name} has no field {name!r}; its fields are {', '.join(self._names)}"
            )
        if value is None:
            return None
        try:
            checked = _adapter(kind.model, name).validate_python(value)
        except ValidationError as error:
            raise InvalidRecordError(explain(f"{kind.name}.{name}", error)) from error
        encode = _ENCODERS.get(kind.field_spec(name).storage)
        try:
            canonical: Value = encode(checked) if encode is not None else checked
        except ValueError as error:
            raise InvalidRecordError(f"{kind.name}: field {name!r} {error}") from error
        if isinstance(canonical, str) and "\0" in canonical:
            raise InvalidRecordError(
                f"{kind.name}: field {name!r} cannot hold a NUL character, so nothing can equal this"
            )
        return canonical

    def encode_column(self, name: str, values: Sequence[Any]) -> list[Value]:
        """Return the canonical forms of one field in many records, exactly as a record of each would have it.

        Raises:
            InvalidRecordError: One of them is refused; the message names the field and the first such row.
        """
        try:
            checked = _column_adapter(self.kind.model, name).validate_python(values)
        except ValidationError as error:
            row, *_ = error.errors(include_url=False, include_input=False, include_context=False)
            raise self._refused(name, int(row["loc"][0]), _MESSAGES.get(row["type"], row["msg"])) from error
        encode = _ENCODERS.get(self.kind.field_spec(name).storage)
        if encode is not None:
            checked = self._encoded(name, checked, encode)
        if "\0" in "".join([value for value in checked if type(value) is str]):
            at = next(at for at, value in enumerate(checked) if isinstance(value, str) and "\0" in value)
            raise self._refused(name, at, "holds a NUL character, which not every store can keep; remove it")
        return checked

    def plain_time(self, name: str) -> bool:
        """Tell whether a field takes any aware time, without constraints of its own."""
        return name in self._times

    def decode_field(self, name: str, value: Value) -> Any:
        """Return what a record holds for one canonical value."""
        decode = _DECODERS.get(self.kind.field_spec(name).storage)
        return value if decode is None or value is None else decode(value)

    def decode_column(self, name: str, values: Sequence[Value]) -> Sequence[Any]:
        """Return what many records hold for one stored field.

        Raises:
            InvalidRecordError: No record would take one of them.
        """
        if name in self._times and (self.kind.field_spec(name).nullable or None not in values):
            moments: Sequence[Any] = (
                values  # written out, as a call for each of thousands of rows is most of the time
            )
            return [None if micros is None else EPOCH + timedelta(0, 0, micros) for micros in moments]
        decode = _DECODERS.get(self.kind.field_spec(name).storage)
        held = values if decode is None else [None if value is None else decode(value) for value in values]
        try:
            return _column_adapter(self.kind.model, name).validate_python(held)
        except ValidationError as error:
            raise InvalidRecordError(
                f"stored rows are no {self.kind.name} records any more (field {name!r}); run `gateway verify --deep`"
            ) from error

    def _encoded(self, name: str, checked: Sequence[Any], encode: Callable[[Any], Value]) -> list[Value]:
        try:
            return [None if value is None else encode(value) for value in checked]
        except (ValueError, TypeError, RecursionError) as error:
            at = next(at for at, value in enumerate(checked) if _refuses(encode, value))
            raise self._refused(name, at, str(error)) from error

    def _refused(self, name: str, row: int, why: str) -> InvalidRecordError:
        return InvalidRecordError(f"{self.kind.name}: field {name!r} in row {row}: {why}")

    def decode(self, values: Sequence[Value]) -> Record:
        """Return the record that canonical values stand for.

        Raises:
            InvalidRecordError: The values do not form such a record; what is stored was not written by this kind.
        """
        fields: dict[str, Any] = dict(zip(self._names, values, strict=True))
        for position, decode in self._decoders:
            value = values[position]
            if value is not None:
                fields[self._names[position]] = decode(value)
        try:
            return self._validate(fields)  # type: ignore[no-any-return] # the model's own validator
        except ValidationError as error:
            raise InvalidRecordError(
                f"a stored row is no {self.kind.name} record any more ({explain(self.kind.name, error)}); "
                "run `gateway verify --deep`"
            ) from error


@lru_cache(maxsize=4096)
def _adapter(model: type[Record], name: str) -> TypeAdapter[Any]:
    """Return what validates one field of a model on its own."""
    return TypeAdapter(_annotation(model, name))


@lru_cache(maxsize=4096)
def _column_adapter(model: type[Record], name: str) -> TypeAdapter[list[Any]]:
    """Return what validates one field of many records of a model at once."""
    column: Any = list[_annotation(model, name)]  # type: ignore[misc] # made at run time
    return TypeAdapter(column)


def _annotation(model: type[Record], name: str) -> Any:
    info = model.model_fields[name]
    annotation: Any = info.annotation
    if info.metadata:
        annotation = Annotated[annotation, *info.metadata]  # pyright: ignore[reportInvalidTypeForm]  # made at run time
    return annotation


def _refuses(encode: Callable[[Any], Value], value: Any) -> bool:
    try:
        _ = None if value is None else encode(value)
    except (ValueError, TypeError, RecursionError):
        return True
    return False


def _unconstrained(kind: KindSpec, wanted: Any) -> frozenset[str]:
    """Return the fields that take whatever a field type does, without constraints of their own."""
    return frozenset(spec.name for spec in kind.fields if _is_plain(kind.model, spec.name, wanted))


def _is_plain(model: type[Record], name: str, wanted: Any) -> bool:
    info = model.model_fields[name]
    parts = (info.annotation, *info.metadata) if info.metadata else get_args(info.annotation)
    kept = [part for part in parts if part is not type(None)]
    return kept in ([wanted], list(get_args(wanted)))


def _by_position(
    kind: KindSpec, table: dict[StorageType, Callable[[Any], Any]]
) -> tuple[tuple[int, Callable[[Any], Any]], ...]:
    return tuple(
        (position, table[spec.storage]) for position, spec in enumerate(kind.fields) if spec.storage in table
    )


@lru_cache(maxsize=512)
def codec_of(kind: KindSpec) -> Codec:
    """Return the codec of a kind; made once."""
    return Codec(kind)


def make_record(kind: KindSpec, fields: Mapping[str, Any]) -> Record:
    """Return the record that these fields make.

    Raises:
        InvalidRecordError: A field is missing, unknown or refused; the message names each.
    """
    try:
        return kind.model.__pydantic_validator__.validate_python(fields)  # type: ignore[no-any-return] # its own model
    except ValidationError as error:
        raise InvalidRecordError(explain(kind.name, error)) from error


def explain(name: str, error: ValidationError) -> str:
    """Turn pydantic's report into one sentence that names each field, without the values (they may be secret)."""
    parts = []
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        where = ".".join(str(step) for step in item["loc"]) or "record"
        parts.append(f"{where}: {_MESSAGES.get(item['type'], item['msg'])}")
    return f"{name}: {'; '.join(parts)}"


_MESSAGES: Final = {
    "extra_forbidden": "no such field; remove it or register a kind that has it",
    "missing": "is required",
    "timezone_aware": "has no time zone; pass an aware datetime such as datetime.now(UTC)",
    "datetime_type": "must be an aware datetime, such as datetime.now(UTC)",
    "finite_number": "must be a finite number; NaN and infinities cannot be stored",
}

"""Frames that bots give: looked at by column, with the refusals that records have. Pure.

A frame is a mapping of columns, a pandas DataFrame, a `pyarrow.Table` or `RecordBatch`, or anything that offers
Arrow's C interface, as polars does. Mappings of lists need no pyarrow.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from gateway.errors import InvalidRecordError
from gateway.frames import arrow
from gateway.records.codec import Value, codec_of, make_record, to_micros
from gateway.records.kind import KindSpec
from gateway.records.types import StorageType

__all__ = ["columns_of_frame", "is_frame"]

_FIRST: Final = to_micros(datetime.min.replace(tzinfo=UTC))
_LAST: Final = to_micros(datetime.max.replace(tzinfo=UTC))
_NO_ZONE: Final = "has no time zone; pass aware times, such as pandas' dt.tz_localize('UTC')"

Given = dict[str, Any]
"""Columns by name, each a list or an Arrow array."""


def is_frame(given: object) -> bool:
    """Tell whether an object is a frame and no collection of records."""
    return (
        isinstance(given, Mapping)
        or hasattr(given, "__arrow_c_stream__")
        or hasattr(given, "__arrow_c_array__")
    )


def columns_of_frame(
    kind: KindSpec, frame: object, fixed: Mapping[str, Value] | None = None
) -> list[list[Value]]:
    """Return the canonical values of a frame: for each field of the kind, in their order, those of all rows.

    Ids that the gateway is to make are None. The frame is not changed.

    Args:
        kind: What the rows are.
        frame: The frame. A field that has a default may be left out; the time of a log may not.
        fixed: Fields that have the same canonical value in every row; the frame must not have them.

    Raises:
        InvalidRecordError: It is no frame, a column is unknown, missing, of another length or holds a value that a
            record would not take; the message names the column and the first such row, counted from 0.
        ConfigurationError: The frame needs pyarrow, which is not installed.
    """
    given = _given(kind, frame)
    fixed = fixed or {}
    _check_names(kind, given, fixed)
    rows = _length(kind, given)
    if not rows:
        return [[] for _ in kind.fields]
    columns = (
        _by_record(kind, given, fixed, rows) if _has_rules(kind) else _by_column(kind, given, fixed, rows)
    )
    for name, column in zip(kind.key, columns, strict=False):
        if "" in column or (None in column and name != "record_id"):
            at = next(at for at, value in enumerate(column) if value in {"", None})
            raise InvalidRecordError(
                f"{kind.name}: key field {name!r} is empty in row {at}; every record needs its key"
            )
    return columns


def _by_column(kind: KindSpec, given: Given, fixed: Mapping[str, Value], rows: int) -> list[list[Value]]:
    columns: list[list[Value]] = []
    for name in kind.field_names:
        if name in given:
            columns.append(_encoded(kind, name, given[name]))
        elif name in fixed:
            columns.append([fixed[name]] * rows)
        else:
            default = kind.model.model_fields[name].get_default(call_default_factory=True)
            columns.append(codec_of(kind).encode_column(name, [default]) * rows)
    return columns


def _has_rules(kind: KindSpec) -> bool:
    """Tell whether a model has validators of its own, which want to see whole records."""
    rules = kind.model.__pydantic_decorators__
    return bool(rules.validators or rules.field_validators or rules.root_validators or rules.model_validators)


def _by_record(kind: KindSpec, given: Given, fixed: Mapping[str, Value], rows: int) -> list[list[Value]]:
    codec = codec_of(kind)
    lists = {name: _list_of(kind, name, data) for name, data in given.items()}
    held = {name: codec.decode_field(name, value) for name, value in fixed.items()}
    made = []
    for at, values in enumerate(zip(*lists.values(), strict=True)):
        try:
            made.append(codec.encode(make_record(kind, {**held, **dict(zip(lists, values, strict=True))})))
        except InvalidRecordError as error:
            raise InvalidRecordError(f"row {at}: {error}") from error
    assert len(made) == rows  # noqa: S101 - a frame without columns has no rows, and is not looked at
    return [list(column) for column in zip(*made, strict=True)]


def _given(kind: KindSpec, frame: object) -> Given:
    """Return the columns of a frame by name."""
    if isinstance(frame, Mapping):
        return {name: _column(kind, name, data) for name, data in frame.items()}
    if not is_frame(frame):
        raise InvalidRecordError(
            f"{kind.name}: a frame is a mapping of columns, a pandas DataFrame, a pyarrow Table or what offers Arrow's "
            f"C interface, not {type(frame).__name__}; store records with put_many"
        )
    table = _table(kind, frame)
    names = table.column_names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidRecordError(f"{kind.name}: the frame has the column {twice[0]!r} twice; rename one")
    return dict(zip(names, table.columns, strict=True))


def _table(kind: KindSpec, frame: Any) -> Any:
    pa = arrow()
    try:
        if type(frame).__module__.partition(".")[0] != "pandas":
            return pa.table(frame)
        named = [name for name in frame.index.names if name is not None]
        return pa.Table.from_pandas(frame.reset_index(level=named) if named else frame, preserve_index=False)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise InvalidRecordError(
            f"{kind.name}: the frame cannot be read as an Arrow table ({error})"
        ) from error


def _column(kind: KindSpec, name: object, data: Any) -> Any:
    """Return one column of a mapping as a list, or as an Arrow array if it offers itself as one."""
    if isinstance(data, list | tuple):
        return data
    if hasattr(data, "__arrow_c_array__") or hasattr(data, "__arrow_c_stream__"):
        pa = arrow()
        try:
            return pa.chunked_array(data) if hasattr(data, "__arrow_c_stream__") else pa.array(data)
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise InvalidRecordError(
                f"{kind.name}: field {name!r} is no column of Arrow ({error})"
            ) from error
    if hasattr(data, "tolist"):
        return data.tolist()
    if isinstance(data, str | bytes | Mapping) or not isinstance(data, Iterable):
        raise InvalidRecordError(
            f"{kind.name}: column {name!r} is a list of values, not {type(data).__name__}"
        )
    return list(data)


def _check_names(kind: KindSpec, given: Given, fixed: Collection[str]) -> None:
    unknown = [name for name in given if name not in kind.field_names]
    if unknown:
        raise InvalidRecordError(
            f"{kind.name}: column {unknown[0]!r}: no such field; remove it or register a kind that has it. "
            f"The fields are {', '.join(kind.field_names)}"
        )
    twice = [name for name in given if name in fixed]
    if twice:
        raise InvalidRecordError(
            f"{kind.name}: column {twice[0]!r} is given beside the values; leave it out of them"
        )
    missing = [
        name
        for name, info in kind.model.model_fields.items()
        if info.is_required() and name not in given and name not in fixed
    ]
    if missing:
        raise InvalidRecordError(f"{kind.name}: the frame lacks the column {', '.join(missing)}")


def _length(kind: KindSpec, given: Given) -> int:
    lengths = {name: len(column) for name, column in given.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise InvalidRecordError(
            f"{kind.name}: the columns differ in length ({told}); give each as many values"
        )
    return next(iter(lengths.values()), 0)


def _encoded(kind: KindSpec, name: str, data: Any) -> list[Value]:
    codec = codec_of(kind)
    if not isinstance(data, list | tuple) and codec.plain_time(name):
        pa = arrow()
        if pa.types.is_timestamp(data.type):
            return _moments(kind, name, data)
    return codec.encode_column(name, _list_of(kind, name, data))


def _moments(kind: KindSpec, name: str, data: Any) -> list[Value]:
    """Return a column of times as microseconds, without a datetime for each."""
    pa = arrow()
    if data.type.tz is None:
        raise InvalidRecordError(f"{kind.name}: field {name!r} {_NO_ZONE}")
    try:
        micros = data.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise InvalidRecordError(
            f"{kind.name}: field {name!r} holds times that are finer than microseconds; round them, "
            "such as with pandas' dt.floor('us')"
        ) from error
    if micros.null_count and not kind.field_spec(name).nullable:
        at = micros.to_pylist().index(None)
        raise InvalidRecordError(f"{kind.name}: field {name!r} in row {at}: is required")
    least, most = (pa.compute.min_max(micros)[end].as_py() for end in ("min", "max"))
    if least is not None and not _FIRST <= least <= most <= _LAST:
        raise InvalidRecordError(f"{kind.name}: field {name!r} holds a time beyond the years 1 to 9999")
    found: list[Value] = micros.to_pylist()
    return found


def _list_of(kind: KindSpec, name: str, data: Any) -> Sequence[Any]:
    """Return a column as Python values that a record would take."""
    if not isinstance(data, list | tuple):
        pa = arrow()
        if (
            pa.types.is_timestamp(data.type)
            and data.type.tz is None
            and kind.field_spec(name).storage is StorageType.TIME
        ):
            raise InvalidRecordError(f"{kind.name}: field {name!r} {_NO_ZONE}")
        floats = pa.types.is_floating(data.type) and not data.null_count
        data = data.to_numpy(zero_copy_only=False).tolist() if floats else data.to_pylist()
    if kind.field_spec(name).storage is StorageType.JSON and any(isinstance(value, str) for value in data):
        return [_document(kind, name, at, value) for at, value in enumerate(data)]
    return data  # type: ignore[no-any-return] # Arrow's lists


def _document(kind: KindSpec, name: str, row: int, value: Any) -> Any:
    """Return a document that came as text, which is how frames hold JSON."""
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError as error:
        raise InvalidRecordError(f"{kind.name}: field {name!r} in row {row}: is no JSON ({error})") from error

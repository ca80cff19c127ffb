"""Record kinds: what a family of rows is called, what identifies a row, and how it is to be treated."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Final, get_args, get_origin

from pydantic import BaseModel, ConfigDict

from gateway.errors import ConfigurationError
from gateway.records.types import StorageType, Text

__all__ = ["Comparison", "Durability", "FieldSpec", "KindSpec", "LogRecord", "Record", "Shape"]

NAME_PATTERN: Final = re.compile(r"^[a-z][a-z0-9_]{0,48}$")
"""Kind and field names become table and column names, so they are held to this. No `__`, which splits filters."""

RESERVED: Final = frozenset({"tenant_id", "version", "digest", "deleted"})
"""Columns that every stored row carries beside its own fields."""


class Record(BaseModel):
    """Base class of all record models: frozen, and closed to unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class LogRecord(Record):
    """Base class of immutable rows, which are identified by an id that the gateway makes.

    Attributes:
        record_id: Leave it out for a new row. Give one to make a retry idempotent: rows with equal ids are one row.
    """

    record_id: Text | None = None


class Shape(StrEnum):
    """How rows of a kind change."""

    LOG = "log"
    """Immutable rows; identified by `record_id`, ordered by the time field."""
    STATE = "state"
    """The latest write of a key wins."""
    COUNTER = "counter"
    """Changed by deltas that are computed once, on the primary, and replicated as the resulting row."""
    QUEUE = "queue"
    """Claimed once; never executed on two stores."""


class Durability(StrEnum):
    """What an acknowledgement promises."""

    DURABLE = "durable"
    """The call returns after the store committed."""
    BUFFERED = "buffered"
    """The call returns at once; the rows are written within 100 rows or one second. A crash loses at most those."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two stores' rows of a kind are compared.

    Attributes:
        ignore: Fields left out of the comparison.
        tolerance: Largest absolute difference of a float field that still counts as equal, by field.
        redact: Fields whose values never appear in a divergence, a log or a span.
    """

    ignore: frozenset[str] = frozenset()
    tolerance: Mapping[str, float] = field(default_factory=dict)
    redact: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One stored field of a kind.

    Attributes:
        name: Column name.
        storage: What a `Row` holds for it.
        nullable: Whether a live row may hold None.
    """

    name: str
    storage: StorageType
    nullable: bool


@dataclass(frozen=True, eq=False)
class KindSpec:
    """Everything the gateway and its backends know about one kind of records.

    Attributes:
        name: Table, directory and command line name; plural by custom.
        model: The frozen pydantic model of a record.
        key: Fields that identify a row. A log's key is `("record_id",)`, the default.
        shape: How rows change.
        time_field: The field that orders a log, selects by date, and ages a row; None for kinds without time.
        durability: What an acknowledgement promises.
        retention: Age after which `purge` removes rows; None keeps them and makes `purge` ask for an age.
        comparison: Rules of shadow reads and verification.
        indexes: Field groups by which rows are looked for. A store adds the tenant and tie-breakers as it needs them.
        schema: Database schema, where the store has several.
        cacheable: Whether a cache may stand in front of reads by key.
        companion_of: The kind whose writes produce these rows, in the same transaction; they move between
            stores with it.
        local: Whether its rows tell of the one store they are in: they are never mirrored, copied, compared or
            exported, and nobody but the gateway writes them.
        fields: Derived: all stored fields, the key first.
        order: Derived: the fields by which rows are listed and paged; unique within a tenant.
    """

    name: str
    model: type[Record]
    key: tuple[str, ...] = ("record_id",)
    shape: Shape = Shape.LOG
    time_field: str | None = None
    durability: Durability = Durability.DURABLE
    retention: timedelta | None = None
    comparison: Comparison = field(default_factory=Comparison)
    indexes: tuple[tuple[str, ...], ...] = ()
    schema: str = "bots_core"
    cacheable: bool = False
    companion_of: str | None = None
    local: bool = False
    fields: tuple[FieldSpec, ...] = field(init=False, repr=False)
    order: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", _fields_of(self))
        _check(self)
        timed = self.shape is Shape.LOG and self.time_field is not None
        order = (self.time_field, *self.key) if timed else self.key
        object.__setattr__(self, "order", order)

    def __repr__(self) -> str:
        return f"<KindSpec {self.name} {self.shape.value} key={','.join(self.key)}>"

    @property
    def field_names(self) -> tuple[str, ...]:
        """Names of the stored fields, the key first: the order of `Row.values`."""
        return tuple(spec.name for spec in self.fields)

    def field_spec(self, name: str) -> FieldSpec:
        """Return one field by name; raises KeyError."""
        return self.fields[self.index(name)]

    def index(self, name: str) -> int:
        """Return the position of a field in `Row.values`; raises KeyError for a field it has not."""
        for position, spec in enumerate(self.fields):
            if spec.name == name:
                return position
        raise KeyError(name)


def _fields_of(kind: KindSpec) -> tuple[FieldSpec, ...]:
    """Read the stored fields off the model, key fields first, the rest in the model's order."""
    declared = kind.model.model_fields
    missing = [name for name in kind.key if name not in declared]
    if missing:
        raise ConfigurationError(
            f"record kind {kind.name!r}: key field {missing[0]!r} is not a field of {kind.model.__name__}"
        )
    names = [*kind.key, *(name for name in declared if name not in kind.key)]
    return tuple(_field_of(kind, name) for name in names)


def _field_of(kind: KindSpec, name: str) -> FieldSpec:
    info = kind.model.model_fields[name]
    storage = next((item for item in info.metadata if isinstance(item, StorageType)), None)
    storage = storage or _storage_in(info.annotation)
    if storage is None:
        raise ConfigurationError(
            f"record kind {kind.name!r}: field {name!r} has no storage type. "
            "Annotate it with one of gateway.records.types: Text, Count, Number, Flag, Money, Time, Json, Levels."
        )
    key = name in kind.key
    return FieldSpec(name, storage, nullable=not key and type(None) in get_args(info.annotation))


def _storage_in(annotation: object) -> StorageType | None:
    """Find the storage type inside `X | None`, `Annotated[...]` and literals of strings."""
    if get_origin(annotation) is Annotated:
        for item in get_args(annotation)[1:]:
            if isinstance(item, StorageType):
                return item
    for part in get_args(annotation):
        if part is not type(None) and not isinstance(part, (str, int, float)):
            found = _storage_in(part)
            if found is not None:
                return found
    return None


def _check(kind: KindSpec) -> None:
    """Refuse a declaration that no store could serve; the message names the kind."""
    problem = next((text for bad, text in _problems(kind) if bad), None)
    if problem is not None:
        raise ConfigurationError(f"record kind {kind.name!r}: {problem}")


def _problems(kind: KindSpec) -> list[tuple[bool, str]]:
    names = kind.field_names
    storage = {spec.name: spec.storage for spec in kind.fields}
    named = [*kind.comparison.ignore, *kind.comparison.tolerance, *kind.comparison.redact]
    named += [name for group in kind.indexes for name in group]
    unknown = [name for name in named if name not in names]
    bad_names = [name for name in (kind.name, *names) if not NAME_PATTERN.match(name) or "__" in name]
    log = kind.shape is Shape.LOG
    return [
        (
            bool(bad_names),
            f"the name {bad_names[:1]} must be lower case letters, digits and single underscores",
        ),
        (bool(RESERVED & set(names)), f"the field names {sorted(RESERVED)} belong to the gateway"),
        (not kind.key, "it has no key"),
        (
            log and kind.key != ("record_id",),
            "a log is identified by record_id; derive its model from LogRecord",
        ),
        (not log and "record_id" in kind.key, "only logs are identified by record_id; name the key fields"),
        (
            kind.time_field is not None and storage.get(kind.time_field) is not StorageType.TIME,
            f"the time field {kind.time_field!r} must be a field of type Time",
        ),
        (log and kind.time_field is None, "a log needs a time field"),
        (
            any(
                storage[name] not in {StorageType.TEXT, StorageType.INTEGER, StorageType.TIME}
                for name in kind.key
            ),
            "key fields must be Text, Count or Time",
        ),
        (bool(unknown), f"it names the field {unknown[:1]}, which {kind.model.__name__} does not have"),
        (kind.retention is not None and kind.time_field is None, "retention needs a time field"),
        (kind.retention is not None and kind.retention <= timedelta(0), "retention must be positive"),
    ]


KindFactory = Callable[[type[Any]], type[Any]]

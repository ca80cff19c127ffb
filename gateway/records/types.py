"""Field types of record models: what a field may hold, and how it is stored.

Each type is an ordinary annotation that pydantic validates natively. `STORAGE_OF` tells backends what the
column is. The limits are those that every supported store can hold exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Final

from pydantic import AwareDatetime, Field, JsonValue, Strict, StringConstraints

__all__ = [
    "EPOCH",
    "JSON_BYTES",
    "MONEY_DIGITS",
    "MONEY_SCALE",
    "TEXT_LENGTH",
    "Count",
    "Flag",
    "Json",
    "Levels",
    "Money",
    "Number",
    "StorageType",
    "Text",
    "Time",
]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MONEY_DIGITS: Final = 60
MONEY_SCALE: Final = 30
TEXT_LENGTH: Final = 1024
JSON_BYTES: Final = 8 * 1024 * 1024
_INT64: Final = 2**63


class StorageType(StrEnum):
    """How a field is stored, named for the value backends see in a `Row`."""

    TEXT = "text"
    """`str`, UTF-8, no NUL character."""
    INTEGER = "integer"
    """`int`, 64 bits signed."""
    FLOAT = "float"
    """`float`, finite, never negative zero."""
    BOOLEAN = "boolean"
    """`bool`."""
    MONEY = "money"
    """`str`: a decimal in plain notation without trailing zeros, at most 60 digits, 30 of them after the point."""
    TIME = "time"
    """`int`: microseconds since 1970-01-01 UTC."""
    JSON = "json"
    """`str`: canonical JSON (sorted keys, no spaces)."""


Text = Annotated[str, StringConstraints(max_length=TEXT_LENGTH), StorageType.TEXT]
"""Text of at most 1024 characters. NUL, which PostgreSQL cannot store, is refused when the record is encoded."""

Count = Annotated[int, Strict(), Field(ge=-_INT64, lt=_INT64), StorageType.INTEGER]
"""A whole number of 64 bits."""

Number = Annotated[float, Field(allow_inf_nan=False), StorageType.FLOAT]
"""Market data that is a binary float by nature; NaN and infinities are refused."""

Flag = Annotated[bool, Strict(), StorageType.BOOLEAN]
"""True or false."""

Money = Annotated[Decimal, StorageType.MONEY]
"""An exact decimal: prices, amounts, profit. A float is taken by its shortest representation.

pydantic refuses NaN and infinities; the 60 digits, 30 of them after the point (a float with 17 significant digits
fits down to 1e-13), are checked when the record is
encoded, at a tenth of what pydantic's own constraint costs.
"""

Time = Annotated[AwareDatetime, Strict(), StorageType.TIME]
"""A point in time with a zone; stored as UTC microseconds. Naive datetimes are refused."""

Json = Annotated[Mapping[str, JsonValue], StorageType.JSON]
"""A JSON object of at most 8 MiB; stored canonically."""

Levels = Annotated[tuple[tuple[Number, Number], ...], Field(max_length=10_000), StorageType.JSON]
"""Order book levels, best first: pairs of price and size."""

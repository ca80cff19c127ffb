"""Record kinds made for testing: every shape that stores keep, and every storage type, nullable and not."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.kind import KindSpec, LogRecord, Record, Shape
from gateway.records.types import Count, Flag, Json, Levels, Money, Number, Text, Time

__all__ = [
    "ALL_KINDS",
    "KINDS",
    "PROBE_COUNTER",
    "PROBE_LOG",
    "PROBE_STATE",
    "UNREGISTERED",
    "ProbeCounter",
    "ProbeLog",
    "ProbeState",
    "Stranger",
]


class ProbeLog(LogRecord):
    """An immutable row with one field of every storage type.

    Attributes:
        moment: What orders the log.
        label: Text that is always there.
    """

    moment: Time
    label: Text = ""
    note: Text | None = None
    tally: Count | None = None
    ratio: Number | None = None
    flag: Flag | None = None
    amount: Money | None = None
    seen_at: Time | None = None
    document: Json | None = None
    levels: Levels | None = None


class ProbeState(Record):
    """A row of which the latest write wins, found by two fields of different types.

    Attributes:
        owner: First part of the key.
        slot: Second part of the key.
        moment: What ages it; it does not order it.
    """

    owner: Text
    slot: Count
    moment: Time
    label: Text = ""
    note: Text | None = None
    tally: Count | None = None
    ratio: Number | None = None
    flag: Flag | None = None
    amount: Money | None = None
    document: Json | None = None


class ProbeCounter(Record):
    """Totals without a time.

    Attributes:
        name: The key.
        total: How often it was counted up.
        amount: Sum of money.
    """

    name: Text
    total: Count = 0
    amount: Money = Decimal(0)


class Stranger(Record):
    """A record whose kind no store was told of."""

    name: Text


PROBE_LOG: Final = KindSpec(
    "probe_log", ProbeLog, time_field="moment", indexes=(("moment", "record_id"), ("label", "moment"))
)
PROBE_STATE: Final = KindSpec(
    "probe_state",
    ProbeState,
    key=("owner", "slot"),
    shape=Shape.STATE,
    time_field="moment",
    indexes=(("flag",),),
)
PROBE_COUNTER: Final = KindSpec("probe_counter", ProbeCounter, key=("name",), shape=Shape.COUNTER)

UNREGISTERED: Final = KindSpec("probe_stranger", Stranger, key=("name",), shape=Shape.STATE)
"""Not among `ALL_KINDS`: a store may refuse its rows, and then must refuse them properly."""

KINDS: Final[tuple[KindSpec, ...]] = (PROBE_LOG, PROBE_STATE, PROBE_COUNTER)
ALL_KINDS: Final[tuple[KindSpec, ...]] = (*BUILTIN_KINDS, *KINDS)
"""What the kit opens stores with: its own kinds beside the built-in ones."""

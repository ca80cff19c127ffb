"""Which other versions a log row can have, told by its id alone: what a read has to look for. Pure.

A log row is identified by its id, but rows lie by time, and QuestDB keeps every version. To find the latest version of
each row in a stretch of time, a read would have to look through the whole table, since another version could lie
anywhere. It need not for rows whose id tells that this cannot be:

* **fresh**: the gateway made the id together with this very version. Nothing older exists under it. It has no mark.
* **dated**: the id tells the row's time (`gateway.records.dated`), so all its versions lie at one instant.
* **loose**: everything else: deletions, ids given by users, rows written again, imported history.

The mark is a symbol that names the tenant. A table where no row of a tenant is loose answers the question for them from
the list of its symbols, in the same snapshot as the rows themselves: no second table could be ahead or behind.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from gateway.records.dated import moment_of
from gateway.records.row import Row
from gateway.records.version import made_with

__all__ = ["Origin", "mark_of", "origin_of"]

_DATED: Final = "dated "
_LOOSE: Final = "loose "


class Origin(IntEnum):
    """What the rows of a tenant in one table can be, at worst."""

    FRESH = 0
    DATED = 1
    LOOSE = 2


def origin_of(row: Row, time_index: int) -> Origin:
    """Return what a log row is.

    Args:
        row: The row.
        time_index: Where its time field stands in its values.
    """
    record_id = row.values[0]
    if row.deleted or not isinstance(record_id, str):
        return Origin.LOOSE
    if made_with(record_id, row.version):
        return Origin.FRESH
    # A deletion is loose even so: the fields by which others are found are empty in it.
    return Origin.DATED if moment_of(record_id) == row.values[time_index] else Origin.LOOSE


def mark_of(origin: Origin, tenant: str) -> str | None:
    """Return what stands in the column of a row; None for a fresh one."""
    if origin is Origin.FRESH:
        return None
    return f"{_DATED if origin is Origin.DATED else _LOOSE}{tenant}"

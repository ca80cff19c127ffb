"""Groups whose rows lie in several tables: together or not at all, although QuestDB has no transaction over tables.

Such a group is first written down whole, as one row of one table: that is the moment from which on it is stored. Then
its rows are written, then that it is done. Whoever finds a group that was begun and not done, after a crash, writes its
rows again, which changes nothing where they are there already. Until then a reader may see a part of it.
"""

# ruff: noqa: S608 - names come from registered kinds and are quoted; values are parameters, or made here

from __future__ import annotations

import base64
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from gateway.errors import StoreError
from gateway.records.kind import KindSpec
from gateway.records.row import Row
from gateway_questdb.connections import Readers
from gateway_questdb.layout import quoted
from gateway_questdb.senders import Senders
from gateway_questdb.statements import Statement
from gateway_questdb.values import Line

__all__ = [
    "KEPT_DAYS",
    "Begun",
    "Groups",
    "groups_columns",
    "groups_create",
    "packed",
    "pending_query",
    "report_unfinished",
    "unpacked",
]

KEPT_DAYS: Final = 31
"""Days for which what was written down is kept; a group that is not done by then was never looked at again."""
_BEGUN: Final = "begun"
_DONE: Final = "done"
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(
    list[tuple[str, str, int, int, bool, list[str | int | float | bool | None]]]
).decode

_log = logging.getLogger(__name__)

Begun = tuple[int, str]
"""When a group was begun, in microseconds, and its name."""


def groups_columns() -> tuple[str, ...]:
    """Return the names of the table's columns."""
    return ("at", "name", "state", "payload")


def groups_create(table: str) -> str:
    """Return the statement that makes the table."""
    return (
        f'CREATE TABLE IF NOT EXISTS {quoted(table)} ("at" TIMESTAMP, "name" VARCHAR, "state" SYMBOL, '
        f'"payload" VARCHAR) TIMESTAMP("at") PARTITION BY DAY TTL {KEPT_DAYS} DAYS WAL '
        'DEDUP UPSERT KEYS("at", "name", "state")'
    )


def pending_query(table: str) -> str:
    """Return the question for how many groups are begun and not done."""
    done = f'SELECT "name" FROM {quoted(table)} WHERE "state" = \'{_DONE}\''
    begun = f'SELECT "name" FROM {quoted(table)} WHERE "state" = \'{_BEGUN}\''
    return f"SELECT count() FROM ({begun} EXCEPT {done})"


def packed(rows: Sequence[Row]) -> str:
    """Return rows as one text."""
    plain = [(row.kind.name, row.tenant, row.version, row.digest, row.deleted, row.values) for row in rows]
    return base64.b85encode(_encode(plain)).decode()


def unpacked(text: str, kinds: Mapping[str, KindSpec]) -> list[Row]:
    """Return the rows in a text; those of kinds that nobody here registered are left out."""
    return [
        Row(kinds[name], tenant, version, digest, deleted, tuple(values))
        for name, tenant, version, digest, deleted, values in _decode(base64.b85decode(text))
        if name in kinds
    ]


class Groups:
    """The table in which groups are written down.

    Args:
        table: Its name.
        senders: To write with.
        readers: To read with.
    """

    def __init__(self, table: str, senders: Senders, readers: Readers) -> None:
        self.table = table
        self._senders = senders
        self._readers = readers

    async def begin(self, rows: Sequence[Row]) -> Begun:
        """Write rows down; from here on they are stored.

        Raises:
            StoreError: Nothing was stored.
        """
        begun = (time.time_ns() // 1000, uuid.uuid4().hex)
        await self._note(begun, _BEGUN, packed(rows))
        return begun

    async def done(self, begun: Sequence[Begun]) -> None:
        """Note that the rows of groups are where they belong.

        Raises:
            StoreError: It was not noted, and will be done once more.
        """
        lines = [_line(one, _DONE, "") for one in begun]
        await self._senders.send(self.table, lambda: lines)

    async def _note(self, begun: Begun, state: str, payload: str) -> None:
        line = _line(begun, state, payload)
        await self._senders.send(self.table, lambda: [line])

    async def pending(self, age: float) -> list[Begun]:
        """Return the groups that were begun so many seconds ago or earlier and are not done.

        Raises:
            StoreError: The server could not answer.
        """
        text = f'SELECT cast("at" as long), "name", "state" FROM {quoted(self.table)}'
        states: dict[Begun, set[str]] = {}
        for at, name, state in await self._readers.fetch(Statement(text, [])):
            states.setdefault((at, name), set()).add(state)
        latest = time.time_ns() // 1000 - int(age * 1e6)
        return sorted(begun for begun, found in states.items() if _DONE not in found and begun[0] <= latest)

    async def rows(self, begun: Begun, kinds: Mapping[str, KindSpec]) -> list[Row]:
        """Return what a group consists of.

        Raises:
            StoreError: The server could not answer.
        """
        text = f'SELECT "payload" FROM {quoted(self.table)} WHERE "name" = $1 AND "state" = $2'
        found = await self._readers.fetch(Statement(text, [begun[1], _BEGUN]))
        return [row for (payload,) in found for row in unpacked(payload, kinds)]


def _line(begun: Begun, state: str, payload: str) -> Line:
    columns: dict[str, Any] = {"name": begun[1], "payload": payload}
    return {"state": state}, columns, begun[0]


def report_unfinished(error: StoreError) -> None:
    """Say that groups of an earlier crash could not be finished now; the next look tries again."""
    _log.warning("groups that a crash left unfinished could not be finished: %s", error)

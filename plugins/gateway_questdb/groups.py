"""Groups whose rows lie in several tables: together or not at all, although QuestDB has no transaction over tables.

Such a group is first written down whole, as one row of one table: that is the moment from which on it is stored. Then
its rows are written, then that it is done. Whoever finds a group that was begun and not done, after a crash, writes its
rows again, which changes nothing where they are there already. Until then a reader may see a part of it.

Which those are the server finds out, and only among the groups since the last look that left none behind: how far that
reached is noted in the same table.
"""

# ruff: noqa: S608 - names come from registered kinds and are quoted; values are parameters, or made here

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from gateway.errors import SchemaError, StoreCorruptError
from gateway.records.kind import KindSpec
from gateway.records.row import Row
from gateway_questdb.connections import Readers
from gateway_questdb.layout import quoted
from gateway_questdb.senders import Senders
from gateway_questdb.statements import Statement
from gateway_questdb.values import Line

__all__ = [
    "KEPT_DAYS",
    "PAGE",
    "Begun",
    "Groups",
    "groups_columns",
    "groups_create",
    "packed",
    "pending_query",
    "unpacked",
]

KEPT_DAYS: Final = 31
"""Days for which what was written down is kept; a group that is not done by then was never looked at again."""
_BEGUN: Final = "begun"
_DONE: Final = "done"
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - the driver takes and gives times without a zone
_CLEAR: Final = "clear"
PAGE: Final = 500
"""Groups that one look for those that are not done returns at most."""
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(
    list[tuple[str, str, int, int, bool, list[str | int | float | bool | None]]]
).decode

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
    """Return the rows in a text, all of them.

    Raises:
        SchemaError: There are rows of kinds that nobody here registered, or that had other fields then.
        StoreCorruptError: It is no such text.
    """
    try:
        found = _decode(base64.b85decode(text))
    except (ValueError, msgspec.MsgspecError) as error:
        raise StoreCorruptError("what was written down of it cannot be read") from error
    unknown = sorted({name for name, *_ in found if name not in kinds})
    if unknown:
        raise SchemaError(
            f"it has rows of {', '.join(unknown)}, which this process does not know; a process that registers them "
            "finishes it"
        )
    rows = [
        Row(kinds[name], tenant, version, digest, deleted, tuple(values))
        for name, tenant, version, digest, deleted, values in found
    ]
    other = sorted({row.kind.name for row in rows if len(row.values) != len(row.kind.field_names)})
    if other:
        raise SchemaError(
            f"it has rows of {', '.join(other)} with other fields than this release has; the release that wrote it "
            "finishes it"
        )
    return rows


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

    async def pending(self, after: Begun, until: int) -> list[Begun]:
        """Return groups that are not done, the first ones, no more than `PAGE`.

        Args:
            after: Of those that come behind this one.
            until: And were begun at this moment or earlier; microseconds since 1970.

        Raises:
            StoreError: The server could not answer.
        """
        noted = (
            f'SELECT "at", "name", count() AS notes FROM {quoted(self.table)} '
            'WHERE "at" >= $1 AND "at" <= $2 AND "state" <> $3'
        )
        text = (
            f'SELECT cast("at" as long) AS moment, "name" FROM ({noted}) WHERE notes = 1 '
            f'AND ("at" > $1 OR "name" > cast($4 as varchar)) ORDER BY moment, "name" LIMIT {PAGE}'
        )
        values = [_time(after[0]), _time(until), _CLEAR, after[1]]
        return [(at, name) for at, name in await self._readers.fetch(Statement(text, values))]

    async def cleared(self) -> int:
        """Return up to when nothing was left as far as it was noted, 0 for never; microseconds since 1970.

        Raises:
            StoreError: The server could not answer.
        """
        text = f'SELECT cast("at" as long) FROM {quoted(self.table)} WHERE "state" = $1 ORDER BY "at" DESC LIMIT 1'
        found = await self._readers.fetch(Statement(text, [_CLEAR]))
        return int(found[0][0]) if found else 0

    async def clear(self, until: int) -> None:
        """Note that all groups are done that were begun up to a moment.

        Raises:
            StoreError: It was not noted; the next look will be longer.
        """
        await self._note((until, ""), _CLEAR, "")

    async def rows(self, begun: Begun, kinds: Mapping[str, KindSpec]) -> list[Row]:
        """Return what a group consists of.

        Raises:
            SchemaError: Some of them are of kinds that are not known here, or were different then.
            StoreError: The server could not answer.
        """
        text = f'SELECT "payload" FROM {quoted(self.table)} WHERE "at" = $1 AND "name" = $2 AND "state" = $3'
        found = await self._readers.fetch(Statement(text, [_time(begun[0]), begun[1], _BEGUN]))
        return [row for (payload,) in found for row in unpacked(payload, kinds)]


def _time(moment: int) -> datetime:
    return _EPOCH + timedelta(microseconds=moment)


def _line(begun: Begun, state: str, payload: str) -> Line:
    columns: dict[str, Any] = {"name": begun[1], "payload": payload}
    return {"state": state}, columns, begun[0]

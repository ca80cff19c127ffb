"""Log rows that were read, against other versions of them that lie elsewhere.

Where some rows of a tenant are loose, a row that was read by time may have a newer version anywhere. To choose the
latest version of every row first would be a search through the whole table. Instead the rows are read as if each were
the only version of itself, and then the versions of just these rows are looked up among the loose ones, which a symbol
tells.

Two questions are two moments. A newer version that was written in between takes a row out of the answer, and may
belong into it at another place. So an answer counts only if every newer version was known before its rows were read;
otherwise they are read once more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from gateway.records.dated import moment_of
from gateway.records.kind import KindSpec
from gateway.records.row import Row
from gateway.records.version import made_by_gateway
from gateway_questdb.connections import Readers
from gateway_questdb.layout import Layout
from gateway_questdb.lookups import versions_of
from gateway_questdb.origins import Origin, origin_of
from gateway_questdb.values import LEAST_LONG

__all__ = ["Rivals", "beaten", "strangers"]

Found = TypeVar("Found")
Stamp = tuple[int, int]
_AT_ONCE: Final = 1_000
"""Ids in one question."""
_KEPT: Final = 100_000
"""Winners that are remembered of all tables together."""


class Rivals:
    """Takes rows out of answers that have newer versions elsewhere.

    Args:
        readers: To ask with.
    """

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._moment = 0
        self._learned: dict[tuple[KindSpec, str, str], tuple[Stamp, int]] = {}

    async def without_beaten(
        self,
        layout: Layout,
        tenant: str,
        read: Callable[[], Awaitable[Found]],
        rows_of: Callable[[Found], Sequence[Row]],
    ) -> tuple[Found, list[Row]]:
        """Return what was read, and the rows in it that have no newer version.

        Args:
            layout: Of a log.
            tenant: Whose rows.
            read: Reads; may be called several times.
            rows_of: The latest versions among what was read.

        Raises:
            StoreError: The server could not answer.
        """
        while True:
            began = self._moment
            found = await read()
            rows = rows_of(found)
            winners = beaten(rows, await self._versions(layout, tenant, rows))
            known = [self._learned.get((layout.kind, tenant, one)) for one in winners]
            if all(
                held is not None and held[0] == stamp and held[1] <= began
                for held, stamp in zip(known, winners.values(), strict=True)
            ):
                return found, [row for row in rows if row.values[0] not in winners]
            self._learn(layout.kind, tenant, winners)

    async def _versions(self, layout: Layout, tenant: str, rows: Sequence[Row]) -> list[Sequence[Any]]:
        found: list[Sequence[Any]] = []
        if not rows:
            return found
        ids, least = [str(row.values[0]) for row in rows], min(row.version for row in rows)
        foreign = strangers(rows, layout.kind.index(layout.designated))
        for some, origin in ((ids, Origin.LOOSE), (foreign, None)):
            for at in range(0, len(some), _AT_ONCE):
                found += await self._readers.fetch(
                    versions_of(layout, tenant, some[at : at + _AT_ONCE], least, origin)
                )
        return found

    def _learn(self, kind: KindSpec, tenant: str, winners: dict[str, Stamp]) -> None:
        self._moment += 1
        if len(self._learned) + len(winners) > _KEPT:
            self._learned.clear()
        self._learned |= {(kind, tenant, one): (stamp, self._moment) for one, stamp in winners.items()}


def beaten(rows: Iterable[Row], versions: Iterable[Sequence[Any]]) -> dict[str, Stamp]:
    """Return the ids of rows that have a newer version, with the stamp of the newest.

    Args:
        rows: Rows of different ids.
        versions: Id, version and digest of versions of them, in any order.
    """
    newest: dict[str, Stamp] = {}
    for record_id, version, digest in versions:
        stamp = (version, LEAST_LONG if digest is None else digest)
        newest[record_id] = max(stamp, newest.get(record_id, stamp))
    own = {str(row.values[0]): row.stamp for row in rows}
    return {one: stamp for one, stamp in newest.items() if one in own and stamp > own[one]}


def strangers(rows: Iterable[Row], time_index: int) -> list[str]:
    """Return the ids of loose rows under which a row that is not loose could be stored, too.

    Args:
        rows: Log rows.
        time_index: Where their time field stands in their values.
    """
    return [
        record_id
        for row in rows
        if origin_of(row, time_index) is Origin.LOOSE
        and (made_by_gateway(record_id := str(row.values[0])) or moment_of(record_id) is not None)
    ]

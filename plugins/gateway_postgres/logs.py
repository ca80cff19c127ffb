"""Rows of logs whose time may have changed.

A log row is identified by its id alone, but the primary key of its table holds the time too, since the table is
partitioned by it. Two rows of one id with different times therefore do not meet in the store's own guard. So that only
the newest of them stays:

* A row that was made together with its id (`made_with`) is *fresh*: it is the first under that id. It is stored by one
  statement that looks at nothing, but leaves out ids that are registered as moved, and fails if one is stored already,
  as it is when a write is repeated whose answer was lost.
* Every other row is stored with care: writers of that kind and tenant take turns, look the id up, and remove the older
  row where its time is another. Where the id could still come fresh from another writer, the table is locked, the id
  is looked up again and registered, and from then on the fresh row takes care too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import asyncpg

from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway.records.version import made_by_gateway, made_with
from gateway_postgres.merging import Place, Stamp, newest
from gateway_postgres.statements import MOVED_ROWS, postgres_statements
from gateway_postgres.values import rows_from
from gateway_postgres.work import Work

__all__ = [
    "Careful",
    "FreshRowsRefused",
    "Stored",
    "decide",
    "is_fresh",
    "lock_log_rows",
    "store_carefully",
    "store_fresh",
]


class Stored(NamedTuple):
    """What is stored under an id.

    Attributes:
        version: Its version.
        digest: Its digest.
        record_id: Its id.
        moment: Its time, in microseconds.
    """

    version: int
    digest: int
    record_id: str
    moment: int

    @property
    def stamp(self) -> Stamp:
        """What decides between two rows of one id."""
        return (self.version, self.digest)


class FreshRowsRefused(Exception):  # noqa: N818 - no error, but a turn that the write takes
    """Fresh rows are stored already, or registered as moved: the batch has to be stored with care."""


@dataclass
class Careful:
    """What has to be done so that of each id only the newest row stays.

    Attributes:
        write: Rows to store.
        remove: Rows to remove, as id and time.
        register: Ids that a fresh row could come for with another time.
        kept: Stamps of what stays stored instead of a row that was sent, by id.
    """

    write: list[Row] = field(default_factory=list)
    remove: list[tuple[str, int]] = field(default_factory=list)
    register: list[str] = field(default_factory=list)
    kept: dict[str, Stamp] = field(default_factory=dict)


def is_fresh(row: Row) -> bool:
    """Tell whether a log row is the first that there can be under its id."""
    return made_with(str(row.values[0]), row.version)


def decide(rows: Iterable[Row], stored: Iterable[Stored]) -> Careful:
    """Decide what to do with rows of one log and tenant, each id once, from all that is stored under their ids."""
    held: dict[str, list[Stored]] = {}
    for item in stored:
        held.setdefault(item.record_id, []).append(item)
    careful = Careful()
    for row in rows:
        _decide_one(careful, row, held.get(str(row.values[0]), ()))
    return careful


def _decide_one(careful: Careful, row: Row, held: Sequence[Stored]) -> None:
    record_id, moment = str(row.values[0]), row.values[row.kind.index(str(row.kind.time_field))]
    best = max(held, key=lambda item: item.stamp, default=None)
    if best is None or row.stamp > best.stamp:
        careful.write.append(row)
        stays = moment
        could_come_fresh = made_by_gateway(record_id) and not is_fresh(row)
        if could_come_fresh and all(item.moment != moment for item in held):
            careful.register.append(record_id)
    else:
        stays = best.moment
        careful.kept[record_id] = best.stamp
    careful.remove += [(record_id, item.moment) for item in held if item.moment != stays]


async def store_fresh(work: Work, kind: KindSpec, tenant: str, rows: Sequence[Row]) -> None:
    """Store fresh rows, each id once.

    Raises:
        FreshRowsRefused: Not all of them were stored, and the transaction is of no use any more. To take care of them
            in it could end in a circle anyway: it has written to the table, and those who take care may have to lock
            it.
    """
    try:
        refused = await work.upsert(kind, tenant, rows, fresh=True)
    except asyncpg.UniqueViolationError as error:
        raise FreshRowsRefused from error
    if refused:
        raise FreshRowsRefused


async def store_carefully(work: Work, kind: KindSpec, tenant: str, rows: Sequence[Row]) -> dict[Place, Stamp]:
    """Store any rows of a log, each id once; return the stamps of what was kept instead of rows sent."""
    await work.lock_tenant(kind, tenant)
    careful = decide(rows, await _look_up(work, kind, tenant, rows))
    if careful.register:
        await work.lock_table(kind)
        careful = decide(rows, await _look_up(work, kind, tenant, rows))
    kept: dict[Place, Stamp] = {(kind, tenant, (at,)): stamp for at, stamp in careful.kept.items()}
    if careful.remove:
        await _remove(work, kind, tenant, careful.remove)
    if careful.register:
        await _register(work, kind, tenant, careful.register)
    if careful.write and (refused := await work.upsert(kind, tenant, careful.write)):
        # A fresh row of the same id and time came first and is newer, as live rows are than history.
        kept |= await work.stamps(kind, tenant, refused)
    return kept


async def lock_log_rows(work: Work, kind: KindSpec, tenant: str, keys: Sequence[Key]) -> Mapping[Key, Row]:
    """Return the rows of keys, with nobody else able to write any row of these keys until the transaction ends."""
    await work.lock_tenant(kind, tenant)
    if not keys:
        return {}
    found = await _read(work, kind, tenant, keys)
    missing = [key for key in keys if key not in found]
    if any(made_by_gateway(str(record_id)) for (record_id,) in missing):
        await work.lock_table(kind)
        found |= await _read(work, kind, tenant, missing)
    return found


async def _read(work: Work, kind: KindSpec, tenant: str, keys: Sequence[Key]) -> dict[Key, Row]:
    columns = postgres_statements(kind).columns
    records = await work.fetch_by_keys(kind, tenant, keys, columns, lock=True)
    return {row.key: row for row in newest(rows_from(kind, tenant, records))}


async def _look_up(work: Work, kind: KindSpec, tenant: str, rows: Sequence[Row]) -> list[Stored]:
    keys = [row.key for row in rows]
    records = await work.fetch_by_keys(kind, tenant, keys, postgres_statements(kind).stamps)
    return [Stored(*record) for record in records]


async def _remove(work: Work, kind: KindSpec, tenant: str, places: Sequence[tuple[str, int]]) -> None:
    ids, moments = zip(*sorted(places), strict=True)
    text = (
        f"DELETE FROM {postgres_statements(kind).table} AS held "  # noqa: S608 - names of a registered kind
        "USING unnest($2::text[], $3::timestamptz[]) AS old (record_id, moment) "
        f'WHERE held.tenant_id = $1::uuid AND held.record_id = old.record_id AND held."{kind.time_field}" = old.moment'
    )
    await work.connection.execute(text, tenant, ids, moments)


async def _register(work: Work, kind: KindSpec, tenant: str, ids: Sequence[str]) -> None:
    text = (
        f"INSERT INTO {MOVED_ROWS} (kind, tenant_id, record_id) "  # noqa: S608 - a fixed name
        "SELECT $2::text, $1::uuid, id FROM unnest($3::text[]) AS new (id) ON CONFLICT DO NOTHING"
    )
    await work.connection.execute(text, tenant, kind.name, sorted(ids))

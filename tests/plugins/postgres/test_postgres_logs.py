"""Rows of one id with different times: whatever comes in whatever order, the newest stays, once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.backend import KeyRef, Update
from gateway.conformance.kinds import PROBE_LOG
from gateway.conformance.rows import NOON, group
from gateway.records import Row
from gateway.records.stamp import row_of
from gateway.records.version import RecordIds, made_by_gateway, made_with, version_at
from gateway_postgres.logs import Stored, decide, is_fresh
from gateway_postgres.statements import SET_TENANT
from gateway_postgres.writing import write
from tests.plugins.postgres.laboratory import SERVERS, Laboratory, laboratory

VERSION = 115_000_000_000_000_000
DAY = 86_400_000_000
MOMENTS = (0, 1, 20_000 * DAY, 20_500 * DAY, 20_800 * DAY)
"""Times in different partitions, and in the one that takes what has no partition of its own."""
_BLANK = len(PROBE_LOG.fields) - 2
_IDS = RecordIds()
OWN_ID = "01988fe4052b780080a4e026802335e6"
"""An id that the gateway made with that version."""


@pytest.fixture(scope="module", params=SERVERS)
def lab(request: pytest.FixtureRequest) -> Iterator[Laboratory]:
    """The kit's tables on each version of the server."""
    yield from laboratory(request)


def _row(tenant: str, record_id: str, version: int, moment: int, *, deleted: bool = False) -> Row:
    label = None if deleted else str(version)
    values = (record_id, moment, label, *[None] * (_BLANK - 1))
    return row_of(PROBE_LOG, tenant, version, values, deleted=deleted)


def _moved(lab: Laboratory, tenant: str) -> set[str]:
    """Return the ids that are registered as moved."""

    async def read() -> set[str]:
        async with lab.main.transaction():
            await lab.main.execute(SET_TENANT, tenant)
            return {record["record_id"] for record in await lab.main.fetch("TABLE gateway.moved_rows")}

    return lab.run(read())


def _history(tenant: str, drawn: Sequence[tuple[int, int, int, bool]]) -> list[Row]:
    """Return rows of three ids: two as the gateway makes them, the third a person's."""
    ids = [_IDS.next(VERSION), _IDS.next(VERSION + 1), "mine"]
    rows = []
    for slot, age, moment, deleted in drawn:
        # Age 0 is the version that the id was made with, so the row is fresh; it can have one time only.
        version = VERSION + slot + 16 * age
        when = MOMENTS[slot] if age == 0 else MOMENTS[moment]
        rows.append(_row(tenant, ids[slot], version, when, deleted=deleted and age > 0))
    return rows


WRITES = st.lists(
    st.tuples(st.integers(0, 2), st.integers(-1, 3), st.integers(0, 4), st.booleans()), min_size=1, max_size=7
)


def _newest(rows: Sequence[Row]) -> dict[object, Row]:
    kept: dict[object, Row] = {}
    for row in rows:
        kept[row.key] = max(row, kept.get(row.key, row), key=lambda item: item.stamp)
    return kept


def _assert_newest(lab: Laboratory, tenant: str, rows: Sequence[Row]) -> None:
    """Check that of each id the newest row is stored and no other: by key, in the listing and in the fingerprint."""
    expected = sorted(_newest(rows).values(), key=lambda row: row.position)
    assert lab.stored(PROBE_LOG, tenant) == expected
    assert lab.get(PROBE_LOG, tenant, [row.key for row in expected]) == expected
    digest = lab.digest(PROBE_LOG, tenant)
    assert (digest.rows, digest.total) == (len(expected), sum(row.digest for row in expected) % 2**64)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(drawn=WRITES, data=st.data())
def test_any_order_ends_with_the_newest(
    lab: Laboratory, drawn: list[tuple[int, int, int, bool]], data: st.DataObject
) -> None:
    """Rows twice each, in any order and cut into any batches, leave the newest of each id, with its own time."""
    tenant = lab.scribe().tenant
    rows = data.draw(st.permutations(_history(tenant, drawn) * 2))
    size = data.draw(st.integers(1, 4))
    for at in range(0, len(rows), size):
        part = rows[at : at + size]
        lab.write(*([group(*part)] if data.draw(st.booleans()) else part))
    _assert_newest(lab, tenant, rows)


@pytest.mark.parametrize("seed", range(6))
def test_concurrent_writers_end_with_the_newest(lab: Laboratory, seed: int) -> None:
    """Connections that write rows of the same ids with different times at once leave the newest of each, once."""
    tenant = lab.scribe().tenant
    chance = random.Random(seed)
    rows = []
    for number in range(12):
        version = VERSION + number
        record_id = _IDS.next(version) if number % 4 else f"mine-{number}"
        rows += [
            _row(tenant, record_id, version + 64 * age, MOMENTS[(number + age) % len(MOMENTS)])
            for age in range(4)
        ]

    async def send(order: list[Row], size: int) -> None:
        connection = await lab.connect()
        for at in range(0, len(order), size):
            await write(connection, order[at : at + size])

    async def all_of_them() -> None:
        orders = [chance.sample(rows, len(rows)) for _ in range(4)]
        await asyncio.gather(*(send(order, size) for order, size in zip(orders, (1, 2, 3, 7), strict=True)))

    lab.run(all_of_them())
    _assert_newest(lab, tenant, rows)


@pytest.mark.parametrize("together", [1, 3])
def test_fresh_rows_meet_their_restamped_selves(lab: Laboratory, together: int) -> None:
    """Row by row, a fresh row and a newer one of another time are sent at the same moment: the newer one stays."""
    tenant = lab.scribe().tenant
    fresh = [_row(tenant, _IDS.next(VERSION + at), VERSION + at, MOMENTS[2]) for at in range(30)]
    newer = [
        row_of(PROBE_LOG, tenant, row.version + 640, (row.values[0], MOMENTS[3], *row.values[2:]))
        for row in fresh
    ]
    assert all(map(is_fresh, fresh))
    assert not any(map(is_fresh, newer))

    async def race() -> None:
        first, second = await lab.connect(), await lab.connect()
        for at in range(0, len(fresh), together):
            part = slice(at, at + together)
            await asyncio.gather(write(first, fresh[part]), write(second, newer[part]))

    lab.run(race())
    _assert_newest(lab, tenant, fresh + newer)


def test_a_fresh_row_behind_its_moved_self_is_refused(lab: Laboratory) -> None:
    """A fresh row that arrives after a newer one of another time is not stored beside it, and its loss is reported."""
    tenant = lab.scribe().tenant
    fresh = [_row(tenant, _IDS.next(VERSION + at), VERSION + at, MOMENTS[2]) for at in range(3)]
    moved = row_of(PROBE_LOG, tenant, VERSION + 100, (fresh[1].values[0], MOMENTS[3], *fresh[1].values[2:]))
    lab.write(moved)
    assert _moved(lab, tenant) == {moved.values[0]}
    assert lab.write(*fresh).superseded == {1: moved.version}
    assert lab.write(fresh[1]).superseded == {0: moved.version}
    _assert_newest(lab, tenant, [*fresh, moved])


def test_ordinary_rows_register_nothing(lab: Laboratory) -> None:
    """Fresh rows, their tombstones, their restamped copies, and ids that people give leave no trace in the register."""
    tenant = lab.scribe().tenant
    fresh = [_row(tenant, _IDS.next(VERSION + at), VERSION + at, MOMENTS[2]) for at in range(3)]
    grave = _row(tenant, str(fresh[0].values[0]), VERSION + 50, MOMENTS[2], deleted=True)
    again = row_of(PROBE_LOG, tenant, VERSION + 51, fresh[1].values)
    given = [_row(tenant, "given", VERSION, MOMENTS[2]), _row(tenant, "given", VERSION + 1, MOMENTS[3])]
    lab.write(*fresh)
    lab.write(grave, again, *given)
    assert _moved(lab, tenant) == set()
    _assert_newest(lab, tenant, [*fresh, grave, again, *given])


def test_an_older_row_of_another_time_is_reported(lab: Laboratory) -> None:
    """A row that loses against one with another time is named in the receipt, like any other."""
    tenant = lab.scribe().tenant
    newer, older = _row(tenant, "one", VERSION + 9, MOMENTS[2]), _row(tenant, "one", VERSION + 3, MOMENTS[3])
    lab.write(newer)
    assert lab.write(older, _row(tenant, "two", VERSION, MOMENTS[2])).superseded == {0: newer.version}


def test_the_register_is_a_tenants_own(lab: Laboratory) -> None:
    """What one tenant moved does not stand in the way of another, whose rows happen to have the same id."""
    one, two = lab.scribe().tenant, lab.scribe().tenant
    record_id = _IDS.next(VERSION)
    lab.write(_row(one, record_id, VERSION + 9, MOMENTS[2]))
    fresh = _row(two, record_id, VERSION, MOMENTS[3])
    assert lab.write(fresh).superseded == {}
    _assert_newest(lab, two, [fresh])
    assert (_moved(lab, one), _moved(lab, two)) == ({record_id}, set())


def test_an_update_moves_a_row(lab: Laboratory) -> None:
    """An update that reads a log row and writes it with another time leaves one row, and sees it the next time."""
    tenant = lab.scribe().tenant
    fresh = _row(tenant, _IDS.next(VERSION), VERSION, MOMENTS[2])
    seen: list[Row | None] = []

    def move(current: Sequence[Row | None]) -> Sequence[Row]:
        seen.extend(current)
        held = current[0] or fresh
        version = held.version + 160
        return [row_of(PROBE_LOG, tenant, version, (held.values[0], MOMENTS[3], *held.values[2:]))]

    update = Update(tenant, (KeyRef(PROBE_LOG, fresh.key),), move)
    first = lab.write(update)
    second = lab.write(update, fresh)
    assert seen == [None, first.updated[0][0]]
    assert second.superseded == {1: second.updated[0][0].version}
    _assert_newest(lab, tenant, [*first.updated[0], *second.updated[0]])


def test_updates_of_one_log_row_take_turns(lab: Laboratory) -> None:
    """Connections that rewrite one log row from what they read never lose a step, also while its time changes."""
    tenant = lab.scribe().tenant
    record_id = _IDS.next(VERSION)
    tally = PROBE_LOG.index("tally")

    def count(current: Sequence[Row | None]) -> Sequence[Row]:
        held = current[0]
        done = 0 if held is None else int(str(held.values[tally]))
        version = VERSION + 7 if held is None else held.version + 1
        values = [record_id, MOMENTS[2 + done % 3], "", *[None] * (_BLANK - 1)]
        values[tally] = done + 1
        return [row_of(PROBE_LOG, tenant, version, values)]

    async def rewrite() -> None:
        connection = await lab.connect()
        for _ in range(6):
            await write(connection, [Update(tenant, (KeyRef(PROBE_LOG, (record_id,)),), count)])

    async def all_of_them() -> None:
        await asyncio.gather(*(rewrite() for _ in range(4)))

    lab.run(all_of_them())
    (row,) = lab.stored(PROBE_LOG, tenant)
    assert row.values[tally] == 24


STORED = st.lists(
    st.tuples(st.integers(1, 4), st.integers(-1, 1), st.sampled_from("ab"), st.integers(0, 2)), max_size=5
)
SENT = st.dictionaries(
    st.sampled_from("ab"), st.tuples(st.integers(1, 4), st.integers(-1, 1), st.integers(0, 2))
)


@given(stored=STORED, sent=SENT)
def test_decisions_leave_the_newest(
    stored: list[tuple[int, int, str, int]], sent: dict[str, tuple[int, int, int]]
) -> None:
    """Done as decided, each id that was sent has one row, the newest of those stored and sent."""
    held = {(item.record_id, item.moment): item for item in sorted(map(Stored._make, stored))}
    rows = [
        Row(PROBE_LOG, "t", version, digest, False, (record_id, moment, *[None] * _BLANK))
        for record_id, (version, digest, moment) in sent.items()
    ]
    careful = decide(rows, held.values())
    after = {place: item.stamp for place, item in held.items() if place not in careful.remove}
    for row in careful.write:
        place = (str(row.values[0]), int(str(row.values[1])))
        assert place not in after or after[place] < row.stamp
        after[place] = row.stamp
    for row in rows:
        mine = [item.stamp for item in held.values() if item.record_id == row.values[0]]
        assert [stamp for (at, _), stamp in after.items() if at == row.values[0]] == [max([*mine, row.stamp])]
        assert (careful.kept.get(str(row.values[0])) or row.stamp) == max([*mine, row.stamp])
    assert careful.register == [], "nobody else can come fresh under an id that a person gave"


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_an_id_tells_the_version_it_was_made_with(version: int, other: int) -> None:
    """An id was made with its own version and with no other, and looks like the gateway's."""
    record_id = RecordIds().next(version)
    assert made_by_gateway(record_id)
    assert made_with(record_id, version)
    assert made_with(record_id, other) == (other == version)


@pytest.mark.parametrize(
    "record_id",
    [
        "",
        "mine",
        "log-00001",
        "0" * 32,
        "f" * 32,
        OWN_ID.upper(),
        OWN_ID + "0",
        OWN_ID[:-1],
        OWN_ID[:-1] + "\n",
    ],
)
def test_other_ids_are_not_the_gateways(record_id: str) -> None:
    """Ids of people, and ids that are nearly of the form, count as neither made by the gateway nor with a version."""
    assert not made_by_gateway(record_id)
    assert not made_with(record_id, VERSION)


def test_history_with_a_new_id_is_not_fresh() -> None:
    """A row of history has an old version and an id made now: nothing says that it is the first of its id."""
    row = _row("t", _IDS.next(VERSION), version_at(NOON), MOMENTS[2])
    assert made_by_gateway(str(row.values[0]))
    assert not is_fresh(row)

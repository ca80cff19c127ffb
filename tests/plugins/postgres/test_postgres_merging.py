"""What the steps of a batch come to is what they come to one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.backend import Group, KeyRef, Step, Update
from gateway.conformance.kinds import PROBE_COUNTER, PROBE_LOG, PROBE_STATE
from gateway.errors import InvalidRecordError
from gateway.records import KindSpec, Row
from gateway.records.kind import Shape
from gateway_postgres.merging import Place, holds_of, merge, newest, place_of, runs_of

KINDS = {"probe_log": PROBE_LOG, "probe_counter": PROBE_COUNTER}
State = dict[Place, Row]

PLACES = st.tuples(st.sampled_from(sorted(KINDS)), st.sampled_from("tu"), st.sampled_from("ab"))


def _row(kind: KindSpec, tenant: str, name: str, version: int, digest: int) -> Row:
    return Row(kind, tenant, version, digest, False, (name, *[None] * (len(kind.fields) - 1)))


def _rows() -> st.SearchStrategy[Row]:
    return st.builds(
        lambda place, version, digest: _row(KINDS[place[0]], place[1], place[2], version, digest),
        PLACES,
        st.integers(1, 6),
        st.integers(-1, 1),
    )


def _increment(written: Sequence[Row]) -> Callable[[Sequence[Row | None]], Sequence[Row]]:
    """Return an `apply` whose rows depend on what it is shown, as those of counters do."""

    def apply(current: Sequence[Row | None]) -> Sequence[Row]:
        seen = max((row.version for row in current if row is not None), default=0)
        return [row._replace(version=seen + row.version - 2) for row in written]

    return apply


def _updates() -> st.SearchStrategy[Update]:
    def build(tenant: str, read: list[tuple[str, str]], written: list[Row]) -> Update:
        refs = tuple(KeyRef(KINDS[kind], (name,)) for kind, name in read)
        return Update(tenant, refs, _increment(written))

    read = st.lists(st.tuples(st.sampled_from(sorted(KINDS)), st.sampled_from("ab")), max_size=3)
    return st.builds(build, st.sampled_from("tu"), read, st.lists(_rows(), max_size=2))


STEPS = st.lists(
    _rows() | st.builds(lambda rows: Group(tuple(rows)), st.lists(_rows(), max_size=3)) | _updates(),
    max_size=8,
)
STORED = st.lists(_rows(), max_size=6).map(
    lambda rows: {place_of(row): row for row in sorted(rows, key=lambda row: row.stamp)}
)


def _one_by_one(steps: Sequence[Step], state: State) -> tuple[dict[int, int], dict[int, tuple[Row, ...]]]:
    """Apply steps to a dictionary in the simplest way there is; return what was superseded and updated."""
    superseded: dict[int, int] = {}
    updated: dict[int, tuple[Row, ...]] = {}
    for index, step in enumerate(steps):
        if isinstance(step, Update):
            rows = tuple(step.apply([state.get((ref.kind, step.tenant, ref.key)) for ref in step.reads]))
            updated[index] = rows
        else:
            rows = step.rows if isinstance(step, Group) else (step,)
        for row in rows:
            held = state.get(place_of(row))
            if held is None or row.stamp > held.stamp:
                state[place_of(row)] = row
            elif held.stamp > row.stamp:
                superseded[index] = max(held.version, superseded.get(index, 0))
    return superseded, updated


@settings(max_examples=300)
@given(steps=STEPS, stored=STORED)
def test_all_known_is_exactly_one_by_one(steps: list[Step], stored: State) -> None:
    """If everything stored is known, rows, losses and updates are those of the steps taken one after the other."""
    after = dict(stored)
    superseded, updated = _one_by_one(steps, after)
    merged = merge(steps, dict(stored))
    assert stored | merged.rows == after
    receipt = merged.receipt({})
    assert (dict(receipt.superseded), dict(receipt.updated)) == (superseded, updated)


@settings(max_examples=300)
@given(steps=STEPS, stored=STORED)
def test_the_guard_decides_what_is_not_known(steps: list[Step], stored: State) -> None:
    """If only what updates read is known, the store's guard and its answer lead to the same state.

    No step is reported that did not lose. Each that lost against a row from outside of the batch is reported, with
    that row's version, unless the batch had a newer one for the key.
    """
    after = dict(stored)
    superseded, updated = _one_by_one(steps, after)
    read = {(*run, key) for run, keys in holds_of(steps, lambda _: False).items() for key in keys}
    merged = merge(steps, {place: stored.get(place) for place in read})
    guarded, kept = dict(stored), {}
    for place, row in merged.rows.items():
        held = guarded.get(place)
        if held is None or row.stamp > held.stamp:
            guarded[place] = row
        else:
            kept[place] = held.stamp
    assert guarded == after
    receipt = merged.receipt(kept)
    assert dict(receipt.updated) == updated
    assert all(version <= superseded[index] for index, version in receipt.superseded.items())
    for index, step in enumerate(steps):
        if isinstance(step, Row) and place_of(step) in kept:
            assert receipt.superseded.get(index) == superseded.get(index)


@given(rows=st.lists(_rows(), max_size=8))
def test_the_newest_of_each_key_stays(rows: list[Row]) -> None:
    """Of rows with one key the greatest stamp stays, whatever the order."""
    mine = [row for row in rows if row.kind is PROBE_COUNTER and row.tenant == "t"]
    kept = {row.key: row.stamp for row in newest(mine)}
    assert kept == {
        key: max(row.stamp for row in mine if row.key == key) for key in {row.key for row in mine}
    }


@given(rows=st.lists(_rows(), max_size=8))
def test_all_writers_take_the_same_turn(rows: list[Row]) -> None:
    """Logs come before states, kinds and tenants in one order, whatever that of the rows; no row is left out."""
    runs = runs_of(rows)
    names = [(kind.shape is not Shape.LOG, kind.schema, kind.name, tenant) for kind, tenant in runs]
    assert names == sorted(set(names))
    assert sorted(row for run in runs.values() for row in map(str, run)) == sorted(map(str, rows))
    assert list(runs_of(rows[::-1])) == list(runs)


def test_what_is_held_is_gathered_in_order() -> None:
    """What updates read and what states are written is held once: logs first, kinds and keys in a shared order."""
    refs = (KeyRef(PROBE_STATE, ("b", 1)), KeyRef(PROBE_COUNTER, ("x",)), KeyRef(PROBE_LOG, ("id",)))
    logs = [_row(PROBE_LOG, tenant, "other", 1, 1) for tenant in "tu"]
    row = Row(PROBE_STATE, "t", 1, 1, False, ("a", 2, *[None] * (len(PROBE_STATE.fields) - 2)))
    updates = (Update("t", refs, lambda _: ()), Update("t", refs[:1], lambda _: ()))
    steps: list[Step] = [*updates, row, Group((row, *logs))]
    assert list(holds_of(steps, lambda row: row.tenant == "u").items()) == [
        ((PROBE_LOG, "t"), [("id",)]),
        ((PROBE_LOG, "u"), []),
        ((PROBE_COUNTER, "t"), [("x",)]),
        ((PROBE_STATE, "t"), [("a", 2), ("b", 1)]),
    ]


def test_what_apply_raises_goes_through() -> None:
    """The error of an update is raised as it is."""
    error = InvalidRecordError("no")

    def refuse(_: Sequence[Row | None]) -> Sequence[Row]:
        raise error

    with pytest.raises(InvalidRecordError) as caught:
        merge([Update("t", (), refuse)], {})
    assert caught.value is error

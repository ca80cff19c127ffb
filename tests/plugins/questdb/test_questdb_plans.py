"""What a batch becomes before any of it is sent."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.backend import Group, KeyRef, Step, Update
from gateway.columns import ColumnBatch
from gateway.conformance.kinds import PROBE_COUNTER, PROBE_LOG, PROBE_STATE
from gateway.conformance.rows import FIRST_VERSION, Scribe
from gateway.errors import CapabilityError, SchemaError, StoreCorruptError
from gateway.records import INDICATORS, Key, KindSpec, Row
from gateway_questdb.groups import packed, unpacked
from gateway_questdb.layout import layout_of
from gateway_questdb.lines import lines_of, text_of
from gateway_questdb.plans import keys_to_compare, logs_of, plan_of, requests_of, without_losers

SCRIBE = Scribe("11111111-1111-1111-1111-111111111111")


def row_of(slot: int, version: int) -> Row:
    """Return a state row of a slot."""
    return SCRIBE.state("o", slot, version=FIRST_VERSION + version, label=str(version))


rows = st.builds(row_of, st.integers(0, 2), st.integers(0, 4))
steps = st.lists(rows | st.builds(lambda some: Group(tuple(some)), st.lists(rows, max_size=3)), max_size=8)
stored = st.dictionaries(st.integers(0, 2), st.integers(0, 4), max_size=3)


@settings(max_examples=200, deadline=None)
@given(steps, stored)
def test_only_rows_that_count_are_sent_and_losers_are_named(batch: list[Step], held: dict[int, int]) -> None:
    """A row is sent if nothing stored or before it in the batch is as new; a step that lost names what it lost to."""
    newest: dict[tuple[KindSpec, str, Key], tuple[int, int]] = {
        (PROBE_STATE, SCRIBE.tenant, ("o", slot)): row_of(slot, version).stamp
        for slot, version in held.items()
    }
    plan = without_losers(plan_of(batch), dict(newest))
    expected: dict[int, list[Row]] = {}
    lost: dict[int, int] = {}
    for at, step in enumerate(batch):
        for row in step.rows if isinstance(step, Group) else [step]:
            assert isinstance(row, Row)
            place = (row.kind, row.tenant, row.key)
            before = newest.get(place, (-1, 0))
            if row.stamp > before:
                expected.setdefault(at, []).append(row)
                newest[place] = row.stamp
            elif row.stamp < before:
                lost[at] = max(lost.get(at, 0), before[0])
    assert {at: list(found) for at, found in plan.steps.items()} == expected
    assert plan.superseded == lost


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 5), max_size=12), st.integers(1, 8))
def test_requests_keep_groups_whole(sizes: list[int], most: int) -> None:
    """However small requests are, the rows of a group in one table go in one, and every row goes once."""
    numbers = itertools.count()
    batch: list[Step] = [Group(tuple(SCRIBE.log(f"r{next(numbers)}") for _ in range(size))) for size in sizes]
    requests = requests_of(plan_of(batch), most).get(PROBE_LOG, [])
    sent = [row for request in requests for row in request]
    assert sent == [row for step in batch if isinstance(step, Group) for row in step.rows]
    for step in batch:
        assert isinstance(step, Group)
        assert sum(step.rows[0] in request for request in requests) == 1
        assert any(set(step.rows) <= set(request) for request in requests)


def test_only_groups_over_several_tables_are_written_down() -> None:
    """A group of one table is one transaction by itself."""
    spanning = Group((SCRIBE.log(), SCRIBE.state()))
    plan = without_losers(plan_of([SCRIBE.log(), Group((SCRIBE.log(), SCRIBE.log())), spanning]), {})
    assert plan.spanning == (2,)


def test_logs_are_not_looked_up() -> None:
    """What is stored is asked for states and counters, each key once, and never for logs."""
    counter, state = SCRIBE.counter(), SCRIBE.state()
    plan = plan_of([SCRIBE.log(), counter, Group((state, SCRIBE.state())), SCRIBE.log()])
    assert keys_to_compare(plan) == {
        (PROBE_COUNTER, SCRIBE.tenant): [counter.key],
        (PROBE_STATE, SCRIBE.tenant): [state.key],
    }


def test_updates_are_refused_with_a_reason() -> None:
    """An update needs a store that can read and write with nobody in between."""
    update = Update(SCRIBE.tenant, (KeyRef(PROBE_COUNTER, ("c",)),), lambda _rows: ())
    with pytest.raises(CapabilityError, match="another primary"):
        plan_of([update])


def test_what_is_written_down_is_what_is_found() -> None:
    """A group's rows come out of the text as they went in, or none of them where one is not understood."""
    group = [SCRIBE.log(document={"k": [1.5, None]}, tally=-(2**63)), SCRIBE.tombstone(SCRIBE.state())]
    kinds = {kind.name: kind for kind in (PROBE_LOG, PROBE_STATE)}
    assert unpacked(packed(group), kinds) == group
    with pytest.raises(SchemaError, match="rows of probe_state, which this process does not know"):
        unpacked(packed(group), {"probe_log": PROBE_LOG})
    former = group[0]._replace(values=group[0].values[:-1])
    with pytest.raises(SchemaError, match="rows of probe_log with other fields"):
        unpacked(packed([former, group[1]]), kinds)
    for text in ("", "no such text", packed(group)[:-10]):
        with pytest.raises(StoreCorruptError):
            unpacked(text, kinds)


def test_lines_are_those_of_the_protocol() -> None:
    """Symbols and texts are escaped, empty values left out, and what all rows share is written the same."""
    fields = {
        "record_id": ["a", "b%d"],
        "timestamp": [5, 6],
        "session_id": ["s 1", "s 1"],
        "symbol": ["B,=\\", "C"],
        "indicator_id": ["100%", "100%"],
        "value": [0.1, 1e300],
        "confidence": [None, 0.0],
        "metadata": ['{"k":"v\\\\"}', None],
    }
    columns = [fields.get(name, [None, None]) for name in INDICATORS.field_names]
    batch = ColumnBatch(INDICATORS, "t", [1, 2], [-3, 4], columns)  # type: ignore[arg-type] # lists of several types
    first, second = lines_of(layout_of(INDICATORS), batch).decode().splitlines()
    assert first == (
        r"indicators,tenant_id=t,session_id=s\ 1,symbol=B\,\=\\,indicator_id=100%,row__origin=loose\ t "
        r'version=1i,digest=-3i,record_id="a",value=0.1,metadata="{\"k\":\"v\\\\\"}" 5'
    )
    assert second == (
        r"indicators,tenant_id=t,session_id=s\ 1,symbol=C,indicator_id=100%,row__origin=loose\ t "
        r'version=2i,digest=4i,record_id="b%d",value=1e300,confidence=0.0 6'
    )


def log_row(tenant: int, version: int, deleted: bool, note: str | None) -> Row:
    """Return a log row of one of a few tenants, or its deletion."""
    scribe = Scribe(f"11111111-1111-1111-1111-11111111111{tenant}")
    record_id = f"{tenant}-{version}"
    row = scribe.log(record_id, version=FIRST_VERSION + version, note=note)
    return scribe.tombstone(row, version=FIRST_VERSION + version) if deleted else row


log_rows = st.builds(
    log_row,
    st.integers(0, 2),
    st.integers(0, 9),
    st.booleans(),
    st.none() | st.text(st.sampled_from('a",=\\ \n%'), max_size=4),
)


@given(st.lists(log_rows, min_size=1, max_size=8))
def test_rows_are_written_together_as_each_by_itself(some: list[Row]) -> None:
    """The lines of any mixture of tenants and deletions are the lines of each row, whatever the others hold."""
    layout = layout_of(PROBE_LOG)
    single = [text_of(layout, [row]) for row in some]
    assert sorted(text_of(layout, some)) == sorted(b"".join(single))
    assert all(line in text_of(layout, some) for line in single)


@given(st.lists(log_rows | rows, max_size=8))
def test_a_batch_of_log_rows_needs_no_decision(batch: list[Step]) -> None:
    """Single rows of logs are sorted by kind and kept as they are; anything else in the batch asks for a plan."""
    found = logs_of(batch)
    if all(isinstance(step, Row) and step.kind is PROBE_LOG for step in batch):
        assert found == ({PROBE_LOG: batch} if batch else {})
        assert keys_to_compare(plan_of(batch)) == {}
    else:
        assert found is None
    group: list[Step] = [Group(())]
    assert logs_of([*batch, *group]) is None

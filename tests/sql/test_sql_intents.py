"""Intents as rows of a table: keys as JSON, and what a batch comes to."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from gateway.backend import Update
from gateway.conformance.kinds import PROBE_COUNTER, PROBE_LOG
from gateway.conformance.rows import Scribe, group
from gateway.intents import Intent, Journaling
from gateway.records.row import Row
from gateway.sql.intents import Note, alike, intents_from, key_text, key_texts, notes_of

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=20)


@given(names=st.lists(NAMES, min_size=1, max_size=5), slot=st.integers(-(2**63), 2**63 - 1))
def test_a_key_comes_back_from_its_text(names: list[str], slot: int) -> None:
    """Whatever a key holds, its JSON gives the same values of the same types, alone and among others."""
    scribe = Scribe("t")
    for rows in ([scribe.counter(name) for name in names], [scribe.state(name, slot) for name in names]):
        texts = [key_text(row) for row in rows]
        assert key_texts(rows) == texts
        assert [tuple(json.loads(text)) for text in texts] == [row.key for row in rows]


@given(
    mirrors=st.lists(st.sampled_from([("a",), ("a", "b"), ()]), min_size=1, max_size=4),
    uniform=st.booleans(),
    traced=st.booleans(),
)
def test_rows_that_are_alike_come_to_the_same(
    mirrors: list[tuple[str, ...]], uniform: bool, traced: bool
) -> None:
    """The short form of a batch of alike rows stands for the intents of the long one, or there is none."""
    scribe = Scribe("t")
    targets = mirrors[:1] * len(mirrors) if uniform else mirrors
    rows = [scribe.log() for _ in targets]
    journaling = Journaling("o", 7, targets, {len(rows) - 1: "trace"} if traced else {})
    found = alike(rows, journaling)
    assert (found is None) == (len(set(targets)) > 1)
    if found is not None:
        spelled = [
            Note(
                "t",
                target,
                found.owner,
                found.first + at,
                0,
                "probe_log",
                found.keys[at],
                found.versions[at],
                trace,
            )
            for at, trace in enumerate(found.traces or [None] * len(rows))
            for target in found.targets
        ]
        assert spelled == notes_of(rows, journaling, {})


def test_the_intents_of_a_batch() -> None:
    """Each row of a step has a part of the step's number, for each of the step's mirrors; updates' are given."""
    scribe = Scribe("t")
    log, counter, written = scribe.log(), scribe.counter(), scribe.state()
    update = Update("t", (), lambda _: ())
    steps = log, group(counter, log), update, update, scribe.log()
    journaling = Journaling("o", 10, [("a",), ("a", "b"), ("b",), ("b",), ()], {2: "trace"})
    found = [
        (one.target, one.number, one.part, one.kind, one.trace)
        for one in notes_of(steps, journaling, {2: [written]})
    ]
    assert found == [
        ("a", 10, 0, "probe_log", None),
        ("a", 11, 0, "probe_counter", None),
        ("b", 11, 0, "probe_counter", None),
        ("a", 11, 1, "probe_log", None),
        ("b", 11, 1, "probe_log", None),
        ("b", 12, 0, "probe_state", "trace"),
    ]


def test_results_become_intents() -> None:
    """What a database returns of an intent names the kind itself, and an absent trace is an empty one."""
    row: Row = Scribe("t").counter("c")
    records = [("o", 1, 0, "probe_counter", key_text(row), row.version, None)]
    kinds = {kind.name: kind for kind in (PROBE_COUNTER, PROBE_LOG)}
    assert intents_from(records, "t", kinds) == [
        Intent("o", 1, 0, PROBE_COUNTER, "t", ("c",), row.version, "")
    ]

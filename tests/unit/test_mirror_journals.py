"""Journals beside a primary: what they keep, give back and forget, whichever kind of journal it is."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import (
    GatewayClosedError,
    SchemaTooNewError,
    StoreCorruptError,
    StoreError,
    StoreReadOnlyError,
)
from gateway.intents import Intent, Stretch
from gateway.journal.file import JournalFile
from gateway.journal.local import LocalJournal
from gateway.journal.memory import MemoryJournal
from gateway.journal.notes import Note
from gateway.journal.numbers import Numbers
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.market import CANDLES
from gateway.records.stamp import DEFAULT_TENANT
from gateway.records.trading import POSITIONS, TRADES

TENANT = DEFAULT_TENANT
OTHER = "11111111-1111-1111-1111-111111111111"
AnyJournal = LocalJournal | MemoryJournal


def intent(
    number: int, *, owner: str = "a", part: int = 0, version: int | None = None, **given: Any
) -> Intent:
    """Return an intent; its version is its number by default."""
    fields = {"kind": TRADES, "tenant": TENANT, "key": (f"t{number}",), "trace": "", **given}
    return Intent(owner, number, part, version=number if version is None else version, **fields)


def notes(*numbers: int, target: str = "b", **given: Any) -> list[Note]:
    """Return intents for a mirror."""
    return [(target, intent(number, **given)) for number in numbers]


@pytest.fixture(params=["file", "memory"])
async def journal(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AnyJournal]:
    """Give each kind of journal."""
    if request.param == "memory":
        yield MemoryJournal()
        return
    file = JournalFile(tmp_path / "journal.db")
    yield LocalJournal(file, "primary", BUILTIN_KINDS)
    await file.close()


@pytest.mark.anyio
async def test_what_is_noted_is_pending_in_order(journal: AnyJournal) -> None:
    """Intents come back whole, by owner, number and part, whatever order they were written in."""
    written = [
        intent(2, owner="b"),
        intent(3, part=1, kind=CANDLES, key=("BTC", "1m", 17), trace="00-aa-bb-01"),
        intent(3, part=0, kind=POSITIONS, key=("м1",)),
        intent(1),
    ]
    await journal.note([("x", one) for one in written])
    assert list(await journal.pending("x", TENANT, 10)) == [written[3], written[2], written[1], written[0]]
    assert await journal.pending("y", TENANT, 10) == []
    assert await journal.pending("x", OTHER, 10) == []


@pytest.mark.anyio
async def test_noting_twice_is_noting_once(journal: AnyJournal) -> None:
    """What is there already under a number is left as it is."""
    await journal.note(notes(1, 2))
    journal.note_now(notes(2, version=9))
    assert [one.version for one in await journal.pending("b", TENANT, 10)] == [1, 2]


@pytest.mark.anyio
async def test_steps_are_given_whole_or_not_at_all(journal: AnyJournal) -> None:
    """A page does not end within a step, and `before` leaves out a step of which any row is younger."""
    steps = [
        intent(number, part=part, version=10 * number + part) for number in (1, 2, 3) for part in (0, 1, 2)
    ]
    await journal.note([("b", one) for one in steps])
    for limit in range(1, 10):
        found = list(await journal.pending("b", TENANT, limit))
        assert found == steps[: len(found)]
        assert len(found) == -(-limit // 3) * 3
    assert list(await journal.pending("b", TENANT, 1, after=Stretch("a", 1, 1))) == steps[3:6]
    for before, whole in ((12, 0), (13, 3), (22, 3), (23, 6), (99, 9)):
        assert list(await journal.pending("b", TENANT, 99, before=before)) == steps[:whole]


@pytest.mark.anyio
async def test_waiting_begins_when_an_intent_is_written(journal: AnyJournal) -> None:
    """What is told as the beginning is when it was noted, however old the versions are."""
    began = time.time_ns() // 1_000
    await journal.note(notes(1, version=1))
    noted = time.time_ns() // 1_000
    await journal.note(notes(2, version=2))
    (found,) = await journal.facts(TENANT, 1)
    assert found.since is not None
    assert began <= found.since <= noted
    await journal.acknowledge("b", TENANT, [Stretch("a", 1, 1)])
    (later,) = await journal.facts(TENANT, 1)
    assert later.since is not None
    assert later.since >= noted


@pytest.mark.anyio
async def test_pages_go_on_where_they_stopped(journal: AnyJournal) -> None:
    """`after` leaves out everything up to the end of a stretch; `before` what has not a smaller version."""
    await journal.note([*notes(*range(1, 8)), *notes(1, 2, owner="z")])
    page = await journal.pending("b", TENANT, 3)
    rest = await journal.pending("b", TENANT, 100, after=Stretch("a", 1, page[-1].number))
    assert [(one.owner, one.number) for one in rest] == [
        ("a", 4),
        ("a", 5),
        ("a", 6),
        ("a", 7),
        ("z", 1),
        ("z", 2),
    ]
    assert [one.number for one in await journal.pending("b", TENANT, 100, before=3)] == [1, 2, 1, 2]


@pytest.mark.anyio
async def test_acknowledging_removes_exactly_the_stretches(journal: AnyJournal) -> None:
    """Of one mirror, tenant and owner, and repeating it removes nothing more."""
    await journal.note([*notes(*range(1, 9)), *notes(3, part=1), *notes(3, owner="z"), *notes(3, target="c")])
    await journal.note(notes(3, tenant=OTHER))
    done = [Stretch("a", 2, 4), Stretch("a", 8, 100)]
    assert await journal.acknowledge("b", TENANT, done) == 5
    assert await journal.acknowledge("b", TENANT, done) == 0
    assert await journal.acknowledge("b", TENANT, []) == 0
    left = [(one.owner, one.number) for one in await journal.pending("b", TENANT, 100)]
    assert left == [("a", 1), ("a", 5), ("a", 6), ("a", 7), ("z", 3)]
    assert len(await journal.pending("c", TENANT, 10)) == 1
    assert len(await journal.pending("b", OTHER, 10)) == 1


@pytest.mark.anyio
async def test_facts_count_up_to_a_limit(journal: AnyJournal) -> None:
    """Each mirror of which something is left, with the smallest version; of this tenant alone."""
    assert list(await journal.facts(TENANT, 10)) == []
    await journal.note([*notes(1, version=50), *notes(2, version=40), *notes(3, version=60)])
    await journal.note([*notes(4, target="c"), *notes(5, target="d", tenant=OTHER)])
    found = await journal.facts(TENANT, 2)
    assert [(one.target, one.depth, one.oldest) for one in found] == [("b", 2, 40), ("c", 1, 4)]
    await journal.acknowledge("b", TENANT, [Stretch("a", 1, 3)])
    assert [one.target for one in await journal.facts(TENANT, 2)] == ["c"]


@pytest.mark.anyio
async def test_forgetting_is_for_every_mirror(journal: AnyJournal) -> None:
    """What was not written after all is noted for nobody."""
    await journal.note([*notes(1, 2), *notes(1, 2, target="c"), *notes(1, owner="z")])
    await journal.forget(Stretch("a", 1, 1))
    assert [(one.owner, one.number) for one in await journal.pending("b", TENANT, 9)] == [("a", 2), ("z", 1)]
    assert [one.number for one in await journal.pending("c", TENANT, 9)] == [2]


@pytest.mark.anyio
async def test_a_file_serves_several_primaries_and_processes(tmp_path: Path) -> None:
    """Each primary has its own intents; another process sees them at once; kinds it does not know stay."""
    one, other = JournalFile(tmp_path / "journal.db"), JournalFile(tmp_path / "journal.db")
    first = LocalJournal(one, "old", BUILTIN_KINDS)
    assert not one.present()
    assert await LocalJournal(other, "old", BUILTIN_KINDS).facts(TENANT, 1) == []
    assert not one.present(), "a mere look made the file"
    await first.note([*notes(1), *notes(2, kind=POSITIONS)])
    await LocalJournal(other, "new", BUILTIN_KINDS).note(notes(3, target="old"))
    elsewhere = LocalJournal(other, "old", [TRADES])
    assert [one.number for one in await elsewhere.pending("b", TENANT, 9)] == [1]
    assert [one.depth for one in await elsewhere.facts(TENANT, 9)] == [2]
    assert await elsewhere.acknowledge("b", TENANT, [Stretch("a", 1, 2)]) == 1, "a kind that it does not know"
    assert [one.number for one in await first.pending("b", TENANT, 9)] == [2]
    assert (tmp_path / "journal.db").stat().st_mode & 0o777 == 0o600
    await one.close()
    await other.close()
    with pytest.raises(GatewayClosedError):
        await first.note(notes(9))


@pytest.mark.anyio
async def test_writers_share_a_commit_and_fail_alone(tmp_path: Path) -> None:
    """Many at once all get through; one that fails takes nobody along; one that is cancelled writes nothing."""
    file = JournalFile(tmp_path / "journal.db")
    journal = LocalJournal(file, "p", BUILTIN_KINDS)

    def wrong(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO intents (source) VALUES ('half')")

    results = await asyncio.gather(
        *(journal.note(notes(number)) for number in range(1, 60)), file.write(wrong), return_exceptions=True
    )
    assert [type(one) for one in results if one is not None] == [StoreError]
    assert len(await journal.pending("b", TENANT, 100)) == 59
    await file.close()


@pytest.mark.anyio
async def test_a_file_that_cannot_be_used_says_what_to_do(tmp_path: Path) -> None:
    """Another program's database, a newer schema, damage, a directory: each is its own error, and nothing is changed."""
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE theirs (id)")
    connection.close()
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"no database at all" * 100)
    newer = tmp_path / "newer.db"
    file = JournalFile(newer)
    await LocalJournal(file, "p", BUILTIN_KINDS).note(notes(1))
    await file.close()
    with sqlite3.connect(newer) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    for path, expected, says in (
        (foreign, StoreCorruptError, "another program"),
        (damaged, StoreCorruptError, "move it away"),
        (newer, SchemaTooNewError, "upgrade this installation"),
        (tmp_path, StoreReadOnlyError, "permissions"),
    ):
        file = JournalFile(path)
        journal = LocalJournal(file, "p", BUILTIN_KINDS)
        with pytest.raises(expected, match=says):
            await journal.note(notes(1))
        await file.close()


def test_numbers_are_never_given_out_twice() -> None:
    """Stretches follow one another; every gateway draws an owner of its own."""
    numbers = Numbers()
    assert (numbers.take(3), numbers.take(1), numbers.take(5)) == (1, 4, 5)
    assert numbers.upcoming == 10
    assert Numbers().owner != numbers.owner


PLACES = st.tuples(st.sampled_from("ab"), st.integers(1, 6), st.integers(0, 2))
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("note"), st.lists(PLACES, max_size=4)),
        st.tuples(st.just("done"), st.tuples(st.sampled_from("ab"), st.integers(0, 7), st.integers(0, 7))),
    ),
    max_size=12,
)


@given(actions=ACTIONS)
@settings(max_examples=15, deadline=None)
def test_both_journals_hold_what_a_set_would(actions: list[tuple[str, Any]], tmp_path_factory: Any) -> None:
    """Any order of notes and acknowledgements leaves exactly what was noted and not acknowledged since."""

    async def run() -> None:
        file = JournalFile(tmp_path_factory.mktemp("journal") / "journal.db")
        journals: list[AnyJournal] = [LocalJournal(file, "p", BUILTIN_KINDS), MemoryJournal()]
        model: set[tuple[str, int, int]] = set()
        for action, what in actions:
            if action == "note":
                model |= set(what)
                made = [("b", intent(number, owner=owner, part=part)) for owner, number, part in what]
                for journal in journals:
                    await journal.note(made)
            else:
                owner, first, last = what
                gone = {one for one in model if one[0] == owner and first <= one[1] <= last}
                model -= gone
                for journal in journals:
                    assert await journal.acknowledge("b", TENANT, [Stretch(*what)]) == len(gone)
        for journal in journals:
            found = [(one.owner, one.number, one.part) for one in await journal.pending("b", TENANT, 1000)]
            assert found == sorted(model)
            facts = await journal.facts(TENANT, 1000)
            assert [one.depth for one in facts] == ([len(model)] if model else [])
        await file.close()

    asyncio.run(run())

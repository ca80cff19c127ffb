"""Reads by key that are compared together: one question for many, and each is judged by its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.backend import Summarize
from gateway.query import Query
from gateway.records import POSITIONS, TRADES
from gateway.records.stamp import DEFAULT_TENANT
from gateway.shadow.looks import KeyRead
from gateway.shadow.together import ReadOperation, together
from tests.unit.test_shadow import Bench, bench

__all__ = ["bench"]


class _Named:
    """Stands for a store of which nothing but the name matters."""

    def __init__(self, name: str) -> None:
        self.name = name


def _operations(choices: Sequence[tuple[str, int]]) -> list[ReadOperation]:
    made: dict[str, Any] = {
        "positions": lambda at: KeyRead(POSITIONS, DEFAULT_TENANT, ((str(at),),)),
        "trades": lambda at: KeyRead(TRADES, DEFAULT_TENANT, ((str(at),),)),
        "listing": lambda at: Query(POSITIONS, DEFAULT_TENANT, limit=at + 1),
        "count": lambda _: Summarize(POSITIONS, DEFAULT_TENANT, "side"),
    }
    stores: list[Any] = [_Named("a"), _Named("b"), _Named("c")]
    return [
        ReadOperation(stores[store], stores[store - 1], made[sort](at), ())
        for at, (sort, store) in enumerate(choices)
    ]


@given(
    st.lists(
        st.tuples(st.sampled_from(["positions", "trades", "listing", "count"]), st.integers(0, 2)),
        max_size=30,
    )
)
def test_every_read_is_in_one_group_and_groups_are_of_one_sort(choices: list[tuple[str, int]]) -> None:
    """Nothing is lost or doubled; only reads by key of one kind, tenant and pair of stores share a group."""
    operations = _operations(choices)
    groups = together(operations)
    assert sorted(map(id, operations)) == sorted(id(one) for group in groups for one in group)
    for group in groups:
        if len(group) > 1:
            assert all(isinstance(one.request, KeyRead) for one in group)
        about = {
            (one.reader.name, one.shadow.name, one.request.kind.name, one.request.tenant) for one in group
        }
        assert len(about) == 1
    keyed = [group for group in groups if isinstance(group[0].request, KeyRead)]
    sorts = [(group[0].reader.name, group[0].request.kind.name) for group in keyed]
    assert len(sorts) == len(set(sorts)), "reads that could have gone together did not"


@pytest.mark.anyio
async def test_many_reads_cost_the_other_store_one_question(bench: Bench) -> None:
    """Reads by key that come within the linger are one read of the follower; each counts as a comparison."""
    shadow = bench.reader(linger=0.01)
    for market in "abc":
        await bench.put(bench.row(market))
    for market in "abcab":
        await bench.offer(shadow, market)
    await shadow.drain()
    assert bench.outcomes() == {"shadow_match": 5}
    assert bench.gate.calls == 1
    await shadow.aclose()


@pytest.mark.anyio
async def test_a_difference_is_that_of_its_own_read(bench: Bench) -> None:
    """Of reads compared together only that which differs is looked into, and found."""
    shadow = bench.reader(linger=0.01)
    for market in "abc":
        await bench.put(bench.row(market))
    await bench.put(bench.row("b", price=2), bench.old)
    for market in "abc":
        await bench.offer(shadow, market)
    await shadow.aclose()
    assert bench.outcomes() == {"shadow_match": 2, "shadow_diverged": 1}
    (kept,) = await bench.listed()
    assert kept.key == ("b",)


@pytest.mark.anyio
async def test_two_answers_of_one_key_are_each_compared(bench: Bench) -> None:
    """The bot read a row twice while it changed: the older answer differs, and is explained by looking again."""
    shadow = bench.reader(linger=0.01)
    await bench.put(bench.row())
    await bench.offer(shadow)
    await bench.put(bench.row(price=2))
    await bench.offer(shadow)
    await shadow.aclose()
    assert bench.outcomes() == {"shadow_match": 1, "shadow_lagging": 1}


@pytest.mark.anyio
async def test_a_burst_of_reads_is_compared_up_to_a_bound(bench: Bench) -> None:
    """Beyond so many comparisons a second, sampled reads are dropped and counted."""
    shadow = bench.reader(per_second=4, linger=0.0)
    await bench.put(bench.row())
    for _ in range(10):
        await bench.offer(shadow)
    await shadow.drain()
    found = bench.outcomes()
    assert found["shadow_match"] + found["shadow_dropped"] == 10
    assert 4 <= found["shadow_match"] <= 8, "two seconds' worth at most"
    await shadow.aclose()


@pytest.mark.anyio
async def test_stopping_while_reads_are_gathered_counts_them_all(bench: Bench) -> None:
    """A reader that is closed while it lingers, or while the follower hangs, counts every read as something."""
    shadow = bench.reader(linger=30.0)
    await bench.put(bench.row())
    await bench.offer(shadow)
    await asyncio.sleep(0)
    await bench.offer(shadow)
    await shadow.aclose(0.05)
    assert sum(bench.outcomes().values()) == 2

"""Bars of ticks that are written while they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from gateway.backend import WriteBatch
from gateway.candles import Sample, bars_of
from gateway.query import Query
from gateway.records import TICK_PRICES, Row
from gateway.records.codec import from_micros
from gateway.records.stamp import Stamper
from gateway_questdb.backend import QuestDbBackend
from gateway_questdb.statements import Statement

MINUTE = 60_000_000
NOON = 1_788_000_000_000_000 // MINUTE * MINUTE


def tick(stamper: Stamper, price: float, at: int = 0) -> Row:
    """Return a tick."""
    values = {"timestamp": from_micros(NOON + at), "symbol": "BTC", "price": price, "volume": 1.0}
    return stamper.stamp(TICK_PRICES, TICK_PRICES.model.model_validate(values))


@pytest.mark.anyio
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("question", [1, 2, 3])
async def test_a_bar_is_that_of_one_set_of_ticks(
    store: QuestDbBackend,
    stamper: Stamper,
    monkeypatch: pytest.MonkeyPatch,
    question: int,
    descending: bool,
) -> None:
    """Ticks of the instants that a bar begins and ends at, written between its questions: all count, or none does."""
    first = [tick(stamper, price, at) for at in (0, MINUTE, 2 * MINUTE) for price in (5.0, 6.0)]
    await store.gateway_write(WriteBatch(first))
    late = [tick(stamper, 9.0), tick(stamper, 1.0, MINUTE), tick(stamper, 10.0, MINUTE)]
    fetch, asked = store._answers.fetch, 0

    async def overtaken(statement: Statement) -> Sequence[Sequence[Any]]:
        nonlocal asked
        answer = await fetch(statement)
        asked += 1
        if asked == question:
            await store.gateway_write(WriteBatch(late))
            await store._waiting.applied(["tick_prices"])
        return answer

    monkeypatch.setattr(store._answers, "fetch", overtaken)
    request = Sample(TICK_PRICES, stamper.tenant, (), MINUTE, descending=descending)
    found = await store.gateway_sample(request)
    assert asked >= question
    before, after = bars_of(first, request), bars_of([*first, *late], request)
    assert len(found) == 3
    assert all(bar in either for bar, *either in zip(found, before, after, strict=True))
    assert list(await store.gateway_query(Query(TICK_PRICES, stamper.tenant)))[-1] == first[-1]
    assert list(await store.gateway_sample(request)) == after

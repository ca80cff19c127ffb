"""Arguments that no call takes: refused with a sentence, under the one root, and nothing stored."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from gateway import Gateway, InvalidRecordError
from gateway.records import Trade

pytestmark = pytest.mark.anyio

Call = Callable[[Any], Awaitable[object]]

TRADE: Final = Trade(
    timestamp=datetime(2026, 1, 1, tzinfo=UTC),
    market_name="BTC",
    action="buy",
    side="YES",
    price=Decimal(1),
    amount=Decimal(1),
)


async def streamed(gateway: Any, *kind: object, **options: object) -> list[object]:
    """Read a stream to its end."""
    return [record async for record in gateway.stream(*kind, **options)]


WRONG: Final[dict[str, tuple[Call, str]]] = {
    "date is a number": (lambda g: g.get_trades(date=20260101), "YYYY-MM-DD, not int"),
    "date and since": (lambda g: g.get_trades(date="2026-01-01", since=TRADE.timestamp), "not both"),
    "day is a number": (lambda g: g.update_daily_stats(5), "YYYY-MM-DD, not int"),
    "day is no day": (lambda g: g.get_or_create_daily_stats("2026-02-30"), "write it as YYYY-MM-DD"),
    "day is a number, to create": (lambda g: g.get_or_create_daily_stats(5), "YYYY-MM-DD, not int"),
    "delta is None": (
        lambda g: g.update_daily_stats("2026-01-01", pnl_delta=None),
        "current_pnl is a number",
    ),
    "count is None": (lambda g: g.update_daily_stats("2026-01-01", trade_count_delta=None), "is a number"),
    "delta is text": (lambda g: g.update_daily_stats("2026-01-01", pnl_delta="abc"), "current_pnl"),
    "operation is an object": (
        lambda g: g.update_daily_stats("2026-01-01", operation_id=object()),
        "operation_id",
    ),
    "limit is text": (lambda g: g.get_trades(limit="5"), "whole number such as 100, not str"),
    "limit is a flag": (lambda g: g.get_trades(limit=True), "whole number such as 100, not bool"),
    "limit is a fraction": (lambda g: g.get_trades(limit=1.5), "whole number such as 100, not float"),
    "page of text": (lambda g: g.query("trades", limit="5"), "whole number such as 100, not str"),
    "page of NaN": (lambda g: g.query("trades", limit=float("nan")), "whole number such as 100, not float"),
    "page of None": (lambda g: g.query("trades", limit=None), "whole number such as 100, not NoneType"),
    "age beyond time": (lambda g: g.purge("trades", older_than=timedelta.max), "give a shorter time"),
    "age is a number": (lambda g: g.purge("trades", older_than=30), "timedelta\\(days=30\\), not int"),
    "age is negative": (lambda g: g.purge("trades", older_than=timedelta.min), "must be positive"),
    "order is a list": (lambda g: g.query("trades", order=["asc"]), "'asc' or 'desc'"),
    "order of trades is a list": (lambda g: g.get_trades(order=["asc"]), "'asc' or 'desc'"),
    "order of a stream": (lambda g: streamed(g, "trades", order={}), "'asc' or 'desc'"),
    "kind is a list": (lambda g: g.query(["trades"]), "by its name, such as 'trades', not by list"),
    "kind is a class": (lambda g: g.query(Trade), "by its name, such as 'trades', not by"),
    "kind of a stream": (lambda g: streamed(g, ["trades"]), "by its name, such as 'trades', not by list"),
    "kind to get": (lambda g: g.get(["trades"], "x"), "by its name, such as 'trades', not by list"),
    "kind to delete": (lambda g: g.delete({}, "x"), "by its name, such as 'trades', not by dict"),
    "kind to purge": (lambda g: g.purge(["trades"]), "by its name, such as 'trades', not by list"),
    "kind to put": (lambda g: g.put(["trades"]), "record object or keyword arguments, not list"),
    "cursor is a number": (lambda g: g.query("trades", after=5), "text, not int"),
    "cursor is bytes": (lambda g: g.query("trades", after=b"x"), "text, not bytes"),
    "cursor is nonsense": (lambda g: g.query("trades", after="%%%"), "this is no cursor"),
    "many of a number": (lambda g: g.put_many(5), "iterable of record objects, not int"),
    "many of text": (lambda g: g.put_many("trades"), "iterable of record objects, not str"),
    "many of a dict": (lambda g: g.put_many({"a": TRADE}), "iterable of record objects, not dict"),
    "many of one record": (lambda g: g.put_many(TRADE), "iterable of record objects, not Trade"),
    "many dicts": (lambda g: g.put_many([{"a": 1}]), "one of these is dict"),
    "many with None last": (lambda g: g.put_many([TRADE] * 6000 + [None]), "one of these is NoneType"),
    "many from a generator": (lambda g: g.put_many(one for one in [TRADE, 5]), "one of these is int"),
    "put of None": (lambda g: g.put(None), "record object or keyword arguments, not NoneType"),
    "position is a dict": (lambda g: g.save_position({"condition_id": "c"}), "not dict"),
    "where is a list": (lambda g: g.query("trades", where=["a"]), "where is a mapping"),
    "where is an empty list": (lambda g: g.query("trades", where=[]), "where is a mapping"),
    "where by number": (lambda g: g.query("trades", where={1: 2}), "by a field's name, not by int"),
    "where in a number": (
        lambda g: g.query("trades", where={"market_name__in": 5}),
        "takes a list of values",
    ),
    "where holds a list": (lambda g: g.query("trades", where={"market_name": ["BTC"]}), "market_name"),
    "market is a list": (lambda g: g.get_trades(market=["BTC"]), "market_name"),
    "key is a number": (lambda g: g.get("trades", 5), "record_id"),
    "key is a list": (lambda g: g.get("positions", ["c"]), "condition_id"),
    "key is an object": (lambda g: g.delete("positions", object()), "condition_id"),
    "key is None": (lambda g: g.get("positions", None), "may be empty"),
    "since is a number": (lambda g: g.get_trades(since=5), "must be an aware datetime"),
    "until is text": (lambda g: g.get_events(until="2026-01-01"), "must be an aware datetime"),
    "market to close is a number": (lambda g: g.close_position(123, "x"), "condition_id"),
    "closed at nothing": (lambda g: g.close_position("c", "x", closed_at=0), "closed_at"),
    "market to load is None": (lambda g: g.load_position(None), "may be empty"),
    "session is a number": (lambda g: g.get_events(5), "session_id"),
}
"""Call and what its error says."""


@pytest.fixture(params=["memory", "sqlite"])
async def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Gateway]:
    """Open a gateway on one store, in the process or in a file."""
    async with Gateway(request.param, data_dir=tmp_path, environ={}, env_file=None) as opened:
        yield opened


@pytest.mark.parametrize("case", WRONG)
async def test_a_wrong_argument_is_refused_with_a_sentence(gateway: Gateway, case: str) -> None:
    """The error is an InvalidRecordError that says what to give, and no kind holds anything afterwards."""
    call, sentence = WRONG[case]
    with pytest.raises(InvalidRecordError, match=sentence):
        await call(gateway)
    for kind in ("trades", "positions", "events", "daily_stats", "operations"):
        assert await streamed(gateway, kind) == [], kind


async def test_the_last_day_there_is_has_no_end(gateway: Gateway) -> None:
    """9999-12-31 is a day like any other: its trades are listed and its totals are kept."""
    late = TRADE.model_copy(update={"timestamp": datetime(9999, 12, 31, 23, 59, tzinfo=UTC)})
    await gateway.put_many([TRADE, late])
    assert [trade.timestamp for trade in await gateway.get_trades(date="9999-12-31")] == [late.timestamp]
    assert (await gateway.get_or_create_daily_stats("9999-12-31")).total_trades == 0
    assert (await gateway.update_daily_stats("9999-12-31", trade_count_delta=1)).total_trades == 1

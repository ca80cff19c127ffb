"""Canonical values: what records become, and that they come back."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRecordError
from gateway.records import (
    EVENTS,
    ORDER_BOOK_SNAPSHOTS,
    POSITIONS,
    TRADES,
    Event,
    OrderBookSnapshot,
    Position,
    Trade,
)
from gateway.records.codec import (
    MONEY_CONTEXT,
    codec_of,
    from_micros,
    json_text,
    make_record,
    money_text,
    to_micros,
)

NOW = datetime(2026, 3, 12, 11, 6, 41, 532199, tzinfo=UTC)
MONEY = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**29), max_value=10**29, places=12)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), inner, max_size=4
        )
    ),
    max_leaves=20,
)


def trade(**fields: Any) -> Trade:
    """Return a trade with some fields replaced."""
    base = {
        "timestamp": NOW,
        "market_name": "BTC",
        "action": "buy",
        "side": "YES",
        "price": Decimal("0.28"),
        "amount": 5,
    }
    return Trade.model_validate({**base, **fields})


@given(MONEY, MONEY, st.datetimes(timezones=st.just(UTC)), st.booleans())
def test_a_trade_comes_back_as_it_was(price: Decimal, pnl: Decimal, at: datetime, dry: bool) -> None:
    """Encoding and decoding a record gives an equal record."""
    record = trade(price=price, pnl=pnl, timestamp=at, dry_run=dry, record_id="r")
    codec = codec_of(TRADES)
    assert codec.decode(codec.encode(record)) == record


@given(MONEY)
def test_equal_money_has_one_spelling(value: Decimal) -> None:
    """Trailing zeros, exponents and negative zero do not show in the canonical text."""
    text = money_text(value)
    assert text == money_text(MONEY_CONTEXT.multiply(value, Decimal("1.000")))
    assert Decimal(text) == value
    assert "E" not in text
    assert text != "-0"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0", "0"),
        ("-0.00", "0"),
        ("1E+3", "1000"),
        ("100", "100"),
        ("1.10", "1.1"),
        ("-2.50", "-2.5"),
        ("1e-30", "0." + "0" * 29 + "1"),
    ],
)
def test_money_spellings(value: str, text: str) -> None:
    """Money is written in plain notation without trailing zeros."""
    assert money_text(Decimal(value)) == text


@pytest.mark.parametrize("value", ["1e30", "1e-31", "1234567890123456789012345678901.5"])
def test_money_beyond_every_store_is_refused(value: str) -> None:
    """More digits than stores keep exactly are refused, with the field's name."""
    with pytest.raises(InvalidRecordError, match=r"field 'price' has .* digits"):
        codec_of(TRADES).encode(trade(price=Decimal(value)))


def test_a_float_is_taken_by_its_shortest_representation() -> None:
    """0.1 is a tenth, and binary noise that came from decimals is kept as it is written."""
    assert codec_of(TRADES).encode(trade(price=0.1, amount=5.330000000000001e-05))[6:8] == [
        "0.1",
        "0.00005330000000000001",
    ]


@given(st.datetimes(timezones=st.just(UTC)), st.integers(-14 * 60, 14 * 60))
def test_time_is_kept_to_the_microsecond_in_any_zone(at: datetime, minutes: int) -> None:
    """A time in another zone is the same instant, exactly."""
    try:
        local = at.astimezone(timezone(timedelta(minutes=minutes)))
    except OverflowError:
        return
    assert from_micros(to_micros(local)) == at


@given(JSON)
def test_json_is_canonical(value: Any) -> None:
    """Canonical JSON means the same and does not depend on the order of keys."""
    text = json_text({"value": value})
    assert json.loads(text) == {"value": value}
    assert json_text(json.loads(text)) == text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["price", "pnl"])
def test_money_refuses_what_is_no_number(field: str, value: float) -> None:
    """NaN and infinities are refused, whatever their type."""
    for item in (value, Decimal(value), str(value)):
        with pytest.raises(InvalidRecordError, match=f"{field}: must be a finite number"):
            make_record(TRADES, {**dict(trade()), field: item})


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"timestamp": datetime(2026, 1, 1)}, "timestamp: has no time zone"),
        ({"timestamp": 1773313601.5}, "timestamp: must be an aware datetime"),
        ({"markt": "BTC"}, "markt: no such field"),
        ({"market_name": "x" * 1025}, "market_name: String should have at most 1024"),
        ({"side": "\ud800"}, "side: Input should be a valid string"),
        ({"dry_run": "yes"}, "dry_run: Input should be a valid boolean"),
        ({"market_name": None}, "market_name: Input should be a valid string"),
    ],
)
def test_wrong_fields_are_named(fields: dict[str, Any], says: str) -> None:
    """A refused record says which field is wrong and why, in one line."""
    with pytest.raises(InvalidRecordError) as caught:
        make_record(TRADES, {**dict(trade()), **fields})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_fields_are_named() -> None:
    """Required fields that are missing are all listed."""
    with pytest.raises(InvalidRecordError, match="side: is required; entry_price: is required"):
        make_record(POSITIONS, {"condition_id": "c", "opened_at": NOW})


@pytest.mark.parametrize(
    "value", [{"a": math.nan}, {"a": [math.inf]}, {"a": "x\0"}, {"a\0": 1}, {"a": {"b": "\0"}}]
)
def test_json_refuses_what_not_every_store_can_keep(value: dict[str, Any]) -> None:
    """NaN and NUL inside JSON are refused with the field's name."""
    with pytest.raises(InvalidRecordError, match="field 'data'"):
        codec_of(EVENTS).encode(Event(timestamp=NOW, session_id="s", event_type="x", data=value))


def test_json_that_only_looks_like_nul_is_kept() -> None:
    """A backslash followed by u0000 is text, not a NUL character."""
    value = {"a": "\\u0000"}
    event = Event(timestamp=NOW, session_id="s", event_type="x", data=value)
    values = codec_of(EVENTS).encode(event)
    values[0] = "r"
    assert dict(codec_of(EVENTS).decode(values))["data"] == value


def test_json_beyond_eight_mebibytes_is_refused() -> None:
    """A document that is too long says so; one at the limit passes."""
    with pytest.raises(InvalidRecordError, match="longer than 8 MiB"):
        codec_of(EVENTS).encode(Event(timestamp=NOW, session_id="s", event_type="x", data={"a": "x" * 2**23}))
    assert codec_of(EVENTS).encode(
        Event(timestamp=NOW, session_id="s", event_type="x", data={"a": "x" * (2**23 - 8)})
    )


def test_null_empty_and_missing_are_different() -> None:
    """None, an empty object and an object with a null are three values."""
    codec = codec_of(EVENTS)
    texts = [
        codec.encode(Event(timestamp=NOW, session_id="s", event_type="x", data=data))[-1]
        for data in (None, {}, {"a": None})
    ]
    assert texts == [None, "{}", '{"a":null}']


def test_negative_zero_is_zero() -> None:
    """Stores disagree about the sign of zero, so it has none."""
    snapshot = OrderBookSnapshot(timestamp=NOW, condition_id="c", best_ask_yes=-0.0)
    value = codec_of(ORDER_BOOK_SNAPSHOTS).encode(snapshot)[3]
    assert math.copysign(1, float(str(value))) == 1


def test_levels_keep_their_order_and_numbers() -> None:
    """Depth arrays come back as pairs of floats in the order given."""
    snapshot = OrderBookSnapshot(timestamp=NOW, condition_id="c", bids=((0.5, 10), (0.4, 3.5)))
    codec = codec_of(ORDER_BOOK_SNAPSHOTS)
    values = codec.encode(snapshot)
    values[0] = "r"
    assert dict(codec.decode(values))["bids"] == ((0.5, 10.0), (0.4, 3.5))


def test_the_record_is_not_changed() -> None:
    """Encoding leaves the caller's record and its JSON as they were."""
    extra = {"b": 1, "a": [1, 2]}
    position = Position(condition_id="c", side="YES", entry_price=Decimal("1.50"), opened_at=NOW, extra=extra)
    before = position.model_dump()
    codec_of(POSITIONS).encode(position)
    assert position.model_dump() == before
    assert extra == {"b": 1, "a": [1, 2]}

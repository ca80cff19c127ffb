"""What people type, turned into what the gateway takes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.arguments import parse_fields, parse_key, parse_share, parse_time, parse_where
from gateway.errors import ConfigurationError, InvalidRecordError
from gateway.query import Condition, Op
from gateway.records import CANDLES, POSITIONS, TRADES
from gateway.records.codec import to_micros

ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=ZONES)


@given(MOMENTS)
def test_every_aware_time_is_read_as_the_moment_it_is(moment: datetime) -> None:
    """A time with an offset comes out as the same moment."""
    assert parse_time(moment.isoformat()) == moment


@given(st.dates())
def test_a_bare_date_is_midnight_utc(day: object) -> None:
    """A date without a time means the beginning of that day in UTC."""
    found = parse_time(str(day))
    assert found.tzinfo is UTC
    assert found.isoformat() == f"{day}T00:00:00+00:00"


@pytest.mark.parametrize("text", ["2026-01-31T12:00:00", "2026-01-31 12:00", "20260131"])
def test_a_naive_time_is_refused_and_the_message_asks_for_a_zone(text: str) -> None:
    """A time without a zone is refused with a sentence that names Z and the offset."""
    with pytest.raises(InvalidRecordError, match=r"add Z for UTC.*offset"):
        parse_time(text)


@pytest.mark.parametrize("text", ["yesterday", "", "2026-13-01", "1700000000.5"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """Anything that is no time is refused with an example of one."""
    with pytest.raises(InvalidRecordError, match="is no time; write it as 2026"):
        parse_time(text)


def test_z_means_utc() -> None:
    """The letter Z is understood."""
    assert parse_time("2026-01-31T12:00:00Z") == datetime(2026, 1, 31, 12, tzinfo=UTC)


@given(st.integers(0, 100))
def test_shares_are_percents_with_or_without_the_sign(share: int) -> None:
    """`25` and `25%` are the same."""
    assert parse_share(f"{share}%") == parse_share(str(share)) == share


@pytest.mark.parametrize("text", ["101%", "-1", "a quarter", "nan", "%"])
def test_a_share_out_of_range_is_refused(text: str) -> None:
    """A share is a number between 0 and 100."""
    with pytest.raises(ConfigurationError, match="between 0% and 100%"):
        parse_share(text)


def test_filters_are_read_as_the_types_of_their_fields() -> None:
    """Numbers, flags, times and no value become what the store compares with."""
    found = parse_where(
        TRADES,
        ["price__ge=1.50", "dry_run=false", "pnl=null", "timestamp__lt=2026-01-02", "market_name=null"],
    )
    assert found == (
        Condition("price", Op.GE, "1.5"),
        Condition("dry_run", Op.EQ, False),
        Condition("pnl", Op.EQ, None),
        Condition("timestamp", Op.LT, to_micros(datetime(2026, 1, 2, tzinfo=UTC))),
        Condition("market_name", Op.EQ, "null"),
    )


def test_the_same_field_may_be_filtered_twice() -> None:
    """Two filters on one field both hold, so that a range can be asked for."""
    found = parse_where(TRADES, ["price__ge=1", "price__ge=2"])
    assert [condition.value for condition in found] == ["1", "2"]


def test_a_value_may_hold_an_equals_sign() -> None:
    """Only the first equals sign separates."""
    assert parse_where(TRADES, ["reason=a=b"]) == (Condition("reason", Op.EQ, "a=b"),)


def test_in_takes_a_comma_list_or_a_json_list() -> None:
    """Values with commas can be given as JSON."""
    assert parse_where(TRADES, ["market_name__in=BTC, ETH"])[0].value == ("BTC", "ETH")
    assert parse_where(TRADES, ['market_name__in=["a,b","c"]'])[0].value == ("a,b", "c")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("price", "--where takes field=value"),
        ("=1", "--where takes field=value"),
        ("nothing=1", "no field 'nothing'"),
        ("price__near=1", "unknown operator"),
        ("price=cheap", "price"),
        ("dry_run=maybe", "write true or false"),
        ("timestamp__ge=now", "is no time"),
        ('market_name__in=["a', "JSON list and is none"),
    ],
)
def test_what_is_no_filter_is_refused(text: str, sentence: str) -> None:
    """Each wrong filter gets a sentence about what is wrong with it."""
    with pytest.raises(InvalidRecordError, match=sentence):
        parse_where(TRADES, [text])


def test_the_parts_of_a_key_are_read_as_their_types() -> None:
    """A key with a time in it can be typed."""
    key = parse_key(CANDLES, ["BTC", "5m", "2026-01-01T00:05:00Z"])
    assert key == ("BTC", "5m", to_micros(datetime(2026, 1, 1, 0, 5, tzinfo=UTC)))


def test_a_key_with_too_few_parts_is_refused_by_naming_them() -> None:
    """The message names the parts of the key."""
    with pytest.raises(InvalidRecordError, match="symbol, interval, timestamp"):
        parse_key(CANDLES, ["BTC"])


def test_fields_are_kept_in_the_order_given() -> None:
    """The columns come as they were asked for, and all of them if none was."""
    assert parse_fields(POSITIONS, "side, condition_id") == ("side", "condition_id")
    assert parse_fields(POSITIONS, None) == POSITIONS.field_names


@pytest.mark.parametrize("text", ["nothing", "", ","])
def test_an_unknown_field_is_refused_by_listing_those_there_are(text: str) -> None:
    """The message lists the fields."""
    with pytest.raises(InvalidRecordError, match="its fields are condition_id, market_name"):
        parse_fields(POSITIONS, text)

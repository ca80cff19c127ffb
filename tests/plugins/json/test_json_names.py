from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.records import BOT_STATE, CANDLES, POSITIONS
from gateway.records.codec import to_micros
from gateway_json.names import MAX_NAME, day_of, decode_key, encode_key, encode_text

TEXTS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=300)
TRICKY = st.sampled_from(
    ["con", "CON", "..", ".", "a/b", "a\\b", "A", "a", "nul.txt", "%41", "~1", "a~~b", "a,b", " ", "ß", "é"]
)
MICROS = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)


@given(st.one_of(TEXTS, TRICKY))
def test_a_key_comes_back_from_its_name(text: str) -> None:
    """Every key can be read off its file name, unless the name says that it is hashed."""
    name = encode_key(POSITIONS, (text,))
    assert decode_key(POSITIONS, name) == (None if "~~" in name else (text,))


@given(st.one_of(TEXTS, TRICKY), st.one_of(TEXTS, TRICKY), st.one_of(TEXTS, TRICKY), st.one_of(TEXTS, TRICKY))
def test_no_two_keys_share_a_name(a: str, b: str, c: str, d: str) -> None:
    """Different keys have different names, on a file system that ignores case too."""
    first, second = encode_key(BOT_STATE, (a, b)), encode_key(BOT_STATE, (c, d))
    assert (first.lower() == second.lower()) == ((a, b) == (c, d))


@given(st.one_of(TEXTS, TRICKY))
def test_names_are_safe_everywhere(text: str) -> None:
    """A name has only plain characters, room for suffixes, and is no device of Windows."""
    name = encode_text(text)
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_%,~")
    assert 0 < len(name) <= MAX_NAME
    assert name.lower() not in {"con", "prn", "aux", "nul", "com1", "lpt9"}


@given(TEXTS, TEXTS, MICROS)
def test_times_in_keys_come_back(symbol: str, interval: str, micros: int) -> None:
    """A key with a time in it survives its name to the microsecond."""
    name = encode_key(CANDLES, (symbol, interval, micros))
    assert decode_key(CANDLES, name) == (None if "~~" in name else (symbol, interval, micros))


def test_names_are_readable() -> None:
    """A person can read common keys off the directory listing."""
    when = to_micros(datetime(2026, 3, 12, 11, 6, 41, 532199, tzinfo=UTC))
    assert encode_key(POSITIONS, ("0x009bf8",)) == "0x009bf8"
    assert encode_key(CANDLES, ("BTC", "5m", when)) == "BTC,5m,2026-03-12_110641_532199~7"


def test_case_folding_does_not_lose_capitals() -> None:
    """A file system that lower-cases names does not change the key."""
    assert decode_key(POSITIONS, encode_key(POSITIONS, ("BtC",)).lower()) == ("BtC",)


@pytest.mark.parametrize("name", ["position (copy)", "a,b", "%", "%zz", "A", "%61", "x~zz", "~~"])
def test_names_that_no_key_has_are_refused(name: str) -> None:
    """A name that a person made up stands for no key."""
    assert decode_key(POSITIONS, name) is None


def test_days_are_utc_and_end_with_the_calendar() -> None:
    """A time belongs to its UTC day, before 1970 too, and none lies beyond year 9999."""
    assert [day_of(-1), day_of(0), day_of(86_399_999_999)] == ["1969-12-31", "1970-01-01", "1970-01-01"]
    with pytest.raises(ValueError, match="years 1 to 9999"):
        day_of(2**63 - 1)

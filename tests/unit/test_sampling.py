"""Shares of reads, for all kinds and by kind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigurationError
from gateway.shadow.sampling import SampleRates, parse_rates, rates_text

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "default", "kinds"),
    [
        ("", 0.01, {}),
        ("5%", 0.05, {}),
        ("0.25", 0.25, {}),
        ("1%,trades:100%,order_book_snapshots:0", 0.01, {"trades": 1.0, "order_book_snapshots": 0.0}),
        (" trades : 50% , 2% ", 0.02, {"trades": 0.5}),
        ("trades:1", 0.01, {"trades": 1.0}),
    ],
)
def test_shares_are_read_as_people_write_them(text: str, default: float, kinds: dict[str, float]) -> None:
    """A bare share is for all kinds, a named one for that kind; percentages and numbers mean the same."""
    rates = parse_rates(text)
    assert (rates.default, dict(rates.kinds)) == (default, kinds)
    assert [rates.of(name) for name in kinds] == list(kinds.values())
    assert rates.of("nobody") == default


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1.5", "between 0 and 1"),
        ("trades:101%", "between 0 and 1"),
        ("-1%", "between 0 and 1"),
        ("nan", "between 0 and 1"),
        ("often", "between 0 and 1"),
        ("trades:", "between 0 and 1"),
        ("Trades:1%", "names no record kind"),
        (":1%", "names no record kind"),
        ("1%,2%", "two shares for all kinds"),
        ("trades:1%,trades:2%", "names 'trades' twice"),
    ],
)
def test_what_is_no_list_of_shares_is_refused(text: str, why: str) -> None:
    """The sentence says which part is wrong, and what would be right."""
    with pytest.raises(ConfigurationError, match=why):
        parse_rates(text)


@given(st.floats(0, 1), st.dictionaries(NAMES, st.floats(0, 1), max_size=5))
def test_what_is_written_is_read_again(default: float, kinds: dict[str, float]) -> None:
    """The text of shares gives the same shares, to six digits."""
    read = parse_rates(rates_text(SampleRates(default, kinds)))
    assert read.default == pytest.approx(default, rel=1e-5)
    assert dict(read.kinds) == pytest.approx(kinds, rel=1e-5)

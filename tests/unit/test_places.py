"""The grammar of `STORAGE_PLACES`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigurationError
from gateway.migration.phases import Phase
from gateway.places import parse_places

STORES = ("postgres", "questdb")


def test_each_way_to_live_has_its_phase() -> None:
    """One store, or both with the first named in the lead; blanks and empty parts do not matter."""
    text = " a:postgres, b : questdb ,c:postgres+questdb,,d:questdb + postgres, "
    assert parse_places(text, STORES) == {
        "a": Phase.LEGACY,
        "b": Phase.COMPLETE,
        "c": Phase.DUAL_WRITE,
        "d": Phase.CUTOVER,
    }
    assert parse_places("", ("postgres",)) == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("trades", "'trades' is no kind with its store"),
        ("trades:", "is no kind with its store"),
        (":questdb", "is no kind with its store"),
        ("trades:questdb+", "is no kind with its store"),
        ("trades:sqlite", "trades is to live in sqlite, but a kind lives in postgres, in questdb"),
        ("trades:questdb+questdb", "trades is to live in"),
        ("trades:postgres+questdb+postgres", "trades is to live in"),
        ("trades:postgres,trades:questdb", "names 'trades' twice"),
    ],
)
def test_what_says_no_place_is_refused(text: str, expected: str) -> None:
    """With the part that is wrong and how to write it."""
    with pytest.raises(ConfigurationError, match="STORAGE_PLACES") as caught:
        parse_places(text, STORES)
    assert expected in str(caught.value)


@given(st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(["x", "y", "x+y", "y+x"])))
def test_what_is_written_is_read(places: dict[str, str]) -> None:
    """Any combination is read back as it was written."""
    phases = {"x": Phase.LEGACY, "y": Phase.COMPLETE, "x+y": Phase.DUAL_WRITE, "y+x": Phase.CUTOVER}
    text = ",".join(f"{kind}:{where}" for kind, where in places.items())
    assert parse_places(text, ("x", "y")) == {kind: phases[where] for kind, where in places.items()}

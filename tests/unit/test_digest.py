"""Digests: what they depend on, and that they never change between releases."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.records import TRADES
from gateway.records.digest import digest_of, share_of
from gateway.records.stamp import row_of

VALUE = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
)
VALUES = st.lists(VALUE, max_size=6)


def test_the_digest_of_a_known_row_is_fixed() -> None:
    """Rows stored by an earlier release must still prove themselves: this number may never change."""
    assert digest_of("trades", "t", 1, False, ["a", 1, None, True, 0.5, "1.5"]) == KNOWN
    assert share_of("positions", "t", ("0xabc",)) == KNOWN_SHARE


KNOWN = 520049306924417385
KNOWN_SHARE = 0.94


def meaning(values: list[object]) -> list[tuple[type, str]]:
    """Return the values with their types, up to the last that is not None."""
    kept = [(type(value), repr(value)) for value in values]
    while kept and kept[-1][0] is type(None):
        kept.pop()
    return kept


@given(VALUES, st.integers(1, 3))
def test_a_kind_may_gain_optional_fields(values: list[object], more: int) -> None:
    """Rows written before a field existed keep their digest when it is added at the end and holds None."""
    digests = {digest_of("k", "t", 1, False, [*values, *[None] * extra]) for extra in (0, more)}  # type: ignore[list-item] # drawn values are canonical
    assert len(digests) == 1


@given(VALUES, VALUES)
def test_rows_that_differ_have_different_digests(left: list[object], right: list[object]) -> None:
    """Neither type nor length nor position of a value can be mistaken for another."""
    assume(meaning(left) != meaning(right))
    assert digest_of("k", "t", 1, False, left) != digest_of("k", "t", 1, False, right)  # type: ignore[arg-type] # drawn values are canonical


@given(VALUES)
def test_every_part_of_a_row_counts(values: list[object]) -> None:
    """Kind, tenant, version and deletion each change the digest."""
    parts = [
        ("k", "t", 1, False),
        ("l", "t", 1, False),
        ("k", "u", 1, False),
        ("k", "t", 2, False),
        ("k", "t", 1, True),
    ]
    digests = {digest_of(*part, values) for part in parts}  # type: ignore[arg-type] # drawn values are canonical
    assert len(digests) == len(parts)
    assert all(-(2**63) <= digest < 2**63 for digest in digests)


def test_a_changed_value_is_seen_without_asking_another_store() -> None:
    """A row checks itself against its own digest."""
    values = ["r", 1, "BTC", None, "buy", "YES", "0.28", "5", None, None, None, None, None, True, None, None]
    row = row_of(TRADES, "t", 7, values)  # type: ignore[arg-type] # canonical
    assert row.intact
    assert not row._replace(values=(*row.values[:6], "0.2800000001", *row.values[7:])).intact
    assert not row._replace(version=8).intact


@given(
    st.lists(st.text(min_size=1), min_size=1, max_size=200, unique=True), st.floats(0, 100), st.floats(0, 100)
)
def test_raising_a_share_only_adds_keys(keys: list[str], low: float, high: float) -> None:
    """Every key that belongs to a share belongs to a greater one."""
    low, high = sorted((low, high))
    shares = [share_of("positions", "t", (key,)) for key in keys]
    assert {at for at, share in enumerate(shares) if share < low} <= {
        at for at, share in enumerate(shares) if share < high
    }


def test_a_share_takes_about_its_part_of_the_keys() -> None:
    """A quarter of the keys is about a quarter."""
    taken = sum(share_of("positions", "t", (f"0x{key:064x}",)) < 25 for key in range(10_000))
    assert 2_300 < taken < 2_700

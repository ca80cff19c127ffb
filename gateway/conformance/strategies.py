"""What Hypothesis draws: histories of writes, records with every kind of value, and filters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from gateway.conformance.rows import minutes

__all__ = ["FILTERS", "RANKS", "Write", "decimals", "examples", "filters", "histories", "log_fields", "texts"]

Check = TypeVar("Check", bound=Callable[..., None])

EXAMPLES: Final = 30


def examples(check: Check) -> Check:
    """Decorate the part of a clause that Hypothesis calls: few examples, and always the same ones.

    A backend author's test run must not fail by chance. A profile of Hypothesis that is loaded when the clause runs
    may ask for fewer examples and for fewer phases; more come only with another seed, and so by chance.
    """
    return settings(
        max_examples=min(EXAMPLES, settings().max_examples),
        deadline=None,
        derandomize=True,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )(check)


RANKS: Final = 3


@dataclass(frozen=True, slots=True)
class Write:
    """One write of a history.

    Attributes:
        slot: Which key.
        age: How new.
        deleted: Whether it deletes.
        rank: What decides between equal ages, up to `RANKS`.
    """

    slot: int
    age: int
    deleted: bool
    rank: int


def histories() -> st.SearchStrategy[list[list[Write]]]:
    """Return batches of writes to few keys with few versions, so that they meet often, with duplicates."""
    write = st.builds(Write, st.integers(0, 1), st.integers(1, 2), st.booleans(), st.integers(0, RANKS - 1))
    return st.lists(write, min_size=1, max_size=8).flatmap(_shuffled)


def _shuffled(writes: list[Write]) -> st.SearchStrategy[list[list[Write]]]:
    def cut(order: list[Write], size: int) -> list[list[Write]]:
        return [order[at : at + size] for at in range(0, len(order), size)]

    return st.builds(cut, st.permutations(writes * 2), st.integers(1, 4))


_characters: Final = st.characters(codec="utf-8", exclude_characters="\x00")
texts: Final = st.text(_characters, max_size=30)
"""Any text but surrogates, which UTF-8 has not, and NUL, which the gateway refuses."""

decimals: Final = st.builds(lambda digits: Decimal(f"{digits}E-30"), st.integers(1 - 10**60, 10**60 - 1))
"""Any amount within 30 digits before the point and 30 after it."""

_moments: Final = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
_floats: Final = st.floats(allow_nan=False, allow_infinity=False)
_whole: Final = st.integers(-(2**63), 2**63 - 1)
_leaf: Final = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | _floats | texts
_json: Final = st.dictionaries(
    texts,
    st.recursive(
        _leaf,
        lambda part: st.lists(part, max_size=3) | st.dictionaries(texts, part, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)
_levels: Final = st.lists(st.tuples(_floats, _floats), max_size=4).map(tuple)


def log_fields() -> st.SearchStrategy[dict[str, Any]]:
    """Return the fields of any probe log record."""
    return st.fixed_dictionaries(
        {"moment": _moments, "label": texts},
        optional={
            "note": st.none() | texts,
            "tally": st.none() | _whole,
            "ratio": st.none() | _floats,
            "flag": st.none() | st.booleans(),
            "amount": st.none() | decimals,
            "seen_at": st.none() | _moments,
            "document": st.none() | _json,
            "levels": st.none() | _levels,
        },
    )


FILTERS: Final[dict[str, list[Any]]] = {
    "label": ["", "a", "B", "aa", "é", "\N{GRINNING FACE}"],
    "note": [None, "", "10", "9"],
    "tally": [None, -1, 0, 9, 10, 2**62],
    "ratio": [None, -1.5, 0.0, 0.1, 1e300],
    "flag": [None, True, False],
    "amount": [
        None,
        Decimal(-1),
        Decimal("0.5"),
        Decimal(9),
        Decimal(10),
        Decimal("0.10000000000000000001"),
    ],
    "seen_at": [None, minutes(0), minutes(1)],
    "moment": [minutes(0), minutes(1), minutes(2)],
}
"""Few values of each field, so that filters hit, miss and tie."""


def filters() -> st.SearchStrategy[dict[str, Any]]:
    """Return one record's worth of the values that filters are about."""
    return st.fixed_dictionaries({name: st.sampled_from(values) for name, values in FILTERS.items()})

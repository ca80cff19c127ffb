"""Where single kinds live, apart from the phase of all others: the grammar of `STORAGE_PLACES`. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.errors import ConfigurationError
from gateway.migration.phases import Phase

__all__ = ["PLACES", "parse_places"]

PLACES: Final = "STORAGE_PLACES"
_EXAMPLE: Final = "tick_prices:questdb,trades:postgres+questdb"


def parse_places(text: str, stores: Sequence[str]) -> dict[str, Phase]:
    """Read `tick_prices:questdb,trades:postgres+questdb`: kinds, each with its store or stores.

    Args:
        text: What the user wrote. Of two stores, the first named leads and is read, and the other follows.
        stores: Instance names of the two stores, the old one first.

    Returns:
        The phase that means this, by the name of the kind.

    Raises:
        ConfigurationError: The text is no such list, names a store that is not there, or a kind twice.
    """
    places: dict[str, Phase] = {}
    for part in filter(None, (item.strip() for item in text.split(","))):
        kind, colon, names = (item.strip() for item in part.partition(":"))
        where = tuple(name.strip() for name in names.split("+"))
        if not (kind and colon and all(where)):
            raise ConfigurationError(
                f"{PLACES}: {part!r} is no kind with its store or stores; write it as in {_EXAMPLE}"
            )
        if kind in places:
            raise ConfigurationError(f"{PLACES} names {kind!r} twice; name each kind once")
        places[kind] = _phase_of(kind, where, stores)
    return places


def _phase_of(kind: str, where: tuple[str, ...], stores: Sequence[str]) -> Phase:
    if len(stores) != 2:
        raise ConfigurationError(
            f"{PLACES} says which of two stores a kind lives in, but only {stores[0]!r} is named; "
            "name both in STORAGE_BACKENDS, the old one first"
        )
    old, new = stores
    meanings = {
        (old,): Phase.LEGACY,
        (new,): Phase.COMPLETE,
        (old, new): Phase.DUAL_WRITE,
        (new, old): Phase.CUTOVER,
    }
    if where not in meanings:
        raise ConfigurationError(
            f"{PLACES}: {kind} is to live in {'+'.join(where)}, but a kind lives in {old}, in {new}, in {old}+{new} "
            f"or in {new}+{old}"
        )
    return meanings[where]

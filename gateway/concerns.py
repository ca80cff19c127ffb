"""The facts that `gateway.guard` judges: where a store connects to, and what other users of this machine may read."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Final

from gateway.backend import BackendSettings, BackendSpec, Capability
from gateway.findings import Finding, warn
from gateway.guard import endpoint_concerns, file_concern
from gateway.records.kind import KindSpec
from gateway.routing import RoutingPlan

__all__ = ["exposure_concerns", "store_concerns", "uncached_concerns", "warn_once"]

_log: Final = logging.getLogger(__name__)
_warned: Final[set[Finding]] = set()

_ENTRIES: Final = 1000
"""Entries of a directory that are looked at: one that is open to all shows it long before."""


def store_concerns(instance: str, settings: BackendSettings, *, production: bool) -> list[Finding]:
    """Return what is not safe about where a store connects to.

    Args:
        instance: The store's name.
        settings: Its settings.
        production: Whether what is not safe is a failure, or a warning.

    Raises:
        ConfigurationError: The settings contradict each other.
    """
    return endpoint_concerns(f"store {instance}", settings.endpoints(), production=production)


def exposure_concerns(secret_file: Path | None, places: Iterable[Path], *, production: bool) -> list[Finding]:
    """Return what other users of this machine may read and should not.

    Args:
        secret_file: A file with passwords in it; None without one.
        places: Files and directories of stores; those that do not exist are passed over.
        production: Whether what is found is a failure, or a warning.
    """
    if os.name != "posix":
        return []  # elsewhere the mode of a file says nothing
    secrets = [("passwords", path, _mode(path)) for path in (secret_file,) if path is not None]
    data = [("stored data", path, mode) for place in dict.fromkeys(places) for path, mode in _within(place)]
    found = (
        file_concern(subject, str(path), mode, production=production)
        for subject, path, mode in (*secrets, *data)
    )
    return [concern for concern in found if concern is not None]


def uncached_concerns(
    kinds: Iterable[KindSpec], plan: RoutingPlan, stores: Mapping[str, BackendSpec]
) -> list[Finding]:
    """Return which kinds are read without the cache, because a store of theirs cannot say whether there is one.

    Args:
        kinds: Those that are to be cached.
        plan: Where they live.
        stores: The backends, by instance name.
    """
    found: dict[str, list[str]] = {}
    for kind in kinds:
        route = plan.listing(kind)
        for name in dict.fromkeys((route.primary, route.reader, *route.mirrors)):
            if Capability.UPDATE not in stores[name].capabilities:
                found.setdefault(name, []).append(kind.name)
    return [
        warn(
            "cache",
            f"{', '.join(names)}: not cached, since {name} cannot read and write in one step, by which all processes "
            "agree whether a cache may be used",
            "let them live in a store that can, and in no other, with STORAGE_PLACES; or leave them out of "
            "STORAGE_CACHE_KINDS",
        )
        for name, names in found.items()
    ]


def warn_once(concerns: Iterable[Finding]) -> None:
    """Log each concern, once a process: a bot opens its stores again and again, and is told what it knows."""
    for one in concerns:
        if one not in _warned:
            _warned.add(one)
            _log.warning("%s: %s; %s", one.subject, one.sentence, one.advice)


def _within(place: Path) -> Iterator[tuple[Path, int]]:
    """Yield what others could read in a place they can enter: the file, or the first such entry of a directory."""
    if place.is_file() and _mode(place.parent) & stat.S_IXOTH:
        yield place, _mode(place)
    elif place.is_dir() and _mode(place) & stat.S_IXOTH:
        try:
            entries = [(entry, _mode(entry)) for entry in islice(place.iterdir(), _ENTRIES)]
        except OSError:
            return  # opening the store will say that it cannot be read
        yield from [(entry, mode) for entry, mode in entries if mode & (stat.S_IROTH | stat.S_IWOTH)][:1]


def _mode(path: Path) -> int:
    """Return the mode of a file or directory; 0 for what is gone, and for a link, whose own says nothing."""
    try:
        found = path.lstat().st_mode
    except OSError:
        return 0
    return 0 if stat.S_ISLNK(found) else found

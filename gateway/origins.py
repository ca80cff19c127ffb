"""Where plugins come from: their entry points, how the deny list names them, what is said when one fails."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import Distribution, EntryPoint, entry_points
from typing import Final

from gateway.catalogue import CATALOGUE, DISTRIBUTION, did_you_mean, install_hint
from gateway.vetting import brief

__all__ = [
    "ALL_GROUPS",
    "BACKENDS",
    "CLI",
    "DEFAULT_GROUPS",
    "IN_PROCESS",
    "LEGACY_SOURCES",
    "RECORD_KINDS",
    "Origin",
    "by_precedence",
    "driver_hint",
    "installed_entry_points",
    "normal",
    "nothing_denied",
    "origins_of",
]

BACKENDS: Final = "storage_gateway.backends"
RECORD_KINDS: Final = "storage_gateway.record_kinds"
LEGACY_SOURCES: Final = "storage_gateway.legacy_sources"
CLI: Final = "storage_gateway.cli"

DEFAULT_GROUPS: Final = (RECORD_KINDS, BACKENDS, LEGACY_SOURCES)
"""What a gateway loads. Commands are left to the command line, which alone needs typer."""

ALL_GROUPS: Final = (*DEFAULT_GROUPS, CLI)

IN_PROCESS: Final = "in-process"
"""The group of plugins that were passed in as objects."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a plugin was found.

    Attributes:
        name: Name of the entry point, or the one an object was registered under.
        group: Entry point group, or `in-process`.
        distribution: Who published it.
        version: Version of the distribution; empty for objects.
    """

    name: str
    group: str
    distribution: str
    version: str = ""

    def __str__(self) -> str:
        return f"plugin {self.name!r} ({f'{self.distribution} {self.version}'.strip()})"

    @property
    def claim(self) -> str:
        """How the deny list tells it from a plugin of the same name."""
        return f"{self.distribution}:{self.name}"

    @property
    def spellings(self) -> frozenset[str]:
        """Every way the deny list may name it, normalised."""
        return frozenset(map(normal, (self.name, self.distribution, self.claim)))

    @property
    def way_out(self) -> str:
        """What to do when it is faulty."""
        if self.group == IN_PROCESS:
            return "correct the object that was registered"
        return f"update or reinstall {self.distribution}, or put {self.name} into STORAGE_PLUGINS_DENY"


def normal(name: str) -> str:
    """Return a name as package indexes compare names: `-`, `_` and `.` are one, and case does not count."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def installed_entry_points() -> list[EntryPoint]:
    """Return our groups' entry points: one look through the installed distributions, until one comes or goes."""
    return list(_entry_points_in(tuple(map(_seen, sys.path))))


@lru_cache(maxsize=1)
def _entry_points_in(path: tuple[tuple[str, int], ...]) -> tuple[EntryPoint, ...]:  # noqa: ARG001 - what was seen there
    found = entry_points()
    return tuple(entry for group in ALL_GROUPS for entry in found.select(group=group))


def _seen(folder: str) -> tuple[str, int]:
    """Return where distributions may lie, and when one last came or went there."""
    place = os.path.abspath(folder)  # noqa: PTH100 - a text is what is compared, a thousand times a test run
    try:
        return place, os.stat(place).st_mtime_ns  # noqa: PTH116 - as above
    except OSError:
        return place, -1


@lru_cache(maxsize=64)
def _name_and_version(dist: Distribution) -> tuple[str, str]:
    # Each of the two parses all of the metadata, and a distribution's entry points share one object.
    return dist.name, dist.version


def origins_of(entries: Iterable[EntryPoint]) -> list[tuple[Origin, EntryPoint]]:
    """Return where each entry point comes from."""
    found = []
    for entry in entries:
        named = ("unknown",) if entry.dist is None else _name_and_version(entry.dist)
        found.append((Origin(entry.name, entry.group, *named), entry))
    return found


def by_precedence(entries: Iterable[EntryPoint]) -> list[tuple[Origin, EntryPoint]]:
    """Sort kinds before backends, and our plugins before foreign ones: messages then blame the newcomer."""

    def rank(item: tuple[Origin, EntryPoint]) -> tuple[int, bool, str, str]:
        origin = item[0]
        group = ALL_GROUPS.index(origin.group) if origin.group in ALL_GROUPS else len(ALL_GROUPS)
        return (group, normal(origin.distribution) != DISTRIBUTION, origin.distribution, origin.name)

    return sorted(origins_of(entries), key=rank)


def driver_hint(entry: EntryPoint, origin: Origin, error: BaseException) -> str | None:
    """Return the sentence for a plugin of ours that only lacks its driver; None if that is not the reason."""
    package = entry.value.partition(":")[0].partition(".")[0]
    extra = package.removeprefix("gateway_")
    ours = normal(origin.distribution) == DISTRIBUTION and extra in CATALOGUE
    missing = isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] != package
    if not (ours and missing):
        return None
    return f"{origin} lacks its driver ({brief(error)}); install it with {install_hint(extra)}"


def nothing_denied(item: str, origins: Iterable[Origin]) -> str:
    """Return the sentence for an entry of the deny list that names no plugin."""
    names = {name for origin in origins for name in (origin.name, origin.distribution)}
    return f"STORAGE_PLUGINS_DENY names {item!r}, which is no installed plugin{did_you_mean(item, names)}"

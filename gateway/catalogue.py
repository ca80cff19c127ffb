"""What this distribution offers itself, so that a name that is not installed still gets a useful answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

__all__ = [
    "CATALOGUE",
    "CatalogueEntry",
    "backend_of_scheme",
    "did_you_mean",
    "install_hint",
    "unknown_backend",
]

DISTRIBUTION: Final = "storage-gateway"


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One backend of our own.

    Attributes:
        name: As written in `STORAGE_BACKENDS`; also the name of its extra.
        schemes: URL schemes that mean it, known here too because its plugin may not be installed.
        released: Whether this release has it; the others are announced.
    """

    name: str
    schemes: tuple[str, ...]
    released: bool = True


CATALOGUE: Final = {
    entry.name: entry
    for entry in (
        CatalogueEntry("json", ("json",)),
        CatalogueEntry("memory", ("memory",)),
        CatalogueEntry("memory_cache", ()),
        CatalogueEntry("sqlite", ("sqlite",)),
        CatalogueEntry("postgres", ("postgres", "postgresql")),
        CatalogueEntry("questdb", ("questdb",)),
        CatalogueEntry("redis", ("redis", "rediss")),
    )
}
"""Our own backends by name; one that is announced but not released keeps its variables reserved."""


def install_hint(name: str) -> str:
    """Return the command that installs one of our own backends with its driver."""
    return f"pip install '{DISTRIBUTION}[{name}]'"


def backend_of_scheme(scheme: str) -> str | None:
    """Return which of our own backends a URL scheme means; None for a foreign one."""
    return next((entry.name for entry in CATALOGUE.values() if scheme in entry.schemes), None)


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return ` (did you mean X?)` for the known name closest to a mistyped one, or nothing.

    Args:
        name: What was written.
        known: What could have been meant.
        prefix: Put before the name that is suggested.
    """
    close = get_close_matches(name, sorted(known), n=1, cutoff=0.75)
    return f" (did you mean {prefix}{close[0]}?)" if close else ""


def unknown_backend(name: str, installed: Iterable[str]) -> str:
    """Return the sentence for a backend that is not installed: how to get it, or what was meant."""
    have = sorted(installed)
    listed = f"Installed: {', '.join(have) or 'none'}."
    entry = CATALOGUE.get(name)
    if entry is None:
        return f"no backend {name!r} is installed{did_you_mean(name, {*have, *CATALOGUE})}. {listed}"
    if entry.released:
        return f"the backend {name!r} is not installed; install it with {install_hint(name)}. {listed}"
    return (
        f"the backend {name!r} is not part of this release; once a release brings it, install it with "
        f"{install_hint(name).replace('install', 'install --upgrade')}. {listed}"
    )

"""How mirrors are written, for all kinds and for single ones: the grammar of `STORAGE_MIRROR_MODE`. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from gateway.errors import ConfigurationError

__all__ = ["MODES", "MirrorMode", "parse_modes"]

MODES: Final = "STORAGE_MIRROR_MODE"


class MirrorMode(StrEnum):
    """How the mirror is written."""

    JOURNALED = "journaled"
    """The caller waits for the primary alone, which keeps a note of what the mirror has yet to get."""
    SYNC = "sync"
    """The caller waits for both; a mirror failure is reported. The note is kept too, so that the mirror gets it."""
    OFF = "off"
    """Only the primary is written."""


def parse_modes(text: str) -> tuple[MirrorMode, dict[str, MirrorMode]]:
    """Read `journaled,trades:sync,order_book_snapshots:off`: the mode of all kinds, and those that have their own.

    Raises:
        ConfigurationError: The text is no such list.
    """
    default: MirrorMode | None = None
    modes: dict[str, MirrorMode] = {}
    for part in filter(None, (item.strip() for item in text.split(","))):
        kind, colon, word = (item.strip() for item in part.rpartition(":"))
        try:
            mode = MirrorMode(word.lower())
        except ValueError:
            raise ConfigurationError(
                f"{MODES}: {part!r} is no mode; write journaled, sync or off, and single kinds as in "
                "journaled,trades:sync"
            ) from None
        if colon and not kind:
            raise ConfigurationError(f"{MODES}: {part!r} names no kind; write it as in trades:sync")
        if kind in modes or (not colon and default is not None):
            raise ConfigurationError(f"{MODES} says {kind or 'the mode of all kinds'!r} twice; say it once")
        if colon:
            modes[kind] = mode
        else:
            default = mode
    return default or MirrorMode.JOURNALED, modes

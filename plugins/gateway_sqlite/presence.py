"""Whether the file that is written is still the one under its name.

SQLite goes on writing a file that was deleted or moved, and every commit succeeds, into a file that nobody will
find. So the writer looks at the name before a batch, once a second at most: a look costs a microsecond or
two, but on a slow disk it may cost as much as the commit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.errors import StoreUnavailableError
from gateway_sqlite.health import Identity, gone, identity

__all__ = ["CHECK_SECONDS", "Presence"]

CHECK_SECONDS: Final = 1.0
"""Seconds between two looks, and so the longest time in which a lost file can take writes unnoticed."""


class Presence:
    """Looks for the opened file under its name. Used by the writer's thread alone.

    Args:
        path: The file.
        opened: Which file was there when it was opened.
        clock: Seconds that only go forward.
    """

    __slots__ = ("_clock", "_due", "_opened", "_path")

    def __init__(
        self, path: Path, opened: Identity | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._opened = opened
        self._clock = clock
        self._due = clock()

    def __repr__(self) -> str:
        return f"<Presence {self._path}>"

    def check(self) -> None:
        """Refuse to go on once the file is gone. After a refusal every call looks again, so a file put back is seen.

        Raises:
            StoreUnavailableError: The file was moved, deleted or replaced, or its name cannot be looked at.
        """
        now = self._clock()
        if now < self._due:
            return
        try:
            found = identity(self._path)
        except OSError as error:
            raise StoreUnavailableError(
                f"{self._path} cannot be looked at ({error.strerror}); check its directory and its disk"
            ) from error
        if found != self._opened:
            raise StoreUnavailableError(gone(self._path))
        self._due = now + CHECK_SECONDS

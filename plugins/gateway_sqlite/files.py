"""The file itself: creating it for its owner alone, and whether this process may write it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from gateway.errors import StoreError, StoreFullError, StoreReadOnlyError, StoreUnavailableError

__all__ = ["check_writable", "create_file", "log_of"]

_KINDS: Final[dict[int | None, type[StoreError]]] = {
    errno.EACCES: StoreReadOnlyError,
    errno.EPERM: StoreReadOnlyError,
    errno.EROFS: StoreReadOnlyError,
    errno.ENOSPC: StoreFullError,
    errno.EDQUOT: StoreFullError,
}


def log_of(path: Path) -> Path:
    """Return where SQLite keeps the write-ahead log of a file."""
    return path.with_name(f"{path.name}-wal")


def create_file(path: Path, backend: str) -> None:
    """Make an empty file that only its owner can read, and its directory, unless they exist.

    SQLite gives the two files that it keeps beside it the same permissions.

    Raises:
        StoreReadOnlyError: This process may not write there.
        StoreFullError: There is no space.
        StoreUnavailableError: The directory cannot be made or reached.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        kind = _KINDS.get(error.errno, StoreUnavailableError)
        raise kind(
            f"cannot create {path} ({error.strerror}); check the permissions of its directory and the disk, "
            "or set STORAGE_SQLITE_URL to another path",
            backend=backend,
        ) from error


def check_writable(path: Path, backend: str) -> None:
    """Refuse a file or a directory that this process may not write.

    Raises:
        StoreReadOnlyError: The message names which of the two.
        StoreUnavailableError: The path is a directory.
    """
    if path.is_dir():
        raise StoreUnavailableError(f"{path} is a directory; name a file in it", backend=backend)
    for place in (path, path.parent):
        if not os.access(place, os.W_OK):
            raise StoreReadOnlyError(
                f"no permission to write {place}; check its owner and permissions (SQLite keeps two more "
                "files beside the store)",
                backend=backend,
            )

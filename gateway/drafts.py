"""Files that appear under their name only once they are whole: written beside it, flushed, then renamed.

A process that was killed leaves its draft behind, hidden and never under the real name. The draft is locked by the
process that writes it, so the next writer knows which drafts nobody is writing any more, and removes them.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from gateway.errors import StoreError, StoreFullError, StoreReadOnlyError, StoreUnavailableError

__all__ = ["draft_of", "file_error", "remove_abandoned", "sync_directory"]

_PART: Final = ".part"
_BESIDE: Final = ("-journal", "-wal", "-shm")
"""What SQLite may have kept beside a draft."""


@contextmanager
def draft_of(target: Path) -> Iterator[Path]:
    """Give an empty file to write; it becomes `target` at the end, unless the body raises.

    Only its owner may read it. The directory is made if it is missing. Renaming is atomic, and everything is on the
    disk before it.

    Raises:
        StoreReadOnlyError: This process may not write there.
        StoreFullError: There is no space.
        StoreUnavailableError: Something of the target's name exists already, or the disk fails.
    """
    with _as_store_error(target):
        if target.exists():
            raise StoreUnavailableError(f"{target} exists already; choose another name")
        _make_private(target.parent)
        draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}{_PART}")
        held = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    try:
        with suppress(
            OSError
        ):  # some network disks have no locks; a draft that is left there is for a person to remove
            _lock(held)
        with _as_store_error(target):
            yield draft
            os.fsync(held)
            draft.rename(target)
            sync_directory(target.parent)
    finally:
        os.close(held)
        _remove(draft)


def remove_abandoned(directory: Path) -> list[Path]:
    """Remove the drafts that killed processes left in a directory, and return them."""
    gone = []
    for draft in sorted(directory.glob(f".*{_PART}")):
        with suppress(OSError):
            held = os.open(draft, os.O_RDWR)
            try:
                if _lock(held):  # raises while somebody writes it
                    _remove(draft)
                    gone.append(draft)
            finally:
                os.close(held)
    return gone


def sync_directory(directory: Path) -> None:
    """Make a rename in a directory survive a power loss, where the system can do that."""
    with suppress(OSError):
        opened = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def file_error(error: OSError, path: Path) -> StoreError:
    """Return the gateway's error for what the file system said of a file; raise it `from` the original."""
    reason = f"{path} cannot be used ({error.strerror or error})"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StoreFullError(f"{reason}; make room, or choose another directory")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return StoreReadOnlyError(f"{reason}; check its owner and permissions, or choose another directory")
    return StoreUnavailableError(f"{reason}; check the path and its disk")


@contextmanager
def _as_store_error(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise file_error(error, target) from error


def _make_private(directory: Path) -> None:
    """Make a directory and those above it that are missing, each for its owner alone; mkdir means the last one only."""
    for missing in reversed([place for place in (directory, *directory.parents) if not place.exists()]):
        missing.mkdir(exist_ok=True, mode=0o700)


def _lock(opened: int) -> bool:
    """Take the lock of a draft; False on a system that has no such locks.

    Raises:
        OSError: Another process has it.
    """
    try:
        import fcntl
    except ImportError:
        return False
    fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return True


def _remove(draft: Path) -> None:
    for name in (draft.name, *(f"{draft.name}{end}" for end in _BESIDE)):
        with suppress(OSError):
            draft.with_name(name).unlink()

"""Files that survive a crash: atomic replacement, durable appends, and moving damaged files aside.

Nothing here decides what is stored. Errors are the operating system's own; `failures` translates them at the
edge.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["TMP", "Appended", "Disk", "discard", "last_newline", "unused_name"]

TMP: Final = ".tmp"
_FILE_MODE: Final = 0o640
_DIR_MODE: Final = 0o750
_BLOCK: Final = 65536


@dataclass(frozen=True, slots=True)
class Appended:
    """Where an append went, and what the file looks like since.

    Attributes:
        path: The file.
        start: Its size before, in bytes: the offset of the first new byte.
        size: Its size now, in bytes.
        mtime_ns: Its modification time now, in nanoseconds since 1970.
    """

    path: Path
    start: int
    size: int
    mtime_ns: int


class Disk:
    """Writes that are on the disk when they return.

    Args:
        fsync: Whether to wait for the disk. Without it, a crash of the process loses nothing, but a loss of
            power may lose or tear what was acknowledged in the last seconds.
    """

    __slots__ = ("fsync",)

    def __init__(self, *, fsync: bool = True) -> None:
        self.fsync = fsync

    def prepare(self, path: Path, chunks: Iterable[bytes]) -> Path:
        """Write `path`.tmp completely and return it for `publish`; leave nothing behind on failure."""
        tmp = path.with_name(path.name + TMP)
        try:
            fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _CLOEXEC, _FILE_MODE)
            with _closing(fd, tmp):
                for chunk in chunks:
                    _write_all(fd, chunk)
                self._sync(fd)
        except OSError:
            discard(tmp)
            raise
        return tmp

    def publish(self, tmp: Path, path: Path) -> None:
        """Put a prepared file in its place, atomically. Durable once `sync_dir` of its directory returned."""
        os.replace(tmp, path)  # noqa: PTH105  both names are in one place here; Path.replace hides the pair

    def replace(self, path: Path, data: bytes) -> None:
        """Replace a file's content atomically and durably."""
        self.publish(self.prepare(path, (data,)), path)
        self.sync_dir(path.parent)

    def append(self, path: Path, data: bytes) -> Appended:
        """Append durably, or leave the file as it was: what a failed write left behind is cut off again."""
        created = not path.exists()
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | _CLOEXEC, _FILE_MODE)
        with _closing(fd, path):
            start = os.fstat(fd).st_size
            try:
                _write_all(fd, data)
                self._sync(fd)
            except OSError:
                os.ftruncate(fd, start)
                raise
            state = os.fstat(fd)
        if created:
            self.sync_dir(path.parent)
        return Appended(path, start, state.st_size, state.st_mtime_ns)

    def truncate(self, path: Path, size: int) -> None:
        """Cut a file to a size, durably."""
        fd = os.open(path, os.O_WRONLY | _CLOEXEC)
        with _closing(fd, path):
            os.ftruncate(fd, size)
            self._sync(fd)

    def sync_dir(self, directory: Path) -> None:
        """Make the names in a directory durable: a file whose name is lost is lost."""
        if (
            not self.fsync or os.name == "nt"
        ):  # Windows has no handle on a directory to sync, and journals names itself
            return
        fd = os.open(directory, os.O_RDONLY | _CLOEXEC)
        with _closing(fd, directory):
            os.fsync(fd)

    def make_dir(self, root: Path, directory: Path) -> None:
        """Create a directory below the root.

        Never the root itself: if that is gone, the store is down, not new.
        """
        missing = []
        while directory != root and not directory.is_dir():
            missing.append(directory)
            directory = directory.parent
        for path in reversed(missing):
            path.mkdir(mode=_DIR_MODE, exist_ok=True)
            self.sync_dir(path.parent)

    def make_root(self, root: Path) -> None:
        """Create the store's own directory and those above it."""
        if not root.is_dir():
            self.make_root(root.parent)
            root.mkdir(mode=_DIR_MODE, exist_ok=True)
            self.sync_dir(root.parent)

    def set_aside(self, path: Path, suffix: str) -> Path:
        """Rename a file so that nobody takes it for valid, and return its new name; overwrite nothing."""
        target = unused_name(path.with_name(path.name + suffix))
        path.rename(target)
        self.sync_dir(path.parent)
        return target

    def _sync(self, fd: int) -> None:
        if self.fsync:
            os.fsync(fd)


_CLOEXEC: Final[int] = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def discard(*tmps: Path) -> None:
    """Remove files of our own that never became part of the store."""
    for tmp in tmps:
        with contextlib.suppress(
            OSError
        ):  # a leftover is harmless: the next opening sets it aside and reports it
            tmp.unlink()


def unused_name(path: Path) -> Path:
    """Return the path, or the first of `path-2`, `path-3`, … that does not exist."""
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


def last_newline(path: Path) -> int:
    """Return the size in bytes of a file's whole lines: the offset after its last newline, 0 without one."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        for start in _block_starts(end):
            file.seek(start)
            found = file.read(min(_BLOCK, end - start)).rfind(b"\n")
            if found >= 0:
                return start + found + 1
    return 0


def _block_starts(end: int) -> Iterable[int]:
    return range((end - 1) // _BLOCK * _BLOCK, -1, -_BLOCK) if end else ()


@contextlib.contextmanager
def _closing(fd: int, path: Path) -> Iterator[None]:
    """Close a descriptor, and name the file in errors of calls that only know its number."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
    finally:
        os.close(fd)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]

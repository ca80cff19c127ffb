"""One writer a directory: an operating system lock that ends with the process that holds it."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

from gateway.errors import StoreLockedError

__all__ = ["WriterLock"]


class WriterLock:
    """The right to write below a directory. The kernel gives it back when the process dies, however it dies.

    Args:
        path: The lock file. It stays when the lock is released; only the lock on it counts.

    Raises:
        StoreLockedError: Another gateway holds it; the message names its process.
        OSError: The file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o640)
        try:
            _lock(self._fd)
        except OSError as error:
            self._drop()
            raise StoreLockedError(_in_use(path)) from error
        self._sign(self._fd)

    def __repr__(self) -> str:
        return f"<WriterLock {self._path} {'released' if self._fd is None else 'held'}>"

    def check(self) -> None:
        """Raise `FileNotFoundError` if the directory was removed or replaced since.

        The lock would then protect nothing.
        """
        held = os.fstat(self._fd) if self._fd is not None else None
        found = self._path.stat()
        if held is None or (held.st_dev, held.st_ino) != (found.st_dev, found.st_ino):
            raise FileNotFoundError(2, "replaced by another file", str(self._path))

    def release(self) -> None:
        """Let another process write. Calling it again does nothing."""
        if self._fd is not None:
            self._drop()

    def _drop(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    @staticmethod
    def _sign(fd: int) -> None:
        """Write who holds the lock, for the message that the next one gets."""
        os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())


def _in_use(path: Path) -> str:
    try:
        holder = json.loads(path.read_bytes())
        who = f"process {holder['pid']} on {holder['host']}"
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
    ):  # the holder is just signing; that it is locked is what counts
        who = "another process"
    return (
        f"{path.parent} is being written by {who}, and JSON files take one writer. Stop that process, "
        "give this one its own directory with STORAGE_JSON_URL, or use a store that takes several, such as "
        "sqlite"
    )


if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int) -> None:
        # The byte lies beyond the signature, so that others can read who holds the lock.
        os.lseek(fd, 4096, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

"""Where servers keep things, and as whom they run when the tests run as root.

Database servers refuse to run as root, and another user cannot read what lies under root's home or in a
private temporary directory. So each place is one that the server's user can reach.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = [
    "User",
    "cache_directory",
    "give",
    "half_made",
    "locked",
    "memory",
    "reachable",
    "reachable_copy",
    "scratch",
    "server_user",
]

PRODUCT: Final = "storage-gateway"
SHARED_CACHE: Final = Path("/var/cache") / PRODUCT
"""The cache of root: readable by the user that servers run as."""

SHARED_TEMPORARY: Final = Path("/tmp")  # noqa: S108 - only when $TMPDIR is closed to the server's user; mkdtemp is safe

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - mkdtemp is safe
_ROOMY: Final = 8 << 30
"""Bytes that must be free for files to be kept in memory."""


@dataclass(frozen=True)
class User:
    """Whom a server runs as."""

    uid: int
    gid: int
    home: str


def server_user() -> User | None:
    """Return whom to run servers as, or None to run them as the current user, who is not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return User(found.pw_uid, found.pw_gid, found.pw_dir)
    raise RuntimeError("servers do not run as root, and there is neither a user postgres nor nobody: add one")


def reachable(path: Path) -> bool:
    """Tell whether every user may read what lies at `path` and enter the directories above it."""
    resolved = path.resolve()
    return all(_open_to_all(part) for part in (resolved, *resolved.parents))


def _open_to_all(path: Path) -> bool:
    mode = path.stat().st_mode
    wanted = stat.S_IXOTH | stat.S_IROTH if stat.S_ISDIR(mode) else stat.S_IROTH
    return mode & wanted == wanted


def cache_directory() -> Path:
    """Return the directory for what is fetched or made once: `$XDG_CACHE_HOME/storage-gateway` or in the home.

    As root it lies under /var/cache where the usual place is closed to the user that servers run as.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    if server_user() is None or (home.is_dir() and reachable(home)):
        chosen = home / PRODUCT
    else:
        chosen = SHARED_CACHE
    chosen.mkdir(parents=True, exist_ok=True)
    return chosen


@contextmanager
def locked(name: str) -> Iterator[Path]:
    """Hold a lock of the cache while something in it is made; several test processes start at once.

    Yields:
        The cache directory.
    """
    cache = cache_directory()
    with (cache / f"{name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield cache


def reachable_copy(base: Path, parts: Sequence[str], name: str) -> Path:
    """Return `base`, or a copy in the cache of some directories in it where the server's user cannot read them.

    The directories keep their places beside each other: programs in one may look for libraries in another.
    """
    if server_user() is None or all(reachable(base / part) for part in parts):
        return base
    with locked(name) as cache:
        copied = cache / name
        if not copied.is_dir():
            half = half_made(copied)
            for part in parts:
                shutil.copytree(base / part, half / part, symlinks=True)
            half.chmod(0o755)
            half.rename(copied)
        return copied


def half_made(kept: Path) -> Path:
    """Make and return a directory beside `kept`, to be renamed to it when it is complete; under its lock.

    What an interrupted attempt left is removed.
    """
    for stale in kept.parent.glob(f"{kept.name}.half-*"):
        shutil.rmtree(stale, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{kept.name}.half-", dir=kept.parent))


def memory() -> Path | None:
    """Return a directory whose files are in memory; None where there is none with room enough.

    A server that need not survive a power loss is well kept there: a database is made and dropped for many a test, and
    that is a thousand files each time, which some file systems take long for.
    """
    try:
        room = os.statvfs(_MEMORY)
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None
    return _MEMORY if min(free, room.f_bavail * room.f_frsize) >= _ROOMY and reachable(_MEMORY) else None


def scratch(name: str, within: Path | None = None) -> Path:
    """Make and return an empty directory that belongs to the server's user; its keeper removes it."""
    parent = within or Path(tempfile.gettempdir())
    if within is None and server_user() is not None and not reachable(parent):
        parent = SHARED_TEMPORARY
    made = Path(tempfile.mkdtemp(prefix=f"{PRODUCT}-{name}-", dir=parent))
    give(made)
    return made


def give(path: Path) -> None:
    """Make `path` belong to the user that servers run as."""
    user = server_user()
    if user is not None:
        os.chown(path, user.uid, user.gid)

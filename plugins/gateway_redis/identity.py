"""Which life of which server answers: what `INFO` says, and the text that stands for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from gateway.errors import CacheError

__all__ = ["OLDEST", "Identity", "incarnation_of", "read_identity"]

OLDEST: Final = (7, 0)
"""The oldest protocol of Redis that is supported; Valkey says it is 7.2. Before, scripts had no flags."""


@dataclass(frozen=True, slots=True)
class Identity:
    """One server, as it was when it was asked.

    Attributes:
        name: `Redis` or `Valkey`.
        version: Its own version.
        run_id: Changes with every start.
        history: Id of its replication history, which changes whenever a replica becomes a master: also where the
            same process is demoted and promoted again.
        role: `master` or `slave`.
        policy: What it does when it is full; `no limit` where there is no limit of memory.
        life: What its database was marked with; empty where marks are not kept: in a cluster, and on a server that
            may evict the mark itself.
    """

    name: str
    version: str
    run_id: str
    history: str
    role: str
    policy: str
    life: str = ""

    @property
    def evicts(self) -> bool:
        """Whether it may drop entries before their time."""
        return self.policy not in {"no limit", "noeviction"}


def read_identity(info: bytes, where: str) -> Identity:
    """Return what a server says of itself.

    Args:
        info: Its answers to `INFO server`, `INFO replication` and `INFO memory`.
        where: Which server, for errors.

    Raises:
        CacheError: It is too old, or something that answers like a server but does not say what is needed.
    """
    found = dict(
        line.split(":", 1)
        for line in info.decode("utf-8", "replace").splitlines()
        if ":" in line and line[0] != "#"
    )
    try:
        version = found.get("valkey_version") or found["redis_version"]
        if tuple(int(part) for part in found["redis_version"].split(".")[:2]) < OLDEST:
            raise CacheError(
                f"{where}: Redis {version} is too old; 7.0 is the oldest that is supported, or any Valkey"
            )
        limited = found.get("maxmemory", "0") != "0"
        return Identity(
            "Valkey" if "valkey_version" in found else "Redis",
            version,
            found["run_id"],
            found["master_replid"],
            found["role"],
            found.get("maxmemory_policy", "unknown") if limited else "no limit",
        )
    except (KeyError, ValueError) as error:
        raise CacheError(
            f"{where}: the server does not say what life of it this is (INFO lacks {error})"
        ) from error


def incarnation_of(identities: Iterable[Identity], space: str) -> str:
    """Return the text that stands for these servers; it is another one as soon as anything that matters changes.

    Whether they evict is part of it, so that no two processes ever trust one server differently; and so is the space,
    or two that keep their entries apart would take each other's fences for granted.

    Args:
        identities: The servers.
        space: What tells apart entries of one name on one server: the database and the beginning of the keys.
    """
    parts = sorted(f"{one.run_id} {one.history} {one.life} {one.evicts}" for one in identities)
    return blake2b("\n".join((space, *parts)).encode(), digest_size=16).hexdigest()

"""How many connections a process keeps: profiles by where it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["PROFILES", "PoolSize", "profile_of", "size_of"]


@dataclass(frozen=True, slots=True)
class PoolSize:
    """How many connections may read at once; one more writes, and one removes intents where there is a mirror.

    Attributes:
        kept: Kept open when idle, the writing one included if this is not 0.
        extra: More than those, while they are needed.
    """

    kept: int
    extra: int

    @property
    def total(self) -> int:
        """How many may read at once."""
        return self.kept + self.extra

    @property
    def most(self) -> int:
        """How many one process may take."""
        return self.total + 2


PROFILES: Final[Mapping[str, PoolSize]] = {
    "persistent": PoolSize(5, 10),
    "large": PoolSize(10, 20),
    "serverless": PoolSize(0, 15),
    "pooler": PoolSize(5, 10),
}
"""`serverless` keeps nothing, so that a process that is frozen or thrown away leaves no connection behind; each
operation pays for connecting. `pooler` has the size of `persistent`, and takes for granted that a pooler in
transaction mode stands in front of the server."""

_SERVERLESS: Final = (
    "AWS_LAMBDA_FUNCTION_NAME",
    "FUNCTIONS_WORKER_RUNTIME",
    "FUNCTION_TARGET",
    "K_SERVICE",
    "RAILWAY_ENVIRONMENT",
    "VERCEL",
)
"""Set by platforms that stop and start processes as they like."""


def profile_of(chosen: str, environ: Mapping[str, str]) -> str:
    """Return the profile: the chosen one, or for `auto` what the environment looks like."""
    if chosen != "auto":
        return chosen
    return "serverless" if any(environ.get(name) for name in _SERVERLESS) else "persistent"


def size_of(profile: str, pool_size: int | None, max_overflow: int | None) -> PoolSize:
    """Return the numbers of a profile, with those put in their place that were set.

    A pool in which nothing may be open is given one connection.
    """
    base = PROFILES[profile]
    kept = base.kept if pool_size is None else pool_size
    extra = base.extra if max_overflow is None else max_overflow
    return PoolSize(kept, extra if kept + extra else 1)

"""What the driver and the servers say, as the gateway's one kind of cache error: what it means, and what to do."""

from __future__ import annotations

import ssl
from typing import Final

from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as DriverTimeoutError

from gateway.errors import CacheError, CacheMovedError
from gateway.redaction import redact

__all__ = ["DRIVER_ERRORS", "OutgrownError", "answered", "translate"]

DRIVER_ERRORS: Final = (RedisError, OSError, TimeoutError, EOFError)
"""What servers answer, in redis-py's terms; the last three come from the network beneath it."""

_REFUSALS: Final[dict[str, type[RedisError]]] = {
    "ASK": AskError,
    "CLUSTERDOWN": ClusterDownError,
    "LOADING": BusyLoadingError,
    "MOVED": MovedError,
    "NOAUTH": AuthenticationError,
    "NOPERM": NoPermissionError,
    "NOSCRIPT": NoScriptError,
    "OOM": OutOfMemoryError,
    "READONLY": ReadOnlyError,
    "WRONGPASS": AuthenticationError,
}
"""The first word of what a server refuses something with."""

_MEANINGS: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (
        NoPermissionError,
        "the user lacks a right that this needs; compare with the rights that docs/redis.md lists",
    ),
    (
        AuthenticationError,
        "the server refuses the login; compare user and password in the URL (or STORAGE_REDIS_PASSWORD) with the "
        "server's",
    ),
    (BusyLoadingError, "the server is starting and still reads its files; it is asked again in a moment"),
    (ClusterDownError, "the cluster takes no commands: a part of its slots is served by nobody"),
    (
        OutOfMemoryError,
        "the server is full and its policy is not to evict; give it memory or a policy that evicts",
    ),
    (DriverTimeoutError, "the server gave no answer in time"),
    (TimeoutError, "the server gave no answer in time"),
    (
        ssl.SSLError,
        "the TLS connection failed; compare STORAGE_REDIS_TLS and STORAGE_REDIS_TLS_CA with the server",
    ),
)
_DOWN: Final = (
    "the server cannot be reached, or the connection was lost; check that it runs, and its host and port"
)
_UNKNOWN: Final = "the server refuses this, and the gateway does not know why"


class OutgrownError(CacheError):
    """The server is full and does not evict; what frees memory is still taken."""


def answered(text: str) -> RedisError:
    """Return the driver's exception for what a server refuses something with."""
    word, _, rest = text.partition(" ")
    kind = _REFUSALS.get(word)
    if kind is not None:
        return kind(rest)
    return AuthenticationError(text) if text.startswith("ERR AUTH ") else ResponseError(text)


def translate(error: BaseException, where: str) -> CacheError:
    """Return the gateway's error for one of the driver's; raise it `from` the original.

    Args:
        error: What redis-py or the network raised.
        where: Which server, without a password.
    """
    if isinstance(error, CacheError):
        return error
    if isinstance(error, ReadOnlyError):
        return CacheMovedError(
            f"{where}: the server is a replica now; another one is the master ({_said(error)})"
        )
    kind = OutgrownError if isinstance(error, OutOfMemoryError) else CacheError
    return kind(f"{where}: {_meaning(error)} ({_said(error)})")


def _meaning(error: BaseException) -> str:
    cause = error.__cause__ or error.__context__
    for kind, meaning in _MEANINGS:
        if isinstance(error, kind) or (isinstance(cause, ssl.SSLError) and kind is ssl.SSLError):
            return meaning
    return _UNKNOWN if isinstance(error, ResponseError) else _DOWN


def _said(error: BaseException) -> str:
    """Return what was said, in one line and without passwords."""
    lines = str(error).strip().splitlines()
    name = type(error).__name__
    return f"{redact(lines[0])}, {name}" if lines else name

"""QuestDB's errors as the gateway's: what they mean, whether trying again can help, and what to do.

Over HTTP the server says in a word whether it refuses rows (`invalid`) or could not take them; over the PostgreSQL
protocol every refusal has the same code, so the text is looked at. Texts of the server can hold values of rows: only
the parts that name tables and columns are passed on.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg
from questdb import QuestDBError, QuestDBErrorCode

from gateway.errors import (
    GatewayError,
    SchemaError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreTimeoutError,
    StoreUnavailableError,
    WriteRejectedError,
)

__all__ = [
    "DRIVER_ERRORS",
    "LOGIN",
    "lost",
    "meaning_of_text",
    "refused",
    "suspended",
    "translate",
    "translated",
]

DRIVER_ERRORS: Final = (
    QuestDBError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    asyncio.TimeoutError,
)
"""What both drivers raise; the last two come from the network beneath them."""

_DOWN: Final = (
    StoreUnavailableError,
    "the server cannot be reached or the connection was lost; check that it runs and that host and ports are right. "
    "Whether a write under way was applied is unknown, and repeating it is safe",
)
_SLOW: Final = (
    StoreTimeoutError,
    "the server did not answer in time; whether a write under way was applied is unknown, and repeating it is safe",
)
LOGIN: Final = (
    StoreError,
    "the server refuses the login: compare user, password or token in the URL (or STORAGE_QUESTDB_PASSWORD, "
    "STORAGE_QUESTDB_TOKEN) with `pg.user` and `http.user` in its server.conf",
)
_TLS: Final = (
    StoreUnavailableError,
    "the encrypted connection could not be made; check STORAGE_QUESTDB_TLS_CA and whether the server, or the proxy "
    "in front of it, offers TLS at this port",
)
_SCHEMA: Final = (
    SchemaError,
    "the tables are not those this gateway needs; run `gateway schema upgrade`",
)
_FULL: Final = (
    StoreFullError,
    "the server's disk is full or it cannot open more files; nothing of this request was written. Free space, then "
    "look at `gateway doctor` for tables that were suspended meanwhile",
)
_READ_ONLY: Final = (StoreReadOnlyError, "the server, or this login, takes no writes")
_BUSY: Final = (
    StoreUnavailableError,
    "the server could not take the request now; nothing of it counts as written, and repeating it is safe",
)
_OLD: Final = (
    StoreError,
    "the server does not offer what this gateway needs; it takes QuestDB 9.2 or newer, which knows decimals and "
    "answers `/settings` over HTTP",
)

_BY_CODE: Final = {
    QuestDBErrorCode.CouldNotResolveAddr: _DOWN,
    QuestDBErrorCode.SocketError: _DOWN,
    QuestDBErrorCode.ConnectTimeout: _SLOW,
    QuestDBErrorCode.QueryTimeout: _SLOW,
    QuestDBErrorCode.AuthError: LOGIN,
    QuestDBErrorCode.ServerSecurityError: LOGIN,
    QuestDBErrorCode.TlsError: _TLS,
    QuestDBErrorCode.HttpNotSupported: _OLD,
    QuestDBErrorCode.UnsupportedServer: _OLD,
}
_BY_TEXT: Final = (
    (re.compile(r"table does not exist|column: \S+ does not exist|Invalid column", re.IGNORECASE), _SCHEMA),
    (
        re.compile(r"no space left|disk full|too many open files|could not (?:allocate|mmap)", re.IGNORECASE),
        _FULL,
    ),
    (re.compile(r"read[- ]only|permission denied|not authorized", re.IGNORECASE), _READ_ONLY),
    (re.compile(r"unauthorized|invalid username|authentication|\b401\b|\b403\b", re.IGNORECASE), LOGIN),
    (re.compile(r"timed? ?out|timeout|cancelled by|query aborted", re.IGNORECASE), _SLOW),
    (re.compile(r"memory limit|breach|too busy|unavailable|\b50[234]\b", re.IGNORECASE), _BUSY),
)
_PASSING: Final = frozenset({408, 421, 425, 429, 500, 502, 503, 504, 507})
"""Statuses with which a server, or what stands before it, says that the same request may do later."""
_INTERNAL: Final = re.compile(r'"code"\s*:\s*"internal error"')
_NO_TRUST: Final = re.compile(r"certificate|\btls\b|handshake", re.IGNORECASE)
"""How the official client tells of encryption that failed, which it counts among what cannot be reached."""
_INVALID: Final = re.compile(r'"code"\s*:\s*"invalid"')
_WHERE: Final = re.compile(r"(?:table|column|Field): [\w]+(?:, column: [\w]+)?")


def translate(error: BaseException, backend: str) -> GatewayError:
    """Return what a driver's error means.

    Args:
        error: Raised by one of the drivers, or the network.
        backend: Instance name, for the message.
    """
    if isinstance(error, GatewayError):
        return error
    kind, text = _meaning(error)
    return kind(text, backend=backend)


def refused(status: int, body: bytes, backend: str) -> StoreError:
    """Return what a refusal over HTTP means.

    Args:
        status: Of the answer.
        body: What the server said; it can hold values of rows and is not passed on.
        backend: Instance name, for the message.
    """
    text = body.decode("utf-8", "replace")
    if status in {401, 403}:
        kind, said = LOGIN
    elif _INVALID.search(text) and not _BY_TEXT[0][0].search(text):
        kind, said = _rejected(text)
    else:
        kind, said = meaning_of_text(text) or _by_status(status, text)
    return kind(said, backend=backend)


def _by_status(status: int, text: str) -> tuple[type[StoreError], str]:
    """Return what a refusal in unknown words means. What is not said to pass is not worth being tried for ever."""
    if status in _PASSING or _INTERNAL.search(text):
        return _BUSY
    return StoreError, (
        f"HTTP status {status} is no answer of QuestDB to rows, so sending them again cannot help. Check that URL and "
        "port lead to QuestDB's HTTP server, with `https://` where it is encrypted, and what a proxy before it allows"
    )


def _rejected(text: str) -> tuple[type[StoreError], str]:
    where = _WHERE.search(text)
    return WriteRejectedError, (
        f"the server refuses a row ({where[0] if where else 'no column named'}); nothing of this request was "
        "stored, and sending it again cannot help"
    )


def _meaning(error: BaseException) -> tuple[type[StoreError], str]:
    text = str(error)
    if isinstance(error, QuestDBError):
        if _NO_TRUST.search(text):
            return _TLS
        if error.code in _BY_CODE:
            return _BY_CODE[error.code]
        if error.code is QuestDBErrorCode.ProtocolVersionError:
            # The first request of a client: it asks the server what it can.
            return meaning_of_text(text) or (
                _DOWN if "io:" in text.lower() or "could not" in text.lower() else _OLD
            )
        if _INVALID.search(text) and not _BY_TEXT[0][0].search(text):
            return _rejected(text)
        return meaning_of_text(text) or _BUSY
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError | asyncpg.InvalidPasswordError):
        return LOGIN
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return _SLOW
    if isinstance(error, ssl.SSLError):
        return _TLS
    if isinstance(error, OSError | asyncpg.PostgresConnectionError | asyncpg.InterfaceError):
        return _DOWN
    found = meaning_of_text(text)
    return found or (
        StoreError,
        f"the server refuses a query of this plugin ({type(error).__name__}); report it",
    )


def meaning_of_text(text: str) -> tuple[type[StoreError], str] | None:
    """Return what a text of the server means: the error's class and what to say; None for an unknown one."""
    return next((meaning for pattern, meaning in _BY_TEXT if pattern.search(text)), None)


def lost(error: BaseException) -> bool:
    """Tell whether the connection that raised this is of no more use."""
    return isinstance(error, OSError | asyncpg.PostgresConnectionError | asyncpg.InterfaceError)


def suspended(table: str, backend: str, reason: str = "") -> StoreError:
    """Return the error for a table that accepts rows and never shows them."""
    because = f" ({reason})" if reason else ""
    return StoreError(
        f"the table {table!r} is suspended{because}: the server accepts rows for it and does not apply them. Mend the "
        f'cause, then run `ALTER TABLE "{table}" RESUME WAL` on the server; see docs/questdb.md',
        backend=backend,
    )


@contextmanager
def translated(backend: str) -> Iterator[None]:
    """Raise the drivers' errors as the gateway's.

    Raises:
        StoreError: What the server answered, or that it did not.
    """
    try:
        yield
    except DRIVER_ERRORS as error:
        raise translate(error, backend) from error

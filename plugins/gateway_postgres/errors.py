"""PostgreSQL's errors as the gateway's: what they mean, and what to do.

The decision is by SQLSTATE, which both drivers and every server version share; only where a driver or a pooler gives
none, or one for everything, the text is looked at. What a server says in an error's details can hold values of rows,
so those are never shown.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg

from gateway.errors import (
    ConfigurationError,
    GatewayError,
    SchemaError,
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreTimeoutError,
    StoreUnavailableError,
    WriteRejectedError,
)
from gateway.redaction import redact

__all__ = ["DRIVER_ERRORS", "lost_connection", "sqlstate_of", "translate", "translated"]

DRIVER_ERRORS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    asyncio.TimeoutError,
)
"""What asyncpg raises; the last two come from the network beneath it."""

Meaning = tuple[type[StoreError], str]

_DOWN: Final = (
    StoreUnavailableError,
    "the server cannot be reached or is not ready; check that it runs and that host and port are right",
)
_LOST: Final = (
    StoreUnavailableError,
    "the connection was lost, as when the server restarts; whether a write under way was applied is unknown, and "
    "repeating it is safe",
)
_OTHERS: Final = (
    StoreUnavailableError,
    "of the servers that answer none is of the kind that target_session_attrs asks for; after a failover this passes "
    "once a server takes over",
)
_STOPPED: Final = (
    StoreTimeoutError,
    "the statement was stopped, by a timeout of the server or by an administrator; nothing of it was applied",
)
_CROWDED: Final = (
    StoreBusyError,
    "there are no connections left. Restarting helps for a moment only: make the pools smaller "
    "(STORAGE_POSTGRES_POOL_SIZE and STORAGE_POSTGRES_MAX_OVERFLOW, times the number of processes), put PgBouncer in "
    "front, or raise max_connections",
)
_CONTENDED: Final = (
    StoreBusyError,
    "another transaction was in the way and this one gave up; nothing was written, and trying again is safe",
)
_FULL: Final = (
    StoreFullError,
    "the server's disk is full; nothing was written and nothing stored was touched. Free space, then try again",
)
_MEMORY: Final = (
    StoreBusyError,
    "the server ran out of memory or of locks; nothing was written. Make batches smaller, or give it more",
)
_STANDBY: Final = (
    StoreReadOnlyError,
    "the server takes no writes: it is a standby, or default_transaction_read_only is on. Name the primary in the "
    "URL, or several servers with target_session_attrs=read-write",
)
_DENIED: Final = (
    StoreError,
    "the login{role} lacks a right that this needs; let a DBA compare with `gateway schema roles`, and run "
    "`gateway schema upgrade` with STORAGE_POSTGRES_ADMIN_URL",
)
_FORBIDDEN: Final = (
    StoreReadOnlyError,
    "the login{role} may not write here; make it a member of the application's role (`gateway schema roles` shows "
    "the statements)",
)
_ROW_SECURITY: Final = (
    WriteRejectedError,
    "row level security refused the row: it is another tenant's, or the policies were changed. "
    "`gateway schema check` compares them",
)
_PASSWORD: Final = (
    StoreError,
    "the server refuses the login{role}: compare user and password in the URL (or STORAGE_POSTGRES_PASSWORD) with "
    "those of the server",
)
_NO_ENTRY: Final = (
    StoreError,
    "the server does not let the login{role} in from here: pg_hba.conf has no line for it, or wants TLS "
    "(set STORAGE_POSTGRES_TLS=require or better)",
)
_NO_DATABASE: Final = (
    StoreError,
    "there is no database of that name, or the login{role} may not connect to it: create it, or correct the URL",
)
_SCHEMA: Final = (SchemaError, "the tables are not those this gateway needs; run `gateway schema upgrade`")
_REPLANNED: Final = (
    StoreUnavailableError,
    "the schema was changed while the store was open; the statement is prepared anew with the next try",
)
_POOLED: Final = (
    StoreUnavailableError,
    "a prepared statement was not there, so a pooler stands in front of the server; the store goes on without "
    "prepared statements. Set STORAGE_POSTGRES_POOLER=yes to have that from the start",
)
_REJECTED: Final = (WriteRejectedError, "the store refuses this row, and sending it again cannot help")
_CORRUPT: Final = (
    StoreCorruptError,
    "the server says that its files are damaged; it was left as it is. Restore a backup",
)
_TLS: Final = (
    StoreError,
    "the TLS connection failed: the server offers none, or its certificate is not trusted. Compare "
    "STORAGE_POSTGRES_TLS and STORAGE_POSTGRES_TLS_CA with the server",
)
_POOLER: Final = (
    StoreError,
    "the pooler in front of the server refuses this; it must pool by transaction (pool_mode = transaction)",
)
_UNKNOWN: Final = (StoreError, "the server refuses this, and the gateway does not know why")

_BY_STATE: Final[dict[str, Meaning]] = {
    "25006": _STANDBY,
    "26000": _POOLED,
    "42P05": _POOLED,
    "28P01": _PASSWORD,
    "28000": _NO_ENTRY,
    "3D000": _NO_DATABASE,
    "42501": _DENIED,
    "42P01": _SCHEMA,
    "42703": _SCHEMA,
    "42883": _SCHEMA,
    "42P10": _SCHEMA,
    "3F000": _SCHEMA,
    "42804": _SCHEMA,
    "0A000": _REPLANNED,
    "40001": _CONTENDED,
    "40P01": _CONTENDED,
    "55P03": _CONTENDED,
    "55006": _CONTENDED,
    "25P03": _LOST,
    "53100": _FULL,
    "53200": _MEMORY,
    "53300": _CROWDED,
    "53400": _MEMORY,
    "54000": _REJECTED,
    "57014": _STOPPED,
    "57P01": _LOST,
    "57P02": _LOST,
    "57P03": _DOWN,
    "57P04": _NO_DATABASE,
    "57P05": _LOST,
    "58030": _DOWN,
    "XX001": _CORRUPT,
    "XX002": _CORRUPT,
}
_BY_CLASS: Final[dict[str, Meaning]] = {
    "08": _LOST,
    "22": _REJECTED,
    "23": _REJECTED,
    "40": _CONTENDED,
    "53": _MEMORY,
    "58": _DOWN,
}
_BY_TEXT: Final[tuple[tuple[str, Meaning], ...]] = (
    ("row-level security", _ROW_SECURITY),
    ("password authentication failed", _PASSWORD),
    ("no password supplied", _PASSWORD),
    ("sasl authentication failed", _PASSWORD),
    ("no such user", _PASSWORD),
    ("pg_hba.conf", _NO_ENTRY),
    ("no such database", _NO_DATABASE),
    ('fatal:  role "', _PASSWORD),
    ('" does not exist', _NO_DATABASE),
    ("statement pooling mode", _POOLER),
    ("unsupported startup parameter", _POOLER),
    ("too many connections", _CROWDED),
    ("too many clients", _CROWDED),
    ("remaining connection slots", _CROWDED),
    ("no more connections allowed", _CROWDED),
    ("query_wait_timeout", _CROWDED),
    ("ssl", _TLS),
    ("certificate", _TLS),
    ("session is read-only", _OTHERS),
    ("session is not read-only", _OTHERS),
    ("hot standby mode", _OTHERS),
    ("starting up", _DOWN),
    ("shutting down", _DOWN),
    ("connection refused", _DOWN),
    ("could not translate host name", _DOWN),
    ("timeout expired", _DOWN),
)
_VAGUE: Final = frozenset({"08P01", "42501"})
"""States that stand for several things, told apart by the text: poolers give the first for nearly everything."""

_UNSHOWN: Final = "(what was said is left out, as it quotes values)"

_QUOTING: Final = frozenset({"22", "23"})
"""Classes whose messages quote values."""


def sqlstate_of(error: BaseException) -> str | None:
    """Return the SQLSTATE of an error of either driver; None where the server did not speak."""
    state = getattr(error, "sqlstate", None)
    return state if isinstance(state, str) else None


def lost_connection(error: BaseException) -> bool:
    """Tell whether a connection was gone before it was asked, so that another may serve instead."""
    if isinstance(error, (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError)):
        return not isinstance(error, TimeoutError)
    state = sqlstate_of(error) or ""
    return state.startswith("08") or state in {"25P03", "57P01", "57P02", "57P05"}


def translate(
    error: BaseException, backend: str, *, user: str | None = None, writing: bool = False
) -> StoreError:
    """Return the gateway's error for one of a driver's; raise it `from` the original.

    Args:
        error: What asyncpg, psycopg or the network raised. Details and quoted values are wiped out of it.
        backend: Instance name of the store.
        user: Who is connected, to be named where rights are missing.
        writing: Whether something was being written.
    """
    kind, advice = _meaning(error, writing)
    role = f" {user!r}" if user else ""
    said = _said(error)
    _wipe(error)
    return kind(f"{advice.replace('{role}', role)} ({said})", backend=backend)


def _wipe(error: BaseException) -> None:
    """Take out of a driver's error what may hold values of rows: it is shown with ours, as its cause."""
    if isinstance(error, OSError):
        return
    if isinstance(error, (asyncpg.PostgresError, asyncpg.InterfaceError)):
        error.detail = error.hint = None
    lines = str(error.args[0]).strip().splitlines() if error.args else []
    error.args = (_UNSHOWN if _quotes(error) else "".join(lines[:1]),)


def _meaning(error: BaseException, writing: bool) -> Meaning:
    state, text = sqlstate_of(error), str(error).lower()
    if state is None or state in _VAGUE:
        found = next((meaning for words, meaning in _BY_TEXT if words in text), None)
        if found is not None:
            return found
    if state is None:
        return _without_state(error)
    if state == "42501" and writing:
        return _FORBIDDEN
    return _BY_STATE.get(state) or _BY_CLASS.get(state[:2]) or _UNKNOWN


def _without_state(error: BaseException) -> Meaning:
    """Translate what the drivers or the network raise themselves, without asking the server."""
    if isinstance(error, ssl.SSLError):
        return _TLS
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return _OTHERS
    if isinstance(error, TimeoutError):
        return StoreTimeoutError, "the server gave no answer in time; whether a write was applied is unknown"
    if isinstance(error, (ConnectionRefusedError, FileNotFoundError, socket.gaierror)):
        return _DOWN
    if isinstance(error, ValueError):
        # asyncpg's own name for a value that the column's type cannot take.
        return _REJECTED
    if isinstance(error, OSError):
        return _DOWN if "Multiple exceptions" in str(error) else _LOST
    return _LOST


def _said(error: BaseException) -> str:
    """Return who said what, without values of rows and without passwords."""
    state, name = sqlstate_of(error), type(error).__name__
    who = "the driver" if state is None else "PostgreSQL"
    text = error.strerror if isinstance(error, OSError) else None
    message = str(text or error.args[0]).strip().splitlines() if error.args and not _quotes(error) else []
    what = f"{redact(message[0])}, {name}" if message else name
    return f"{who} says: {what}{f' {state}' if state is not None else ''}"


def _quotes(error: BaseException) -> bool:
    """Tell whether an error's message quotes values."""
    state = sqlstate_of(error)
    return state[:2] in _QUOTING if state is not None else isinstance(error, ValueError)


@contextmanager
def translated(backend: str, *, user: str | None = None, writing: bool = False) -> Iterator[None]:
    """Turn the driver's errors inside into the gateway's, with the backend's name on them."""
    try:
        yield
    except GatewayError as error:
        if isinstance(error, StoreError):
            error.backend = error.backend or backend
        raise
    except asyncpg.ClientConfigurationError as error:
        raise ConfigurationError(f"{backend}: {redact(str(error))}") from error
    except DRIVER_ERRORS as error:
        raise translate(error, backend, user=user, writing=writing) from error

"""Settings of the SQLite backend, and where its file is."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from gateway.backend import BackendSettings
from gateway.errors import ConfigurationError

__all__ = ["DEFAULT_FILE", "SqliteSettings", "store_path"]

DEFAULT_FILE: Final = "gateway.db"
"""Name of the file under the data directory when no URL is given."""

_SCHEME: Final = re.compile(r"^sqlite(\+aiosqlite)?:")
_DRIVE: Final = re.compile(r"^[A-Za-z]:[/\\]")
_MEMORY: Final = frozenset({"", ":memory:", "/:memory:"})


class SqliteSettings(BackendSettings):
    """Settings, each read from `STORAGE_<INSTANCE>_<FIELD>`.

    Attributes:
        url: A path, or `sqlite:///relative/path`, or `sqlite:////absolute/path`; `gateway.db` in the data
            directory by default.
        synchronous: `NORMAL` keeps every acknowledged write when all processes are killed, but a power loss
            may take the last ones; `FULL` keeps them through a power loss too, at one fsync a commit; `OFF`
            promises neither and is for throw-away data.
        busy_timeout: Seconds to wait for another process that is writing before `StoreBusyError`.
        cache_kib: Page cache of the writer, in KiB.
        wal_autocheckpoint: Pages in the write-ahead log at which they are copied into the main file.
        readers: Connections that read beside the writer.
        auto_schema: Create and upgrade tables when opening. Without it, an outdated schema is refused.
    """

    synchronous: Literal["NORMAL", "FULL", "OFF"] = "NORMAL"
    busy_timeout: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 10.0
    cache_kib: Annotated[int, Field(ge=64, le=4 * 1024 * 1024)] = 65_536
    wal_autocheckpoint: Annotated[int, Field(ge=1, le=1_000_000)] = 4_000
    readers: Annotated[int, Field(ge=1, le=64)] = 2
    auto_schema: bool = True


def store_path(settings: SqliteSettings, data_dir: Path) -> Path:
    """Return the absolute path of the store's file.

    Raises:
        ConfigurationError: The URL means a database in memory, another machine, or is written for another
            system.
    """
    if settings.url is None:
        return (data_dir / DEFAULT_FILE).expanduser().absolute()
    text = settings.url.strip()
    text = _path_in_url(text) if _SCHEME.match(text) else text
    if text in _MEMORY or text.startswith("file:"):
        raise ConfigurationError(
            "a SQLite store needs a file, such as sqlite:///data/gateway.db; for a store that is gone when "
            "the process ends, name the backend `memory` in STORAGE_BACKENDS"
        )
    if "\x00" in text:
        raise ConfigurationError("the path of the SQLite store holds a NUL character; remove it")
    if os.sep == "/" and ("\\" in text or _DRIVE.match(text)):
        raise ConfigurationError(
            f"{text!r} is a path of another system: write it with forward slashes and without a drive letter"
        )
    return Path(text).expanduser().absolute()


def _path_in_url(url: str) -> str:
    """Return the path in a `sqlite:` URL, by SQLAlchemy's rule: three slashes relative, four absolute."""
    rest = url.partition(":")[2]
    if rest in {"", "//"}:
        return ""
    if not rest.startswith("///"):
        raise ConfigurationError(
            "a SQLite URL is sqlite:///relative/path or sqlite:////absolute/path; the store is a file on "
            "this machine, so there is no host in it"
        )
    path, mark, _ = rest[3:].partition("?")
    if mark:
        raise ConfigurationError(
            "a SQLite URL takes no options after `?`; set them as STORAGE_SQLITE_SYNCHRONOUS, "
            "STORAGE_SQLITE_BUSY_TIMEOUT and so on"
        )
    return path

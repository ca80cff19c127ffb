"""Where the file is, and which addresses are refused with a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.errors import ConfigurationError
from gateway_sqlite.settings import SqliteSettings, store_path

HERE = Path("/data")


def _path(url: str | None) -> Path:
    return store_path(SqliteSettings(url=url), HERE)


def test_the_default_is_a_file_in_the_data_directory() -> None:
    """Without a URL the store lies in the data directory."""
    assert _path(None) == HERE / "gateway.db"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("/abs/x.db", "/abs/x.db"),
        ("sqlite:////abs/x.db", "/abs/x.db"),
        ("sqlite+aiosqlite:////abs/x.db", "/abs/x.db"),
        ("/abs/with space/żółw.db", "/abs/with space/żółw.db"),
        ("sqlite:////abs/with space/żółw %20 #1.db", "/abs/with space/żółw %20 #1.db"),
        ("  /abs/x.db ", "/abs/x.db"),
    ],
)
def test_absolute_paths(url: str, expected: str) -> None:
    """Four slashes or a plain path; spaces, percent signs and other letters are taken as they are."""
    assert _path(url) == Path(expected)


@pytest.mark.parametrize("url", ["data/x.db", "sqlite:///data/x.db", "./data/x.db"])
def test_relative_paths(url: str) -> None:
    """Three slashes or a plain relative path mean the working directory, as in SQLAlchemy."""
    assert _path(url) == Path.cwd() / "data" / "x.db"


def test_the_home_directory() -> None:
    """A tilde means the home directory."""
    assert _path("~/x.db") == Path.home() / "x.db"


@pytest.mark.parametrize(
    "url",
    [
        ":memory:",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:",
        "",
        "file::memory:?cache=shared",
        "sqlite:///file::memory:",
    ],
)
def test_memory_is_refused(url: str) -> None:
    """A database in memory would lose acknowledged writes; the message names the backend made for that."""
    with pytest.raises(ConfigurationError, match="name the backend `memory`"):
        _path(url)


@pytest.mark.parametrize(
    "url", [r"data\gateway.db", r"C:\data\gateway.db", "c:/Users/D_909/Desktop/x.db", r"sqlite:///C:\x.db"]
)
def test_paths_of_another_system_are_refused(url: str) -> None:
    """Here a backslash would become part of a file name, and a drive letter a directory."""
    with pytest.raises(ConfigurationError, match="forward slashes"):
        _path(url)


def test_a_host_is_refused_without_its_password() -> None:
    """A URL with a host is for another kind of store; the message does not repeat it."""
    with pytest.raises(ConfigurationError, match="no host") as caught:
        _path("sqlite://bot:secret@host/x.db")
    assert "secret" not in str(caught.value)


def test_options_in_the_url_are_refused() -> None:
    """Options after a question mark would be lost silently; the message says where they belong."""
    with pytest.raises(ConfigurationError, match="STORAGE_SQLITE_BUSY_TIMEOUT"):
        _path("sqlite:////abs/x.db?timeout=5")


def test_a_nul_character_is_refused() -> None:
    """No file system takes it."""
    with pytest.raises(ConfigurationError, match="NUL"):
        _path("/abs/a\x00b.db")


@pytest.mark.parametrize(
    "fields",
    [
        {"synchronous": "EXTRA"},
        {"busy_timeout": -1},
        {"busy_timeout": float("inf")},
        {"readers": 0},
        {"cache_kib": 0},
        {"wal_autocheckpoint": 0},
        {"journal": "DELETE"},
    ],
)
def test_settings_out_of_range_are_refused(fields: dict[str, object]) -> None:
    """What SQLite would ignore or misread is refused when the settings are read."""
    with pytest.raises(ValidationError):
        SqliteSettings.model_validate(fields)

"""What can be wrong around a bot: each gives one clear error, and nothing already stored is touched."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway import Gateway, GatewayError
from gateway.errors import (
    ConfigurationError,
    SchemaTooNewError,
    StoreCorruptError,
    StoreLockedError,
    UnknownBackendError,
    UnknownVariableError,
)

pytestmark = pytest.mark.anyio


def fingerprint(directory: Path) -> dict[str, str]:
    """Return the content of every file that a person would miss, by name."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.name.endswith((".lock", "-shm", "-wal", ".index.sqlite"))
    }


def opened(backends: str, directory: Path, **settings: Any) -> Gateway:
    """Return a gateway of this test alone."""
    return Gateway(backends, data_dir=directory, environ={}, env_file=None, **settings)


async def fill(backends: str, directory: Path) -> None:
    """Store a little."""
    async with opened(backends, directory) as gateway:
        for at in range(5):
            await gateway.insert_trade(market_name=f"M{at}", action="buy", side="YES", price=1, amount=1)
            await gateway.put("bot_state", bot_id=f"b{at}", updated_at=datetime.now(UTC))


async def test_a_corrupt_sqlite_file_is_left_as_it_is(tmp_path: Path) -> None:
    """A damaged database is refused by name, and not one byte of it changes."""
    await fill("sqlite", tmp_path)
    file = tmp_path / "gateway.db"
    content = bytearray(file.read_bytes())
    content[0:100] = b"\x13" * 100
    file.write_bytes(content)
    before = fingerprint(tmp_path)
    with pytest.raises(StoreCorruptError, match="sqlite: the file is damaged") as caught:
        await opened("sqlite", tmp_path).open()
    assert "Restore a backup" in str(caught.value)
    assert fingerprint(tmp_path) == before


async def test_a_second_gateway_on_a_json_directory_is_refused(tmp_path: Path) -> None:
    """The second writer learns who holds the directory; the first goes on, and nothing is damaged."""
    async with opened("json", tmp_path) as first:
        await first.insert_trade(market_name="M", action="buy", side="YES", price=1, amount=1)
        with pytest.raises(StoreLockedError, match=rf"json: .*{os.getpid()}"):
            await opened("json", tmp_path).open()
        await first.insert_trade(market_name="M", action="buy", side="YES", price=1, amount=1)
        assert len(await first.get_trades()) == 2
    await fill("json", tmp_path)


async def test_two_gateways_share_a_sqlite_file(tmp_path: Path) -> None:
    """SQLite takes several writers; both see everything."""
    async with opened("sqlite", tmp_path) as first, opened("sqlite", tmp_path) as second:
        await first.insert_trade(market_name="A", action="buy", side="YES", price=1, amount=1)
        await second.insert_trade(market_name="B", action="buy", side="YES", price=1, amount=1)
        assert len(await first.get_trades()) == len(await second.get_trades()) == 2


async def test_an_older_gateway_refuses_a_newer_schema(tmp_path: Path) -> None:
    """A database made by a newer release is not opened and not changed."""
    await fill("sqlite", tmp_path)
    with sqlite3.connect(tmp_path / "gateway.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = fingerprint(tmp_path)
    with pytest.raises(SchemaTooNewError, match="upgrade storage-gateway"):
        await opened("sqlite", tmp_path).open()
    assert fingerprint(tmp_path) == before


SCRIPT = """
import asyncio, os, sys, tempfile
from gateway import Gateway, GatewayError
async def main(backends, directory):
    with tempfile.TemporaryDirectory() as scratch:  # import everything while the interpreter's files can be read
        async with Gateway(backends, data_dir=scratch, environ={}, env_file=None) as gateway:
            await gateway.insert_trade(market_name="M", action="buy", side="YES", price=1, amount=1)
    if os.getuid() == 0:
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
    try:
        async with Gateway(backends, data_dir=directory, environ={}, env_file=None) as gateway:
            await gateway.insert_trade(market_name="M", action="buy", side="YES", price=1, amount=1)
        print("stored")
    except GatewayError as error:
        print(type(error).__name__, error)
asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("backends", ["sqlite", "json"])
async def test_a_read_only_directory_is_named(backends: str) -> None:
    """A directory that may not be written gives one error with its store, and everything stays."""
    # pytest's own directories are closed to other users, and the child gives up being root.
    directory = Path("/tmp") / f"gateway-read-only-{os.getpid()}-{backends}"  # noqa: S108 - removed below
    await fill(backends, directory)
    before = fingerprint(directory)
    try:
        for path in [directory, *directory.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, backends, str(directory)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.stdout.startswith(("StoreReadOnlyError", "StoreUnavailableError")), (
            done.stdout,
            done.stderr,
        )
        assert f"{backends}: " in done.stdout
        assert done.stdout.count("\n") == 1
        assert fingerprint(directory) == before
    finally:
        for path in [directory, *directory.rglob("*")]:
            path.chmod(0o755)
        shutil.rmtree(directory)


FULL = """
import asyncio, sys
from gateway import Gateway, GatewayError
async def main(backends, directory):
    stored = 0
    try:
        async with Gateway(backends, data_dir=directory, environ={}, env_file=None) as gateway:
            for at in range(4000):
                await gateway.record_event(session_id="s", event_type="x", data={"filler": "x" * 4000, "at": at})
                stored += 1
    except GatewayError as error:
        print(type(error).__name__, error)
    print(stored)
asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("backends", ["sqlite", "json"])
async def test_a_full_disk_is_named_and_loses_nothing(backends: str, tmp_path: Path) -> None:
    """On a file system that is full the write is refused by name, and every acknowledged row is still there."""
    mount = tmp_path / "small"
    mount.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(mount)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"not asked: no file system can be mounted here ({made.stderr.strip()})")
    try:
        done = subprocess.run(
            [sys.executable, "-c", FULL, backends, str(mount)],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        error, count = done.stdout.strip().splitlines()
        assert error.startswith("StoreFullError"), (done.stdout, done.stderr)
        assert int(count) > 100
        kept = tmp_path / "kept"
        shutil.copytree(mount, kept)
        async with opened(backends, kept) as gateway:
            events = await gateway.get_events("s")
        assert [event.data and event.data["at"] for event in events][: int(count)] == list(range(int(count)))
    finally:
        subprocess.run(["umount", str(mount)], check=True)


@pytest.mark.parametrize(
    ("environ", "error", "says"),
    [
        ({"STORAGE_BACKEND": "sqlite"}, UnknownVariableError, "STORAGE_BACKENDS"),
        ({"STORAGE_BACKENDS": "sqlit"}, UnknownBackendError, "sqlite"),
        ({"STORAGE_BACKENDS": "json,sqlite,memory"}, ConfigurationError, "one store or to two|at most two|two"),
        ({"STORAGE_BACKENDS": "questd"}, UnknownBackendError, "questdb"),
        ({"STORAGE_PHASE": "dual"}, ConfigurationError, "STORAGE_PHASE"),
        ({"STORAGE_BACKENDS": "json,sqlite", "STORAGE_CUTOVER": "trade"}, GatewayError, "trade"),
        ({"STORAGE_BACKENDS": "json,sqlite", "STORAGE_CUTOVER": "trades:120%"}, ConfigurationError, "trades:120%"),
        ({"STORAGE_BACKENDS": "json,sqlite", "STORAGE_CUTOVER": "closed_positions"}, ConfigurationError, "positions"),
        ({"STORAGE_BACKENDS": "json,sqlite", "STORAGE_PHASE": "legacy", "STORAGE_CUTOVER": "trades"}, ConfigurationError, "legacy"),
        ({"STORAGE_SQLITE_SYNCHRONOUS": "MAYBE"}, ConfigurationError, "STORAGE_SQLITE_SYNCHRONOUS"),
        ({"STORAGE_TENANT": "me"}, ConfigurationError, "STORAGE_TENANT"),
        ({"STORAGE_TIMEOUT": "soon"}, ConfigurationError, "STORAGE_TIMEOUT"),
        ({"STORAGE_MIRROR_MODE": "mirrored"}, ConfigurationError, "journaled, sync or off"),
        ({"STORAGE_MIRROR_MODE": "off", "STORAGE_BACKENDS": "json,sqlite", "STORAGE_PHASE": "cutover"}, ConfigurationError, "STORAGE_MIRROR_MODE"),
    ],
)  # fmt: skip
def test_wrong_variables_are_named_before_anything_is_opened(
    environ: dict[str, str], error: type[Exception], says: str, tmp_path: Path
) -> None:
    """Each wrong variable gives one sentence that names it or what was meant, and no file is made."""
    with pytest.raises(error, match=says) as caught:
        Gateway(environ={"STORAGE_DATA_DIR": str(tmp_path / "data"), **environ}, env_file=None)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()

"""`gateway backup` and `gateway restore`, as an operator and a service manager use them."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.backups import listed
from tests.children import Start, children
from tests.prepared import PreparedDatabases, environ_of
from tests.servers import Database

CHILD = """
import sys
import gateway_sqlite.backup as module
from gateway.cli.actions import intervals
from gateway.cli.app import run

copy, wait, ask = module.SqliteBackup._copy, intervals.StopRequest.wait, intervals.StopRequest.ask

def held(self, draft):
    found = copy(self, draft)
    print("copied", flush=True)
    sys.stdin.readline()
    return found

def told(self, span):
    if span:
        print("waiting", flush=True)
    wait(self, span)

def asked(self):
    ask(self)
    print("asked", flush=True)

if sys.argv.pop(1) == "hold":
    module.SqliteBackup._copy = held
intervals.StopRequest.wait, intervals.StopRequest.ask = told, asked
sys.argv[0] = "gateway"
sys.exit(run())
"""
"""The command line in a process that says where it is, and goes on from a copy only when it is told."""


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a process, and end it after the test."""
    with children() as start:
        yield start


def _directory(workplace: Any) -> Path:
    return Path(workplace.path / "storage" / "backups")


def _files(workplace: Any) -> list[str]:
    """Return every name in the directory of backups, hidden ones too."""
    directory = _directory(workplace)
    return sorted(entry.name for entry in directory.iterdir()) if directory.is_dir() else []


def _line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def _go_on(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


def _damage(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE trades SET market_name = 'ETH' WHERE rowid = 1")


def test_a_backup_on_demand_is_verified_listed_and_restored(workplace: Any) -> None:
    """What a bot stored is in a new place afterwards, and every step says so."""
    workplace.fill("sqlite")
    made = workplace.run("backup")
    assert made.code == 0, made.err
    (name,) = _files(workplace)
    file = _directory(workplace) / name
    assert (
        made.out
        == f"sqlite: 8 rows, {file.stat().st_size / 1024:.1f} KiB, verified: storage/backups/{name}\n"
    )
    assert name in workplace.run("backup", "list").out
    checked = workplace.run("backup", "verify", file)
    assert checked.code == 0
    assert "sound" in checked.out

    done = workplace.run("--data-dir", "elsewhere", "restore", file, "--store", "sqlite")
    assert done.code == 0, done.err
    assert "8 rows restored" in done.out
    for kind in ("trades", "positions"):
        there = workplace.run("--data-dir", "elsewhere", "export", kind)
        assert there.out == workplace.run("export", kind).out
        assert there.out
    assert (workplace.path / "elsewhere").stat().st_mode & 0o777 == 0o700
    assert (workplace.path / "elsewhere" / "gateway.db").stat().st_mode & 0o777 == 0o600


def test_each_command_prints_one_document(workplace: Any) -> None:
    """Scripts read what was made, what is there, what was found and what was restored."""
    workplace.fill("sqlite")
    (made,) = workplace.run("backup", "--json").json["backups"]
    assert made["store"] == "sqlite"
    assert {name: rows for name, rows in made["rows"].items() if rows} == {"trades": 5, "positions": 3}
    assert (made["problems"], made["unchecked"], made["removed"]) == ([], [], [])
    found = workplace.run("backup", "list", "--json").json
    assert found["directory"] == "storage/backups"
    assert [(one["store"], one["file"], one["bytes"]) for one in found["backups"]] == [
        ("sqlite", made["file"], made["bytes"])
    ]
    checked = workplace.run("backup", "verify", made["file"], "--json").json
    assert checked["ok"] is True
    assert checked["rows"] == made["rows"]
    done = workplace.run("--data-dir", "new", "restore", made["file"], "--store", "sqlite", "--json").json
    assert (done["store"], done["rows"]) == ("sqlite", made["rows"])


def test_only_what_is_too_old_is_removed(workplace: Any) -> None:
    """With --keep the newest of that store stay; other stores' backups, encrypted copies and other files do too."""
    workplace.fill("sqlite", trades=1)
    _directory(workplace).mkdir()
    others = ["other-20200101T000000Z.db", "sqlite-20200101T000000Z.db.gpg", "notes.txt", "gateway.db"]
    for name in [*others, "sqlite-20200101T000000Z.db", "sqlite-20200102T000000Z.db"]:
        (_directory(workplace) / name).write_bytes(b"x")
    (made,) = workplace.run("backup", "--keep", "2", "--json").json["backups"]
    assert made["removed"] == ["sqlite-20200101T000000Z.db"]
    assert _files(workplace) == sorted([*others, "sqlite-20200102T000000Z.db", Path(made["file"]).name])
    assert "removed sqlite-20200102T000000Z.db" in workplace.run("backup", "--keep", "2").out


def test_the_directory_may_be_a_setting(workplace: Any) -> None:
    """For making backups and for finding them, and an option wins over it."""
    workplace.fill("sqlite", trades=1)
    env = {"STORAGE_BACKUP_DIR": str(workplace.path / "kept")}
    (made,) = workplace.run("backup", "--json", env=env).json["backups"]
    assert Path(made["file"]).parent == workplace.path / "kept"
    assert len(workplace.run("backup", "list", "--json", env=env).json["backups"]) == 1
    assert workplace.run("backup", "list", "--to", "other", "--json", env=env).json["backups"] == []
    assert _files(workplace) == []


def test_nothing_is_removed_for_a_backup_that_failed(workplace: Any) -> None:
    """A store that is damaged is not backed up, and the older backups are all that there is."""
    workplace.fill("sqlite")
    workplace.run("backup")
    before = _files(workplace)
    _damage(workplace.path / "storage" / "gateway.db")
    failed = workplace.run("backup", "--keep", "1", "--json")
    assert failed.code == 3
    assert failed.json == {"backups": []}
    assert failed.error["type"] == "StoreCorruptError"
    assert _files(workplace) == before


def test_the_newest_stays_whatever_a_wrong_clock_has_named_the_others(workplace: Any) -> None:
    """A backup dated in the future neither pushes out the one that was just made, nor counts as the newest."""
    workplace.fill("sqlite", trades=1)
    _directory(workplace).mkdir()
    (_directory(workplace) / "sqlite-20900101T000000Z.db").write_bytes(b"x")
    (made,) = workplace.run("backup", "--keep", "1", "--json").json["backups"]
    assert _files(workplace) == [Path(made["file"]).name]


@pytest.mark.parametrize("damage", ["edited", "cut", "text"])
def test_a_damaged_backup_is_found_and_not_restored(workplace: Any, damage: str) -> None:
    """Exit code 1 says that something is wrong with it; no store is made of it."""
    workplace.fill("sqlite")
    (made,) = workplace.run("backup", "--json").json["backups"]
    file = workplace.path / made["file"]
    if damage == "edited":
        _damage(file)
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:20_000])
    else:
        file.write_bytes(file.read_bytes()[:100] + b"text" * 1000)
    found = workplace.run("backup", "verify", file, "--json")
    assert found.code == 1
    assert found.json["ok"] is False
    assert found.json["problems"]
    shown = workplace.run("backup", "verify", file)
    assert shown.code == 1
    assert "sound" not in shown.out
    refused = workplace.run("--data-dir", "new", "restore", file, "--store", "sqlite", "--json")
    assert refused.code == 3
    assert "nothing was restored" in refused.error["message"]
    assert not (workplace.path / "new").exists()


def test_rows_are_never_restored_over(workplace: Any) -> None:
    """A store that holds rows is left as it is."""
    workplace.fill("sqlite")
    (made,) = workplace.run("backup", "--json").json["backups"]
    workplace.fill("sqlite", trades=7)
    refused = workplace.run("restore", made["file"], "--store", "sqlite", "--json")
    assert refused.code == 3
    assert "holds rows already" in refused.error["message"]
    assert len(workplace.run("export", "trades").out.splitlines()) == 7


@pytest.fixture
def administered(workplace: Any, prepared_database: Database) -> Any:
    """A PostgreSQL store with an operator who sees the rows of every tenant."""
    workplace.environ = environ_of(prepared_database.app_url, postgres_admin_url=prepared_database.admin_url)
    return workplace


def test_a_server_is_backed_up_and_restored_into_either_backend(
    administered: Any, prepared_databases: PreparedDatabases
) -> None:
    """The rows of PostgreSQL come back in another database, and in SQLite."""
    administered.fill("postgres")
    (made,) = administered.run("--backends", "postgres", "backup", "--json").json["backups"]
    assert made["file"].endswith(".jsonl.gz")
    trades = administered.run("--backends", "postgres", "export", "trades").out
    assert trades
    for backends in ("json", "sqlite", "postgres"):  # the first has no backups of its own, and none is needed
        checked = administered.run("--backends", backends, "backup", "verify", made["file"], "--json")
        assert (checked.code, checked.json["rows"]) == (0, made["rows"])

    done = administered.run("--backends", "sqlite", "restore", made["file"], "--store", "sqlite")
    assert done.code == 0, done.err
    assert administered.run("--backends", "sqlite", "export", "trades").out == trades
    with prepared_databases.fresh() as other:
        administered.environ = environ_of(other.app_url, postgres_admin_url=other.admin_url)
        done = administered.run("--backends", "postgres", "restore", made["file"], "--store", "postgres")
        assert done.code == 0, done.err
        assert administered.run("--backends", "postgres", "export", "trades").out == trades


def test_a_file_of_another_backend_is_refused(administered: Any) -> None:
    """A copy of a SQLite file is nothing that PostgreSQL can take; the sentence says so before anything is done."""
    administered.fill("sqlite")
    (made,) = administered.run("--backends", "sqlite", "backup", "--json").json["backups"]
    for command in (("restore", made["file"], "--store", "postgres"), ("backup", "verify", made["file"])):
        refused = administered.run("--backends", "postgres", *command, "--json")
        assert refused.code == 2
        assert "is no backup that" in refused.error["message"]


def test_a_store_that_fails_stops_no_other(workplace: Any) -> None:
    """The one that can be backed up is, and the exit code tells of the one that cannot."""
    workplace.fill("sqlite")
    down = {"STORAGE_POSTGRES_URL": "postgresql://bot:s3cret@127.0.0.1:1/none"}
    ran = workplace.run("--backends", "postgres,sqlite", "backup", "--json", env=down)
    assert ran.code == 3
    assert [one["store"] for one in ran.json["backups"]] == ["sqlite"]
    assert ran.error["type"] == "StoreUnavailableError"
    assert "s3cret" not in ran.err
    assert len(_files(workplace)) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("backup", "--store", "nosuch"), "STORAGE_BACKENDS names sqlite"),
        (("backup", "--every", "soon"), "write 24h"),
        (("backup", "--every", "0"), "one second to a year"),
        (("backup", "--keep", "0"), "1"),
        (("backup", "--to", "there", "list"), "gateway backup list"),
        (("backup", "--json", "verify", "x"), "gateway backup verify"),
        (("backup", "list", "--store", "nosuch"), "STORAGE_BACKENDS names sqlite"),
        (("backup", "verify", "missing.db"), "no file missing.db"),
        (("backup", "verify", "."), "no file ."),
        (("restore", "missing.db", "--store", "sqlite"), "no file missing.db"),
        (("restore", "notes.txt", "--store", "sqlite"), "no backup that a sqlite store can restore"),
        (("restore", "notes.txt", "--store", "nosuch"), "STORAGE_BACKENDS names sqlite"),
        (("restore", "notes.txt"), "--store"),
        (("backup", "verify", "notes.txt"), "is no backup that a configured store can read"),
        (("--backends", "json", "backup"), "gateway export"),
        (("--backends", "memory", "backup"), "gateway export"),
        (("--backends", "json,sqlite", "backup", "--store", "json"), "no backups of its own"),
        (("--backends", "json", "restore", "notes.txt", "--store", "json"), "no backups of its own"),
    ],
)
def test_what_cannot_work_is_refused(workplace: Any, arguments: tuple[str, ...], words: str) -> None:
    """With exit code 2, a sentence that says what to do, and nothing made."""
    (workplace.path / "notes.txt").write_text("no backup")
    refused = workplace.run(*arguments)
    assert refused.code == 2
    assert words in refused.err
    assert [entry.name for entry in workplace.path.iterdir()] == ["notes.txt"]


def test_a_store_that_is_not_there_is_unavailable(workplace: Any) -> None:
    """It is not created by backing it up, nor is a directory for its backups."""
    missing = workplace.run("backup")
    assert missing.code == 3
    assert "there is no store at" in missing.err
    assert list(workplace.path.iterdir()) == []


def test_an_empty_directory_has_no_backups(workplace: Any) -> None:
    """That is no error: the list is empty, and none is made by asking."""
    assert workplace.run("backup", "list", "--json").json["backups"] == []
    assert workplace.run("backup", "list").code == 0
    assert list(workplace.path.iterdir()) == []


def test_a_directory_that_cannot_be_used_is_named(workplace: Any) -> None:
    """A path below a file, and a place that nobody may write."""
    workplace.fill("sqlite", trades=1)
    (workplace.path / "notes.txt").write_text("a file")
    for place in ("notes.txt", "notes.txt/below", "/sys/backups"):
        refused = workplace.run("backup", "--to", place, "--json")
        assert refused.code == 3, place
        assert place in refused.error["message"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 128 KiB, which only root can."""
    mounted = tmp_path / "small"
    mounted.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(mounted)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a small file system; run as root to test a really full disk")
    yield mounted
    subprocess.run(["umount", str(mounted)], check=True)


def test_a_full_disk_leaves_nothing(workplace: Any, small_disk: Path) -> None:
    """The error is that there is no space, and the space that was taken is given back."""
    workplace.fill("sqlite")
    failed = workplace.run("backup", "--to", small_disk, "--json")
    assert failed.code == 3
    assert failed.error["type"] == "StoreFullError"
    assert list(small_disk.iterdir()) == []


def test_an_interval_ends_cleanly_between_backups(workplace: Any, start: Start) -> None:
    """A service makes backups until SIGTERM, keeps to --keep, and ends with exit code 0."""
    workplace.fill("sqlite")
    child = start("-m", "gateway.cli", "backup", "--every", "1s", "--keep", "2", "--json")
    made = [json.loads(_line(child))["backups"][0] for _ in range(3)]
    child.send_signal(signal.SIGTERM)
    rest, errors = child.communicate(timeout=60)
    assert (child.returncode, errors) == (0, "")
    made += [json.loads(line)["backups"][0] for line in rest.splitlines()]
    assert len({one["file"] for one in made}) == len(made)
    assert made[2]["removed"] == [Path(made[0]["file"]).name]
    assert _files(workplace) == [Path(one["file"]).name for one in made[-2:]]


def test_an_interval_goes_by_the_newest_file(workplace: Any, start: Start) -> None:
    """A service that is started again does not begin with another backup, and ends while it waits."""
    workplace.fill("sqlite")
    workplace.run("backup")
    before = _files(workplace)
    child = start("-c", CHILD, "go", "backup", "--every", "24h")
    assert _line(child) == "waiting"
    child.send_signal(signal.SIGTERM)
    assert child.wait(timeout=60) == 0
    assert _files(workplace) == before


def test_sigterm_during_a_backup_lets_it_finish(workplace: Any, start: Start) -> None:
    """On an interval the backup that is being made is whole, and the last one."""
    workplace.fill("sqlite")
    child = start("-c", CHILD, "hold", "backup", "--every", "1s")
    assert _line(child) == "copied"
    child.send_signal(signal.SIGTERM)
    _go_on(child)
    out, errors = child.communicate(timeout=60)
    assert (child.returncode, errors) == (0, "")
    (name,) = _files(workplace)
    assert name in out
    assert workplace.run("backup", "verify", _directory(workplace) / name).code == 0


@pytest.mark.parametrize("arguments", [("backup",), ("backup", "--every", "1s")], ids=["once", "every"])
def test_who_does_not_wait_gets_no_half_backup(
    workplace: Any, start: Start, arguments: tuple[str, ...]
) -> None:
    """SIGTERM ends a single backup at once, and a second one ends an interval: nothing is left of it."""
    workplace.fill("sqlite")
    child = start("-c", CHILD, "hold", *arguments)
    assert _line(child) == "copied"
    assert len(_files(workplace)) == 1, "there is no draft, so this test shows nothing"
    if "--every" in arguments:
        child.send_signal(signal.SIGTERM)
        assert _line(child) == "asked"
    child.send_signal(signal.SIGTERM)
    assert child.wait(timeout=60) == 130
    out, errors = child.communicate()
    assert out == ""
    assert "interrupted" in errors
    assert _files(workplace) == []


def test_a_killed_backup_looks_like_none(workplace: Any, start: Start) -> None:
    """After kill -9 there is a hidden draft, which no command takes for a backup, and which the next one removes."""
    workplace.fill("sqlite")
    child = start("-c", CHILD, "hold", "backup")
    assert _line(child) == "copied"
    child.kill()
    assert child.wait() == -signal.SIGKILL
    (draft,) = _files(workplace)
    assert draft.startswith(".")
    assert listed([draft]) == []
    assert workplace.run("backup", "list", "--json").json["backups"] == []
    (made,) = workplace.run("backup", "--json").json["backups"]
    assert _files(workplace) == [Path(made["file"]).name]


def test_an_interval_goes_on_after_a_failure(workplace: Any, start: Start) -> None:
    """A store that is not there yet is reported, and backed up once it is."""
    child = start("-m", "gateway.cli", "backup", "--every", "1s")
    assert child.stderr is not None
    assert "there is no store" in child.stderr.readline()
    workplace.fill("sqlite")
    assert "verified" in _line(child)
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=60)
    assert child.returncode == 0

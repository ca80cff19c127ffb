"""Looking at the backups there are, checking one, and filling a store from one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.backups import BackupName, listed
from gateway.cli.actions.backups import backup_of, described, names_in
from gateway.cli.exits import ExitCode
from gateway.cli.output import note, print_json, print_line, print_table
from gateway.cli.session import Session
from gateway.cli.values import size_text, time_text
from gateway.dump import check_dump, is_dump
from gateway.errors import ConfigurationError, StoreCorruptError
from gateway.records.caching import CACHE_EPOCHS
from gateway.upkeep import BackupReport

__all__ = ["list_backups", "restore_backup", "verify_backup"]


def verify_backup(session: Session, file: Path, *, as_json: bool) -> ExitCode:
    """Check a backup and print what was found. One too damaged to be read at all is a finding as well.

    Raises:
        ConfigurationError: There is no such file, or nobody here can read its kind.
        StoreError: It cannot be read, or a newer release made it.
    """
    _present(file)
    try:
        checked = _checked(session, file)
    except StoreCorruptError as error:
        if as_json:
            print_json({"ok": False, **_unreadable(file, str(error))})
        else:
            print_line(str(error), "bold red")
        return ExitCode.PROBLEM
    if as_json:
        print_json({"ok": checked.ok, **described(checked)})
    else:
        _print_checked(checked)
    return ExitCode.OK if checked.ok else ExitCode.PROBLEM


def _unreadable(file: Path, problem: str) -> dict[str, Any]:
    """Return what `described` does, of a file that says nothing of itself."""
    return {
        "file": str(file),
        "taken_at": None,
        "bytes": file.stat().st_size,
        "rows": {},
        "problems": [problem],
        "unchecked": [],
    }


def list_backups(session: Session, store: str | None, to: Path | None, *, as_json: bool) -> None:
    """Print the backups of a directory.

    Raises:
        ConfigurationError: There is none of that store, and no such store either.
        StoreError: The directory cannot be read.
    """
    directory = to or session.configuration.settings.backups_path
    backups = listed(names_in(directory), store)
    if store is not None and not backups:
        session.configuration.store(store)
    found = list(_entries(directory, backups))
    if as_json:
        print_json({"directory": str(directory), "backups": found})
        return
    print_table(
        ("store", "begun", "size", "file"),
        [(one["store"], one["begun_at"], size_text(one["bytes"]), one["file"]) for one in found],
    )
    note(f"{len(found)} backups in {directory}")


def _entries(directory: Path, backups: list[BackupName]) -> Iterator[dict[str, Any]]:
    for one in backups:
        file = directory / str(one)
        try:
            size = file.stat().st_size
        except FileNotFoundError:
            continue  # removed since, as `--keep` does
        yield {"store": one.store, "begun_at": time_text(one.at), "bytes": size, "file": str(file)}


def restore_backup(session: Session, file: Path, store: str, *, as_json: bool) -> None:
    """Fill a store from a backup, and print what was done.

    Raises:
        ConfigurationError: There is no such store or file.
        CapabilityError: The store's backend cannot restore.
        StoreError: The backup does not verify, or the store is not empty; nothing was changed.
    """
    _present(file)
    backup = backup_of(session, session.configuration.store(store))
    if not backup.takes(file):
        raise ConfigurationError(
            f"{file} is no backup that a {session.configuration.store(store).spec.name} store can restore"
        )
    done = backup.restore(file)
    if done.rows.get(CACHE_EPOCHS.name):
        # What the backup says of a cache was true then; what the cache holds is of another time.
        session.run(_close_cache(session, store))
    if as_json:
        print_json({"store": store, **described(done)})
        return
    total = sum(done.rows.values())
    print_line(f"{store}: {total:,} rows restored from {file}, as of {time_text(done.taken_at)}", "green")
    _print_rows(done)


async def _close_cache(session: Session, store: str) -> None:
    """Close the cache in front of a store, as everybody does who opens it to write beside the cache."""
    async with session.stores(store, writable=(store,)):
        pass


def _present(file: Path) -> None:
    if not file.is_file():
        raise ConfigurationError(
            f"there is no file {file}; `gateway backup list` names the backups there are"
        )


def _checked(session: Session, file: Path) -> BackupReport:
    """Let a configured store's backend check a file; a backup in rows needs none."""
    for store in session.configuration.stores:
        if store.spec.backup is not None:
            backup = backup_of(session, store)
            if backup.takes(file):
                return backup.verify(file)
    with file.open("rb") as stream:
        head = stream.read(2)
    if is_dump(head):
        return check_dump(file, session.registry.kinds)
    raise ConfigurationError(
        f"{file} is no backup that a configured store can read; name its backend, as in "
        "`gateway --backends sqlite backup verify FILE`"
    )


def _print_checked(one: BackupReport) -> None:
    for problem in one.problems:
        print_line(problem, "bold red")
    if one.ok:
        print_line(f"{one.path}: sound, as of {time_text(one.taken_at)}, {size_text(one.size)}", "green")
    if one.unchecked:
        note(f"not checked, since nobody here registered them: {', '.join(one.unchecked)}", "yellow")
    _print_rows(one)


def _print_rows(one: BackupReport) -> None:
    filled = [(name, rows) for name, rows in sorted(one.rows.items()) if rows]
    if filled:
        print_table(("kind", "rows"), filled)

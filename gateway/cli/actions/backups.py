"""Making backups, once or on an interval."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gateway.backups import free_name, newest, next_due, parse_interval, surplus
from gateway.cli.actions.intervals import StopRequest, stop_request
from gateway.cli.exits import ExitCode, report_error
from gateway.cli.output import note, print_json, print_line
from gateway.cli.session import Session
from gateway.cli.values import size_text, time_text
from gateway.config import StoreConfig, open_context
from gateway.drafts import file_error, remove_abandoned
from gateway.errors import CapabilityError, StoreError
from gateway.upkeep import BackupReport, StoreBackup

__all__ = ["Backing", "back_up", "backup_of", "described", "names_in"]


@dataclass(frozen=True, slots=True)
class Backing:
    """What was asked for.

    Attributes:
        store: Instance name of the only store meant; None means all that can be backed up.
        to: Directory; None means the default one.
        every: Interval as typed; None makes one backup.
        keep: How many of each store stay; None keeps all.
    """

    store: str | None = None
    to: Path | None = None
    every: str | None = None
    keep: int | None = None


@dataclass(frozen=True, slots=True)
class _Job:
    """What there is to do, with everything found out that can be before the first backup.

    Attributes:
        stores: Instance names, and what backs each store up.
        directory: Where the backups go.
        keep: How many of each store stay; None keeps all.
        as_json: Whether to print JSON.
        debug: Whether errors are shown with their tracebacks.
    """

    stores: Sequence[tuple[str, StoreBackup]]
    directory: Path
    keep: int | None
    as_json: bool
    debug: bool

    def made(self, backups: Sequence[dict[str, Any]]) -> None:
        """Say what was made."""
        if self.as_json:
            print_json({"backups": backups})
        else:
            for one in backups:
                _print_made(one)
        sys.stdout.flush()  # whoever follows the output of a service reads it now

    def failed(self, error: StoreError) -> ExitCode:
        """Say that a backup failed; the other stores have theirs all the same."""
        return report_error(error, as_json=self.as_json, debug=self.debug)


def back_up(session: Session, wanted: Backing, *, as_json: bool) -> ExitCode:
    """Back the stores up, once or on an interval. A store that fails is reported and stops no other.

    Raises:
        ConfigurationError: There is no such store, or the interval is none.
        CapabilityError: No store can be backed up.
    """
    every = None if wanted.every is None else parse_interval(wanted.every)
    directory = wanted.to or session.configuration.settings.backups_path
    job = _Job(_backups(session, wanted.store), directory, wanted.keep, as_json, session.debug)
    with stop_request(at_once=every is None) as stop:
        return _once(job) if every is None else _repeat(job, every, stop)


def _once(job: _Job) -> ExitCode:
    """Make one backup of each store; the first failure gives the exit code."""
    made: list[dict[str, Any]] = []
    code = ExitCode.OK
    for name, backup in job.stores:
        try:
            made.append(_back_up_one(name, backup, job.directory, job.keep))
        except StoreError as error:
            failed = job.failed(error)
            code = code or failed
            continue
        if not job.as_json:
            job.made(made[-1:])
    if job.as_json:
        job.made(made)
    return code


def _repeat(job: _Job, every: timedelta, stop: StopRequest) -> ExitCode:
    """Back up whenever it is due, until asked to stop. A failure is reported, and tried again."""
    failed: dict[str, datetime] = {}
    while not stop.asked:
        waits: list[timedelta] = []
        for name, backup in job.stores:
            try:
                wait = _until_due(_latest(job.directory, name, backup.suffix), failed.get(name), every)
                if not wait and not stop.asked:
                    job.made([_back_up_one(name, backup, job.directory, job.keep)])
                    failed.pop(name, None)
            except StoreError as error:
                failed[name] = datetime.now(UTC)
                job.failed(error)
                wait = _until_due(None, failed[name], every)
            waits.append(wait)
        stop.wait(min(waits))
    return ExitCode.OK


def _until_due(latest: datetime | None, failed: datetime | None, every: timedelta) -> timedelta:
    due = next_due(latest, failed, every)
    return timedelta(0) if due is None else max(timedelta(0), due - datetime.now(UTC))


def _latest(directory: Path, store: str, suffix: str) -> datetime | None:
    """Return when the newest backup of a store was begun."""
    found = newest(names_in(directory), store, datetime.now(UTC), suffix)
    return None if found is None else found.at


def _back_up_one(name: str, backup: StoreBackup, directory: Path, keep: int | None) -> dict[str, Any]:
    """Make one backup, then remove what is too old: only now is there a verified newer one."""
    remove_abandoned(directory)
    target = free_name(names_in(directory), name, backup.suffix, datetime.now(UTC))
    try:
        made = backup.write(directory / str(target))
    except StoreError as error:
        error.backend = error.backend or name
        raise
    removed = []
    for old in surplus(names_in(directory), target, keep) if keep is not None else ():
        try:
            (directory / str(old)).unlink(missing_ok=True)
        except OSError as error:
            raise file_error(error, directory / str(old)) from error
        removed.append(str(old))
    return {"store": name, **described(made), "removed": removed}


def names_in(directory: Path) -> list[str]:
    """Return the names of what is in a directory; none if there is no such directory.

    Raises:
        StoreError: It cannot be read.
    """
    try:
        return [entry.name for entry in directory.iterdir()] if directory.is_dir() else []
    except OSError as error:
        raise file_error(error, directory) from error


def backup_of(session: Session, store: StoreConfig) -> StoreBackup:
    """Return what backs a store up.

    Raises:
        CapabilityError: Its backend does not say how.
    """
    if store.spec.backup is None:
        raise CapabilityError(
            f"{store.instance}: the {store.spec.name} backend has no backups of its own; use `gateway export`, or "
            "copy to a store that has them with `gateway copy`"
        )
    return store.spec.backup(open_context(session.configuration, store, tuple(session.registry.kinds)))


def _backups(session: Session, name: str | None) -> list[tuple[str, StoreBackup]]:
    if name is not None:
        return [(name, backup_of(session, session.configuration.store(name)))]
    found = [
        (store.instance, backup_of(session, store))
        for store in session.configuration.stores
        if store.spec.backup is not None
    ]
    if not found:
        raise CapabilityError(
            f"no store can be backed up by itself ({', '.join(session.instances)}); use `gateway export`"
        )
    return found


def described(one: BackupReport) -> dict[str, Any]:
    """Return what a JSON document says of a backup."""
    return {
        "file": str(one.path),
        "taken_at": time_text(one.taken_at),
        "bytes": one.size,
        "rows": dict(one.rows),
        "problems": list(one.problems),
        "unchecked": list(one.unchecked),
    }


def _print_made(one: dict[str, Any]) -> None:
    rows = sum(one["rows"].values())
    print_line(f"{one['store']}: {rows:,} rows, {size_text(one['bytes'])}, verified: {one['file']}", "green")
    if one["unchecked"]:
        note(
            f"the digests of {', '.join(one['unchecked'])} could not be checked, since nobody here registered them; "
            "use --import MODULE",
            "yellow",
        )
    for name in one["removed"]:
        print_line(f"{one['store']}: removed {name}")

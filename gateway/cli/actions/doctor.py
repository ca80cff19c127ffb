"""`gateway doctor`: what can be wrong with an installation, looked at without changing anything."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from gateway.backups import listed, newest
from gateway.cli.actions.caching import cache_findings
from gateway.cli.actions.configured import concerns_of
from gateway.cli.actions.mirroring import mirror_findings
from gateway.cli.actions.phases import live_members
from gateway.cli.actions.store_checks import check_store
from gateway.cli.exits import ExitCode
from gateway.cli.output import print_json, print_line, print_table
from gateway.cli.session import Session
from gateway.cli.values import size_text
from gateway.drafts import file_error
from gateway.errors import ConfigurationError
from gateway.findings import Finding, Level, fail, ok, permissions, warn

__all__ = ["examine"]

_LITTLE: Final = 1024**3
_NONE_LEFT: Final = 100 * 1024**2
_EPOCH_OF_SENSE: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""A clock before this is a clock that was never set: this program is younger."""
_SLACK: Final = timedelta(minutes=5)
_OLD_BACKUP: Final = timedelta(days=2)


def examine(session: Session, *, as_json: bool) -> ExitCode:
    """Run every check and print what each found.

    Raises:
        ConfigurationError: The settings themselves cannot work, so there is nothing to look at.
    """
    findings = [
        ok(
            "settings",
            f"stores {', '.join(session.instances)} in {session.configuration.settings.environment}",
        )
    ]
    findings += [*_plugins(session), *_safety(session)]
    findings += [*_data_dir(session), *_clock(), *_control(session), *_backups(session)]
    for store in session.configuration.stores:
        try:
            findings += session.run(check_store(session, store))
        except ConfigurationError as error:  # among them what production refuses
            findings.append(fail(f"store {store.instance}", f"was not opened: {error}", ""))
    findings += [*mirror_findings(session), *cache_findings(session)]
    failed = any(one.level is Level.FAIL for one in findings)
    if as_json:
        print_json({"ok": not failed, "checks": [asdict(one) for one in findings]})
    else:
        _print_findings(findings)
    return ExitCode.PROBLEM if failed else ExitCode.OK


def _plugins(session: Session) -> Iterator[Finding]:
    problems = session.registry.problems
    for one in problems:
        yield warn("plugins", one.sentence, "no store in use needs it; see `gateway plugins`")
    if not problems:
        yield ok("plugins", f"{len(session.registry.backends)} backends, {len(session.registry.kinds)} kinds")


def _safety(session: Session) -> list[Finding]:
    """Check passwords, encryption and who may read the files: what production refuses."""
    return concerns_of(session) or [ok("safety", "passwords, connections and files are fit for production")]


def _data_dir(session: Session) -> Iterator[Finding]:
    """Check where stores without a place of their own live."""
    path = session.configuration.settings.data_dir
    if not path.exists():
        yield warn(
            "data directory",
            f"{path.absolute()} does not exist",
            "the first bot makes it; is STORAGE_DATA_DIR right?",
        )
    elif not path.is_dir():
        yield fail(
            "data directory", f"{path.absolute()} is no directory", "set STORAGE_DATA_DIR to a directory"
        )
    else:
        yield permissions("data directory", path.absolute())
        if not os.access(path, os.W_OK | os.X_OK):
            yield fail(
                "data directory",
                f"this user may not write {path.absolute()}",
                "run as its owner, or change the owner",
            )
    yield _disk(path.absolute())


def _disk(path: Path) -> Finding:
    place = next(parent for parent in (path, *path.parents) if parent.exists())
    free = shutil.disk_usage(place).free
    sentence = f"{size_text(free)} free at {place}"
    if free < _NONE_LEFT:
        return fail("disk", sentence, "make room now: writes will be refused soon")
    return warn("disk", sentence, "make room") if free < _LITTLE else ok("disk", sentence)


def _clock() -> Iterator[Finding]:
    now = datetime.now(UTC)
    if now < _EPOCH_OF_SENSE:
        yield fail(
            "clock",
            f"it says {now:%Y-%m-%d %H:%M} UTC, which cannot be",
            "synchronise it; versions are made from it",
        )
    else:
        yield ok("clock", f"it says {now:%Y-%m-%d %H:%M:%S} UTC")


def _control(session: Session) -> Iterator[Finding]:
    """Check the control store, and whether the running bots follow it."""
    path = session.control.path
    try:
        state, members, latest = (
            session.control.state(),
            live_members(session.control),
            session.control.history(1),
        )
        if not session.control.file.present():
            yield ok("control store", "none yet: the environment decides the phases")
            return
    except ConfigurationError as error:
        yield fail("control store", str(error), "")
        return
    yield ok("control store", f"{path} at epoch {state.epoch}, {len(members)} running bot(s)")
    yield permissions("control store: permissions", path)
    for one in members:
        if one.epoch < state.epoch:
            yield warn(
                "control store: members",
                f"process {one.id.pid} on {one.id.host} follows epoch {one.epoch}",
                "look again; restart it if it stays behind",
            )
    for change in latest:
        if change.at - datetime.now(UTC) > _SLACK:
            yield fail(
                "control store: clock",
                f"the last decision was made at {change.at.isoformat()}, in the future",
                "set this machine's clock right",
            )


def _backups(session: Session) -> Iterator[Finding]:
    """Check that there is a backup of each store that can be backed up, and that it is no old one."""
    settings, now = session.configuration.settings, datetime.now(UTC)
    directory = settings.backups_path
    try:
        names = [entry.name for entry in directory.iterdir()] if directory.is_dir() else []
    except OSError as error:
        yield fail("backups", str(file_error(error, directory)), "")
        return
    for store in session.configuration.stores:
        if store.spec.backup is None:
            continue
        subject, found = f"store {store.instance}: backups", listed(names, store.instance)
        if found:
            latest = newest(names, store.instance, now) or found[-1]
            sentence = f"{len(found)} in {directory}, the newest begun at {latest.at:%Y-%m-%d %H:%M} UTC"
            old = abs(now - latest.at) > _OLD_BACKUP  # one of the future tells nothing either
            yield (
                warn(subject, sentence, "is `gateway backup --every` running?")
                if old
                else ok(subject, sentence)
            )
        elif settings.is_production:
            yield warn(
                subject,
                f"there are none in {directory}",
                "run `gateway backup --every 24h`; if backups are made another way, never mind",
            )
        else:
            yield ok(subject, f"none in {directory}")


def _print_findings(findings: list[Finding]) -> None:
    print_table(
        ("", "check", "found"), [(one.level.value, one.subject, one.sentence) for one in findings], marked=""
    )
    advised = [one for one in findings if one.advice]
    if advised:
        print_line("")
        print_line("what to do:", "bold")
        for one in advised:
            print_line(f"  {one.subject}: {one.advice}")

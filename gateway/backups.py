"""Backups as files in a directory: their names, which of them are too many, and when the next one is due. Pure.

A name is `<store>-<moment in UTC><suffix>`, `sqlite-20261121T150102Z.db`, so that names sort by time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.errors import ConfigurationError, SchemaError, StoreCorruptError
from gateway.records.kind import KindSpec
from gateway.records.row import Row
from gateway.upkeep import BackupReport

__all__ = [
    "BackupName",
    "free_name",
    "kept_rows",
    "listed",
    "newest",
    "next_due",
    "parse_interval",
    "parse_name",
    "refuse_unrestorable",
    "surplus",
]

_NAME: Final = re.compile(
    r"(?P<store>[a-z][a-z0-9_]*)-(?P<at>\d{8}T\d{6}Z)(?:_(?P<number>[1-9]\d{0,5}))?(?P<suffix>\.[a-z0-9.]+)",
    re.ASCII,
)
_MOMENT: Final = "%Y%m%dT%H%M%SZ"
_INTERVAL: Final = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[a-z]*)", re.ASCII)
_UNITS: Final = {
    "": timedelta(hours=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_LONGEST: Final = timedelta(days=366)
_AGAIN: Final = timedelta(minutes=5)
"""How soon a backup that failed is tried again, unless the interval is shorter still."""
_SLACK: Final = timedelta(minutes=5)
"""A backup that was begun further in the future was named by a clock that was wrong."""


@dataclass(frozen=True, slots=True, order=True)
class BackupName:
    """What the name of a backup says. Ordered by store, then by time.

    Attributes:
        store: Instance name of the store.
        at: When it was begun, in UTC, to the second.
        number: Tells backups of one second apart; 0 for the first.
        suffix: The end of the name, which says who can read it.
    """

    store: str
    at: datetime
    number: int = 0
    suffix: str = ""

    def __str__(self) -> str:
        mark = f"_{self.number}" if self.number else ""
        return f"{self.store}-{self.at:{_MOMENT}}{mark}{self.suffix}"


def parse_name(name: str) -> BackupName | None:
    """Return what the name of a file says; None for a file that is no backup by its name."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    try:
        at = datetime.strptime(found["at"], _MOMENT).replace(tzinfo=UTC)
    except ValueError:
        return None
    return BackupName(found["store"], at, int(found["number"] or 0), found["suffix"])


def listed(names: Iterable[str], store: str | None = None, suffix: str | None = None) -> list[BackupName]:
    """Return the backups among the names of files, the oldest of each store first.

    Args:
        names: Names of files.
        store: Instance name of the only store meant; None means all.
        suffix: The only end of the name meant; None means all, those of copies that somebody encrypted among them.
    """
    parsed = (parse_name(name) for name in names)
    return sorted(
        one
        for one in parsed
        if one is not None and store in {None, one.store} and suffix in {None, one.suffix}
    )


def newest(names: Iterable[str], store: str, now: datetime, suffix: str | None = None) -> BackupName | None:
    """Return the newest backup of a store; None if there is none.

    What is dated in the future is passed over: it would put off every further backup until then.

    Args:
        names: Names of files.
        store: Instance name of the store.
        now: Aware time.
        suffix: The only end of the name meant; None means all.
    """
    past = [one for one in listed(names, store, suffix) if one.at <= now + _SLACK]
    return past[-1] if past else None


def free_name(names: Iterable[str], store: str, suffix: str, now: datetime) -> BackupName:
    """Return the name of a backup that begins now, which no other one has.

    Args:
        names: Names of the files that are there.
        store: Instance name of the store.
        suffix: End of the name.
        now: Aware time.
    """
    at = now.astimezone(UTC).replace(microsecond=0)
    taken = [one.number for one in listed(names, store) if one.at == at]
    return BackupName(store, at, max(taken) + 1 if taken else 0, suffix)


def surplus(names: Iterable[str], made: BackupName, keep: int) -> list[BackupName]:
    """Return the backups of a store that are more than so many, the oldest first.

    Args:
        names: Names of the files that are there.
        made: The one that was just made and verified. It stays, whatever a wrong clock has named the others. Of its
            store and with its end are those that may go; a copy that somebody encrypted is theirs to remove.
        keep: How many of the newest stay, this one among them; at least 1.
    """
    others = [one for one in listed(names, made.store, made.suffix) if one != made]
    return others[: max(0, len(others) - max(1, keep) + 1)]


def next_due(latest: datetime | None, failed: datetime | None, every: timedelta) -> datetime | None:
    """Return when the next backup is due; None means now.

    A process that is started again and again goes by the newest file, and so does not fill the disk.

    Args:
        latest: When the newest backup was begun; None if there is none.
        failed: When the last attempt failed; None if it did not fail.
        every: The interval.
    """
    due = None if latest is None else latest + every
    if failed is None:
        return due
    again = failed + min(every, _AGAIN)
    return again if due is None else max(due, again)


def parse_interval(text: str) -> timedelta:
    """Read an interval such as `24h`, `30m`, `7d`; a bare number means hours.

    Raises:
        ConfigurationError: It is no such interval, or not between a second and a year.
    """
    found = _INTERVAL.fullmatch(text.strip().lower())
    unit = _UNITS.get(found["unit"]) if found is not None else None
    if found is None or unit is None:
        raise ConfigurationError(
            f"{text!r} is no interval; write 24h, 30m, 90s, 7d, or a bare number of hours such as 24"
        )
    number = float(found["number"])
    seconds = number * unit.total_seconds()
    if not 1 <= seconds <= _LONGEST.total_seconds():
        raise ConfigurationError(f"an interval between backups is one second to a year, not {text!r}")
    return timedelta(seconds=seconds)


def kept_rows(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield the rows that a restore brings back: not those that tell of the one store they were in."""
    return (row for row in rows if not row.kind.local)


def refuse_unrestorable(report: BackupReport, kinds: Iterable[KindSpec]) -> None:
    """Refuse to restore a backup of which something would be lost.

    Args:
        report: What verifying it came to.
        kinds: Those that are registered.

    Raises:
        StoreCorruptError: It does not verify.
        SchemaError: It holds rows of kinds that nobody registered.
    """
    if not report.ok:
        raise StoreCorruptError(
            f"{report.path} does not verify, so nothing was restored: {'; '.join(report.problems)}. Take another "
            "backup; `gateway backup list` names those there are"
        )
    registered = {kind.name for kind in kinds}
    unknown = sorted({*(name for name, rows in report.rows.items() if rows), *report.unchecked} - registered)
    if unknown:
        raise SchemaError(
            f"{report.path} holds rows of {', '.join(unknown)}, which nobody registered here, so they would be lost; "
            "nothing was restored. Install the plugin that brings them, or name the bot's module: "
            "`gateway --import MODULE restore ...`"
        )

"""Copying history from one store to the other, and reporting on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.cli.exits import ExitCode
from gateway.cli.output import print_empty, print_json, print_line, print_next, print_table
from gateway.cli.progress import metered
from gateway.cli.session import Session
from gateway.cli.values import key_text
from gateway.errors import ConfigurationError
from gateway.migration.copy import CopyReport, copy_kind

__all__ = ["Copying", "copy_kinds"]

_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Copying:
    """What was typed.

    Attributes:
        kinds: Names of the kinds; none means all.
        source: Store to read; None means the old one, or the other one than the target.
        target: Store to write; None means the other one than the source.
        dry_run: Whether to write nothing.
        rate: Rows a second at most; None goes as fast as it can.
    """

    kinds: tuple[str, ...]
    source: str | None
    target: str | None
    dry_run: bool
    rate: float | None

    def ends(self, instances: Sequence[str]) -> tuple[str, str]:
        """Return where to read and where to write.

        Raises:
            ConfigurationError: There is one store only, or both ends are the same or unknown.
        """
        if len(instances) != 2:
            raise ConfigurationError(
                "copying needs two stores; name both in STORAGE_BACKENDS, the old one first, "
                "or with --backends OLD,NEW"
            )
        for name in (self.source, self.target):
            if name is not None and name not in instances:
                raise ConfigurationError(
                    f"no store {name!r} is configured; STORAGE_BACKENDS names {', '.join(instances)}"
                )
        old, new = instances
        source = self.source or (new if self.target == old else old)
        target = self.target or (old if source == new else new)
        if source == target:
            raise ConfigurationError(f"--from and --to both name {source!r}; name two stores")
        return source, target


def copy_kinds(session: Session, wanted: Copying, *, as_json: bool) -> ExitCode:
    """Copy, and print what became of the rows.

    Raises:
        ConfigurationError: The ends are not two stores, or a kind is none.
        StoreError: A store cannot be used; what was copied stays, and the copy can be repeated.
    """
    source, target = wanted.ends(session.instances)
    reports = session.run(_copy(session, wanted, source, target))
    failed = [one for one in reports if not one.ok]
    found = {
        "from": source,
        "to": target,
        "dry_run": wanted.dry_run,
        "kinds": [_report(one) for one in reports],
        "ok": not failed,
    }
    if as_json:
        print_json(found)
    else:
        _print_copied(found, reports)
    return ExitCode.PROBLEM if failed else ExitCode.OK


async def _copy(session: Session, wanted: Copying, source: str, target: str) -> list[CopyReport]:
    kinds = session.kinds(wanted.kinds)
    reports = []
    async with session.stores(source, target, writable=() if wanted.dry_run else (target,)) as stores:
        with metered() as meter:
            for kind in kinds:
                report = await copy_kind(
                    stores[source],
                    stores[target],
                    kind,
                    session.tenant,
                    on_page=lambda seen: meter.show(seen.kind, seen.rows, seen.total),
                    dry_run=wanted.dry_run,
                    throttle_rows_per_second=wanted.rate,
                )
                reports.append(report)
    return reports


def _report(one: CopyReport) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "rows": one.rows,
        "written": one.written,
        "superseded": one.superseded,
        "corrupt": one.corrupt_rows,
        "corrupt_keys": [list(key) for key in one.corrupt],
        "seconds": round(one.seconds, 3),
        "skipped": one.skipped,
    }


def _print_copied(found: dict[str, Any], reports: Sequence[CopyReport]) -> None:
    would = "would be " if found["dry_run"] else ""
    print_line(
        f"{found['from']} -> {found['to']}{' (dry run, nothing written)' if found['dry_run'] else ''}", "bold"
    )
    columns = ("kind", "rows", "written", "superseded", "corrupt", "seconds")
    headings = ("kind", "rows", f"{would}written", "newer there", "corrupt", "seconds")
    print_table(headings, [[one[name] for name in columns] for one in found["kinds"] if one["rows"]])
    print_empty(one["kind"] for one in found["kinds"] if not one["rows"] and not one["skipped"])
    for report in reports:
        if report.skipped:
            print_line(f"{report.kind}: {report.skipped}", "yellow")
        for key in report.corrupt[:_SHOWN]:
            print_line(
                f"{report.kind}: {key_text(key)} is damaged and was not copied: "
                "its values do not give its digest",
                "bold red",
            )
        if report.corrupt_rows > _SHOWN:
            print_line(f"{report.kind}: {report.corrupt_rows} damaged rows in all; see --json", "bold red")
    print_next(("the same command without --dry-run",) if found["dry_run"] else ("gateway verify",))

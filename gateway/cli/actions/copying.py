"""Copying history from one store to the other, and reporting on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from gateway.cli.actions.pausing import clear_marks
from gateway.cli.exits import ExitCode
from gateway.cli.output import note, print_empty, print_json, print_line, print_next, print_table
from gateway.cli.progress import metered
from gateway.cli.session import Session
from gateway.cli.values import key_text
from gateway.errors import ConfigurationError, StoreLockedError
from gateway.migration.copy import CopyReport, copy_kind

if TYPE_CHECKING:
    from gateway.records.kind import KindSpec
    from gateway.routing import RoutingPlan

__all__ = ["Copying", "Direction", "copy_command", "copy_kinds", "direction_of"]

_SHOWN: Final = 20

Direction = tuple[str, str]
"""Instance names of the store to read and of the one to write."""


@dataclass(frozen=True, slots=True)
class Copying:
    """What was typed.

    Attributes:
        kinds: Names of the kinds; none means all.
        source: Store to read; None means the other one than the target, or the one that leads the kind.
        target: Store to write; None means the other one than the source.
        dry_run: Whether to write nothing.
        rate: Rows a second at most; None goes as fast as it can.
    """

    kinds: tuple[str, ...]
    source: str | None
    target: str | None
    dry_run: bool
    rate: float | None

    def ends(self, instances: Sequence[str]) -> Direction | None:
        """Return where to read and where to write; None if each kind's leader is to decide.

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
        if self.source is not None and self.source == self.target:
            raise ConfigurationError(f"--from and --to both name {self.source!r}; name two stores")
        if self.source is not None:
            return self.source, _other(instances, self.source)
        return None if self.target is None else (_other(instances, self.target), self.target)


def direction_of(plan: RoutingPlan, kind: KindSpec) -> Direction:
    """Return the store that leads a kind now, and the other one."""
    leader = plan.listing(kind).primary
    return leader, _other(plan.backends, leader)


def copy_command(direction: Direction, kinds: Iterable[str] = ()) -> str:
    """Return what to type to copy in a direction."""
    source, target = direction
    return " ".join(
        (f"gateway copy --from {source} --to {target}", *(f"--kind {name}" for name in dict.fromkeys(kinds)))
    )


def _other(instances: Sequence[str], name: str) -> str:
    return next(one for one in instances if one != name)


def copy_kinds(session: Session, wanted: Copying, *, as_json: bool) -> ExitCode:
    """Copy, and print what became of the rows.

    Raises:
        ConfigurationError: The ends are not two stores, or a kind is none.
        StoreError: A store cannot be used; what was copied stays, and the copy can be repeated.
    """
    ends, plan = wanted.ends(session.instances), session.plan()
    kinds, left_out = session.moving(wanted.kinds)
    ways = {kind: ends or direction_of(plan, kind) for kind in kinds}
    began = datetime.now(UTC)
    reports = session.run(_copy(session, wanted, ways))
    failed = [one for one in reports if not one.ok]
    directions = {kind.name: way for kind, way in ways.items()}
    source, target = ends or (next(iter(ways.values())) if len(set(ways.values())) == 1 else (None, None))
    found = {
        "from": source,
        "to": target,
        "dry_run": wanted.dry_run,
        "kinds": [_report(one, directions[one.kind]) for one in reports],
        "left_out": left_out,
        "ok": not failed,
    }
    whole = not (wanted.dry_run or wanted.kinds or failed)
    marks = (
        session.run(clear_marks(session, set(ways.values()), began))
        if whole and len(set(ways.values())) == 1
        else {}
    )
    if as_json:
        print_json(found)
    else:
        _print_copied(found, reports)
    for mirror, text in marks.items():
        note(f"{mirror}: {text}")
    return ExitCode.PROBLEM if failed else ExitCode.OK


async def _copy(session: Session, wanted: Copying, ways: dict[KindSpec, Direction]) -> list[CopyReport]:
    try:
        return await _copy_ways(session, wanted, ways)
    except StoreLockedError as error:
        raise StoreLockedError(
            f"{error.args[0]}. To copy into it, stop the bot for the time; or let the bot write the key again, "
            "which brings its row over too",
            backend=error.backend,
        ) from error


async def _copy_ways(session: Session, wanted: Copying, ways: dict[KindSpec, Direction]) -> list[CopyReport]:
    """Copy each kind its way; all stores are opened first, so that a locked one is found before anything is written."""
    targets = () if wanted.dry_run else {target for _, target in ways.values()}
    reports = []
    async with session.stores(*session.instances, writable=targets) as stores:
        with metered() as meter:
            for kind, (source, target) in ways.items():
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


def _report(one: CopyReport, direction: Direction) -> dict[str, Any]:
    source, target = direction
    return {
        "kind": one.kind,
        "from": source,
        "to": target,
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
    ways = dict.fromkeys((one["from"], one["to"]) for one in found["kinds"])
    print_line(
        ", ".join(f"{source} -> {target}" for source, target in ways)
        + (" (dry run, nothing written)" if found["dry_run"] else ""),
        "bold",
    )
    columns = ("kind", "from", "to", "rows", "written", "superseded", "corrupt", "seconds")
    headings = ("kind", "from", "to", "rows", f"{would}written", "newer there", "corrupt", "seconds")
    print_table(headings, [[one[name] for name in columns] for one in found["kinds"] if one["rows"]])
    print_empty(one["kind"] for one in found["kinds"] if not one["rows"] and not one["skipped"])
    for sentence in found["left_out"]:
        print_line(sentence, "yellow")
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
    print_next(_commands(found, ways) if found["dry_run"] else ("gateway verify",))


def _commands(found: dict[str, Any], ways: Iterable[Direction]) -> list[str]:
    """Return what copies in earnest, a command for each direction."""
    return [
        copy_command(
            way,
            # Kinds that move along with another are named too, which does no harm.
            [one["kind"] for one in found["kinds"] if (one["from"], one["to"]) == way and one["rows"]],
        )
        for way in ways
    ]

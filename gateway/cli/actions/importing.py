"""Bringing in what an older system kept, along the routes of the moment.

Each row's version is made from when the older system wrote it, so every live write wins, and running an
import again finds the rows already there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gateway.backend import WriteBatch
from gateway.cli.exits import ExitCode
from gateway.cli.output import print_json, print_line, print_next, print_table
from gateway.cli.progress import metered
from gateway.cli.session import Session
from gateway.errors import ConfigurationError, GatewayError
from gateway.legacy import LegacyItem, LegacySource
from gateway.records.kind import KindSpec
from gateway.records.row import Row
from gateway.records.stamp import Stamper
from gateway.routing import Route, RoutingPlan

if TYPE_CHECKING:
    from gateway.dispatch import Store, StoreSet

__all__ = ["import_records"]

_BATCH: Final = 500
_REPORTED: Final = 10_000
_SHOWN: Final = 20

IMPORTED, THERE, SUPERSEDED = "imported", "already_there", "superseded"


@dataclass
class _Report:
    """What an import came to."""

    kinds: dict[str, Counter[str]] = field(default_factory=dict)
    superseded: list[str] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)
    refused_items: int = 0

    def count(self, kind: KindSpec, origin: str, fate: str) -> None:
        self.kinds.setdefault(kind.name, Counter())[fate] += 1
        if fate == SUPERSEDED and len(self.superseded) < _REPORTED:
            self.superseded.append(origin)

    def refuse(self, origin: str, problem: str) -> None:
        self.refused_items += 1
        if len(self.refused) < _REPORTED:
            self.refused.append({"file": origin, "problem": problem})

    def total(self, fate: str) -> int:
        return sum(counted[fate] for counted in self.kinds.values())


def import_records(session: Session, name: str, path: Path, *, dry_run: bool, as_json: bool) -> ExitCode:
    """Import a legacy source and report on every item.

    Raises:
        ConfigurationError: There is no such source.
        InvalidRecordError: There is nothing of the kind under the path.
        StoreError: A store cannot be used; what was imported before stays, and the import can be repeated.
    """
    source = _source(session, name)
    report = _Report()
    items = iter(source.read(path))
    session.run(_Import(session, report, dry_run=dry_run).run(items))
    found = {
        "source": name,
        "path": str(path),
        "dry_run": dry_run,
        **{fate: report.total(fate) for fate in (IMPORTED, THERE, SUPERSEDED)},
        "refused": report.refused_items,
        "kinds": {
            kind: {fate: counted[fate] for fate in (IMPORTED, THERE, SUPERSEDED)}
            for kind, counted in report.kinds.items()
        },
        "superseded_files": report.superseded,
        "refused_files": report.refused,
    }
    if as_json:
        print_json(found)
    else:
        _print_report(found)
    return ExitCode.PROBLEM if report.refused_items else ExitCode.OK


def _source(session: Session, name: str) -> LegacySource:
    sources = session.registry.legacy_sources
    if name not in sources:
        known = ", ".join(sorted(sources)) or "none"
        raise ConfigurationError(
            f"there is no legacy source {name!r}; installed: {known}. A plugin may bring more"
        )
    return sources[name]


class _Import:
    """One run of an import."""

    def __init__(self, session: Session, report: _Report, *, dry_run: bool) -> None:
        self.session = session
        self.report = report
        self.dry_run = dry_run
        self.stamper = Stamper(session.tenant)
        self.plan: RoutingPlan = session.plan()

    async def run(self, items: Iterator[LegacyItem]) -> None:
        names = self.needed()
        done = 0
        async with self.session.stores(*names, writable=() if self.dry_run else names) as stores:
            with metered() as meter:
                while batch := list(islice(items, _BATCH)):
                    await self.take(stores, batch)
                    done += len(batch)
                    meter.show("items", done, done)

    def needed(self) -> tuple[str, ...]:
        """Return the stores that are written now: after the migration the old one may be gone for good."""
        routes = [self.plan.listing(kind) for kind in self.session.registry.kinds]
        return tuple(dict.fromkeys(name for route in routes for name in (route.primary, *route.mirrors)))

    async def take(self, stores: StoreSet, batch: Sequence[LegacyItem]) -> None:
        """Store one batch, each row along its own way."""
        ways: dict[tuple[Route, KindSpec], list[tuple[str, Row]]] = {}
        for origin, row in self.rows(batch):
            route = self.plan.route(row.kind, row.tenant, row.key)
            ways.setdefault((route, row.kind), []).append((origin, row))
        for (route, kind), rows in ways.items():
            await self.store(stores, route, kind, rows)

    def rows(self, batch: Iterable[LegacyItem]) -> Iterator[tuple[str, Row]]:
        """Yield the rows of what can be imported; the rest is reported."""
        for item in batch:
            problem = item.problem or (
                "has no time, so it cannot be told whether newer data exists" if item.at is None else None
            )
            if problem is not None or item.record is None:
                self.report.refuse(item.origin, problem or "holds no record")
                continue
            try:
                kind = self.session.registry.kinds.of(type(item.record))
                yield item.origin, self.stamper.stamp(kind, item.record, at=item.at)
            except GatewayError as error:
                self.report.refuse(item.origin, str(error))

    async def store(
        self, stores: StoreSet, route: Route, kind: KindSpec, rows: Sequence[tuple[str, Row]]
    ) -> None:
        """Write rows of one kind and one route, and count what became of each."""
        primary = stores[route.primary]
        held = await primary.get(kind, self.session.tenant, [row.key for _, row in rows])
        lost = await self.write(primary, rows)
        if not self.dry_run:
            for name in route.mirrors:
                await self.write(stores[name], rows)
        for at, ((origin, row), there) in enumerate(zip(rows, held, strict=True)):
            self.report.count(kind, origin, _fate(row, there, lost=at in lost))

    async def write(self, store: Store, rows: Sequence[tuple[str, Row]]) -> frozenset[int]:
        """Write rows under the version guard; return which lost against newer ones."""
        if self.dry_run:
            return frozenset()
        receipt = await store.write(WriteBatch(tuple(row for _, row in rows)))
        return frozenset(receipt.superseded)


def _fate(row: Row, held: Row | None, *, lost: bool) -> str:
    if held is not None and held.stamp == row.stamp:
        return THERE
    return SUPERSEDED if lost or (held is not None and held.stamp > row.stamp) else IMPORTED


def _print_report(found: dict[str, Any]) -> None:
    would = "would be " if found["dry_run"] else ""
    columns = (IMPORTED, THERE, SUPERSEDED)
    headings = (f"{would}imported", "already there", f"{would}superseded by newer data")
    print_table(
        ("kind", *headings),
        [(kind, *(counted[one] for one in columns)) for kind, counted in found["kinds"].items()],
    )
    if found["refused"]:
        print_line("")
        print_line(f"{found['refused']} refused:", "bold red")
        print_table(
            ("file", "why"), [(one["file"], one["problem"]) for one in found["refused_files"][:_SHOWN]]
        )
        if found["refused"] > _SHOWN:
            print_line(f"... and {found['refused'] - _SHOWN} more; see --json")
    for origin in found["superseded_files"][:_SHOWN]:
        print_line(f"newer data exists, so it stays: {origin}")
    print_next(() if not found["dry_run"] else ("the same command without --dry-run",))

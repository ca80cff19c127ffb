"""Verification: do two stores hold the same rows of a kind, and if not, which keys differ and why.

Digests are compared first, for the whole kind and then for stretches of it; rows are read only where they
differ. Bots may go on writing meanwhile: a key that differs is looked at again until it is clear that time
does not explain it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from gateway.backend import RangeDigest
from gateway.compare import Outcome, Reason, RowComparison, caught_up, compare_rows
from gateway.migration.integrity import DamagedRow, check_integrity, pages, patiently, place_of
from gateway.query import Query, ReadRange, in_range
from gateway.records.kind import KindSpec, Shape
from gateway.records.row import Key, Row

if TYPE_CHECKING:
    from gateway.dispatch import Store

__all__ = ["KeyDifference", "VerifyProgress", "VerifyReport", "verify_kind"]

MAX_DIFFERENCES: Final = 10_000
_DELAYS: Final = (0.05, 0.2, 0.5)
_SETTLE: Final = 1_000
_KEYS: Final = 500
_MODULUS: Final = 2**64


@dataclass(frozen=True, slots=True)
class KeyDifference:
    """One key that two stores do not hold alike.

    Attributes:
        key: The key, fit to be shown.
        reason: Why.
        left_version: Version on the left, None where there is no row.
        right_version: Version on the right, None where there is no row.
        fields: Names of the fields that differ, where both have a live row.
    """

    key: Key
    reason: Reason
    left_version: int | None
    right_version: int | None
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VerifyProgress:
    """How far a verification has come.

    Attributes:
        kind: Name of the kind.
        rows: Rows covered so far.
        total: Rows to cover; tombstones included, both stores for the deep part.
        differing: Keys found to differ so far.
    """

    kind: str
    rows: int
    total: int
    differing: int


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What verifying one kind came to.

    Attributes:
        kind: Name of the kind.
        left: Instance name of the store on the left.
        right: Instance name of the store on the right.
        rows_left: Rows on the left when it began, tombstones included.
        rows_right: The same on the right.
        differing: The keys that differ, 10,000 of them at most.
        more: Keys that differ beyond those; these were looked at once only.
        ranges: Stretches whose digests were compared.
        digests_equal: Whether the digests of the whole kind were equal in the last look. They may differ
            though no key does: while bots are writing, and where the kind's rules ignore or tolerate a
            difference.
        seconds: How long it took.
        deep: Whether every row was checked against its own digest, in both stores.
        skipped: Why the kind was not verified; None if it was.
    """

    kind: str
    left: str
    right: str
    rows_left: int = 0
    rows_right: int = 0
    differing: tuple[KeyDifference, ...] = ()
    more: int = 0
    ranges: int = 0
    digests_equal: bool = True
    seconds: float = 0.0
    deep: bool = False
    skipped: str | None = None

    @property
    def ok(self) -> bool:
        """Whether no key differs."""
        return not self.differing


async def verify_kind(
    left: Store,
    right: Store,
    kind: KindSpec,
    tenant: str,
    *,
    deep: bool = False,
    chunk: int = 5_000,
    rechecks: int = 3,
    on_progress: Callable[[VerifyProgress], None] | None = None,
) -> VerifyReport:
    """Compare a kind in two stores, and name the keys that differ.

    Memory stays bounded: two pages, the keys waiting for another look, and the differences reported.

    Args:
        left: One store; the one that leads.
        right: The other.
        kind: The kind; its comparison rules apply.
        tenant: Whose rows.
        deep: Check every row against its own digest too, in both stores. Reads everything.
        chunk: Rows of a stretch.
        rechecks: Further looks at a key that differs, within about a second, before it is reported.
        on_progress: Called after each stretch.

    Raises:
        StoreError: A store cannot answer, after some patience.
    """
    if kind.shape is Shape.QUEUE:
        reason = "a queue lives in one store only; there is nothing to compare"
        return VerifyReport(kind.name, left.name, right.name, skipped=reason)
    return await _Verification(left, right, kind, tenant, chunk, rechecks, on_progress).run(deep=deep)


class _Verification:
    """One run of `verify_kind`: what it knows so far."""

    def __init__(
        self,
        left: Store,
        right: Store,
        kind: KindSpec,
        tenant: str,
        chunk: int,
        rechecks: int,
        on_progress: Callable[[VerifyProgress], None] | None,
    ) -> None:
        self.left, self.right = left, right
        self.kind, self.tenant = kind, tenant
        self.chunk = chunk
        # More looks than there are delays keep the longest one.
        self.delays = [*_DELAYS, *[_DELAYS[-1]] * rechecks][:rechecks]
        self.on_progress = on_progress
        self.suspects: dict[Key, RowComparison] = {}
        self.differing: dict[Key, KeyDifference] = {}
        self.more = self.ranges = self.rows = self.total = 0

    async def run(self, *, deep: bool) -> VerifyReport:
        started = time.monotonic()
        mine, theirs = await self.digests()
        self.total = max(mine.rows, theirs.rows) + (mine.rows + theirs.rows if deep else 0)
        self.ranges = 1
        equal = mine == theirs
        if not equal:
            await self.walk()
            await self.settle()
            ours = await self.digests()
            equal = ours[0] == ours[1]
        else:
            self.advance(mine.rows)
        if deep:
            await self.deepen()
        return VerifyReport(
            kind=self.kind.name,
            left=self.left.name,
            right=self.right.name,
            rows_left=mine.rows,
            rows_right=theirs.rows,
            differing=tuple(self.differing.values()),
            more=self.more,
            ranges=self.ranges,
            digests_equal=equal,
            seconds=time.monotonic() - started,
            deep=deep,
        )

    async def digests(self) -> tuple[RangeDigest, RangeDigest]:
        """Return the digests of the whole kind, taken at nearly the same moment."""
        whole = ReadRange(self.kind, self.tenant)
        mine, theirs = await asyncio.gather(
            patiently(partial(self.left.digest, whole)), patiently(partial(self.right.digest, whole))
        )
        return mine, theirs

    def advance(self, rows: int) -> None:
        self.rows += rows
        if self.on_progress is not None:
            found = len(self.differing) + self.more
            self.on_progress(VerifyProgress(self.kind.name, self.rows, max(self.total, self.rows), found))

    async def walk(self) -> None:
        """Compare stretch by stretch, divided as the left store's pages are; the last one has no end."""
        after: Key | None = None
        while True:
            query = Query(self.kind, self.tenant, limit=self.chunk, after=after, include_deleted=True)
            rows = await patiently(partial(self.left.query, query))
            last = len(rows) < self.chunk
            upto = None if last else place_of(self.left, rows[-1], after)
            await self.stretch(rows, ReadRange(self.kind, self.tenant, after, upto))
            self.advance(len(rows))
            if last:
                return
            after = upto

    async def stretch(self, rows: Sequence[Row], span: ReadRange) -> None:
        """Compare one stretch by digest, and row by row if that differs."""
        self.ranges += 1
        mine = RangeDigest(len(rows), sum(row.digest for row in rows) % _MODULUS)
        theirs = await patiently(partial(self.right.digest, span))
        if mine != theirs:
            await self.list_stretch(rows, span)
        if len(self.suspects) >= _SETTLE:
            await self.settle()

    async def list_stretch(self, rows: Sequence[Row], span: ReadRange) -> None:
        """Compare one stretch row by row."""
        mine = {row.key: row for row in rows}
        async for page in pages(self.right, self.kind, self.tenant, size=self.chunk, after=span.after):
            inside = [row for row in page if in_range(span, row)]
            self.suspect(compare_rows(self.kind, mine.pop(row.key, None), row) for row in inside)
            if len(inside) < len(page):
                break
        self.suspect(compare_rows(self.kind, row, None) for row in mine.values())

    def suspect(self, found: Iterable[RowComparison]) -> None:
        """Keep what differs for another look; beyond what can be reported, only count."""
        for one in found:
            if one.outcome is Outcome.MATCH or one.key in self.differing:
                continue
            if len(self.suspects) + len(self.differing) < MAX_DIFFERENCES or one.key in self.suspects:
                self.suspects[one.key] = one
            else:
                self.more += 1

    async def settle(self) -> None:
        """Look again at what differs, by key and in both stores, until patience ends; report what is left."""
        for delay in self.delays:
            if not self.suspects:
                return
            await asyncio.sleep(delay)
            self.suspects = await self.look_again()
        self.differing.update({key: _difference(one) for key, one in self.suspects.items()})
        self.suspects = {}

    async def look_again(self) -> dict[Key, RowComparison]:
        """Return the suspects that still differ, as they are now."""
        keys, left = list(self.suspects), {}
        for start in range(0, len(keys), _KEYS):
            part = keys[start : start + _KEYS]
            # The right store first: what leads is then never older than what it is compared with.
            theirs = await self.rows_of(self.right, part)
            mine = await self.rows_of(self.left, part)
            for key, ours, other in zip(part, mine, theirs, strict=True):
                found = compare_rows(self.kind, ours, other)
                if not caught_up(self.suspects[key], found):
                    left[key] = found
        return left

    async def rows_of(self, store: Store, keys: Sequence[Key]) -> Sequence[Row | None]:
        return await patiently(partial(store.get, self.kind, self.tenant, keys))

    async def deepen(self) -> None:
        """Check every row of both stores against its own digest."""
        sides = ((self.left, Reason.DAMAGED_LEFT), (self.right, Reason.DAMAGED_RIGHT))
        for store, reason in sides:
            base = self.rows
            report = await check_integrity(
                store, self.kind, self.tenant, page=self.chunk, on_page=partial(self.reach, base)
            )
            self.more += report.more
            for row in report.damaged:
                self.note(row, reason)

    def reach(self, base: int, rows: int) -> None:
        """Advance to so many rows of a pass that began at `base`."""
        self.advance(base + rows - self.rows)

    def note(self, row: DamagedRow, reason: Reason) -> None:
        """Report a damaged row, unless the comparison found it already."""
        if row.key in self.differing:
            return
        if len(self.differing) >= MAX_DIFFERENCES:
            self.more += 1
            return
        versions = (row.version, None) if reason is Reason.DAMAGED_LEFT else (None, row.version)
        self.differing[row.key] = KeyDifference(row.shown_key, reason, *versions)


def _difference(found: RowComparison) -> KeyDifference:
    reason = found.reason or Reason.CONTENT
    return KeyDifference(found.shown_key, reason, found.left_version, found.right_version, found.fields)

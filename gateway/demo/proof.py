"""The proof: `python -m gateway.demo.proof DIR`.

Reads stores that a bot wrote, from a process that never wrote to them, and holds them against what the bot
noted as acknowledged. It can fail: remove a row by hand and run it again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final, cast

from gateway.backend import Summarize
from gateway.config import load_configuration, open_context
from gateway.demo.acks import Acknowledged, read_acks
from gateway.demo.status import Files
from gateway.dispatch import Store, StoreSet
from gateway.errors import GatewayError
from gateway.migration.integrity import pages
from gateway.migration.verify import VerifyReport, verify_kind
from gateway.query import Condition, Op, Query
from gateway.records import DAILY_STATS, OPERATIONS, POSITIONS, DailyStats, KindSpec, Position
from gateway.records.registry import KindRegistry
from gateway.records.row import Row
from gateway.registry import PluginRegistry, discover

__all__ = [
    "AckProof",
    "Evidence",
    "TotalsProof",
    "prove_acknowledged",
    "prove_agreement",
    "prove_imported",
    "prove_totals",
    "reading",
]

_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Evidence:
    """Stores opened for reading.

    Attributes:
        registry: What is installed.
        stores: In the order of `STORAGE_BACKENDS`.
        tenant: Whose rows are read.
    """

    registry: PluginRegistry
    stores: tuple[Store, ...]
    tenant: str

    @property
    def kinds(self) -> KindRegistry:
        """Every record kind."""
        return self.registry.kinds


@dataclass(frozen=True, slots=True)
class AckProof:
    """Whether a store holds what was acknowledged.

    Attributes:
        store: Instance name of the store.
        acknowledged: Writes in the acknowledgement log.
        lost: How many of them the store does not hold, or holds in an older version.
        examples: The first of those.
    """

    store: str
    acknowledged: int
    lost: int = 0
    examples: tuple[str, ...] = ()

    @property
    def found(self) -> int:
        """Acknowledged writes that are there."""
        return self.acknowledged - self.lost

    @property
    def ok(self) -> bool:
        """Whether nothing is lost, and there was something to lose."""
        return self.lost == 0 and self.acknowledged > 0


@dataclass(frozen=True, slots=True)
class TotalsProof:
    """Whether every operation was counted exactly once.

    Attributes:
        store: Instance name of the store.
        counted: Trades that the daily totals add up to.
        operations: Operations noted as applied.
        pnl: Profit that the totals add up to, in the quote currency.
    """

    store: str
    counted: int
    operations: int
    pnl: Decimal

    @property
    def ok(self) -> bool:
        """Whether the totals count each operation once."""
        return self.counted == self.operations


@asynccontextmanager
async def reading(environ: Mapping[str, str]) -> AsyncIterator[Evidence]:
    """Open the stores that an environment names, for reading only.

    Raises:
        ConfigurationError: The environment names no usable stores.
        StoreError: A store cannot be read.
    """
    registry = discover()
    configuration = load_configuration(registry, environ=environ, env_file=None)
    stores = StoreSet(registry.manager, configuration.settings.timeout)
    try:
        for store in configuration.stores:
            await stores.open(
                store.spec, open_context(configuration, store, tuple(registry.kinds), read_only=True)
            )
        yield Evidence(registry, stores.stores, configuration.settings.tenant)
    finally:
        await stores.close()


async def prove_acknowledged(evidence: Evidence, store: Store, log: Path) -> AckProof:
    """Look up every acknowledged write in a store: is it there, in that version or a newer one?

    Args:
        evidence: Kinds and tenant.
        store: Where to look.
        log: The acknowledgement log.

    Raises:
        InvalidRecordError: There is no such log, or it is damaged.
        StoreError: The store cannot answer.
    """
    total = lost = 0
    examples: list[str] = []
    for acks in read_acks(log):
        total += len(acks)
        async for ack in _missing(evidence, store, acks):
            lost += 1
            examples += [ack.label] if len(examples) < _SHOWN else []
    return AckProof(store.name, total, lost, tuple(examples))


async def _missing(
    evidence: Evidence, store: Store, acks: Sequence[Acknowledged]
) -> AsyncIterator[Acknowledged]:
    by_kind: dict[str, list[Acknowledged]] = {}
    for ack in acks:
        by_kind.setdefault(ack.kind, []).append(ack)
    for name, own in by_kind.items():
        kind = evidence.kinds.get(name)
        for ack, row in zip(own, await _rows(evidence, store, kind, own), strict=True):
            if row is None or not _holds(row, ack):
                yield ack


async def _rows(
    evidence: Evidence, store: Store, kind: KindSpec, acks: Sequence[Acknowledged]
) -> Sequence[Row | None]:
    if all(ack.key for ack in acks):
        return await store.get(kind, evidence.tenant, [ack.key for ack in acks])
    found = []
    for ack in acks:
        where = tuple(Condition(name, Op.EQ, value) for name, value in ack.where.items())
        rows = await store.query(Query(kind, evidence.tenant, where, limit=1))
        found.append(rows[0] if rows else None)
    return found


def _holds(row: Row, ack: Acknowledged) -> bool:
    """Tell whether a row is what was acknowledged, or came after it."""
    reached = all(
        cast("int", row.values[row.kind.index(name)]) >= value for name, value in ack.at_least.items()
    )
    return not row.deleted and row.version >= ack.version and row.intact and reached


async def prove_agreement(
    evidence: Evidence, left: Store, right: Store, *, deep: bool = False, rechecks: int = 3
) -> tuple[VerifyReport, ...]:
    """Compare two stores by digests, kind by kind.

    Args:
        evidence: Kinds and tenant.
        left: The old store.
        right: The new one.
        deep: Check every row against its own digest too.
        rechecks: Further looks at what differs; 0 where nothing is written meanwhile.

    Raises:
        StoreError: A store cannot answer.
    """
    return tuple(
        [
            await verify_kind(left, right, kind, evidence.tenant, deep=deep, rechecks=rechecks)
            for kind in evidence.kinds
        ]
    )


async def prove_imported(evidence: Evidence, store: Store, legacy: Path) -> int:
    """Return how many positions of a legacy directory a store holds exactly as they are there.

    Raises:
        InvalidRecordError: There is no such directory.
        StoreError: The store cannot answer.
    """
    source = evidence.registry.legacy_sources["positions"]
    records = [item.record for item in source.read(legacy) if isinstance(item.record, Position)]
    rows = await store.get(POSITIONS, evidence.tenant, [(record.condition_id,) for record in records])
    return sum(row is not None and row.record() == record for record, row in zip(records, rows, strict=True))


async def prove_totals(evidence: Evidence, store: Store) -> TotalsProof:
    """Add up the daily totals of a store and count the operations they came from.

    Raises:
        StoreError: The store cannot answer.
    """
    days = [
        row.record()
        async for page in pages(store, DAILY_STATS, evidence.tenant)
        for row in page
        if not row.deleted
    ]
    totals = [day for day in days if isinstance(day, DailyStats)]
    noted = await store.summarize(Summarize(OPERATIONS, evidence.tenant))
    return TotalsProof(
        store.name,
        counted=sum(day.total_trades for day in totals),
        operations=sum(group.rows for group in noted),
        pnl=sum((day.current_pnl for day in totals), Decimal(0)),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Prove that the new store lost nothing; return 0 if so, 1 if not, 2 if it cannot be told."""
    parser = argparse.ArgumentParser(
        prog="python -m gateway.demo.proof", description="Look up every write that was acknowledged."
    )
    parser.add_argument(
        "work", type=Path, help="directory of a kept demo; its stores come from the environment"
    )
    given = parser.parse_args(argv)
    try:
        return asyncio.run(_prove(Files(given.work)))
    except GatewayError as error:
        sys.stderr.write(f"{error}\n")
        return 2


async def _prove(files: Files) -> int:
    """Check the last store named, which is the new one of a pair."""
    async with reading(os.environ) as evidence:
        store = evidence.stores[-1]
        proof = await prove_acknowledged(evidence, store, files.acks)
        totals = await prove_totals(evidence, store)
    sys.stdout.write(
        f"{proof.store}: {proof.acknowledged} acknowledged, {proof.found} found, {proof.lost} lost\n"
    )
    sys.stdout.writelines(f"lost: {name}\n" for name in proof.examples)
    sys.stdout.write(
        f"{totals.store}: {totals.counted} trades counted, {totals.operations} operations applied\n"
    )
    return 0 if proof.ok and totals.ok else 1


if __name__ == "__main__":
    raise SystemExit(main())

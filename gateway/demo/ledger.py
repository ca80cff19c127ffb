"""What the demo has seen and proved so far; the summary is made from it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.compare import Outcome
from gateway.demo.proof import AckProof, TotalsProof
from gateway.demo.status import BotStatus
from gateway.migration.verify import VerifyReport

__all__ = ["Ledger"]

OUTCOMES: Final = tuple(outcome.value for outcome in Outcome)


@dataclass
class Ledger:
    """Facts and proofs, in the order they came.

    Attributes:
        acks: Proofs that acknowledged writes are there, by the moment they were made.
        agreement: The exact comparison of both stores, made while the market was closed.
        totals: Proof that each operation was counted once.
        latency: Median time of a write in milliseconds, by the stores that were written.
        comparisons: Shadow reads of the whole run, by outcome.
        imported: Legacy positions brought in.
        recovered: Positions that the restarted bot found open.
        ticks: Ticks worked through.
        rows: Live rows of the new store at the end, by kind.
        started: When the demo began, by the monotonic clock.
    """

    acks: list[tuple[str, AckProof]] = field(default_factory=list)
    agreement: tuple[VerifyReport, ...] = ()
    totals: TotalsProof | None = None
    latency: dict[str, float] = field(default_factory=dict)
    comparisons: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    imported: int = 0
    recovered: int = 0
    ticks: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Time since it began."""
        return time.monotonic() - self.started

    @property
    def lost(self) -> int:
        """Acknowledged writes that some proof did not find."""
        return sum(proof.lost for _, proof in self.acks)

    def note_comparisons(self, status: BotStatus) -> None:
        """Take over the counters of the process that trades; the one that was killed compared nothing."""
        self.comparisons = {name: status.counters.get(f"shadow_{name}", 0) for name in OUTCOMES}

    def proof_rows(self) -> list[Sequence[object]]:
        """Return the proofs as a table: moment, store, acknowledged, found, lost."""
        return [(moment, one.store, one.acknowledged, one.found, one.lost) for moment, one in self.acks]

    def kind_rows(self) -> list[Sequence[object]]:
        """Return the kinds as a table: rows in both stores, whether digests agree, rows at the end."""
        return [
            (
                one.kind,
                one.rows_left,
                one.rows_right,
                _word(one.digests_equal and one.ok),
                self.rows.get(one.kind, 0),
            )
            for one in self.agreement
            if one.rows_left or one.rows_right
        ]

    def fact_rows(self) -> list[Sequence[object]]:
        """Return what else is worth knowing, as a table of two columns."""
        compared = ", ".join(f"{self.comparisons[name]:,} {name}" for name in OUTCOMES[:3])
        written = ", ".join(f"{name} {value:.1f}" for name, value in self.latency.items())
        facts: list[Sequence[object]] = [
            ("ticks traded", self.ticks),
            ("positions imported", self.imported),
            ("recovered after kill -9", self.recovered),
            ("shadow reads", compared),
            ("median write, ms", written),
        ]
        if self.totals is not None:
            facts.append(("trades counted, operations", f"{self.totals.counted}, {self.totals.operations}"))
        return [*facts, ("seconds", f"{self.seconds:.1f}")]

    def as_json(self) -> dict[str, Any]:
        """Return all of it, JSON-ready."""
        return {
            "lost": self.lost,
            "proofs": [
                {
                    "moment": moment,
                    "store": one.store,
                    "acknowledged": one.acknowledged,
                    "found": one.found,
                    "lost": one.lost,
                }
                for moment, one in self.acks
            ],
            "kinds": {
                one.kind: {
                    one.left: one.rows_left,
                    one.right: one.rows_right,
                    "digests_equal": one.digests_equal and one.ok,
                    "at_the_end": self.rows.get(one.kind, 0),
                }
                for one in self.agreement
            },
            "comparisons": self.comparisons,
            "write_p50_ms": {name: round(value, 3) for name, value in self.latency.items()},
            "imported": self.imported,
            "recovered": self.recovered,
            "ticks": self.ticks,
            "seconds": round(self.seconds, 1),
        }


def differing(reports: Iterable[VerifyReport]) -> list[str]:
    """Return the keys in which two stores differ, and why, for people."""
    found = []
    for report in reports:
        found += [
            f"{report.kind} {' '.join(map(str, one.key))}: {one.reason.value}" for one in report.differing
        ]
    return found


def _word(value: bool) -> str:
    return "equal" if value else "DIFFER"

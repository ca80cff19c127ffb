"""The story of the demo, step by step: a live bot moves from JSON files to SQLite, back, and there again."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from gateway.backend import Summarize
from gateway.demo.ledger import differing
from gateway.demo.proof import Evidence, prove_agreement, prove_imported, prove_totals
from gateway.demo.stage import Stage
from gateway.migration.verify import VerifyReport
from gateway.query import Condition, Op, Query
from gateway.records import POSITIONS
from gateway.records.digest import share_of

__all__ = ["tell"]

_SHARE: Final = 25
"""Percent of the positions that move first."""

_KINDS: Final = 9
"""Kinds that the bot writes; fewer in a comparison would mean that it compared nothing."""


def tell(stage: Stage, legacy: Path) -> None:
    """Play the whole story.

    Args:
        stage: Where.
        legacy: Directory of position files that an older bot left.

    Raises:
        DemoError: A process or a proof failed.
    """
    _begin(stage, legacy)
    _write_both(stage)
    _copy_history(stage)
    _crash(stage)
    _compare_reads(stage)
    _cut_over(stage)
    _roll_back(stage)
    _cut_over_again(stage)
    _prove_agreement(stage, legacy)
    _complete(stage)
    _end(stage)


def _begin(stage: Stage, legacy: Path) -> None:
    stage.narrator.step(
        "An older bot left its positions as JSON files", "They come in with the times they were written."
    )
    (report,) = stage.command(("import", "positions", str(legacy)))
    stage.ledger.imported = report["imported"]
    stage.require(
        report["imported"] > 0, f"{report['imported']} positions imported, {report['refused']} refused"
    )
    stage.narrator.step(
        "A paper-trading bot runs on JSON files", "SQLite is named in STORAGE_BACKENDS, and not used yet."
    )
    stage.narrator.command("STORAGE_BACKENDS=json,sqlite STORAGE_PHASE=legacy python -m gateway.demo.bot")
    status = stage.bot.start()
    stage.narrator.done(f"process {status.pid} trades; it found {status.found_open} open positions")
    stage.measure("json")


def _write_both(stage: Stage) -> None:
    stage.narrator.step(
        "Dual write: every write goes to both stores", "JSON leads and is read; SQLite follows."
    )
    stage.set_phase("dual_write", "begin the move to SQLite")
    stage.trade()


def _copy_history(stage: Stage) -> None:
    stage.narrator.step(
        "Copy what was written before, while the bot trades", "Versions keep history from overwriting news."
    )
    _copy(stage)
    _verify(stage)
    stage.measure("json + sqlite")


def _copy(stage: Stage) -> None:
    (report,) = stage.command(("copy",))
    rows = sum(kind["rows"] for kind in report["kinds"])
    damaged = sum(kind["corrupt"] for kind in report["kinds"])
    stage.require(
        report["ok"], f"{rows:,} rows copied from {report['from']} to {report['to']}, {damaged} damaged"
    )


def _verify(stage: Stage) -> None:
    (report,) = stage.command(("verify",))
    kinds: list[dict[str, Any]] = [kind for kind in report["kinds"] if any(kind["rows"].values())]
    differ = sum(kind["differing"] for kind in kinds)
    stage.require(report["ok"], f"{len(kinds)} kinds compared by digests, {differ} keys differ")


def _crash(stage: Stage) -> None:
    stage.narrator.step("kill -9 in the middle of a write", "No warning, no flush, no goodbye.")
    stage.bot.wait_for(lambda status: len(status.open) > 1, "open a position")
    stage.narrator.command(f"kill -9 {stage.bot.pid}")
    stage.bot.kill()
    stage.prove_nothing_lost("after kill -9", "json")
    stage.narrator.note(_half_way(len(differing(stage.look(_first_look)))))
    _drain(stage)
    stage.prove_nothing_lost("after kill -9", "sqlite")
    _restart(stage)
    _verify(stage)
    stage.trade()


def _half_way(writes: int) -> str:
    if not writes:
        return "nothing stands half-way this time: what was under way is in both stores, or in none"
    return (
        f"newer in JSON than in SQLite: {writes}; the bot died between the two, and the journal knows of it"
    )


def _drain(stage: Stage) -> None:
    """Let the mirror get whatever it has yet to get; the bot does it while it runs, and the command otherwise."""
    (report,) = stage.command(("mirror", "drain"))
    left = sum(mirror["left"] for mirror in report["mirrors"])
    stage.require(report["ok"], f"{left} changes of the journal have yet to reach the other store")


def _restart(stage: Stage) -> None:
    """Start the bot again, and compare what it recovered with what the leading store holds.

    The store is read once the bot has opened it: opening completes steps that the kill cut short after they had been
    written down. The market stays closed until then, so that the bot changes nothing meanwhile.
    """
    stage.narrator.command("python -m gateway.demo.bot")
    stage.files.closing_bell.touch()
    stage.bot.start()
    stage.close_market()
    status, held = stage.bot.status, stage.look(_open_positions)
    own = len(status.recovered)
    stage.require(
        held == (status.found_open, status.recovered) and own > 0,
        f"process {status.pid} recovered its {own} open positions, {status.found_open} with those imported",
        f"stored: {held}, recovered: {status.found_open, status.recovered}",
    )
    stage.ledger.recovered = own
    stage.open_market()


async def _open_positions(evidence: Evidence) -> tuple[int, tuple[str, ...]]:
    """Return how many positions the leading store holds open, and which of them are the bot's own."""
    where = (Condition("is_open", Op.EQ, True),)
    rows = await evidence.stores[0].query(Query(POSITIONS, evidence.tenant, where, limit=10_000))
    own = sorted(str(row.key[0]) for row in rows if "-trend-" in str(row.key[0]))
    return len(rows), tuple(own)


async def _first_look(evidence: Evidence) -> tuple[VerifyReport, ...]:
    old, new = evidence.stores
    return await prove_agreement(evidence, old, new, rechecks=0)


def _compare_reads(stage: Stage) -> None:
    stage.narrator.step(
        "Shadow reads: each read is repeated on SQLite and compared", "The bot never waits for it."
    )
    stage.set_phase("shadow_read", "history is copied and verified")
    stage.trade()
    _wait_for_comparisons(stage)


def _wait_for_comparisons(stage: Stage) -> None:
    seen = stage.ledger.comparisons["match"]
    status = stage.bot.wait_for(lambda now: now.counters.get("shadow_match", 0) > seen + 5, "compare reads")
    stage.ledger.note_comparisons(status)
    found = stage.ledger.comparisons
    stage.require(
        found["diverged"] == found["failed"] == 0,
        f"{found['match']} reads match, {found['lagging']} lagged for a moment, {found['diverged']} diverged",
    )


def _cut_over(stage: Stage) -> None:
    stage.narrator.step(
        "Cutover, carefully: SQLite leads for a quarter of the positions", "JSON is kept in step."
    )
    stage.set_phase(
        "shadow_read",
        "a quarter of the positions first",
        "--kind",
        "positions",
        "--share",
        f"{_SHARE}%",
        label="positions 25%",
    )
    led, total = stage.look(_led_by_new)
    stage.require(0 < led < total, f"SQLite leads for {led} of {total} positions; each stays where it is put")
    stage.trade()
    stage.narrator.step("Cutover: SQLite leads and is read, for everything", "JSON still gets every write.")
    stage.set_phase("cutover", "no difference seen")
    stage.trade()
    _wait_for_comparisons(stage)


def _roll_back(stage: Stage) -> None:
    stage.narrator.step(
        "Second thoughts: roll back to JSON", "A step back is a flag, not a restore: JSON never fell behind."
    )
    stage.set_phase("shadow_read", "the operator has doubts", label="rolled back")
    stage.trade()


def _cut_over_again(stage: Stage) -> None:
    stage.narrator.step("The doubts were unfounded: cutover again")
    stage.set_phase("cutover", "the doubts were unfounded")
    stage.trade()


def _prove_agreement(stage: Stage, legacy: Path) -> None:
    stage.narrator.step(
        "The market closes for a moment, so both stores can be compared to the last bit",
        "Read by this process, which never wrote to them.",
    )
    stage.close_market()
    _drain(stage)
    stage.prove_nothing_lost("before complete", "json", "sqlite")
    stage.ledger.agreement = stage.look(_agreement)
    kinds = [one for one in stage.ledger.agreement if one.rows_left or one.rows_right]
    rows = sum(one.rows_right for one in kinds)
    stage.require(
        len(kinds) >= _KINDS and all(one.ok and one.digests_equal for one in kinds),
        f"json and sqlite agree: {len(kinds)} kinds, {rows:,} rows, digests equal, every row intact",
        "; ".join(differing(kinds)[:5]),
    )
    intact = stage.look(lambda evidence: prove_imported(evidence, evidence.stores[-1], legacy))
    stage.require(
        intact == stage.ledger.imported,
        f"{intact} of {stage.ledger.imported} imported positions are in sqlite as they were",
    )


async def _led_by_new(evidence: Evidence) -> tuple[int, int]:
    """Return how many positions the new store leads for, and how many there are."""
    rows = await evidence.stores[0].query(Query(POSITIONS, evidence.tenant, limit=10_000))
    led = [row for row in rows if share_of(POSITIONS.name, evidence.tenant, row.key) < _SHARE]
    return len(led), len(rows)


async def _agreement(evidence: Evidence) -> tuple[VerifyReport, ...]:
    old, new = evidence.stores
    return await prove_agreement(evidence, old, new, deep=True)


def _complete(stage: Stage) -> None:
    stage.narrator.step(
        "Complete: SQLite alone", "From here there is no way back; the JSON files stay as they are."
    )
    stage.set_phase("complete", "both stores agree")
    stage.open_market()
    stage.measure("sqlite")


def _end(stage: Stage) -> None:
    stage.narrator.step("The bot stops, and the books are checked")
    stage.bot.stop()
    status = stage.bot.status
    stage.ledger.note_comparisons(status)
    stage.ledger.ticks = status.tick + 1
    stage.prove_nothing_lost("at the end", "sqlite")
    totals = stage.ledger.totals = stage.look(lambda evidence: prove_totals(evidence, evidence.stores[-1]))
    stage.require(
        totals.ok,
        f"daily totals count {totals.counted} closed trades for {totals.operations} operations: none twice",
    )
    stage.ledger.rows = stage.look(_live_rows)


async def _live_rows(evidence: Evidence) -> dict[str, int]:
    store = evidence.stores[-1]
    return {
        kind.name: sum(group.rows for group in await store.summarize(Summarize(kind, evidence.tenant)))
        for kind in evidence.kinds
    }

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.demo.acks import AckLog
from gateway.demo.legacy_files import write_legacy_positions
from gateway.demo.proof import (
    AckProof,
    TotalsProof,
    prove_acknowledged,
    prove_agreement,
    prove_imported,
    prove_totals,
    reading,
)
from gateway.demo.status import Files


def tamper(files: Files, statement: str) -> None:
    """Change the SQLite file behind everybody's back."""
    connection = sqlite3.connect(files.storage / "gateway.db")
    with connection:
        assert connection.execute(statement).rowcount > 0
    connection.close()


async def acknowledged(files: Files, environ: Mapping[str, str]) -> dict[str, AckProof]:
    """Prove what was acknowledged, in each store."""
    async with reading(environ) as evidence:
        return {
            store.name: await prove_acknowledged(evidence, store, files.acks) for store in evidence.stores
        }


async def totals(environ: Mapping[str, str]) -> TotalsProof:
    """Prove the totals of the new store."""
    async with reading(environ) as evidence:
        return await prove_totals(evidence, evidence.stores[-1])


async def differing(environ: Mapping[str, str], *, deep: bool) -> list[str]:
    """Return the kinds in which the stores differ."""
    async with reading(environ) as evidence:
        old, new = evidence.stores
        reports = await prove_agreement(evidence, old, new, deep=deep, rechecks=0)
        assert len(reports) == len(tuple(evidence.kinds))
    return [report.kind for report in reports if not report.ok]


@pytest.mark.anyio
async def test_an_honest_run_is_proved(traded: Files, environ: dict[str, str]) -> None:
    """Every acknowledged write is in both stores, they agree, and the totals add up."""
    proofs = await acknowledged(traded, environ)
    assert {name: (proof.ok, proof.lost) for name, proof in proofs.items()} == {
        "json": (True, 0),
        "sqlite": (True, 0),
    }
    assert proofs["json"].acknowledged == len(traded.acks.read_bytes().splitlines()) > 300
    assert await differing(environ, deep=True) == []
    counted = await totals(environ)
    assert counted.ok
    assert counted.counted > 0


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("DELETE FROM trades WHERE record_id = (SELECT max(record_id) FROM trades)", "trades"),
        ("DELETE FROM order_book_snapshots WHERE record_id = 'paper-1-g7-book'", "order_book_snapshots"),
        ("UPDATE bot_state SET version = version - 1", "bot_state"),
        ("UPDATE trades SET price = '1' WHERE record_id = (SELECT max(record_id) FROM trades)", "trades"),
        ("UPDATE positions SET deleted = 1 WHERE condition_id = 'DEMO-USD-trend-5'", "positions"),
        ("UPDATE daily_stats SET total_trades = total_trades - 1", "daily_stats"),
        (
            "DELETE FROM closed_positions WHERE record_id = (SELECT max(record_id) FROM closed_positions)",
            "closed_positions",
        ),
    ],
)
async def test_a_tampered_store_is_found_out(
    traded: Files, environ: dict[str, str], statement: str, kind: str
) -> None:
    """A row removed, outdated, deleted or changed is a lost write, named; the other store still proves it."""
    tamper(traded, statement)
    proofs = await acknowledged(traded, environ)
    assert proofs["json"].ok
    assert not proofs["sqlite"].ok
    assert proofs["sqlite"].lost >= 1
    assert proofs["sqlite"].found == proofs["sqlite"].acknowledged - proofs["sqlite"].lost
    assert {name.split()[0] for name in proofs["sqlite"].examples} == {kind}
    assert kind in await differing(environ, deep=True)


@pytest.mark.anyio
async def test_an_operation_counted_twice_is_found_out(traded: Files, environ: dict[str, str]) -> None:
    """Totals above the number of operations fail the proof, although every acknowledged write is there."""
    tamper(traded, "UPDATE daily_stats SET total_trades = total_trades + 1")
    assert not (await totals(environ)).ok


@pytest.mark.anyio
async def test_an_empty_log_proves_nothing(traded: Files, environ: dict[str, str]) -> None:
    """Nothing acknowledged means nothing proved."""
    traded.acks.unlink()
    with AckLog(traded.acks):
        pass
    proofs = await acknowledged(traded, environ)
    assert [proof.ok for proof in proofs.values()] == [False, False]


@pytest.mark.anyio
async def test_the_proof_is_a_command_with_an_exit_code(traded: Files, environ: dict[str, str]) -> None:
    """`python -m gateway.demo.proof` gives 0 for an honest store, 1 once a row is gone, 2 where it cannot tell."""

    def run(work: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gateway.demo.proof", str(work)],
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    honest = run(traded.work)
    assert (honest.returncode, honest.stderr) == (0, "")
    assert ", 0 lost" in honest.stdout
    tamper(traded, "DELETE FROM trades WHERE record_id = (SELECT max(record_id) FROM trades)")
    robbed = run(traded.work)
    assert robbed.returncode == 1
    assert ", 1 lost" in robbed.stdout
    assert "lost: trades paper-1-" in robbed.stdout
    nowhere = run(traded.work / "nowhere")
    assert nowhere.returncode == 2
    assert "nothing can be proved" in nowhere.stderr


@pytest.mark.anyio
async def test_positions_that_were_not_imported_are_missed(traded: Files, environ: dict[str, str]) -> None:
    """The count of imported positions is of those that are there exactly as in their files."""
    legacy = traded.work / "legacy"
    assert write_legacy_positions(legacy, seed=1) > 0
    async with reading(environ) as evidence:
        assert await prove_imported(evidence, evidence.stores[-1], legacy) == 0

"""`gateway export`: whole files or none."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway import SyncGateway


def test_jsonl_holds_every_record_whatever_their_number(workplace: Any) -> None:
    """More records than fit a page are written, one JSON object a line, in order."""
    workplace.fill("sqlite", trades=2_500, positions=0)
    done = workplace.run("--backends", "sqlite", "export", "trades")
    records = [json.loads(line) for line in done.out.splitlines()]
    assert [one["record_id"] for one in records] == [f"t{number:04d}" for number in range(2_500)]
    assert records[1]["price"] == "1.25"
    assert done.err == ""


def test_csv_has_a_heading_and_exact_values(workplace: Any) -> None:
    """Money is exact, times are ISO 8601, JSON is JSON, no value is empty."""
    workplace.fill("json")
    rows = list(
        csv.DictReader(
            io.StringIO(workplace.run("--backends", "json", "export", "positions", "--format", "csv").out)
        )
    )
    assert [row["condition_id"] for row in rows] == ["m0", "m1", "m2"]
    assert rows[0]["entry_price"] == "0.5"
    assert rows[0]["is_open"] == "true"
    assert rows[0]["opened_at"] == "2026-01-01T12:00:00.000000Z"
    assert json.loads(rows[0]["extra"]) == {"note": "строка", "none": None}
    assert rows[0]["closed_at"] == ""


def test_a_file_appears_whole_and_private(workplace: Any) -> None:
    """--output makes a file that only its owner reads, and reports on it."""
    workplace.fill("json")
    done = workplace.run("--backends", "json", "export", "trades", "--output", "trades.jsonl", "--json")
    file = workplace.path / "trades.jsonl"
    assert done.json == {
        "kind": "trades",
        "store": "json",
        "rows": 5,
        "file": "trades.jsonl",
        "format": "jsonl",
    }
    assert len(file.read_text().splitlines()) == 5
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_failed_export_leaves_the_old_file_and_no_piece(workplace: Any) -> None:
    """When the store cannot answer, what had the name before stays, and nothing else does."""
    (workplace.path / "trades.jsonl").write_text("the last good one\n")
    done = workplace.run("--backends", "sqlite", "export", "trades", "--output", "trades.jsonl")
    assert done.code == 3
    assert (workplace.path / "trades.jsonl").read_text() == "the last good one\n"
    assert [file.name for file in workplace.path.iterdir()] == ["trades.jsonl"]


def test_a_killed_export_leaves_nothing_under_the_final_name(workplace: Any) -> None:
    """Kill -9 in the middle leaves a draft with another name, never half a file under the one asked for."""
    workplace.fill("sqlite", trades=20_000, positions=0)
    command = [
        sys.executable,
        "-m",
        "gateway.cli",
        "--backends",
        "sqlite",
        "export",
        "trades",
        "--output",
        "all.jsonl",
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while (
        not list(workplace.path.glob(".all.jsonl.*.part"))
        and process.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.001)  # polls for the draft to appear
    process.kill()
    process.wait(timeout=30)
    file = workplace.path / "all.jsonl"
    assert not file.exists() or len(file.read_text().splitlines()) == 20_000
    assert file.exists() or list(workplace.path.glob(".all.jsonl.*.part"))


def test_wrong_formats_and_places_are_refused(workplace: Any) -> None:
    """An unknown format, a directory that is not there, and a report without a file each get a sentence."""
    workplace.fill("json")
    for arguments, sentence in (
        (("--format", "xml"), "jsonl or csv"),
        (("--output", "nowhere/trades.jsonl"), "cannot be written"),
        (("--json",), "--output FILE"),
    ):
        done = workplace.run("--backends", "json", "export", "trades", *arguments)
        assert done.code == 2
        assert sentence in done.err


def test_filters_and_times_select_what_is_written(workplace: Any) -> None:
    """The same selection as in a query applies."""
    workplace.fill("json", trades=6)
    done = workplace.run(
        "--backends",
        "json",
        "export",
        "trades",
        "--where",
        "market_name=ETH",
        "--since",
        "2026-01-01T12:02:00Z",
        "--order",
        "desc",
    )
    assert [json.loads(line)["record_id"] for line in done.out.splitlines()] == ["t0005", "t0003"]


@pytest.mark.parametrize("trades", [1, 5_000])
def test_a_reader_that_stops_ends_the_command_quietly(workplace: Any, trades: int) -> None:
    """As with `| head -1`: no complaint, and the exit code that a shell gives for it, however much was written."""
    workplace.fill("sqlite", trades=trades, positions=0)
    command = [sys.executable, "-m", "gateway.cli", "--backends", "sqlite"]
    for arguments in (("export", "trades"), ("query", "trades")):
        process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        with process.stderr:
            assert process.stderr.read() == b""
        assert process.wait(timeout=30) == 141


def test_text_that_a_spreadsheet_would_run_is_disarmed_in_csv(workplace: Any) -> None:
    """Text that begins like a formula gets an apostrophe; negative numbers and JSON lines stay what they are."""
    names = ["=1+1", "+cmd", "-2", "@sum", "BTC"]
    with SyncGateway("json", environ={}, env_file=None, data_dir=workplace.path / "storage") as gateway:
        for name in names:
            gateway.save_position(
                condition_id=name, side="YES", entry_price="-0.5", opened_at=datetime(2026, 1, 1, tzinfo=UTC)
            )
    command = ("--backends", "json", "export", "positions")
    table = list(csv.DictReader(io.StringIO(workplace.run(*command, "--format", "csv").out)))
    assert {row["condition_id"] for row in table} == {"'=1+1", "'+cmd", "'-2", "'@sum", "BTC"}
    assert {row["entry_price"] for row in table} == {"-0.5"}
    records = [json.loads(line) for line in workplace.run(*command).out.splitlines()]
    assert {one["condition_id"] for one in records} == set(names)

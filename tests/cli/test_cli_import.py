"""`gateway import`: history of older systems."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.legacy import legacy_positions


def _legacy(path: Path, count: int = 3) -> Path:
    """Write position files as an older bot kept them."""
    path.mkdir()
    for number in range(count):
        content = {
            "condition_id": f"0x{number:03d}",
            "timestamp": 1_700_000_000.25 + number,
            "entry_price": 0.1 + number / 100,
            "position_side": "YES",
            "position_open": number % 2 == 0,
            "trailing_stop_price": 0.05,
            "own_field": "kept",
        }
        (path / f"position_0x{number:03d}.json").write_text(json.dumps(content))
    return path


def test_positions_are_imported_and_found(workplace: Any) -> None:
    """Each file becomes a position with exact money, its own fields kept."""
    done = workplace.run(
        "--backends", "json,sqlite", "import", "positions", _legacy(workplace.path / "old"), "--json"
    )
    assert done.code == 0
    assert (done.json["imported"], done.json["already_there"], done.json["refused"]) == (3, 0, 0)
    for store in ("json", "sqlite"):
        found = workplace.run(
            "--backends", "json,sqlite", "get", "positions", "0x000", "--store", store, "--json"
        ).json
        assert found["record"]["entry_price"] == "0.1"
        assert found["record"]["extra"] == {"own_field": "kept"}
        assert found["written_at"].startswith("2023-11-14")
    assert workplace.run("--backends", "json,sqlite", "verify").code == 0


def test_importing_again_changes_nothing(workplace: Any) -> None:
    """The second run finds everything there."""
    source = _legacy(workplace.path / "old")
    workplace.run("--backends", "sqlite", "import", "positions", source)
    before = workplace.run("--backends", "sqlite", "export", "positions").out
    done = workplace.run("--backends", "sqlite", "import", "positions", source, "--json")
    assert (done.json["imported"], done.json["already_there"]) == (0, 3)
    assert workplace.run("--backends", "sqlite", "export", "positions").out == before


def test_what_a_bot_wrote_since_wins(workplace: Any) -> None:
    """A live write is newer than any history, and the report names the file that lost."""
    workplace.fill("sqlite", trades=0, positions=1)
    old = workplace.path / "old"
    old.mkdir()
    content = {"condition_id": "m0", "timestamp": 1_700_000_000, "entry_price": 0.9, "side": "NO"}
    (old / "position_m0.json").write_text(json.dumps(content))
    for dry in (("--dry-run",), ()):
        done = workplace.run("--backends", "sqlite", "import", "positions", old, "--json", *dry)
        assert (done.json["imported"], done.json["superseded"]) == (0, 1)
        assert done.json["superseded_files"] == ["position_m0.json"]
    assert (
        workplace.run("--backends", "sqlite", "get", "positions", "m0", "--json").json["record"]["side"]
        == "YES"
    )


def test_a_dry_run_writes_nothing(workplace: Any) -> None:
    """The report is the same, and the store stays as it was."""
    workplace.fill("json", trades=0, positions=1)
    done = workplace.run(
        "--backends", "json", "import", "positions", _legacy(workplace.path / "old"), "--dry-run", "--json"
    )
    assert (done.code, done.json["dry_run"], done.json["imported"]) == (0, True, 3)
    assert len(workplace.run("--backends", "json", "export", "positions").out.splitlines()) == 1


def test_after_the_migration_only_the_new_store_is_written(workplace: Any) -> None:
    """In phase complete the old store may be gone for good, and an import does not make it again."""
    source = _legacy(workplace.path / "old")
    env = {"STORAGE_PHASE": "complete"}
    assert workplace.run("--backends", "json,sqlite", "import", "positions", source, env=env).code == 0
    assert sorted(file.name for file in (workplace.path / "storage").glob("*")) == ["gateway.db"]


def test_damaged_files_are_refused_by_name_and_the_rest_is_imported(workplace: Any) -> None:
    """A torn file is named with the reason, the exit code says so, and the source stays as it was."""
    source = _legacy(workplace.path / "old")
    (source / "position_torn.json").write_text('{"condition_id": "0xbad", "timest')
    (source / "position_empty.json").write_text("")
    before = {file.name: file.read_bytes() for file in source.iterdir()}
    done = workplace.run("--backends", "json", "import", "positions", source, "--json")
    assert done.code == 1
    assert (done.json["imported"], done.json["refused"]) == (3, 2)
    assert {one["file"] for one in done.json["refused_files"]} == {
        "position_torn.json",
        "position_empty.json",
    }
    assert all(one["problem"] for one in done.json["refused_files"])
    assert {file.name: file.read_bytes() for file in source.iterdir()} == before
    shown = workplace.run("--backends", "json", "import", "positions", source)
    assert "position_torn.json" in shown.out


def test_an_unknown_source_and_a_wrong_place_are_refused(workplace: Any) -> None:
    """The message lists the sources there are, or says what belongs in the directory."""
    unknown = workplace.run("--backends", "json", "import", "spreadsheets", workplace.path)
    assert unknown.code == 2
    assert "positions" in unknown.err
    empty = workplace.run("--backends", "json", "import", "positions", workplace.path)
    assert empty.code == 2
    assert "position_*.json" in empty.err


@pytest.mark.shared_data
def test_the_real_position_files_are_imported(workplace: Any) -> None:
    """Every real file ends imported or refused with a reason, and the stores agree afterwards."""
    source = legacy_positions()
    done = workplace.run("--backends", "json,sqlite", "import", "positions", source, "--json")
    found = done.json
    files = len(list(source.iterdir()))
    assert found["imported"] + found["superseded"] + found["already_there"] + found["refused"] == files
    assert found["imported"] > 200
    assert all(one["problem"] for one in found["refused_files"])
    assert workplace.run("--backends", "json,sqlite", "verify", "--deep").code == 0

"""`gateway doctor` and `gateway demo`."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from gateway.findings import Level, permissions
from gateway.records import TRADES, Trade
from gateway.records.codec import codec_of
from gateway.records.stamp import row_of
from gateway.records.version import version_at

BOTH = ("--backends", "json,sqlite")


def _checks(workplace: Any, *args: str) -> dict[str, dict[str, Any]]:
    return {one["subject"]: one for one in workplace.run(*args, "doctor", "--json").json["checks"]}


def test_a_sound_installation_passes_every_check(workplace: Any) -> None:
    """Nothing fails where nothing is wrong."""
    workplace.fill("json,sqlite")
    done = workplace.run(*BOTH, "doctor", "--json")
    assert done.code == 0
    assert done.json["ok"] is True
    assert {one["level"] for one in done.json["checks"]} <= {"ok", "warn"}
    subjects = {one["subject"] for one in done.json["checks"]}
    assert {
        "disk",
        "clock",
        "control store",
        "store json",
        "store sqlite: integrity",
        "store sqlite: schema",
    } <= subjects
    assert "store sqlite" in workplace.run(*BOTH, "doctor").out


def test_a_missing_store_fails(workplace: Any) -> None:
    """A store that is not there is a failure with what to do."""
    done = workplace.run("doctor", "--json")
    assert done.code == 1
    assert [one["subject"] for one in done.json["checks"] if one["level"] == "fail"] == ["store sqlite"]
    assert "what to do" in workplace.run("doctor").out


def test_a_wrong_schema_fails(workplace: Any) -> None:
    """A table that is not what its kind needs is found."""
    workplace.fill("sqlite", trades=1)
    connection = sqlite3.connect(workplace.path / "storage" / "gateway.db", isolation_level=None)
    connection.execute("DROP TABLE alerts")
    connection.close()
    done = workplace.run("doctor", "--json")
    assert done.code == 1
    assert any(one["level"] == "fail" and "alerts" in one["sentence"] for one in done.json["checks"])


def test_a_world_writable_store_fails_and_a_world_readable_one_warns(workplace: Any) -> None:
    """Permissions for everybody are named with the command that mends them."""
    workplace.fill("sqlite", trades=1)
    file = workplace.path / "storage" / "gateway.db"
    for mode, level in ((0o600, Level.OK), (0o644, Level.WARN), (0o666, Level.FAIL)):
        file.chmod(mode)
        found = permissions("it", file)
        assert found.level is level
        assert found.advice == ("" if level is Level.OK else f"chmod 600 {file}")
    assert workplace.run("doctor").code == 1


def test_rows_from_the_future_fail(workplace: Any) -> None:
    """A row written by a wrong clock is found: it would win against everything that bots write now."""
    workplace.fill("sqlite", trades=1)
    later = datetime.now(UTC) + timedelta(days=2)
    trade = Trade(
        record_id="later",
        timestamp=later,
        market_name="BTC",
        action="buy",
        side="YES",
        price=Decimal(1),
        amount=Decimal(1),
    )
    row = row_of(
        TRADES, "00000000-0000-0000-0000-000000000000", version_at(later), codec_of(TRADES).encode(trade)
    )
    names = ", ".join(("tenant_id", "version", "digest", "deleted", *TRADES.field_names))
    values = (row.tenant, row.version, row.digest, 0, *row.values)
    connection = sqlite3.connect(workplace.path / "storage" / "gateway.db", isolation_level=None)
    connection.execute(f"INSERT INTO trades ({names}) VALUES ({', '.join('?' * len(values))})", values)  # noqa: S608 - names of the kind
    connection.close()
    found = _checks(workplace)["store sqlite: clock"]
    assert found["level"] == "fail"
    assert "in the future" in found["sentence"]


def test_what_a_crash_left_behind_is_named(workplace: Any) -> None:
    """A torn line that was set aside is listed, with the advice to look at it."""
    workplace.fill("json", trades=3)
    file = next((workplace.path / "storage" / "json" / "trades").glob("*.jsonl"))
    with file.open("ab") as stream:
        stream.write(b'{"record_id": "torn", "mark')
    workplace.fill("json", trades=3)
    found = [
        one
        for one in workplace.run("--backends", "json", "doctor", "--json").json["checks"]
        if one["subject"] == "store json: recovery"
    ]
    assert found
    assert {one["level"] for one in found} == {"warn"}
    assert "torn" in found[0]["sentence"]


def test_a_damaged_control_store_fails_and_the_rest_is_still_checked(workplace: Any) -> None:
    """One broken part does not hide the others."""
    workplace.fill("json,sqlite", trades=1)
    (workplace.path / "storage" / "control.db").write_bytes(b"not a database at all, though long enough" * 40)
    done = workplace.run(*BOTH, "doctor", "--json")
    assert done.code == 1
    levels = {one["subject"]: one["level"] for one in done.json["checks"]}
    assert levels["control store"] == "fail"
    assert levels["store sqlite"] == "ok"


@pytest.mark.parametrize(
    ("days", "level"),
    [(None, "ok"), (1, "ok"), (3, "warn"), (-300, "warn")],
    ids=["none", "new", "old", "future"],
)
def test_the_age_of_the_newest_backup_is_weighed(workplace: Any, days: int | None, level: str) -> None:
    """Old ones, and ones that a wrong clock has named, are worth a word; JSON has none and is not asked."""
    workplace.fill("json,sqlite", trades=1)
    directory = workplace.path / "storage" / "backups"
    directory.mkdir()
    if days is not None:
        begun = datetime.now(UTC) - timedelta(days=days)
        (directory / f"sqlite-{begun:%Y%m%dT%H%M%SZ}.db").write_bytes(b"x")
    found = {
        name: one["level"] for name, one in _checks(workplace, *BOTH).items() if name.endswith("backups")
    }
    assert found == {"store sqlite: backups": level}


def test_production_without_backups_is_warned_about(workplace: Any) -> None:
    """It is for the operator to say that they are made another way."""
    workplace.fill("sqlite", trades=1)
    workplace.environ = {"ENVIRONMENT": "production"}
    found = _checks(workplace)["store sqlite: backups"]
    assert (found["level"], "there are none" in found["sentence"]) == ("warn", True)


def test_demo_hands_on_its_options(workplace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command is a doorway to the demo, whose exit code it returns."""
    import gateway.demo

    seen: dict[str, Any] = {}

    def main(**options: Any) -> int:
        seen.update(options)
        return 1

    monkeypatch.setattr(gateway.demo, "main", main, raising=False)
    assert workplace.run("demo", "--fast", "--seed", "3", "--keep", "kept", "--data", "recorded").code == 1
    assert {name: str(value) for name, value in seen.items()} == {
        "fast": "True", "seed": "3", "keep": "kept", "data": "recorded", "json_output": "False"
    }  # fmt: skip

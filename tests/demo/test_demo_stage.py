from __future__ import annotations

import io
import sqlite3
from pathlib import Path

import pytest

import gateway.demo.runner
from gateway.demo.narrator import Narrator
from gateway.demo.processes import CommandLine, DemoError, storage_environ
from gateway.demo.runner import Options, run
from gateway.demo.stage import FAST, Stage
from gateway.demo.status import BotStatus, Files


@pytest.fixture
def stage(traded: Files) -> Stage:
    """Return a stage on which a bot has traded."""
    return Stage(traded.work, Narrator(io.StringIO()), FAST, None, 7)


def test_a_proof_that_holds_is_told_and_remembered(stage: Stage) -> None:
    """The story has a line for each store, and so has the summary."""
    stage.prove_nothing_lost("now", "json", "sqlite")
    assert [(row[0], row[1], row[4]) for row in stage.ledger.proof_rows()] == [
        ("now", "json", 0),
        ("now", "sqlite", 0),
    ]
    told = stage.narrator.console.file
    assert isinstance(told, io.StringIO)
    assert told.getvalue().count(", 0 lost") == 2


def test_a_proof_that_fails_stops_the_demo(stage: Stage) -> None:
    """A row taken out of one store is named with the store, and counted in the result."""
    connection = sqlite3.connect(stage.files.storage / "gateway.db")
    with connection:
        connection.execute("DELETE FROM alerts WHERE record_id = (SELECT min(record_id) FROM alerts)")
    connection.close()
    with pytest.raises(DemoError, match=r"proof failed: .* found in sqlite, 1 lost \(alerts paper-1-"):
        stage.prove_nothing_lost("now", "json", "sqlite")
    assert stage.ledger.lost == 1
    assert stage.ledger.as_json()["lost"] == 1


def test_a_failed_proof_ends_the_demo_with_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What failed is said last, nothing is said about what to do next, and everything is left for a look."""

    def fail(stage: Stage, legacy: Path) -> None:
        assert any(legacy.iterdir())
        stage.require(False, "1 + 1 is 2")

    monkeypatch.setattr(gateway.demo.runner, "tell", fail)
    assert run(Options(fast=True, keep=tmp_path / "kept", data=Path("generated"))) == 1
    said = capsys.readouterr().out
    assert "proof failed: 1 + 1 is 2" in said
    assert "Next" not in said
    assert f"everything is left in {tmp_path / 'kept'}" in said


def test_a_command_that_fails_stops_the_demo_with_its_words(tmp_path: Path) -> None:
    """The exit code and the command's own sentence are in the error."""
    commands = CommandLine(storage_environ(Files(tmp_path)), tmp_path)
    with pytest.raises(
        DemoError, match=r"`gateway phase set nowhere --why x` ended with exit code 2: .*nowhere"
    ):
        commands.type(("phase", "set", "nowhere", "--why", "x"))


def test_a_bot_that_cannot_start_stops_the_demo_with_its_last_words(tmp_path: Path) -> None:
    """What the bot wrote to its standard error is in the error."""
    stage = Stage(tmp_path, Narrator(io.StringIO()), FAST, tmp_path / "no-data", 7)
    with pytest.raises(DemoError, match=r"ended with exit code 1: the bot stopped: .*is no recording"):
        stage.bot.start()


def test_foreign_settings_do_not_reach_the_demo(tmp_path: Path) -> None:
    """What the user's shell says about other stores is left out; the rest is kept."""
    given = {"STORAGE_BACKENDS": "sqlite", "storage_sqlite_url": "x", "DATABASE_URL": "y", "HOME": "/home/me"}
    environ = storage_environ(Files(tmp_path), given)
    assert environ["STORAGE_BACKENDS"] == "json,sqlite"
    assert environ["HOME"] == "/home/me"
    assert not {"storage_sqlite_url", "DATABASE_URL"} & set(environ)


def test_a_story_can_be_told_in_plain_letters() -> None:
    """A stream that knows no more than ASCII gets the whole story without an error."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    narrator = Narrator(stream)
    narrator.step("one", "why")
    narrator.command("gateway stats")
    narrator.done("done")
    narrator.table("numbers", ("name", "value"), [("rows", 12_345)])
    narrator.fail("broken")
    with narrator.watching(lambda: [("phase", "legacy")]):
        narrator.next("Next", ["gateway stats"])
    stream.flush()
    told = stream.buffer.getvalue().decode("ascii")
    assert [word in told for word in ("1. one", "ok done", "12,345", "FAILED broken", "$ gateway stats")] == [
        True
    ] * 5


def test_the_panel_fits_a_narrow_terminal(stage: Stage) -> None:
    """With large numbers every line of the panel is shorter than 80 columns."""
    BotStatus(pid=4_194_304, tick=99_999, trades=9_999, acknowledged=999_999, write_p50_ms=999.9).write(
        stage.files.status
    )
    stage.phase = "positions 25%"
    shown = io.StringIO()
    console = Narrator(shown).console
    console.width = 80
    console.print(stage.narrator._panel(stage.facts()))
    lines = shown.getvalue().splitlines()
    assert len(lines) == 4
    assert all(name in shown.getvalue() for name, _ in stage.facts())
    assert "999,999" in shown.getvalue()
    assert "…" not in shown.getvalue()


def test_a_status_is_read_back(tmp_path: Path) -> None:
    """What the bot tells arrives; without a file there is an empty status."""
    path = Files(tmp_path).status
    assert BotStatus.read(path) == BotStatus()
    told = BotStatus(pid=1, tick=2, open=("a",), recovered=("b", "c"), idle=True, counters={"reads": 3})
    told.write(path)
    assert BotStatus.read(path) == told
    assert [one.name for one in tmp_path.iterdir()] == ["status.json"]

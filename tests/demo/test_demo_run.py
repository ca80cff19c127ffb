from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.demo.status import BotStatus, Files
from gateway.migration.phases import Phase

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
PATIENCE = 220
"""Seconds; a demo takes thirty of processor time, of which others may take most."""
pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Played:
    """A demo that was played and kept."""

    files: Files
    story: str
    result: dict[str, Any]


def play(*words: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Play the fast demo to its end."""
    return subprocess.run(
        [sys.executable, "-m", "gateway.demo", "--fast", *words],
        env=environ or dict(os.environ),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )


def alive(pid: int) -> bool:
    """Tell whether a process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until_gone(pid: int) -> None:
    """Wait for a process to end."""
    deadline = time.monotonic() + 20
    while alive(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Play the demo once, on the real data if they are there and else on generated ones, and keep it."""
    work = tmp_path_factory.mktemp("demo") / "kept"
    data = str(SHARED_DATA) if SHARED_DATA.is_dir() else "generated"
    done = play("--json", "--data", data, "--keep", str(work))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return Played(Files(work), done.stderr, json.loads(done.stdout))


def test_the_demo_passes_through_every_phase_and_loses_nothing(played: Played) -> None:
    """The story names each phase, the crash, the rollback, and 0 lost writes at each proof."""
    for phase in Phase:
        assert phase.value in played.story
    assert "kill -9" in played.story
    assert "roll back" in played.story
    proofs = [line for line in played.story.splitlines() if "writes acknowledged" in line]
    assert len(proofs) == 5
    assert all(line.endswith(", 0 lost") for line in proofs)


def test_a_story_for_files_holds_no_control_characters(played: Played) -> None:
    """Where there is no terminal there are plain lines."""
    assert {character for character in played.story if ord(character) < 32} == {"\n"}


def test_the_bot_is_gone_and_its_work_is_kept(played: Played) -> None:
    """No process is left over; the stores are where the story says."""
    assert not alive(BotStatus.read(played.files.status).pid)
    assert str(played.files.work) in played.story
    assert (played.files.storage / "gateway.db").is_file()
    assert (played.files.storage / "json").is_dir()
    assert played.files.log.read_text(encoding="utf-8") == ""


def test_what_to_type_next_can_be_typed(played: Played) -> None:
    """Each line at the end works as it stands, in one shell."""
    lines = played.story.partition("Next,")[2].splitlines()[1:]
    commands = [line.strip() for line in lines if line.strip()]
    assert 4 <= len(commands) <= 6
    assert commands[0].startswith("export STORAGE_BACKENDS=")
    environ = dict(os.environ) | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-e", "-c", "\n".join(commands)],
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert ", 0 lost" in done.stdout
    assert "complete" in done.stdout


def test_a_kept_demo_can_be_robbed_and_shows_it(played: Played, tmp_path: Path) -> None:
    """With one acknowledged row taken out of the SQLite file, the proof fails with exit code 1."""
    source = sqlite3.connect(played.files.storage / "gateway.db")
    files = Files(tmp_path)
    files.storage.mkdir()
    robbed = sqlite3.connect(files.storage / "gateway.db")
    source.backup(robbed)
    files.acks.write_bytes(played.files.acks.read_bytes())
    with robbed:
        robbed.execute("DELETE FROM trades WHERE record_id = (SELECT min(record_id) FROM trades)")
    source.close()
    robbed.close()
    environ = dict(os.environ) | {"STORAGE_BACKENDS": "sqlite", "STORAGE_DATA_DIR": str(files.storage)}
    done = subprocess.run(
        [sys.executable, "-m", "gateway.demo.proof", str(files.work)],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert ", 1 lost" in done.stdout


def test_a_directory_that_holds_something_is_refused(tmp_path: Path) -> None:
    """The demo never plays among other people's files."""
    (tmp_path / "mine").write_text("precious", encoding="utf-8")
    done = play("--keep", str(tmp_path))
    assert done.returncode == 2
    assert "is not empty" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_data_that_are_not_there_are_refused(tmp_path: Path) -> None:
    """A directory without a recording gives one sentence and exit code 2."""
    done = play("--data", str(tmp_path))
    assert done.returncode == 2
    assert "holds no" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM give exit code 130, and neither the bot nor the temporary directory stays."""
    environ = dict(os.environ) | {"TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    demo = start_and_wait_for_the_bot(environ)
    (work,) = tmp_path.iterdir()
    pid = BotStatus.read(Files(work).status).pid
    assert alive(pid)
    demo.send_signal(number)
    story, _ = demo.communicate(timeout=30)
    assert demo.returncode == 130
    assert "interrupted" in story
    assert not alive(pid)
    assert list(tmp_path.iterdir()) == []


def test_the_bot_does_not_outlive_a_demo_that_was_killed(tmp_path: Path) -> None:
    """After `kill -9` of the demo itself the bot ends on its own, in good order."""
    environ = dict(os.environ) | {"TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    demo = start_and_wait_for_the_bot(environ)
    (work,) = tmp_path.iterdir()
    pid = BotStatus.read(Files(work).status).pid
    demo.kill()
    demo.communicate(timeout=30)
    wait_until_gone(pid)
    assert Files(work).log.read_text(encoding="utf-8") == ""


def start_and_wait_for_the_bot(environ: dict[str, str]) -> subprocess.Popen[str]:
    """Start a demo and return once its bot trades."""
    demo = subprocess.Popen(
        [sys.executable, "-m", "gateway.demo", "--fast", "--data", "generated"],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        start_new_session=True,
    )
    assert demo.stdout is not None
    for line in demo.stdout:
        if "open positions" in line:
            return demo
    raise AssertionError("the demo ended before its bot traded")


def test_the_result_is_one_document(played: Played) -> None:
    """With --json the result comes on standard output, and the story beside it."""
    assert played.result["ok"] is True
    assert played.result["lost"] == 0
    assert played.result["comparisons"]["match"] > 0
    assert played.result["comparisons"]["diverged"] == 0
    assert all(kind["digests_equal"] for kind in played.result["kinds"].values())


@pytest.mark.shared_data
def test_the_demo_replays_the_recorded_market_and_imports_the_recorded_positions(played: Played) -> None:
    """With the real data beside the checkout, their ticks and all their position files are used."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"{SHARED_DATA} is not there; the demo was tested on generated data alone")
    recorded = list((SHARED_DATA / "polymarket" / "positions").glob("position_*.json"))
    assert played.result["imported"] == len(recorded)
    assert "XRP/ETH" in played.story


@pytest.mark.soak
def test_a_demo_on_generated_data_tells_its_story_on_standard_output() -> None:
    """Without --json the story is what is printed, and its market may be made up."""
    done = play("--data", "generated")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.count(", 0 lost") == 5
    assert done.stderr == ""

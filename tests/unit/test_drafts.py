"""Files that appear whole or not at all."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.drafts import draft_of, remove_abandoned
from gateway.errors import StoreError, StoreReadOnlyError, StoreUnavailableError

WRITE = """
import sys
from pathlib import Path
from gateway.drafts import draft_of
with draft_of(Path(sys.argv[1])) as draft:
    draft.write_text("half")
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_a_draft_becomes_the_file(tmp_path: Path) -> None:
    """Only at the end, whole, and for its owner alone; the directory is made."""
    target = tmp_path / "new" / "file.db"
    with draft_of(target) as draft:
        draft.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [path.name for path in target.parent.iterdir()] == ["file.db"]


def test_every_directory_that_is_made_is_private(tmp_path: Path) -> None:
    """Those between too, whatever the umask is; one that is there stays as it is."""
    tmp_path.chmod(0o755)
    with draft_of(tmp_path / "a" / "b" / "file.db") as draft:
        draft.touch()
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("", "a", "a/b")]
    assert modes == [0o755, 0o700, 0o700]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    """Neither the file nor its draft, nor what SQLite kept beside the draft."""

    def fail() -> None:
        with draft_of(tmp_path / "file.db") as draft:
            draft.with_name(f"{draft.name}-journal").write_text("beside")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_not_written_over(tmp_path: Path) -> None:
    """It stays as it was."""
    target = tmp_path / "file.db"
    target.write_text("old")
    with pytest.raises(StoreUnavailableError, match="exists"), draft_of(target):
        pytest.fail("the draft was given")
    assert target.read_text() == "old"


def test_what_the_disk_refuses_is_said(tmp_path: Path) -> None:
    """As an error of the gateway, with the path."""
    file = tmp_path / "file"
    file.write_text("no directory")
    with pytest.raises(StoreError, match="file"), draft_of(file / "backup.db"):
        pytest.fail("the draft was given")


def test_drafts_of_killed_processes_are_removed_and_others_are_not(tmp_path: Path) -> None:
    """A draft is removed once nobody is writing it, and not before."""
    target = tmp_path / "file.db"
    with subprocess.Popen(
        [sys.executable, "-c", WRITE, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        assert remove_abandoned(tmp_path) == []
        child.send_signal(signal.SIGKILL)
        child.wait()
    (left,) = tmp_path.iterdir()
    assert remove_abandoned(tmp_path) == [left]
    assert list(tmp_path.iterdir()) == []


def test_read_only_errors_keep_their_class() -> None:
    """What a person has to mend is told from what passes."""
    from gateway.drafts import file_error

    assert isinstance(file_error(PermissionError(13, "denied"), Path("x")), StoreReadOnlyError)

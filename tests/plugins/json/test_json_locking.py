from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.errors import StoreLockedError
from gateway_json.locking import WriterLock

HOLD = """
import pathlib, sys
from gateway_json.locking import WriterLock
lock = WriterLock(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_writer_is_refused_by_name(tmp_path: Path) -> None:
    """The message names the process that holds the lock; once that is gone, the lock is free."""
    lock = WriterLock(tmp_path / ".lock")
    with pytest.raises(StoreLockedError, match=f"process {os.getpid()} on"):
        WriterLock(tmp_path / ".lock")
    lock.release()
    lock.release()
    WriterLock(tmp_path / ".lock").release()
    assert repr(lock).endswith("released>")


def test_a_killed_writer_holds_nothing(tmp_path: Path) -> None:
    """The lock of another process is respected, and ends with it even under kill -9."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(StoreLockedError, match=f"process {child.pid} "):
            WriterLock(tmp_path / ".lock")
        child.kill()
        child.wait()
    WriterLock(tmp_path / ".lock").release()


def test_a_replaced_directory_is_noticed(tmp_path: Path) -> None:
    """A lock whose file was replaced protects nothing and says so."""
    lock = WriterLock(tmp_path / ".lock")
    lock.check()
    (tmp_path / ".lock").unlink()
    with pytest.raises(FileNotFoundError):
        lock.check()
    (tmp_path / ".lock").touch()
    with pytest.raises(FileNotFoundError):
        lock.check()
    lock.release()

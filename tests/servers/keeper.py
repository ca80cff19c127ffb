"""The process that holds one server, so that the server is gone when whoever asked for it is gone.

Run as a script of its own, with nothing but the standard library: `keeper.py DIRECTORY SIGNAL`. Each line on its
standard input is a JSON object {"argv", "env", "log", "uid", "gid", "root"}: the keeper starts that program and
answers with a line that has its process id. When standard input ends, or the parent is gone, it ends what it
started, removes the directory and exits. A parent that is killed with SIGKILL closes its pipes as well, so that
no way of dying leaves a server or a directory behind. Signals from a terminal do not reach it: it is in a
session of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

PATIENCE = 5.0  # seconds for a server to end itself before it is killed
PR_SET_PDEATHSIG = 1

children: list[subprocess.Popen[bytes]] = []


def reap(_signal: int = 0, _frame: FrameType | None = None) -> None:
    """Collect children that ended, so that their process ids are free to tell that they are gone."""
    for child in children:
        child.poll()


def start(order: dict[str, Any]) -> int:
    """Start a program and return its process id."""

    def before() -> None:  # runs in the child, just before the program
        if sys.platform == "linux":  # if the keeper itself is killed, the server ends too
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    with Path(order["log"]).open("ab") as log:
        child = subprocess.Popen(
            order["argv"],
            env=order["env"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            user=order["uid"],
            group=order["gid"],
            extra_groups=None if order["uid"] is None else [],
            start_new_session=True,
            preexec_fn=before,
        )
    children.append(child)
    reap()
    return child.pid


def end(directory: Path, ending: int) -> None:
    """End every child, first kindly, and remove the directory."""
    for child in children:
        if child.poll() is None:
            child.send_signal(ending)
    until = time.monotonic() + PATIENCE
    for child in children:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(max(0.0, until - time.monotonic()))
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    while directory.exists() and time.monotonic() < until + PATIENCE:  # a dying child may still be writing
        shutil.rmtree(directory, ignore_errors=True)
        time.sleep(0.01)


def orders(parent: int) -> Any:
    """Yield each order until there is nobody left who could give one."""
    rest = b""
    while os.getppid() == parent:
        if not select.select([0], [], [], 1.0)[0]:
            continue
        data = os.read(0, 65536)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        yield from map(json.loads, lines)


def main() -> None:
    """Do what the module says."""
    directory, ending = Path(sys.argv[1]), int(sys.argv[2])
    parent = os.getppid()
    signal.pthread_sigmask(
        signal.SIG_SETMASK, []
    )  # servers inherit the mask, and must hear that they are to end
    signal.signal(signal.SIGCHLD, reap)
    try:
        for order in orders(parent):
            try:
                answer: dict[str, Any] = {"pid": start(order)}
            except OSError as error:
                answer = {"error": str(error)}
            with contextlib.suppress(BrokenPipeError):
                os.write(1, json.dumps(answer).encode() + b"\n")
    finally:
        end(directory, ending)


if __name__ == "__main__":
    main()

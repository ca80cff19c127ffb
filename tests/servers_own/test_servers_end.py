"""However a test process dies, its servers and their directories are gone soon after."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.servers import PostgresServer
from tests.servers.server import alive

PROGRAM = """
import os, signal, sys, time
from tests.servers import PostgresServer
server = PostgresServer.default()
server.start()
child = os.fork() if {fork} else 0
if {fork} and child == 0:
    os.close(0)
    os.close(1)
    time.sleep(60)
print(server.pid, server._keeper.pid, server.directory, child, flush=True)
sys.stdin.read()
"""


def _holder(sources_root: Path, *, fork: bool) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(fork=fork)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=sources_root,
    )


def _until(condition: Callable[[], bool], seconds: float = 30) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()


@pytest.fixture
def root(pytestconfig: pytest.Config, postgres_server: PostgresServer) -> Path:
    """The checkout; these tests start and kill servers, which must be ours."""
    postgres_server._must_be_ours("starts a server of its own")
    return pytestconfig.rootpath


def _told(holder: subprocess.Popen[str]) -> tuple[int, int, Path, int]:
    assert holder.stdout is not None
    pid, keeper, directory, child = holder.stdout.readline().split()
    return int(pid), int(keeper), Path(directory), int(child)


def _finish(holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.communicate()


@pytest.mark.parametrize("fork", [False, True], ids=["alone", "with a child that holds its pipes"])
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_leaves_nothing(root: Path, ending: signal.Signals, fork: bool) -> None:
    """SIGKILL gives a process no moment to clean up, and a forked child keeps its pipes open: the server goes."""
    holder = _holder(root, fork=fork)
    server, keeper, directory, child = _told(holder)
    try:
        assert alive(server)
        assert directory.is_dir()
        holder.send_signal(ending)
        assert _until(lambda: not alive(server) and not directory.exists()), "something was left behind"
        assert _until(lambda: not alive(keeper))
    finally:
        if child:
            os.kill(child, signal.SIGKILL)
        _finish(holder)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_killed_keeper_takes_the_server_with_it(root: Path) -> None:
    """A server never runs without the process that will end it."""
    holder = _holder(root, fork=False)
    server, keeper, directory, _ = _told(holder)
    os.kill(keeper, signal.SIGKILL)
    assert _until(lambda: not alive(server))
    _finish(holder)
    subprocess.run(["rm", "-rf", str(directory)], check=True)


def test_the_module_ends_with_its_servers(root: Path) -> None:
    """`python -m tests.servers --json` tells a script what runs, and SIGTERM ends all of it."""
    import json

    command = [sys.executable, "-m", "tests.servers", "--json", "postgres18"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)
    assert process.stdout is not None
    told: dict[str, Any] = json.loads(process.stdout.readline())
    (server,) = told["servers"]
    port = int(server["urls"]["app"].rpartition(":")[2].split("/")[0])
    from tests.servers.ports import LOOPBACK, accepts

    assert (server["name"], accepts(LOOPBACK, port)) == ("PostgreSQL", True)
    process.terminate()
    process.communicate()
    assert process.returncode == 0
    assert not accepts(LOOPBACK, port)

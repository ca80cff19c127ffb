"""What all servers share: they start under a keeper, say when they are ready, and can be stopped or killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, Self

import pytest

from tests.servers import keeper
from tests.servers.origin import Origin
from tests.servers.places import User, scratch, server_user
from tests.servers.ports import LOOPBACK, accepts, free_port

__all__ = ["Server", "ServerFailedError", "alive"]

LOG_LINES: Final = 20


class ServerFailedError(RuntimeError):
    """A server did not start or did not end; the message has the end of its log."""


class Server(ABC):
    """One server on loopback with a port and a directory of its own, gone when this process is gone.

    A subclass says how to prepare the directory, what to run and how to tell that it is ready. A server that
    was `given` by URL has no process here: starting it only waits for it, and ending it skips the test that wants to.
    """

    slug: ClassVar[str]
    """Part of the directory's name."""

    ending: ClassVar[signal.Signals] = signal.SIGTERM
    """Asks the server to end itself in an orderly way."""

    sudden: ClassVar[signal.Signals] = signal.SIGTERM
    """Ends the server when nobody needs its data any more."""

    patience: ClassVar[float] = 30.0
    """Seconds within which it must be ready after a start, or gone after a stop."""

    def __init__(self, origin: Origin, *, host: str = LOOPBACK, port: int = 0, given: bool = False) -> None:
        self.origin = origin
        self.host = host
        self.port = port
        self.given = given
        self.pid: int | None = None
        self.started_in: float = 0.0
        """Seconds that the last start took until the server was ready."""
        self._keeper: subprocess.Popen[bytes] | None = None
        self._directory: Path | None = None

    def __repr__(self) -> str:
        state = "given" if self.given else "running" if self.running else "not running"
        return f"<{type(self).__name__} {self.origin} at {self.host}:{self.port}, {state}>"

    # What a subclass says -----------------------------------------------------------------------------------

    @abstractmethod
    def _prepare(self, directory: Path) -> None:
        """Fill the directory before the first start."""

    @abstractmethod
    def _command(self, directory: Path) -> Sequence[str]:
        """Return what to run, with `self.port` in it."""

    def _environment(self, directory: Path) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(directory), "LC_ALL": "C.UTF-8", "TZ": "UTC"}

    def _ready(self, directory: Path) -> bool:  # noqa: ARG002 - some look into it
        return accepts(self.host, self.port)

    def _scratch(self) -> Path:
        return scratch(self.slug)

    def _user(self) -> User | None:
        """Return whom to run the server as; None for the current user."""
        return server_user()

    def _take_ports(self) -> None:
        self.port = free_port()

    # What a test does ---------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether the process that was started is still there."""
        return self.pid is not None and alive(self.pid)

    @property
    def directory(self) -> Path:
        """Where the server keeps its data and log; gone after `close`.

        A test that asks this of a server that was given by URL is skipped.
        """
        self._must_be_ours("looks into the server's directory")
        if self._directory is None:
            self._directory = self._scratch()
            self._keeper = _start_keeper(self._directory, self.sudden)
            self._prepare(self._directory)
        return self._directory

    @property
    def log(self) -> str:
        """What the server has printed."""
        path = self.directory / "log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start the server, on the data and the port that it had if it ran before, and wait until it is ready.

        Raises:
            ServerFailedError: It ended, or was not ready in time.
        """
        began = time.monotonic()
        if self.given:
            self._wait(lambda: accepts(self.host, self.port), "answer at the given URL")
            return
        if self.running:
            return
        first = self.port == 0
        for attempt in range(3):
            if first:
                self._take_ports()
            try:
                self._launch()
            except ServerFailedError:
                # Somebody else took the port, or what a killed server left has not gone yet.
                if attempt == 2:
                    raise
            else:
                break
        self.started_in = time.monotonic() - began

    def stop(self) -> None:
        """End the server in an orderly way and wait until it is gone; its data stay."""
        self._must_be_ours("stops the server")
        self._signal(self.ending)
        self._wait(lambda: not self.running, "end")
        self.pid = None

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash would, and wait until it is gone; its data stay."""
        self._must_be_ours("kills the server")
        self._signal(signal.SIGKILL)
        self._wait(lambda: not self.running, "die")
        self.pid = None

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End the server and remove its directory. Closing twice does nothing."""
        if self._keeper is not None:
            assert self._keeper.stdin is not None
            assert self._keeper.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                self._keeper.stdin.close()
            self._keeper.wait(timeout=self.patience)
            self._keeper.stdout.close()
        self._keeper = self._directory = self.pid = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # How ----------------------------------------------------------------------------------------------------

    def _must_be_ours(self, what: str) -> None:
        if self.given:
            # The same test passes on a server that the suite starts itself, so this is no failure.
            pytest.skip(f"no server: this test {what}, and {self.origin} was given by URL")

    def _launch(self) -> None:
        directory = self.directory
        user = self._user()
        order = {
            "argv": list(self._command(directory)),
            "env": self._environment(directory),
            "log": str(directory / "log"),
            "uid": user.uid if user else None,
            "gid": user.gid if user else None,
        }
        answer = self._order(order)
        if "pid" not in answer:
            raise ServerFailedError(f"{self.origin}: cannot be run: {answer['error']}")
        self.pid = int(answer["pid"])
        self._wait(lambda: not self.running or self._ready(directory), "become ready")
        if not self.running:
            raise ServerFailedError(f"{self.origin}: ended at once\n{self._log_end()}")

    def _order(self, order: dict[str, Any]) -> dict[str, Any]:
        running = self._keeper
        assert running is not None
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.write(json.dumps(order).encode() + b"\n")
        running.stdin.flush()
        answer: dict[str, Any] = json.loads(running.stdout.readline() or '{"error": "its keeper is gone"}')
        return answer

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _wait(self, done: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + self.patience
        while not done():
            if time.monotonic() > until:
                raise ServerFailedError(
                    f"{self.origin}: did not {what} in {self.patience} s\n{self._log_end()}"
                )
            time.sleep(0.005)

    def _log_end(self) -> str:
        return "" if self.given else "\n".join(self.log.splitlines()[-LOG_LINES:])


def _start_keeper(directory: Path, ending: signal.Signals) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-I", "-S", keeper.__file__, str(directory), str(int(ending))]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, bufsize=0
    )


def alive(pid: int) -> bool:
    """Tell whether a process is there; one that ended and was not collected yet counts as gone."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True

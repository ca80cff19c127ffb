"""Other Python processes that a test starts, and that are gone when it ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Start", "children"]

Start = Callable[..., "subprocess.Popen[str]"]
"""Starts Python with the arguments given, and returns the process with all three streams as text."""


@contextmanager
def children() -> Iterator[Start]:
    """Yield what starts processes, and kill them all at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(child)
        return child

    try:
        yield start
    finally:
        for child in started:
            child.kill()
            child.communicate()

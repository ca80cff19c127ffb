"""What bots meant to write, and what was acknowledged to them, in files that outlive them.

Every call is noted before it is made, and again once it has returned, by one `write` each: a process that is killed
loses neither. So of each call it is known whether it was acknowledged, was under way, or failed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from zlib import crc32

__all__ = ["Entry", "Ledger", "Notes", "number_of"]

Key = tuple[str, ...]


def number_of(name: str) -> int:
    """Return the amount, price or delta that a call of this name has: whoever reads it back knows what to expect."""
    return crc32(name.encode()) % 9_973 + 1


class Notes:
    """Writes the notes of one process.

    Args:
        path: The file; appended to if it is there.
    """

    def __init__(self, path: Path) -> None:
        self._fd: Final = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _line(self, *parts: Any) -> None:
        os.write(self._fd, json.dumps(parts).encode() + b"\n")

    def begun(self, name: str, what: str, key: Iterable[str], value: Any = None) -> None:
        """Note that a call is about to be made.

        Args:
            name: Of the call; no two have the same.
            what: Which sort of call, see `Ledger`.
            key: What it is about, the kind first.
            value: What it writes.
        """
        self._line("begun", name, what, list(key), value)

    def acked(self, name: str, version: int | None = None) -> None:
        """Note that a call has returned, with the version it told if it did."""
        self._line("acked", name, version)

    def failed(self, name: str, error: BaseException) -> None:
        """Note that a call raised."""
        self._line("failed", name, type(error).__name__, str(error))

    def wrong(self, text: str) -> None:
        """Note that what came back was not what had been written."""
        self._line("wrong", text)

    def told(self, word: str) -> None:
        """Note something about the process itself: `opened`, `closed`, `dies at ...`."""
        self._line("told", word)


@dataclass(slots=True)
class Entry:
    """One call.

    Attributes:
        name: Its name.
        what: `log` (so many new rows with its name in them), `gone` (the rows of another call are deleted), `own` (the
            state of a key that one task alone writes, call after call), `shared` (the state of a key that everybody
            writes), `delta` (added to a day under an operation id), `plain` (added to a day without one).
        key: What it is about, the kind first.
        value: How many rows, what the state is to say (None if it is to be gone), or what is added.
        acked: Whether it returned.
        version: The version it told.
        error: What it raised.
    """

    name: str
    what: str
    key: Key
    value: Any
    acked: bool = False
    version: int | None = None
    error: str | None = None


@dataclass
class Ledger:
    """The notes of all processes so far.

    Attributes:
        entries: Every call by its name, in the order they began.
        wrongs: What bots found wrong while they lived.
        told: What each process said about itself, by file name.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    wrongs: list[str] = field(default_factory=list)
    told: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, paths: Iterable[Path]) -> Ledger:
        """Return what is in some files; a last line that was cut off counts for nothing."""
        found = cls()
        for path in sorted(paths):
            said = found.told.setdefault(path.name, [])
            for line in _lines(path):
                found._take(line, said)
        return found

    def _take(self, line: list[Any], said: list[str]) -> None:
        match line:
            case ["begun", name, what, key, value]:
                self.entries[name] = Entry(name, what, tuple(key), value)
            case ["acked", name, version]:
                self.entries[name].acked, self.entries[name].version = True, version
            case ["failed", name, error, text]:
                self.entries[name].error = f"{error}: {text}"
            case ["wrong", text]:
                self.wrongs.append(text)
            case ["told", word]:
                said.append(word)
            case _:
                raise AssertionError(f"a note that nobody writes: {line}")

    def of(self, *whats: str) -> Iterator[Entry]:
        """Yield the calls of some sorts."""
        return (entry for entry in self.entries.values() if entry.what in whats)

    @property
    def acked(self) -> int:
        """How many calls were acknowledged."""
        return sum(entry.acked for entry in self.entries.values())


def _lines(path: Path) -> Iterator[list[Any]]:
    for line in path.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            yield json.loads(line)

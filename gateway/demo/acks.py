"""The acknowledgement log: what a bot was told is stored, kept apart from every store.

The bot appends a line after the gateway has acknowledged a write, never before. So after a `kill -9` the log
names writes that must not be lost, and perhaps misses the last that were stored; never the other way round.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from gateway.errors import InvalidRecordError
from gateway.records.codec import Value

__all__ = ["AckLog", "Acknowledged", "read_acks"]


class Acknowledged(msgspec.Struct, frozen=True, omit_defaults=True):
    """One acknowledged write: how to find it, and what must be there at least.

    Attributes:
        kind: Name of the record kind.
        key: Canonical key values; empty where the gateway makes the key and `where` finds the row.
        version: The version acknowledged; 0 where the call does not tell it and that the row is there is what
            counts.
        where: Fields and their canonical values, for rows found without a key.
        at_least: Counters and the value they had reached.
    """

    kind: str
    key: tuple[Value, ...] = ()
    version: int = 0
    where: Mapping[str, Value] = msgspec.field(default_factory=dict)
    at_least: Mapping[str, int] = msgspec.field(default_factory=dict)

    @property
    def label(self) -> str:
        """What people call it."""
        found_by = self.key or tuple(self.where.values())
        return f"{self.kind} {' '.join(map(str, found_by))}"


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Acknowledged).decode


class AckLog:
    """Appends acknowledgements to a file; a context manager.

    Args:
        path: The file; what is there stays.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def note(self, *acks: Acknowledged) -> None:
        """Append acknowledgements, in one system call: a killed process leaves whole lines only."""
        os.write(self._file, b"".join(_encode(ack) + b"\n" for ack in acks))
        self.count += len(acks)


def read_acks(path: Path, size: int = 500) -> Iterator[list[Acknowledged]]:
    """Yield the acknowledgements in the order they were noted, at most `size` at a time.

    Raises:
        InvalidRecordError: The file is missing or damaged, so nothing can be proved with it.
    """
    try:
        with path.open("rb") as lines:
            acks = map(_decode, lines)
            while part := list(islice(acks, size)):
                yield part
    except (OSError, msgspec.MsgspecError) as error:
        raise InvalidRecordError(
            f"{path} is no acknowledgement log ({error}); nothing can be proved without it"
        ) from error

"""Backups that no store is needed to read: lines of JSON in a gzip file, rows as canonical values.

The first line says what is in the file: the format, the moment, where it came from, and each kind with its fields.
Then comes a line for each row, `[kind, tenant, version, digest, deleted, [values]]`, with the kind's place in the
first line. The last line gives, for each kind, how many rows there are and the sum of their digests modulo 2**64.
What ends without it was cut off.

Any backend can restore such a file; no row is taken from it that does not give its digest.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Annotated, Final

import msgspec

from gateway.backend import RangeDigest
from gateway.drafts import file_error
from gateway.errors import StoreCorruptError
from gateway.records.codec import Value
from gateway.records.digest import digest_of
from gateway.records.kind import KindSpec
from gateway.records.row import Row
from gateway.upkeep import BackupReport

__all__ = [
    "SUFFIX",
    "DumpHeader",
    "DumpedKind",
    "Tally",
    "check_dump",
    "dumped",
    "is_dump",
    "rows_of",
    "write_dump",
]

SUFFIX: Final = ".jsonl.gz"
_FORMAT: Final = "storage-gateway-rows"
_VERSION: Final = 1
_MAGIC: Final = b"\x1f\x8b"
_LINE_BYTES: Final = 256 * 1024 * 1024
"""A line longer than this is none of ours: reading it would only fill the memory."""
_LEVEL: Final = 4
"""Of gzip: beyond it files hardly shrink and writing takes twice as long."""
_NAMED: Final = 20
_RANGE: Final = 2**64

_Place = Annotated[int, msgspec.Meta(ge=0)]
_Long = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""What fits into the canonical bytes. A longer number would raise where the digest is taken."""
_Values = tuple[str | _Long | float | bool | None, ...]
_Line = tuple[_Place, str, _Long, _Long, bool, _Values]


class DumpedKind(msgspec.Struct, frozen=True):
    """A kind as it was when the backup was made.

    Attributes:
        name: Its name.
        fields: Name and storage type of each stored field, in the order of the values.
    """

    name: str
    fields: tuple[tuple[str, str], ...]


class DumpHeader(msgspec.Struct, frozen=True):
    """The first line.

    Attributes:
        taken_at: The moment that the rows show, in UTC.
        source: Where they came from, for people.
        kinds: What is in it.
        format: Says that it is such a file at all.
        version: Of the format.
    """

    taken_at: Annotated[datetime, msgspec.Meta(tz=True)]
    source: str
    kinds: tuple[DumpedKind, ...]
    format: str = _FORMAT
    version: int = _VERSION


class _Trailer(msgspec.Struct, frozen=True):
    """The last line: rows, and the sum of their digests in hexadecimal, by kind."""

    totals: dict[str, tuple[int, str]]


@dataclass(slots=True)
class Tally:
    """Counts rows and sums their digests, kind by kind."""

    _rows: dict[str, int] = field(default_factory=dict)
    _sums: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, digest: int) -> None:
        """Take note of a row."""
        self._rows[kind] = self._rows.get(kind, 0) + 1
        self._sums[kind] = self._sums.get(kind, 0) + digest

    def of(self, kind: str) -> RangeDigest:
        """Return what was noted of a kind."""
        return RangeDigest(self._rows.get(kind, 0), self._sums.get(kind, 0) % _RANGE)

    def rows(self, kinds: Iterable[str]) -> dict[str, int]:
        """Return the rows of each of these kinds."""
        return {kind: self._rows.get(kind, 0) for kind in kinds}


def dumped(kind: KindSpec) -> DumpedKind:
    """Return what the first line says of a kind."""
    return DumpedKind(kind.name, tuple((spec.name, spec.storage.value) for spec in kind.fields))


def is_dump(head: bytes) -> bool:
    """Tell by the first bytes of a file whether it can be one of these."""
    return head.startswith(_MAGIC)


def write_dump(target: Path, header: DumpHeader, rows: Iterable[Row]) -> Tally:
    """Write rows, in any order, and return what was written. Reading it back is `check_dump`.

    Args:
        target: An empty file; give a draft.
        header: The first line; every row's kind must be among its kinds.
        rows: Read one by one.

    Raises:
        OSError: The file cannot be written.
    """
    places = {kind.name: place for place, kind in enumerate(header.kinds)}
    tally, encode = Tally(), msgspec.json.Encoder().encode
    with gzip.open(target, "wb", compresslevel=_LEVEL) as stream:
        stream.write(encode(header) + b"\n")
        for kind, tenant, version, digest, deleted, values in rows:
            tally.add(kind.name, digest)
            stream.write(encode((places[kind.name], tenant, version, digest, deleted, values)) + b"\n")
        found = {kind.name: tally.of(kind.name) for kind in header.kinds}
        totals = {name: (one.rows, f"{one.total:016x}") for name, one in found.items()}
        stream.write(encode(_Trailer(totals)) + b"\n")
    return tally


def check_dump(source: Path, kinds: Iterable[KindSpec] = ()) -> BackupReport:
    """Read a backup from end to end; check every row against its digest, and all of them against the last line.

    No kind needs to be registered for that.

    Args:
        source: The file.
        kinds: Those that are registered; a kind whose fields changed beyond what a restore can do is a problem.

    Raises:
        StoreCorruptError: It is no such file, or one of a later release.
        StoreError: It cannot be read.
    """
    reader = _Reader(source)
    tally, problems = Tally(), _Problems()
    for name, row in reader.rows(problems):
        tally.add(name, row[3])
        if row[3] != digest_of(name, row[1], row[2], row[4], row[5]):
            problems.add(f"a row of {name} does not give its digest (version {row[2]})")
    header = reader.header
    problems.extend(_differences(header, tally, reader.trailer))
    present = [kind for kind in header.kinds if tally.of(kind.name).rows]
    problems.extend(_changes(present, kinds))
    names = [kind.name for kind in header.kinds]
    return BackupReport(
        source, header.taken_at, source.stat().st_size, tally.rows(names), problems.sentences()
    )


def rows_of(source: Path, kinds: Iterable[KindSpec]) -> Iterator[Row]:
    """Yield the rows of a backup as rows of the kinds that are registered now.

    Raises:
        StoreCorruptError: The file or a row is damaged, or a row belongs to a kind that is not registered or has
            changed. It may come at the very end, so what was done with the rows must be undone then.
        StoreError: It cannot be read.
    """
    registered = {kind.name: kind for kind in kinds}
    reader, tally, problems = _Reader(source), Tally(), _Problems()
    for name, (_, tenant, version, digest, deleted, values) in reader.rows(problems):
        kind = registered.get(name)
        if kind is None:
            raise StoreCorruptError(f"{source}: rows of {name}, which nobody registered, are in it")
        row = Row(kind, tenant, version, digest, deleted, _filled(values, kind))
        if not row.intact:
            raise StoreCorruptError(f"{source}: a row of {name} does not give its digest (version {version})")
        tally.add(name, digest)
        yield row
    problems.extend(_differences(reader.header, tally, reader.trailer))
    if found := problems.sentences():
        raise StoreCorruptError(f"{source}: {'; '.join(found)}")


def _filled(values: Sequence[Value], kind: KindSpec) -> tuple[Value, ...]:
    """Return values with None for the fields that a kind gained at its end, which leaves digests as they were."""
    return (*values, *(None for _ in range(len(kind.fields) - len(values))))


def _changes(present: Iterable[DumpedKind], kinds: Iterable[KindSpec]) -> Iterator[str]:
    registered = {kind.name: dumped(kind).fields for kind in kinds}
    for kind in present:
        now = registered.get(kind.name, kind.fields)
        if now[: len(kind.fields)] != kind.fields:
            yield (
                f"the fields of {kind.name} have changed since, other than by new ones at the end; restore it with "
                "the release that made it, and upgrade afterwards"
            )


def _differences(header: DumpHeader, tally: Tally, trailer: _Trailer | None) -> Iterator[str]:
    if trailer is None:
        yield "the end of the file is missing: it was cut off, or was not written to its end"
        return
    for kind in header.kinds:
        found = tally.of(kind.name)
        rows, total = trailer.totals.get(kind.name, (0, "0" * 16))
        if (found.rows, f"{found.total:016x}") != (rows, total):
            yield (
                f"{kind.name}: {found.rows:,} rows with the digest sum {found.total:016x} are in it, and its last "
                f"line says {rows:,} and {total}"
            )


class _Problems:
    """Sentences, the first few of them; the rest are counted."""

    def __init__(self) -> None:
        self._kept: list[str] = []
        self._more = 0

    def add(self, sentence: str) -> None:
        """Take note of one."""
        if len(self._kept) < _NAMED:
            self._kept.append(sentence)
        else:
            self._more += 1

    def extend(self, sentences: Iterable[str]) -> None:
        """Take note of several."""
        for sentence in sentences:
            self.add(sentence)

    def sentences(self) -> tuple[str, ...]:
        """Return them."""
        return (*self._kept, f"and {self._more:,} more") if self._more else tuple(self._kept)


class _Reader:
    """Reads a file once, line by line.

    Attributes:
        header: The first line.
        trailer: The last line, once it was reached.
    """

    def __init__(self, source: Path) -> None:
        self._source = source
        self.trailer: _Trailer | None = None
        with self._opened() as stream:
            self.header = self._header(stream)

    def rows(self, problems: _Problems) -> Iterator[tuple[str, _Line]]:
        """Yield each row with the name of its kind. What is damaged is noted; what cannot be unpacked ends it."""
        decode = msgspec.json.Decoder(_Line).decode
        kinds = self.header.kinds
        with self._opened() as stream:
            stream.readline(_LINE_BYTES)
            for number in count(2):
                line = self._line(stream, number, problems)
                if not line:
                    return
                if self.trailer is not None:
                    problems.add(f"line {number} follows what should be the last")
                    return
                if line.startswith(b"{"):
                    self.trailer = self._trailer(line, problems)
                    continue
                try:
                    row = decode(line)
                    name, width = kinds[row[0]].name, len(kinds[row[0]].fields)
                except (msgspec.MsgspecError, IndexError):
                    problems.add(f"line {number} is no row")
                    continue
                if len(row[5]) != width:
                    problems.add(f"line {number} has {len(row[5])} values, and {name} has {width} fields")
                    continue
                yield name, row

    def _line(self, stream: gzip.GzipFile, number: int, problems: _Problems) -> bytes:
        try:
            return stream.readline(_LINE_BYTES)
        except (EOFError, OSError, zlib.error) as error:
            problems.add(f"it cannot be unpacked from line {number} on ({error})")
            return b""

    def _trailer(self, line: bytes, problems: _Problems) -> _Trailer | None:
        try:
            return msgspec.json.decode(line, type=_Trailer)
        except msgspec.MsgspecError:
            problems.add("its last line cannot be read")
            return None

    def _header(self, stream: gzip.GzipFile) -> DumpHeader:
        try:
            header = msgspec.json.decode(stream.readline(_LINE_BYTES), type=DumpHeader)
            header.taken_at.astimezone(UTC)  # raises for a year that has no such time
        except (EOFError, zlib.error, gzip.BadGzipFile, msgspec.MsgspecError, OverflowError) as error:
            raise StoreCorruptError(
                f"{self._source} is no backup in rows, or its beginning is damaged; `gateway backup list` names "
                "those there are"
            ) from error
        if header.format != _FORMAT or header.version > _VERSION:
            raise StoreCorruptError(
                f"{self._source} is a backup of format {header.format} {header.version}, and this release reads "
                f"{_FORMAT} up to {_VERSION}: upgrade storage-gateway"
            )
        return header

    @contextmanager
    def _opened(self) -> Iterator[gzip.GzipFile]:
        try:
            with gzip.open(self._source, "rb") as stream:
                yield stream
        except OSError as error:
            raise file_error(error, self._source) from error

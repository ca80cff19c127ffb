"""Backups in rows: exact, and no damage goes unnoticed."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.dump import DumpHeader, check_dump, dumped, rows_of, write_dump
from gateway.errors import StoreCorruptError, StoreError
from gateway.records import KindSpec, Row, Text, Time, Trade
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.codec import json_text, money_text
from gateway.records.kind import FieldSpec, LogRecord
from gateway.records.stamp import Stamper, row_of
from gateway.records.types import StorageType

NOW = datetime(2026, 11, 21, tzinfo=UTC)
TRADES = next(kind for kind in BUILTIN_KINDS if kind.name == "trades")
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
VALUES: dict[StorageType, st.SearchStrategy[Any]] = {
    StorageType.TEXT: TEXT,
    StorageType.INTEGER: st.integers(-(2**63), 2**63 - 1),
    StorageType.FLOAT: st.floats(allow_nan=False, allow_infinity=False).map(lambda value: value + 0.0),
    StorageType.BOOLEAN: st.booleans(),
    StorageType.MONEY: st.decimals(-(10**29), 10**29, places=18).map(money_text),
    StorageType.TIME: st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999),
    StorageType.JSON: st.dictionaries(TEXT, st.floats(allow_nan=False, allow_infinity=False) | TEXT).map(
        json_text
    ),
}


def _value(spec: FieldSpec) -> st.SearchStrategy[Any]:
    return st.none() | VALUES[spec.storage] if spec.nullable else VALUES[spec.storage]


@st.composite
def rows(draw: st.DrawFn) -> Row:
    """Draw a row of any built-in kind, of any tenant."""
    kind = draw(st.sampled_from(BUILTIN_KINDS))
    values = [draw(_value(spec)) for spec in kind.fields]
    tenant = draw(st.uuids().map(str))
    return row_of(kind, tenant, draw(st.integers(0, 2**63 - 1)), values, deleted=draw(st.booleans()))


def _header(kinds: tuple[KindSpec, ...] = BUILTIN_KINDS) -> DumpHeader:
    return DumpHeader(NOW, "test", tuple(map(dumped, kinds)))


@given(st.lists(rows(), max_size=8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
def test_every_value_of_every_type_comes_back(tmp_path: Path, given_rows: list[Row]) -> None:
    """Rows read from a backup are the rows that went in, and the backup verifies."""
    file = tmp_path / "x.jsonl.gz"
    write_dump(file, _header(), given_rows)
    assert list(rows_of(file, BUILTIN_KINDS)) == given_rows
    report = check_dump(file)
    assert report.problems == ()
    assert report.taken_at == NOW
    assert sum(report.rows.values()) == len(given_rows)


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """A backup of five trades."""
    stamper, file = Stamper(), tmp_path / "trades.jsonl.gz"
    made = [
        stamper.stamp(
            TRADES,
            Trade(
                timestamp=NOW,
                market_name=f"M{number}",
                action="buy",
                side="YES",
                price=Decimal("0.5"),
                amount=Decimal(1),
            ),
        )
        for number in range(5)
    ]
    write_dump(file, _header(), made)
    return file


def _changed(file: Path, change: Callable[[list[bytes]], list[bytes]]) -> Path:
    lines = gzip.decompress(file.read_bytes()).splitlines()
    file.write_bytes(gzip.compress(b"\n".join(change(lines)) + b"\n"))
    return file


def _edit(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[1].replace(b"M0", b"M9"), *lines[2:]]


def _replaced(line: bytes, place: int, value: object) -> bytes:
    row = json.loads(line)
    row[place] = value
    return json.dumps(row).encode()


DAMAGES: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "an edited value": _edit,
    "a lost row": lambda lines: [*lines[:2], *lines[3:]],
    "a doubled row": lambda lines: [*lines[:2], lines[1], *lines[2:]],
    "a lost end": lambda lines: lines[:-1],
    "no rows and no end": lambda lines: lines[:1],
    "a line of rubbish": lambda lines: [*lines[:2], b"rubbish", *lines[2:]],
    "a row of no kind": lambda lines: [*lines[:2], b"[999" + lines[2][2:], *lines[3:]],
    "too few values": lambda lines: [*lines[:2], b'[0,"t",1,1,false,[]]', *lines[3:]],
    "a version beyond all": lambda lines: [*lines[:2], _replaced(lines[2], 2, 10**30), *lines[3:]],
    "a value beyond all": lambda lines: [*lines[:2], _replaced(lines[2], 5, [10**30] * 16), *lines[3:]],
    "a place below none": lambda lines: [*lines[:2], _replaced(lines[2], 0, -1), *lines[3:]],
    "a row behind the end": lambda lines: [*lines, lines[1]],
    "a trailer of rubbish": lambda lines: [*lines[:-1], b"{}"],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found(backup: Path, damage: str) -> None:
    """Whatever was done to the lines, the backup no longer verifies, and reading its rows ends in an error."""
    _changed(backup, DAMAGES[damage])
    assert check_dump(backup, BUILTIN_KINDS).problems
    with pytest.raises(StoreCorruptError):
        list(rows_of(backup, BUILTIN_KINDS))


def test_every_cut_is_found(backup: Path) -> None:
    """Wherever the file ends too early, it does not verify."""
    whole = backup.read_bytes()
    for length in range(0, len(whole), 7):
        backup.write_bytes(whole[:length])
        try:
            assert check_dump(backup).problems, length
        except StoreCorruptError:
            continue


def test_a_flipped_byte_is_found(backup: Path) -> None:
    """Wherever a byte changes behind the name that gzip keeps, the file does not verify."""
    whole = backup.read_bytes()
    for position in range(20 + len(backup.name), len(whole), 11):
        backup.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        try:
            assert check_dump(backup).problems, position
        except StoreCorruptError:
            continue


def test_other_files_are_refused(tmp_path: Path) -> None:
    """A file of another kind, one of a later format, and a missing one are errors with a sentence."""
    file = tmp_path / "x"
    for content in (b"", b"text", gzip.compress(b""), gzip.compress(b"text\n"), gzip.compress(b"{}\n")):
        file.write_bytes(content)
        with pytest.raises(StoreCorruptError):
            check_dump(file)
    header = {
        "format": "storage-gateway-rows",
        "version": 99,
        "taken_at": "2026-01-01T00:00:00Z",
        "source": "",
        "kinds": [],
    }
    file.write_bytes(gzip.compress(json.dumps(header).encode() + b"\n"))
    with pytest.raises(StoreCorruptError, match="upgrade"):
        check_dump(file)
    for moment in ("2026-01-01T00:00:00", "0001-01-01T00:00:00+23:00", "now"):
        other = header | {"version": 1, "taken_at": moment}
        file.write_bytes(gzip.compress(json.dumps(other).encode() + b"\n"))
        with pytest.raises(StoreCorruptError, match="damaged"):
            check_dump(file)
    with pytest.raises(StoreError):
        check_dump(tmp_path / "missing")


class Parcel(LogRecord):
    """A kind of a third party."""

    at: Time
    label: Text


class LabelledParcel(LogRecord):
    """The same kind in its next release, with a field more at its end."""

    at: Time
    label: Text
    note: Annotated[str | None, StorageType.TEXT] = None


class TurnedParcel(LogRecord):
    """A release that moved a field."""

    label: Text
    at: Time


def _kind(model: type[LogRecord]) -> KindSpec:
    return KindSpec("parcels", model, time_field="at")


def test_a_kind_that_gained_a_field_is_restored(tmp_path: Path) -> None:
    """Its older rows keep their digests; the new field is empty."""
    old, new = _kind(Parcel), _kind(LabelledParcel)
    row = Stamper().stamp(old, Parcel(at=NOW, label="x"))
    file = tmp_path / "x"
    write_dump(file, _header((old,)), [row])
    assert check_dump(file, [new]).ok
    (restored,) = rows_of(file, [new])
    assert restored.values == (*row.values, None)
    assert restored.intact


def test_a_kind_that_changed_otherwise_is_refused(tmp_path: Path) -> None:
    """Before anything is restored: its rows would not give their digests any more."""
    old = _kind(Parcel)
    file = tmp_path / "x"
    write_dump(file, _header((old,)), [Stamper().stamp(old, Parcel(at=NOW, label="x"))])
    assert check_dump(file).ok
    (problem,) = check_dump(file, [_kind(TurnedParcel)]).problems
    assert "parcels" in problem
    with pytest.raises(StoreCorruptError, match="parcels"):
        list(rows_of(file, BUILTIN_KINDS))

"""Stored values as people and scripts read them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.exits import report
from gateway.cli.values import cell, fields_of, meta_of, readable, size_text
from gateway.records import POSITIONS, Position
from gateway.records.stamp import Stamper
from gateway.records.types import StorageType


def test_a_row_is_shown_with_readable_times_exact_money_and_json() -> None:
    """Times are ISO 8601 in UTC, money is exact text, JSON is JSON."""
    record = Position(
        condition_id="m",
        side="YES",
        entry_price=Decimal("0.10"),
        opened_at=datetime(2026, 1, 1, tzinfo=UTC),
        extra={"a": [1]},
    )
    row = Stamper().stamp(POSITIONS, record)
    shown = fields_of(row)
    assert shown["opened_at"] == "2026-01-01T00:00:00.000000Z"
    assert shown["entry_price"] == "0.1"
    assert shown["extra"] == {"a": [1]}
    assert json.loads(json.dumps(meta_of(row)))["version"] == row.version


@pytest.mark.parametrize(
    ("storage", "value"), [(StorageType.TIME, 2**62), (StorageType.JSON, "{torn"), (StorageType.TIME, "text")]
)
def test_a_damaged_value_is_shown_as_it_is(storage: StorageType, value: str | int) -> None:
    """What a field should not hold is not hidden behind an error."""
    assert readable(storage, value) == value


@given(st.text())
def test_no_cell_holds_a_control_character(text: str) -> None:
    """A stored value cannot move the cursor or change the colours of the operator's terminal."""
    assert cell(text).isprintable()


@given(st.text(st.characters(categories=["L", "N", "P"])))
def test_printable_text_is_shown_unchanged(text: str) -> None:
    """Letters of any script come through."""
    assert cell(text) == text


def test_an_error_stays_on_one_line_and_cannot_command_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Errors may quote what is stored or typed, control characters included."""
    report("StoreError", "line one\nline two \x1b[31m", 3, as_json=False)
    assert capsys.readouterr().err == "error: line one\\nline two \\x1b[31m\n"


def test_sizes_are_told_in_units_for_people() -> None:
    """Bytes become the largest fitting unit."""
    assert [size_text(size) for size in (None, 0, 1023, 1536, 5 * 1024**3)] == [
        "",
        "0 B",
        "1023 B",
        "1.5 KiB",
        "5.0 GiB",
    ]

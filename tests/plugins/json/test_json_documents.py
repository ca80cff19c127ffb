from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import SchemaTooNewError, StoreCorruptError
from gateway.records import BOT_STATE, ORDER_BOOK_SNAPSHOTS, POSITIONS, TRADES, Row
from gateway.records.codec import codec_of
from gateway.records.stamp import DEFAULT_TENANT, row_of
from gateway_json.documents import Marker, document_of, marker_line, row_line

TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@given(TEXT, TEXT, st.integers(-(2**63), 2**63 - 1), st.dictionaries(TEXT, JSON, max_size=5), st.booleans())
def test_states_come_back_exactly(
    bot: str, tenant: str, cycle: int, data: dict[str, object], pretty: bool
) -> None:
    """Any row is read back as it was written, down to the spelling of every number in its JSON."""
    fields = {"bot_id": bot, "name": "x", "cycle": cycle, "data": data}
    values = [codec_of(BOT_STATE).encode_field(spec.name, fields.get(spec.name)) for spec in BOT_STATE.fields]
    row = row_of(BOT_STATE, tenant, 2**62, values)
    document = document_of(BOT_STATE)
    back = document.decode(document.pretty(row) if pretty else document.line(row), "here", tenant)
    assert back == row
    assert isinstance(back, Row)
    assert back.intact


@given(st.lists(st.tuples(FLOATS, FLOATS), max_size=5), FLOATS, st.integers(-(10**15), 10**15))
def test_floats_and_levels_come_back_exactly(
    levels: list[tuple[float, float]], ask: float, when: int
) -> None:
    """Binary floats and order book levels keep every bit."""
    fields = {"record_id": "r", "best_ask_yes": ask, "bids": levels}
    values = [
        codec_of(ORDER_BOOK_SNAPSHOTS).encode_field(f.name, fields.get(f.name))
        for f in ORDER_BOOK_SNAPSHOTS.fields
    ]
    values[ORDER_BOOK_SNAPSHOTS.index("timestamp")] = when
    row = row_of(ORDER_BOOK_SNAPSHOTS, DEFAULT_TENANT, 7, values)
    assert document_of(ORDER_BOOK_SNAPSHOTS).decode(row_line(row), "here", DEFAULT_TENANT) == row


def test_a_document_is_for_people(position: Callable[..., Row]) -> None:
    """A state file shows the record's own names, ISO times, money as text and JSON as JSON."""
    content = json.loads(document_of(POSITIONS).pretty(position(extra={"ladder": [1, 2.5]})))
    assert content["opened_at"] == "2026-03-12T12:00:00.000000Z"
    assert content["entry_price"] == "0.28"
    assert content["extra"] == {"ladder": [1, 2.5]}
    assert content["_deleted"] is False
    assert "_tenant" not in content


def test_an_edited_row_is_served_but_not_intact(position: Callable[..., Row]) -> None:
    """A person's edit is served in canonical values, and its digest gives it away."""
    row = position(extra={"b": 1, "a": 2})
    content = json.loads(document_of(POSITIONS).pretty(row)) | {"entry_price": 0.290, "amount": "5.00"}
    back = document_of(POSITIONS).decode(json.dumps(content, indent=4).encode(), "here", row.tenant)
    assert isinstance(back, Row)
    assert not back.intact
    assert back.stamp == row.stamp
    assert back.values[POSITIONS.index("amount")] == "5"
    assert back.record().entry_price == Decimal("0.29")  # type: ignore[attr-defined]  # decoded by kind


@pytest.mark.parametrize(
    "change",
    [
        {"entry_price": "much"},
        {"is_open": "yes"},
        {"opened_at": "2026-03-12T12:00:00"},
        {"_version": "x"},
        {"_digest": 2**70},
    ],
)
def test_values_that_are_none_are_corrupt(position: Callable[..., Row], change: dict[str, object]) -> None:
    """A value of the wrong kind is reported with the file's name, not guessed at."""
    row = position()
    content = json.loads(document_of(POSITIONS).pretty(row)) | change
    with pytest.raises(StoreCorruptError, match=r"here.*correct it by hand"):
        document_of(POSITIONS).decode(json.dumps(content).encode(), "here", row.tenant)


def test_an_unknown_field_is_not_dropped(position: Callable[..., Row]) -> None:
    """A field that this gateway does not know means a newer one wrote it; dropping it would lose data."""
    row = position()
    content = json.loads(document_of(POSITIONS).pretty(row)) | {"leverage": 3}
    with pytest.raises(SchemaTooNewError, match="leverage"):
        document_of(POSITIONS).decode(json.dumps(content).encode(), "here", row.tenant)


def test_another_tenants_row_is_refused(position: Callable[..., Row]) -> None:
    """A file copied into another tenant's directory is not served as that tenant's."""
    row = position()
    with pytest.raises(StoreCorruptError, match="tenant"):
        document_of(POSITIONS).decode(document_of(POSITIONS).pretty(row), "here", "other")


def test_markers_come_back() -> None:
    """A marker line is read as a marker."""
    marker = Marker("r1", (5, -9), "2026-03-13")
    assert document_of(TRADES).decode(marker_line(marker), "here", DEFAULT_TENANT) == marker

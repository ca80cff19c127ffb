"""Record kinds: what a declaration must be, and kinds that bots and third parties bring."""

from __future__ import annotations

import typing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gateway import Gateway, fields
from gateway.backend import BackendSettings
from gateway.errors import ConfigurationError, UnknownKindError
from gateway.hookspecs import hookimpl
from gateway.records import (
    Alert,
    Comparison,
    Durability,
    Event,
    Flag,
    Json,
    KindRegistry,
    KindSpec,
    LogRecord,
    Money,
    OrderBookSnapshot,
    Position,
    Record,
    Shape,
    StorageType,
    Text,
    Time,
    Trade,
    record_kind,
    registry,
)
from gateway.records.builtin import BUILTIN_KINDS


class Funding(Record):
    """A state with two key fields, as a bot might declare it."""

    venue: Text
    symbol: Text
    rate: Money
    paid_at: Time | None = None
    live: Flag = True
    raw: Json | None = None


class Note(LogRecord):
    """A log without a time."""

    text: Text


class Loose(Record):
    """A model with a field that no store has a column for."""

    key: Text
    value: complex


def funding(**options: Any) -> KindSpec:
    """Return a declaration that is right but for the options given."""
    base: dict[str, Any] = {"key": ("venue", "symbol"), "shape": Shape.STATE}
    return KindSpec("funding", Funding, **{**base, **options})


def test_fields_are_derived_from_the_model() -> None:
    """The key comes first, each field has its storage, and only optional ones may be None."""
    kind = funding()
    assert [(spec.name, spec.storage, spec.nullable) for spec in kind.fields] == [
        ("venue", StorageType.TEXT, False),
        ("symbol", StorageType.TEXT, False),
        ("rate", StorageType.MONEY, False),
        ("paid_at", StorageType.TIME, True),
        ("live", StorageType.BOOLEAN, False),
        ("raw", StorageType.JSON, True),
    ]
    assert kind.order == ("venue", "symbol")


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda: funding(key=("venue", "coin")), "key field 'coin' is not a field of Funding"),
        (lambda: funding(key=()), "it has no key"),
        (lambda: funding(key=("rate",)), "key fields must be Text, Count or Time"),
        (lambda: funding(shape=Shape.LOG), "a log is identified by record_id"),
        (lambda: funding(time_field="venue"), "must be a field of type Time"),
        (lambda: funding(retention=timedelta(days=1)), "retention needs a time field"),
        (lambda: funding(time_field="paid_at", retention=timedelta(0)), "retention must be positive"),
        (lambda: funding(indexes=(("coin",),)), r"it names the field \['coin'\]"),
        (
            lambda: funding(comparison=Comparison(ignore=frozenset({"coin"}))),
            r"it names the field \['coin'\]",
        ),
        (lambda: KindSpec("Funding", Funding, key=("venue",), shape=Shape.STATE), "lower case letters"),
        (lambda: KindSpec("fun__ding", Funding, key=("venue",), shape=Shape.STATE), "single underscores"),
        (lambda: KindSpec("notes", Note), "a log needs a time field"),
        (
            lambda: KindSpec("loose", Loose, key=("key",), shape=Shape.STATE),
            "field 'value' has no storage type",
        ),
    ],
)
def test_a_wrong_declaration_says_what_is_wrong(declare: Any, says: str) -> None:
    """A declaration that no store could serve is refused where it is made, with the kind's name."""
    with pytest.raises(ConfigurationError, match=says):
        declare()


def test_a_registry_refuses_a_second_kind_of_a_name_or_a_model() -> None:
    """Two plugins cannot bring the same kind without anybody noticing; the same object twice is one."""
    kind = funding()
    kinds = KindRegistry([(kind, "first")])
    kinds.add(kind, "again")
    assert len(kinds) == 1
    with pytest.raises(ConfigurationError, match="brought by both first and second"):
        kinds.add(funding(), "second")
    with pytest.raises(ConfigurationError, match="share the model Funding"):
        kinds.add(KindSpec("rates", Funding, key=("venue",), shape=Shape.STATE), "second")
    with pytest.raises(UnknownKindError, match="known kinds: funding"):
        kinds.get("fundings")
    with pytest.raises(UnknownKindError, match="Note belongs to no registered record kind"):
        kinds.of(Note)


def test_built_in_kinds_have_names_of_their_own_and_companions_that_exist() -> None:
    """No two built-in kinds collide, and every companion names its leader."""
    kinds = KindRegistry((kind, "builtin") for kind in BUILTIN_KINDS)
    assert len(kinds) == len(BUILTIN_KINDS)
    assert all(kind.companion_of is None or kind.companion_of in kinds for kind in BUILTIN_KINDS)


class Signal(Record):
    """A kind that a bot declares itself."""

    name: Text
    strength: Money
    seen_at: Time


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Declare the kinds as a bot's module does, and forget them afterwards: other tests have bots of their own."""
    monkeypatch.setattr(registry, "_DECLARED", dict(registry._DECLARED))
    record_kind("unit_test_signals", key=("name",), shape=Shape.STATE)(Signal)
    record_kind("unit_test_pulses", time_field="at", durability=Durability.BUFFERED)(Pulse)


class ThirdParty:
    """A plugin that brings a kind by hook."""

    kind = KindSpec("unit_test_funding", Funding, key=("venue", "symbol"), shape=Shape.STATE)

    @hookimpl
    def gateway_record_kinds(self) -> list[KindSpec]:
        """Bring the kind."""
        return [self.kind]


@pytest.mark.anyio
@pytest.mark.usefixtures("declared")
@pytest.mark.parametrize("backends", ["memory", "sqlite", "json", "json,sqlite"])
async def test_kinds_by_decorator_and_by_hook_are_stored_like_any_other(
    backends: str, tmp_path: Path
) -> None:
    """Both are put, found, queried and still there after reopening, on every store."""
    now = datetime(2026, 3, 12, 11, 6, 41, 532199, tzinfo=UTC)
    signal = Signal(name="cross", strength=Decimal("0.75"), seen_at=now)

    def opened() -> Gateway:
        return Gateway(backends, data_dir=tmp_path, environ={}, env_file=None, plugins=[ThirdParty()])

    async with opened() as gateway:
        await gateway.put(signal)
        await gateway.put("unit_test_funding", venue="b/1", symbol="BTC", rate="0.0001", raw={"a": [1, None]})
        assert await gateway.get("unit_test_signals", "cross") == signal
    if backends == "memory":
        return
    async with opened() as gateway:
        assert await gateway.query("unit_test_signals", where={"strength__gt": 0.5}) == [signal]
        (found,) = await gateway.query("unit_test_funding")
        assert found == Funding(venue="b/1", symbol="BTC", rate=Decimal("0.0001"), raw={"a": [1, None]})


class Pulse(LogRecord):
    """A kind that is written many times a second."""

    at: Time
    beat: Text


@pytest.mark.anyio
@pytest.mark.usefixtures("declared")
async def test_a_kind_of_ones_own_can_be_buffered(tmp_path: Path) -> None:
    """Put returns at once with the id; the rows are stored together on flush and on close."""
    async with Gateway("sqlite", data_dir=tmp_path, environ={}, env_file=None) as gateway:
        ack = await gateway.put("unit_test_pulses", beat="one")
        assert (ack.primary, len(gateway.buffer)) == ("", 1)
        assert await gateway.query("unit_test_pulses") == []
        await gateway.flush()
        (stored,) = await gateway.query("unit_test_pulses")
        assert dict(stored)["record_id"] == ack.record_id
        await gateway.put("unit_test_pulses", beat="two")
    async with Gateway("sqlite", data_dir=tmp_path, environ={}, env_file=None) as gateway:
        assert len(await gateway.query("unit_test_pulses")) == 2


@pytest.mark.usefixtures("declared")
def test_declaring_a_name_for_two_models_is_refused() -> None:
    """A bot that reuses a name by mistake learns it when its module is loaded."""

    class Other(Record):
        name: Text

    with pytest.raises(ConfigurationError, match="'unit_test_signals' is declared twice"):
        record_kind("unit_test_signals", key=("name",), shape=Shape.STATE)(Other)


@pytest.mark.parametrize(
    ("typed", "model"),
    [
        (fields.TradeFields, Trade),
        (fields.PositionFields, Position),
        (fields.EventFields, Event),
        (fields.AlertFields, Alert),
        (fields.SnapshotFields, OrderBookSnapshot),
    ],
)
def test_the_typed_keyword_arguments_are_the_record_s_fields(typed: Any, model: type[Record]) -> None:
    """What type checkers accept is what the record takes."""
    assert set(typing.get_type_hints(typed)) == set(model.model_fields)


def test_backend_settings_do_not_show_passwords() -> None:
    """A URL with a password is shown without it, wherever settings are printed."""
    settings = BackendSettings(url="postgresql://bot:hunter2@db.example/trades")
    assert "hunter2" not in repr(settings)
    assert "db.example" in repr(settings)

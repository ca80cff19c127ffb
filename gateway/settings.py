"""Every setting of the gateway itself, with its unit and its default. Backends declare their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path, PurePath
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from gateway.errors import ConfigurationError
from gateway.lanes.outcomes import FullPolicy
from gateway.migration.phases import Phase
from gateway.mirror.bounds import JournalPolicy
from gateway.records.stamp import DEFAULT_TENANT
from gateway.redaction import redact
from gateway.routing import MirrorMode
from gateway.shadow.sampling import parse_rates, rates_text
from gateway.telemetry import checked_endpoint, parse_exporters

__all__ = ["ALIASES", "PREFIX", "GatewaySettings", "variables_of"]

PREFIX: Final = "STORAGE_"

ALIASES: Final[Mapping[str, tuple[str, ...]]] = {"environment": ("ENVIRONMENT", "RAILWAY_ENVIRONMENT")}
"""Variables without the prefix that mean a setting, in the order they are asked."""

_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def _rates(value: Any) -> str:
    """Return shares of reads in one spelling: `5%` as 0.05."""
    try:
        return rates_text(parse_rates(str(value)))
    except ConfigurationError as error:
        raise ValueError(f"must be shares such as 1%,trades:100%: {error}") from None


def _listed(value: Any) -> Any:
    """Read a comma list."""
    return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value


def _joined(value: Any) -> Any:
    """Take a list of backends where one text is wanted, for callers that write Python."""
    return ",".join(map(str, value)) if isinstance(value, Iterable) and not isinstance(value, str) else value


def _spelled(value: Any) -> Any:
    """Take a path or a UUID where text is wanted, for callers that write Python."""
    return str(value) if isinstance(value, PurePath | UUID) else value


def _duration(value: Any) -> Any:
    """Read `7d` as 604,800 seconds; a number is seconds."""
    if not isinstance(value, str):
        return value.total_seconds() if isinstance(value, timedelta) else value
    text = value.strip().lower()
    try:
        return float(text[:-1]) * _UNITS[text[-1]] if text[-1:] in _UNITS else float(text)
    except ValueError:
        raise ValueError("must be seconds, or a number with s, m, h or d, such as 7d") from None


def _exporters(value: Any) -> str:
    """Return what gets traces and metrics in one spelling."""
    try:
        return ",".join(sorted(parse_exporters(str(value)))) or "off"
    except ConfigurationError as error:
        raise ValueError(str(error).partition(" ")[2]) from None


def _endpoint(value: Any) -> Any:
    """Return the base URL of a collector, which may hold no secret."""
    try:
        return checked_endpoint(value) if isinstance(value, str) else value
    except ConfigurationError as error:
        raise ValueError(str(error).partition(" ")[2]) from None


def _lowered(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def _home_expanded(path: Path) -> Path:
    """Return a path with `~` replaced.

    Raises:
        ValueError: It names the home directory of nobody.
    """
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError(
            "begins with the home directory of somebody who has none here; write the path out"
        ) from None


Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Rows = Annotated[int, Field(ge=1, le=10_000_000)]
Policy = Annotated[FullPolicy, BeforeValidator(_lowered)]


class GatewaySettings(BaseSettings):
    """Settings of the gateway. Each field is read from `STORAGE_<FIELD>`; `gateway.config` does the reading.

    The variables are resolved outside, by `load_configuration`, and handed in: that keeps where each value
    came from, and keeps the process environment out of everything that did not ask for it.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=False
    )

    backends: Annotated[str | None, BeforeValidator(_joined)] = Field(
        default=None,
        description="Comma list of `[instance=]backend[:location]`, one store or two, the old one first, "
        "and a cache behind them if there is one. Unset means sqlite under STORAGE_DATA_DIR.",
    )
    data_dir: Path = Field(
        default=Path("storage"),
        description="Directory of stores that have no location of their own, and of the control store.",
    )
    backup_dir: Path | None = Field(
        default=None, description="Directory of backups. Unset means backups under STORAGE_DATA_DIR."
    )
    phase: Annotated[Phase | None, BeforeValidator(_lowered)] = Field(
        default=None,
        description="Phase of every kind: legacy, dual_write, shadow_read, cutover or complete. "
        "Unset means dual_write with two stores and legacy with one.",
    )
    cutover: str = Field(
        default="",
        description="Kinds that the new store leads ahead of the phase, whole or for a share of their keys: "
        "`trades,positions:25%`.",
    )
    places: str = Field(
        default="",
        description="Kinds that live in one store, or in both, whatever the phase of the others: "
        "`tick_prices:questdb,trades:postgres+questdb`. Of two stores the first leads.",
    )
    shadow_sample: Annotated[str, BeforeValidator(_rates)] = Field(
        default="0.01",
        description="Share of reads that are repeated on the shadow store and compared: 0 to 1, or a "
        "percentage; and of kinds with their own, as in `1%,trades:100%,order_book_snapshots:0`.",
    )
    shadow_timeout: Seconds = Field(
        default=2.0, description="Seconds after which a shadow read counts as timed out."
    )
    mirror_mode: str = Field(
        default=MirrorMode.JOURNALED.value,
        description="How the mirror is written: journaled (at once, but nobody waits for it, and what it misses is "
        "kept until it has it), sync (the caller waits for both) or off. Kinds may have their own: "
        "`journaled,trades:sync,order_book_snapshots:off`.",
    )
    journal_rows: Rows = Field(
        default=1_000_000,
        description="Changes that may wait for a mirror before STORAGE_JOURNAL_POLICY applies.",
    )
    journal_age: Annotated[
        float, BeforeValidator(_duration), Field(gt=0, le=366 * 86_400, allow_inf_nan=False)
    ] = Field(
        default=7 * 86_400.0,
        description="How long a change may wait for a mirror before STORAGE_JOURNAL_POLICY applies: seconds, or "
        "with a unit, such as `12h` or `7d`.",
    )
    journal_policy: Annotated[JournalPolicy, BeforeValidator(_lowered)] = Field(
        default=JournalPolicy.BLOCK,
        description="What happens then: block (writes of mirrored kinds wait, then fail with JournalFullError) or "
        "degrade (the mirror is given up until `gateway copy` has brought it what it lacks).",
    )
    tenant: Annotated[str, BeforeValidator(_spelled)] = Field(
        default=DEFAULT_TENANT, description="UUID of the tenant whose rows are written and read."
    )
    control_url: Annotated[str | None, BeforeValidator(_spelled)] = Field(
        default=None,
        description="Path, or `sqlite:///path`, of the control store. "
        "Unset means control.db under STORAGE_DATA_DIR.",
    )
    control_poll: Seconds = Field(default=0.25, description="Seconds between two looks at the control store.")
    plugins_deny: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        default=(),
        description="Comma list of plugins to leave alone: a name, a distribution, or `distribution:name`.",
    )
    clock_max_ahead: Seconds = Field(
        default=60.0,
        description="Seconds that a version may run ahead of this machine's clock before it is refused.",
    )
    lane_rows: Rows = Field(default=10_000, description="Rows that may wait in the write queue of one store.")
    batch_rows: Rows = Field(default=1_000, description="Rows that one commit takes at most.")
    lane_policy: Policy = Field(
        default=FullPolicy.BLOCK,
        description="What a full write queue does: block (the caller waits) or refuse (QueueFullError).",
    )
    buffer_rows: Rows = Field(default=100, description="Buffered rows that make a flush.")
    buffer_seconds: Seconds = Field(
        default=1.0, description="Seconds after which buffered rows are flushed, however few."
    )
    buffer_capacity: Rows = Field(
        default=10_000, description="Rows that the buffer holds at most while a store is slow."
    )
    buffer_policy: Policy = Field(
        default=FullPolicy.BLOCK,
        description="What a full buffer does: block (the caller waits) or refuse (QueueFullError).",
    )
    timeout: Seconds = Field(default=30.0, description="Seconds after which a call to a store is given up.")
    retry_seconds: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = Field(
        default=2.0,
        description="Seconds for which a write that failed in passing is tried again; 0 tries once.",
    )
    cache_kinds: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        default=(),
        description="Comma list of the record kinds that a cache in front of the stores serves. "
        "Unset means all that allow it.",
    )
    cache_ttl: Seconds = Field(
        default=3600.0, description="Seconds for which the cache keeps a row, give or take a tenth."
    )
    cache_timeout: Seconds = Field(
        default=0.05, description="Seconds after which a read of the cache is given up and the store is read."
    )
    cache_permit: Annotated[float, Field(ge=0.1, le=30, allow_inf_nan=False)] = Field(
        default=1.0,
        description="Seconds for which a process may use the cache after it looked whether it may. When the cache "
        "is lost, the first write waits this long.",
    )
    cache_value_bytes: Annotated[int, Field(ge=64, le=512 * 1024 * 1024)] = Field(
        default=65_536, description="Size of a row, in bytes, from which on it is not cached."
    )
    telemetry: Annotated[str, BeforeValidator(_exporters)] = Field(
        default="auto",
        description="Who gets traces and metrics: auto (the bot's own OpenTelemetry, if it uses it), otlp (a "
        "collector), prometheus (a page of this process to scrape), several of them, or off.",
    )
    telemetry_sample: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = Field(
        default=0.01,
        description="Share of calls that are traced, 0 to 1. Calls inside a span of the bot follow that span.",
    )
    telemetry_endpoint: Annotated[str | None, BeforeValidator(_endpoint)] = Field(
        default=None,
        description="Base URL of the collector for otlp. Unset means OTEL_EXPORTER_OTLP_ENDPOINT, or "
        "http://localhost:4318.",
    )
    telemetry_seconds: Seconds = Field(
        default=15.0, description="Seconds between two exports of metrics to the collector."
    )
    telemetry_service: str | None = Field(
        default=None,
        description="Name of the service, as the collector is told. Unset means OTEL_SERVICE_NAME, or storage-gateway.",
    )
    telemetry_host: str = Field(
        default="127.0.0.1", description="Address at which the page for Prometheus is served."
    )
    telemetry_port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        default=9464, description="Port of that page; 0 takes any that is free."
    )
    environment: str = Field(
        default="development",
        description="Where this runs; `production` (or `prod`) is recognised. "
        "Also read from ENVIRONMENT and RAILWAY_ENVIRONMENT.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings calls it with these names
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what is handed in and nothing else; `gateway.config` reads the variables."""
        return (init_settings,)

    @field_validator("data_dir", "backup_dir")
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        return None if value is None else _home_expanded(value)

    @field_validator("tenant")
    @classmethod
    def _canonical_tenant(cls, value: str) -> str:
        try:
            return str(UUID(value.strip()))
        except ValueError:
            raise ValueError(f"must be a UUID such as {DEFAULT_TENANT}") from None

    @field_validator("control_url")
    @classmethod
    def _sqlite_control(cls, value: str | None) -> str | None:
        scheme, separator, _ = (value or "").partition("://")
        if separator and (scheme != "sqlite" or not (value or "").startswith("sqlite:///")):
            raise ValueError(
                "must be a path, or sqlite:///path: this release keeps its control store in a SQLite file"
            )
        if value is not None:
            _home_expanded(Path(value.removeprefix("sqlite:///")))
        return value

    @model_validator(mode="after")
    def _hold_a_flush(self) -> GatewaySettings:
        if self.buffer_capacity < self.buffer_rows:
            raise ValueError(
                f"{PREFIX}BUFFER_CAPACITY ({self.buffer_capacity}) must be at least "
                f"{PREFIX}BUFFER_ROWS ({self.buffer_rows})"
            )
        return self

    @property
    def control_path(self) -> Path:
        """File of the control store."""
        if self.control_url is None:
            return self.data_dir / "control.db"
        return _home_expanded(Path(self.control_url.removeprefix("sqlite:///")))

    @property
    def journal_path(self) -> Path:
        """File of the local journal."""
        return self.data_dir / "journal.db"

    @property
    def backups_path(self) -> Path:
        """Directory of backups."""
        return self.backup_dir or self.data_dir / "backups"

    @property
    def is_production(self) -> bool:
        """Whether this runs in production, by `environment`."""
        return self.environment.strip().lower() in {"production", "prod"}

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Show the settings without the passwords that locations may hold."""
        for name, value in super().__repr_args__():
            yield name, redact(value) if isinstance(value, str) else value


def variables_of(field: str) -> tuple[str, ...]:
    """Return the variables that a setting is read from; the first one that is set counts."""
    return (f"{PREFIX}{field.upper()}", *ALIASES.get(field, ()))

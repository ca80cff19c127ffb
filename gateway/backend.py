"""The contract for backend authors: what a backend declares, what it is asked, and what it must answer.

A backend is a plugin that brings a `BackendSpec` (hook `gateway_backends`). Opening it gives an object whose
methods, marked with `@hookimpl`, are the data-path hooks of `gateway.hookspecs.BackendHooks`. Prove it with
`gateway.conformance`.

Every backend keeps these rules:

* **The store decides by version.** A row is stored only if `(version, digest)` is greater than what is stored under
  its key, so that any order and any repetition of the same writes ends in the same state.
* **An acknowledged write is durable** as far as the backend's declared capabilities go.
* **Driver errors do not pass the edge.** They are raised as the fitting `gateway.errors.StoreError`, `from` the
  driver's own error.
* **No row means None or an empty list; a store that cannot answer raises.** The two are never mixed up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from pydantic import BaseModel, ConfigDict

from gateway.errors import ConfigurationError
from gateway.findings import Finding
from gateway.intents import Journaling
from gateway.query import Query, ReadRange
from gateway.records.codec import Value
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway.redaction import is_secret_name, redact
from gateway.upkeep import Endpoint, StoreBackup, StoreSchema

if TYPE_CHECKING:
    from gateway.cache.contract import Cache

__all__ = [
    "API_VERSION",
    "Backend",
    "BackendSettings",
    "BackendSpec",
    "Capability",
    "Group",
    "GroupSummary",
    "Health",
    "KeyRef",
    "OpenContext",
    "RangeDigest",
    "Step",
    "Summarize",
    "Update",
    "WriteBatch",
    "WriteReceipt",
]

API_VERSION: Final = 1
"""Version of this contract. A backend made for another one is refused by name."""


class Capability(StrEnum):
    """What a backend declares it can do. What is not declared is not asked of it."""

    DURABLE = "durable"
    """What was acknowledged survives `kill -9` of every process."""
    ATOMIC_BATCH = "atomic_batch"
    """A batch is applied as a whole or not at all. Without it, each step of a batch is."""
    UPDATE = "update"
    """`Update` steps: read, compute and write with nobody in between."""
    MULTI_PROCESS = "multi_process"
    """Several processes may write at once. Without it, a second writer is refused with `StoreLockedError`."""
    PURGE = "purge"
    """`gateway_purge` removes rows by age."""
    SCHEMA = "schema"
    """It has a schema that `gateway schema` manages."""
    COLUMNS = "columns"
    """Takes and gives many rows by column; see `gateway.columns.ColumnStore`."""
    SAMPLE = "sample"
    """Samples ticks into bars by itself; see `gateway.candles.SampleStore`."""
    JOURNAL = "journal"
    """Keeps intents in the transaction of the write that they belong to; see
    `gateway.intents.JournalStore`. Needs `ATOMIC_BATCH`."""


class BackendSettings(BaseModel):
    """Base class of a backend's settings: each field is read from `STORAGE_<INSTANCE>_<FIELD>`.

    Attributes:
        url: Where the store is. The backend derives a default from the data directory.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: str | None = None

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Return where these settings connect to over a network; none for a store in files or in memory.

        Raises:
            ConfigurationError: The settings contradict each other.
        """
        return ()

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Show the settings without the passwords that they may hold."""
        for name, value in super().__repr_args__():
            yield (
                name,
                "***" if is_secret_name(name or "") else redact(value) if isinstance(value, str) else value,
            )


@dataclass(frozen=True, slots=True)
class OpenContext:
    """What a backend gets to open itself.

    Attributes:
        instance: The name it goes by in settings, errors and spans.
        settings: An instance of the spec's settings class.
        kinds: Every registered kind. The backend prepares them all, so that no write finds its table missing.
        data_dir: Where stores without an address of their own live.
        read_only: Do not write, do not lock, do not migrate: a person is looking at a store that others may be using.
        production: Whether `ENVIRONMENT` says so: what is convenient but not safe is refused there.
        timeout: Seconds after which calls are given up, as `Store` does; None lets them take their time. A backend
            sees to it that its server gives up too, and says with `gateway.unfinished` what it cannot stop.
        fenced: Whether a cache stands in front, which relies on that.
    """

    instance: str
    settings: BackendSettings
    kinds: tuple[KindSpec, ...]
    data_dir: Path
    read_only: bool = False
    production: bool = False
    timeout: float | None = None
    fenced: bool = False


async def _no_store(context: OpenContext) -> Backend:
    """Refuse to open what is no store."""
    raise ConfigurationError(f"{context.instance} is a cache and no store; name a store before it")


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """What a plugin declares about one backend.

    Attributes:
        name: As written in `STORAGE_BACKENDS`; lower case.
        summary: One line for `gateway plugins`.
        open: Opens a store and returns the object with the data-path hooks.
        settings: Class of its settings.
        capabilities: What it can do.
        api_version: The contract it was made for.
        store_of_record: False for caches, which must not be named as a store.
        url_schemes: Schemes of `DATABASE_URL` that mean this backend.
        schema: Returns the schema of a store without opening it; needed with `Capability.SCHEMA`.
        backup: Returns what backs a store up and restores it.
        examine: Looks at a store closely for `gateway doctor`, beyond what its health says. A store that cannot be
            reached is a finding, not an error.
        maintain: Does the upkeep that is due, or only says what is (second argument), and returns what was done.
        open_cache: Opens a cache; needed, instead of `open`, where `store_of_record` is False. A server that cannot be
            reached is no reason to raise: the gateway runs without it until it is there.
    """

    name: str
    summary: str
    open: Callable[[OpenContext], Awaitable[Backend]] = _no_store
    settings: type[BackendSettings] = BackendSettings
    capabilities: frozenset[Capability] = frozenset()
    api_version: int = API_VERSION
    store_of_record: bool = True
    url_schemes: tuple[str, ...] = ()
    schema: Callable[[OpenContext], StoreSchema] | None = None
    backup: Callable[[OpenContext], StoreBackup] | None = None
    examine: Callable[[OpenContext], Sequence[Finding]] | None = None
    maintain: Callable[[OpenContext, bool], Sequence[str]] | None = None
    open_cache: Callable[[OpenContext], Awaitable[Cache]] | None = None


class KeyRef(tuple[KindSpec, Key]):
    """A kind and a key in it."""

    __slots__ = ()

    def __new__(cls, kind: KindSpec, key: Key) -> KeyRef:
        """Pair a kind with a key."""
        return super().__new__(cls, (kind, key))

    @property
    def kind(self) -> KindSpec:
        """The kind."""
        return self[0]

    @property
    def key(self) -> Key:
        """The key's canonical values."""
        return self[1]


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that are stored together or not at all."""

    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Update:
    """Read some rows, compute others from them, and write those, with no other writer in between.

    The backend reads the current rows (tombstones included) of `reads`, calls `apply` once with them in the same
    order, and stores what it returns under the version guard, atomically. If `apply` raises, nothing is written and
    the error is raised as it is.

    Attributes:
        tenant: Whose rows.
        reads: Which rows `apply` needs.
        apply: A pure, fast function from the current rows to the rows to write; an empty answer writes nothing.
    """

    tenant: str
    reads: tuple[KeyRef, ...]
    apply: Callable[[Sequence[Row | None]], Sequence[Row]]


Step = Row | Group | Update
"""One part of a batch."""


@dataclass(frozen=True, slots=True)
class WriteBatch:
    """What a lane hands to a store in one call. Steps are applied in their order.

    Attributes:
        steps: The parts; callers behind them wait for this very call.
        journaling: The intents to store in the same transaction, one for each row and mirror; those of an `Update` are
            for the rows that it came to. Only given to backends that declare `Capability.JOURNAL`.
    """

    steps: Sequence[Step]
    journaling: Journaling | None = None


_NOTHING: Final[Mapping[int, Any]] = {}


@dataclass(frozen=True, slots=True)
class WriteReceipt:
    """What became of a batch. A step in neither mapping was stored, or was stored already.

    Attributes:
        superseded: By step index, the stored version that was newer than a row of the step.
        updated: By step index, the rows that an `Update` wrote.
    """

    superseded: Mapping[int, int] = field(default_factory=lambda: _NOTHING)
    updated: Mapping[int, tuple[Row, ...]] = field(default_factory=lambda: _NOTHING)


@dataclass(frozen=True, slots=True)
class RangeDigest:
    """Fingerprint of a stretch of rows.

    Attributes:
        rows: How many rows, tombstones included.
        total: The sum of their stored digests, modulo 2**64. Independent of order, so stores can sum in any.
    """

    rows: int
    total: int


@dataclass(frozen=True, slots=True)
class Summarize:
    """Ask for counts of live rows.

    Attributes:
        kind: Which kind.
        tenant: Whose rows.
        by: A field to group by; None gives one group.
    """

    kind: KindSpec
    tenant: str
    by: str | None = None


@dataclass(frozen=True, slots=True)
class GroupSummary:
    """One group of live rows.

    Attributes:
        value: The group's value of the field grouped by; None where nothing was grouped.
        rows: How many.
        first: Smallest value of the kind's time field, in microseconds; None for kinds without one.
        last: Greatest value of it.
    """

    value: Value
    rows: int
    first: int | None
    last: int | None


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a store answers, and what it says of itself.

    Attributes:
        ok: Whether it can be used now.
        summary: One sentence; what to do if it is not ok.
        details: Facts for `gateway doctor`, JSON-ready.
    """

    ok: bool
    summary: str
    details: Mapping[str, Any] = field(default_factory=dict)


class Backend(Protocol):
    """An opened store. The methods are the data-path hooks; mark each with `@hookimpl`.

    The object is used from one event loop. Every method may be called while others are running.
    """

    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Store a batch.

        Idempotent: the version guard makes a repeated row a no-op. Ordered: steps take effect in their order.
        Atomic: a `Group` and an `Update` always, the batch if `ATOMIC_BATCH` is declared. When it is cancelled, the
        batch is applied or not, never a part of a step.

        Raises:
            StoreError: Nothing of the batch counts as acknowledged.
        """
        ...

    async def gateway_get(self, kind: KindSpec, tenant: str, keys: Sequence[Key]) -> Sequence[Row | None]:
        """Return the rows of keys, in their order: tombstones as they are, None where there never was a row.

        Sees every write acknowledged before the call.

        Raises:
            StoreError: The store could not answer. That is never reported as None.
        """
        ...

    async def gateway_query(self, query: Query) -> Sequence[Row]:
        """Return a page of rows; see `Query` for order and meaning.

        Raises:
            StoreError: The store could not answer.
        """
        ...

    async def gateway_summarize(self, request: Summarize) -> Sequence[GroupSummary]:
        """Count live rows, by group in the order of the groups' values.

        Raises:
            StoreError: The store could not answer.
        """
        ...

    async def gateway_digest(self, span: ReadRange) -> RangeDigest:
        """Return the fingerprint of a stretch of rows, computed inside the store.

        Raises:
            StoreError: The store could not answer.
        """
        ...

    async def gateway_purge(self, kind: KindSpec, tenant: str, before: datetime) -> int:
        """Remove, for good, the rows whose time field lies before a moment; return how many.

        Raises:
            StoreError: The store could not do it.
        """
        ...

    async def gateway_health(self) -> Health:
        """Return whether the store answers. Does not raise for a store that is down; that is the answer."""
        ...

    async def gateway_close(self) -> None:
        """Release everything. Calling it again does nothing."""
        ...

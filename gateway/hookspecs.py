"""Every pluggy hook of the gateway.

Start-up hooks are synchronous and return frozen declarations. Hooks of events tell plugins what happened. Data-path
hooks are `async def`: calling one through pluggy returns a coroutine, which the dispatcher awaits for each backend on
its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import pluggy

if TYPE_CHECKING:
    import typer

    from gateway.backend import (
        BackendSpec,
        GroupSummary,
        Health,
        RangeDigest,
        Summarize,
        WriteBatch,
        WriteReceipt,
    )
    from gateway.candles import Bar, Sample
    from gateway.columns import ArrowTable, ColumnBatch
    from gateway.divergences.divergence import Divergence
    from gateway.intents import Intent, JournalFacts, Stretch
    from gateway.legacy import LegacySource
    from gateway.query import Query, ReadRange
    from gateway.records.kind import KindSpec
    from gateway.records.row import Key, Row

__all__ = [
    "PROJECT",
    "BackendCall",
    "BackendHooks",
    "EventHooks",
    "StartupHooks",
    "hookimpl",
    "hookspec",
    "new_manager",
]

PROJECT: Final = "storage_gateway"

hookspec: Final = pluggy.HookspecMarker(PROJECT)
hookimpl: Final = pluggy.HookimplMarker(PROJECT)


@dataclass(frozen=True, slots=True)
class BackendCall:
    """What a wrapper is told about the backend call it wraps.

    Attributes:
        backend: Instance name.
        hook: Name of the data-path hook, such as `gateway_write`.
        payload: What the hook is called with: a batch, a query, or the keys.
    """

    backend: str
    hook: str
    payload: Any


class StartupHooks:
    """What plugins bring. Called once, when a gateway or the command line starts."""

    @hookspec
    def gateway_backends(self) -> Sequence[BackendSpec]:  # type: ignore[empty-body]
        """Return the backends this plugin offers."""

    @hookspec
    def gateway_record_kinds(self) -> Sequence[KindSpec]:  # type: ignore[empty-body]
        """Return the record kinds this plugin brings."""

    @hookspec
    def gateway_legacy_sources(self) -> Sequence[LegacySource]:  # type: ignore[empty-body]
        """Return the legacy formats this plugin can import."""

    @hookspec
    def gateway_cli(self, app: typer.Typer) -> None:
        """Add commands to the `gateway` command line."""

    @hookspec
    def gateway_wrap(self, call: BackendCall) -> AbstractAsyncContextManager[None] | None:
        """Return a context manager to run a backend call in, or None to leave it alone.

        For audit, encryption of backups, redaction, timing. It is entered before the call and left after it; an error
        raised inside reaches the caller. pluggy's own wrappers see coroutine objects and cannot do this.
        """


class EventHooks:
    """What plugins may want to know of. What they raise is logged and counted, and changes nothing."""

    @hookspec
    def gateway_divergence(self, divergence: Divergence) -> None:
        """Take note of a divergence: one that no process has found before, or that is found again though resolved.

        Called in a thread of its own, one after the other, once the divergence stands in the control store; it may take
        its time, and may be an `async def`. What the kind redacts is redacted.
        """


class BackendHooks:
    """The data path. One subset hook caller a backend, so that each call reaches exactly one store.

    `gateway.backend.Backend` states what each must do.
    """

    @hookspec(firstresult=True)
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:  # type: ignore[empty-body]
        """Store a batch."""

    @hookspec(firstresult=True)
    async def gateway_write_columns(self, batch: ColumnBatch) -> WriteReceipt:  # type: ignore[empty-body]
        """Store rows given by column; asked of stores with `Capability.COLUMNS`."""

    @hookspec(firstresult=True)
    async def gateway_get(self, kind: KindSpec, tenant: str, keys: Sequence[Key]) -> Sequence[Row | None]:  # type: ignore[empty-body]
        """Return the rows of keys."""

    @hookspec(firstresult=True)
    async def gateway_query(self, query: Query) -> Sequence[Row]:  # type: ignore[empty-body]
        """Return a page of rows."""

    @hookspec(firstresult=True)
    async def gateway_read_columns(self, query: Query, fields: tuple[str, ...]) -> ArrowTable:
        """Return columns of the rows of a query; asked of stores with `Capability.COLUMNS`."""

    @hookspec(firstresult=True)
    async def gateway_sample(self, request: Sample) -> Sequence[Bar]:  # type: ignore[empty-body]
        """Return bars of ticks; asked of stores with `Capability.SAMPLE`."""

    @hookspec(firstresult=True)
    async def gateway_summarize(self, request: Summarize) -> Sequence[GroupSummary]:  # type: ignore[empty-body]
        """Count live rows."""

    @hookspec(firstresult=True)
    async def gateway_digest(self, span: ReadRange) -> RangeDigest:  # type: ignore[empty-body]
        """Return the fingerprint of a stretch of rows."""

    @hookspec(firstresult=True)
    async def gateway_purge(self, kind: KindSpec, tenant: str, before: datetime) -> int:  # type: ignore[empty-body]
        """Remove rows by age."""

    @hookspec(firstresult=True)
    async def gateway_intents(  # type: ignore[empty-body]
        self, target: str, tenant: str, limit: int, before: int | None, after: Stretch | None
    ) -> Sequence[Intent]:  # pyright: ignore[reportReturnType] # a hook has no body
        """Return intents; asked of stores with `Capability.JOURNAL`."""

    @hookspec(firstresult=True)
    async def gateway_acknowledge(self, target: str, tenant: str, done: Sequence[Stretch]) -> int:  # type: ignore[empty-body]
        """Remove intents; asked of stores with `Capability.JOURNAL`."""

    @hookspec(firstresult=True)
    async def gateway_journal(self, tenant: str, limit: int) -> Sequence[JournalFacts]:  # type: ignore[empty-body]
        """Return what is left of intents; asked of stores with `Capability.JOURNAL`."""

    @hookspec(firstresult=True)
    async def gateway_health(self) -> Health:  # type: ignore[empty-body]
        """Return whether the store answers."""

    @hookspec(firstresult=True)
    async def gateway_close(self) -> None:
        """Release everything."""


def new_manager() -> pluggy.PluginManager:
    """Return a plugin manager that knows every hook of the gateway."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(StartupHooks)
    manager.add_hookspecs(EventHooks)
    manager.add_hookspecs(BackendHooks)
    return manager

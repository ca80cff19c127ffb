"""Dispatch: an opened store, reached through one subset hook caller of pluggy for each data-path hook.

Two stores hang on one plugin manager, so that third parties can watch and wrap both; the subset callers make sure
that each call reaches exactly one of them. Every failure comes out with the store's name on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from datetime import datetime
from time import perf_counter
from typing import Any, Final, Protocol

import pluggy

from gateway.backend import (
    Backend,
    BackendSpec,
    Capability,
    GroupSummary,
    Health,
    OpenContext,
    RangeDigest,
    Summarize,
    WriteBatch,
    WriteReceipt,
)
from gateway.candles import Bar, Sample
from gateway.columns import ArrowTable, ColumnBatch
from gateway.deadlines import Deadlines
from gateway.errors import CapabilityError, GatewayError, StoreError, StoreTimeoutError
from gateway.hookspecs import BackendCall, BackendHooks, new_manager
from gateway.intents import Intent, JournalFacts, Stretch
from gateway.query import Query, ReadRange
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway.telemetry import Meters, Span, StoreCalls, recording, span, store_attributes

__all__ = ["Gate", "Store", "StoreSet", "open_store"]

HOOKS: Final = tuple(name for name in vars(BackendHooks) if name.startswith("gateway_"))


class Gate(Protocol):
    """What a store's writes go through first; it raises what they are to fail with."""

    async def before_write(self, batch: WriteBatch) -> None:
        """Return once a batch may be written."""
        ...

    async def before_purge(self, kind: KindSpec) -> None:
        """Return once rows of a kind may be removed."""
        ...


class Store:
    """One opened store. Made by `StoreSet.open` or `open_store`.

    Attributes:
        name: Instance name, as in `STORAGE_BACKENDS`.
        spec: What its backend declared.
        gate: What writes go through first; None for nothing.
    """

    def __init__(self, name: str, spec: BackendSpec, timeout: float | None = None) -> None:
        self.name = name
        self.spec = spec
        self.gate: Gate | None = None
        self._deadlines = Deadlines(timeout)
        self._calls: dict[str, Callable[..., Any]] = {}
        self._wrap: Callable[..., list[Any]] | None = None
        self._watch: StoreCalls | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<Store {self.name} ({self.spec.name}){' closed' if self._closed else ''}>"

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the backend declared it can do."""
        return self.spec.capabilities

    def require(self, capability: Capability, purpose: str) -> None:
        """Make sure of a capability.

        Raises:
            CapabilityError: The backend does not declare it; the message says what it was needed for.
        """
        if capability not in self.spec.capabilities:
            raise CapabilityError(
                f"{self.name}: the {self.spec.name} backend cannot {purpose} (it does not declare "
                f"{capability.value!r}); "
                "choose another store for this kind"
            )

    async def write(self, batch: WriteBatch) -> WriteReceipt:
        """Store a batch; see `Backend.gateway_write`. Columns go as such to a store that takes them, or as rows."""
        if isinstance(batch.steps, ColumnBatch):
            if Capability.COLUMNS in self.spec.capabilities and batch.journaling is None:
                return await self.write_columns(batch.steps)
            batch = WriteBatch(batch.steps.rows(), batch.journaling)
        if self.gate is not None:
            await self.gate.before_write(batch)
        return self._receipt("gateway_write", await self._call("gateway_write", batch, batch=batch))

    async def write_columns(self, batch: ColumnBatch) -> WriteReceipt:
        """Store rows given by column; see `gateway.columns.ColumnStore.gateway_write_columns`."""
        self.require(Capability.COLUMNS, "take rows by column")
        if self.gate is not None:
            await self.gate.before_write(WriteBatch(batch))
        receipt = await self._call("gateway_write_columns", batch, batch=batch)
        return self._receipt("gateway_write_columns", receipt)

    def _receipt(self, hook: str, receipt: Any) -> WriteReceipt:
        if not isinstance(receipt, WriteReceipt):
            raise self._fault(hook, f"answered {type(receipt).__name__} instead of a WriteReceipt")
        return receipt

    async def get(self, kind: KindSpec, tenant: str, keys: Sequence[Key]) -> Sequence[Row | None]:
        """Return the rows of keys; see `Backend.gateway_get`."""
        rows: Any = await self._call("gateway_get", keys, kind=kind, tenant=tenant, keys=keys)
        if not isinstance(rows, Sequence) or len(rows) != len(keys):
            raise self._fault("gateway_get", f"did not answer one row, or None, for each of {len(keys)} keys")
        return rows

    async def query(self, query: Query) -> Sequence[Row]:
        """Return a page of rows; see `Backend.gateway_query`."""
        return await self._call("gateway_query", query, query=query)  # type: ignore[no-any-return]

    async def read_columns(self, query: Query, fields: tuple[str, ...]) -> ArrowTable:
        """Return columns of the rows of a query; see `gateway.columns.ColumnStore.gateway_read_columns`."""
        self.require(Capability.COLUMNS, "give rows by column")
        table = await self._call("gateway_read_columns", query, query=query, fields=fields)
        names = tuple(getattr(table, "column_names", ()))
        if names != fields:
            raise self._fault("gateway_read_columns", f"answered {names} instead of the columns {fields}")
        return table

    async def sample(self, request: Sample) -> Sequence[Bar]:
        """Return bars of ticks; see `gateway.candles.SampleStore.gateway_sample`."""
        self.require(Capability.SAMPLE, "sample ticks into candles")
        return await self._call("gateway_sample", request, request=request)  # type: ignore[no-any-return]

    async def summarize(self, request: Summarize) -> Sequence[GroupSummary]:
        """Count live rows; see `Backend.gateway_summarize`."""
        return await self._call("gateway_summarize", request, request=request)  # type: ignore[no-any-return]

    async def digest(self, span: ReadRange) -> RangeDigest:
        """Return the fingerprint of a stretch of rows; see `Backend.gateway_digest`."""
        return await self._call("gateway_digest", span, span=span)  # type: ignore[no-any-return]

    async def purge(self, kind: KindSpec, tenant: str, before: datetime) -> int:
        """Remove rows by age; see `Backend.gateway_purge`."""
        self.require(Capability.PURGE, "remove rows by age")
        if self.gate is not None:
            await self.gate.before_purge(kind)
        return await self._call("gateway_purge", before, kind=kind, tenant=tenant, before=before)  # type: ignore[no-any-return]

    async def pending(
        self, target: str, tenant: str, limit: int, *, before: int | None = None, after: Stretch | None = None
    ) -> Sequence[Intent]:
        """Return intents; see `gateway.intents.Journal.pending`."""
        self.require(Capability.JOURNAL, "keep intents")
        asked = {"target": target, "tenant": tenant, "limit": limit, "before": before, "after": after}
        return await self._call("gateway_intents", target, **asked)  # type: ignore[no-any-return]

    async def acknowledge(self, target: str, tenant: str, done: Sequence[Stretch]) -> int:
        """Remove intents; see `gateway.intents.Journal.acknowledge`."""
        self.require(Capability.JOURNAL, "keep intents")
        asked = {"target": target, "tenant": tenant, "done": done}
        return await self._call("gateway_acknowledge", target, **asked)  # type: ignore[no-any-return]

    async def facts(self, tenant: str, limit: int) -> Sequence[JournalFacts]:
        """Return what is left of intents; see `gateway.intents.Journal.facts`."""
        self.require(Capability.JOURNAL, "keep intents")
        return await self._call("gateway_journal", tenant, tenant=tenant, limit=limit)  # type: ignore[no-any-return]

    async def health(self) -> Health:
        """Return whether the store answers; a failure to answer is an answer too."""
        try:
            return await self._call("gateway_health", None)  # type: ignore[no-any-return]
        except GatewayError as error:
            return Health(ok=False, summary=str(error))

    async def close(self) -> None:
        """Release the store. Calling it again does nothing."""
        if not self._closed:
            self._closed = True
            await self._calls["gateway_close"]()

    def bind(self, manager: pluggy.PluginManager, others: Sequence[object]) -> None:
        """Make the callers that reach this store and none of the others."""
        self._calls = {name: manager.subset_hook_caller(name, others) for name in HOOKS}
        wraps = manager.hook.gateway_wrap
        self._wrap = wraps if wraps.get_hookimpls() else None

    def watch(self, meters: Meters) -> None:
        """Time every call from now on, and trace those that are done for something that is traced."""
        self._watch = StoreCalls(meters, self.spec.name, self.name)

    async def _call(self, hook: str, payload: Any, **arguments: Any) -> Any:
        """Await one hook, with every failure translated, and measure that if somebody wants to know."""
        watch = self._watch
        if watch is None:
            return await self._ask(hook, payload, arguments)
        operation, began = hook.removeprefix("gateway_"), perf_counter()
        try:
            if recording():
                with _span(self, operation, payload, arguments):
                    answer = await self._ask(hook, payload, arguments)
            else:
                answer = await self._ask(hook, payload, arguments)
        except BaseException as error:
            watch.failed(operation, error, perf_counter() - began)
            raise
        watch.ended(operation, perf_counter() - began)
        if isinstance(payload, WriteBatch | ColumnBatch):
            watch.wrote(_size(payload))
        return answer

    async def _ask(self, hook: str, payload: Any, arguments: dict[str, Any]) -> Any:
        """Await one hook, within the timeout and the wrappers, with every failure translated."""
        call = self._deadlines.begin()
        try:
            if self._wrap is None:
                return await self._calls[hook](**arguments)
            async with self._wrapped(hook, payload):
                return await self._calls[hook](**arguments)
        except asyncio.CancelledError:
            if self._deadlines.gave_up(call):
                raise StoreTimeoutError(
                    f"no answer to {hook} within {self._deadlines.seconds} s; whether a write was applied "
                    "is unknown. Check the store, or raise STORAGE_TIMEOUT",
                    backend=self.name,
                ) from None
            raise
        except StoreError as error:
            error.backend = error.backend or self.name
            raise
        except GatewayError:
            raise
        except Exception as error:
            # The contract asks backends to translate; one that does not must still not leak its driver to the bot.
            raise self._fault(hook, f"failed with {type(error).__name__}: {error}") from error
        finally:
            self._deadlines.end(call)

    def _fault(self, hook: str, what: str) -> StoreError:
        """Return the error for a plugin that breaks its contract."""
        return StoreError(
            f"{hook} {what}; this is a fault of the {self.spec.name} plugin, report it to its author",
            backend=self.name,
        )

    @asynccontextmanager
    async def _wrapped(self, hook: str, payload: Any) -> AsyncIterator[None]:
        """Run inside the context managers that `gateway_wrap` plugins return."""
        async with AsyncExitStack() as stack:
            for manager in (
                self._wrap(call=BackendCall(self.name, hook, payload)) if self._wrap is not None else ()
            ):
                await stack.enter_async_context(manager)
            yield


def _span(
    store: Store, operation: str, payload: Any, arguments: dict[str, Any]
) -> AbstractContextManager[Span]:
    """Return the span of a call, named as the conventions want it: what is done, and to what."""
    kind: KindSpec | None = arguments.get("kind") or getattr(payload, "kind", None)
    if isinstance(payload, WriteBatch):
        kinds = {getattr(step, "kind", None) for step in payload.steps}
        kind = kinds.pop() if len(kinds) == 1 else None
    name = None if kind is None else kind.name
    attributes = store_attributes(
        store.spec.name, operation, store=store.name, kind=name, size=_size(payload)
    )
    return span(f"{operation} {name or store.name}", attributes)


def _size(payload: Any) -> int:
    """Return how many rows or keys a call is about."""
    if isinstance(payload, WriteBatch):
        return len(payload.steps)
    return len(payload) if isinstance(payload, tuple | list | ColumnBatch) else 1


class StoreSet:
    """The stores that share one plugin manager.

    Args:
        manager: Where the stores are registered, under their instance names.
        timeout: Seconds that one call to a store may take; None waits for ever.
    """

    def __init__(self, manager: pluggy.PluginManager | None = None, timeout: float | None = None) -> None:
        self._manager = manager or new_manager()
        self._timeout = timeout
        self._opened: dict[str, tuple[Store, Backend]] = {}

    def __getitem__(self, name: str) -> Store:
        return self._opened[name][0]

    @property
    def stores(self) -> tuple[Store, ...]:
        """The opened stores, in the order they were opened."""
        return tuple(store for store, _ in self._opened.values())

    async def open(self, spec: BackendSpec, context: OpenContext) -> Store:
        """Open a store and register it under its instance name.

        Raises:
            StoreError: The store cannot be opened; nothing stays open because of it.
        """
        try:
            backend = await spec.open(context)
        except StoreError as error:
            error.backend = error.backend or context.instance
            raise
        return self.stand_in(spec, context, backend)

    def stand_in(self, spec: BackendSpec, context: OpenContext, backend: Any) -> Store:
        """Register what answers for a store: its opened backend, or something in its place until `replace`."""
        self._manager.register(backend, name=context.instance)
        self._opened[context.instance] = (Store(context.instance, spec, self._timeout), backend)
        self._bind()
        return self[context.instance]

    def replace(self, name: str, backend: Backend) -> None:
        """Let another backend answer for a store from now on; calls under way end where they began."""
        store, before = self._opened[name]
        self._manager.unregister(before)
        self._manager.register(backend, name=name)
        self._opened[name] = (store, backend)
        self._bind()

    async def close(self) -> None:
        """Close every store, the last opened first, even if one fails; the first failure is raised."""
        failures: list[Exception] = []
        for name in reversed(list(self._opened)):
            store, backend = self._opened[name]
            try:
                await store.close()
            except GatewayError as error:
                failures.append(error)
            finally:
                del self._opened[name]
                self._manager.unregister(backend)
                self._bind()
        if failures:
            raise failures[0]

    def _bind(self) -> None:
        backends = [backend for _, backend in self._opened.values()]
        for store, own in self._opened.values():
            store.bind(self._manager, [other for other in backends if other is not own])


async def open_store(
    spec: BackendSpec,
    context: OpenContext,
    manager: pluggy.PluginManager | None = None,
    *,
    timeout: float | None = None,
) -> Store:
    """Open one store on its own, as tests, copies and the command line do."""
    return await StoreSet(manager, timeout).open(spec, context)

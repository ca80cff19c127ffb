"""Dispatch: one store a call, failures with names, wrappers, time-outs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gateway.backend import BackendSpec, Capability, OpenContext, WriteBatch
from gateway.dispatch import StoreSet, open_store
from gateway.errors import CapabilityError, StoreError, StoreTimeoutError, StoreUnavailableError
from gateway.hookspecs import BackendCall, hookimpl, new_manager
from gateway.records import TRADES, Trade
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.stamp import DEFAULT_TENANT, Stamper
from gateway_memory.plugin import gateway_backends

pytestmark = pytest.mark.anyio
MEMORY = gateway_backends()[0]
Open = Callable[[str], Awaitable[tuple[Any, Any]]]


def context(name: str) -> OpenContext:
    """Return what a memory store is opened with."""
    return OpenContext(name, MEMORY.settings(), BUILTIN_KINDS, Path())


def trade() -> Any:
    """Return the row of a trade."""
    return Stamper().stamp(
        TRADES,
        Trade(
            timestamp=datetime.now(UTC),
            market_name="M",
            action="buy",
            side="YES",
            price=Decimal(1),
            amount=Decimal(1),
        ),
    )


async def test_each_call_reaches_one_store() -> None:
    """Two stores on one plugin manager never see each other's rows."""
    stores = StoreSet()
    first = await stores.open(MEMORY, context("first"))
    second = await stores.open(MEMORY, context("second"))
    row = trade()
    await first.write(WriteBatch((row,)))
    assert await first.get(TRADES, DEFAULT_TENANT, (row.key,)) == [row]
    assert await second.get(TRADES, DEFAULT_TENANT, (row.key,)) == [None]
    await stores.close()


async def test_a_driver_error_that_slips_through_names_the_plugin(open_gated: Open) -> None:
    """An error the backend forgot to translate becomes a StoreError that blames the plugin and keeps the cause."""
    store, backend = await open_gated("a")
    backend.faults.append(ZeroDivisionError("inside the driver"))
    with pytest.raises(
        StoreError, match=r"a: gateway_write failed with ZeroDivisionError.*memory plugin"
    ) as caught:
        await store.write(WriteBatch((trade(),)))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


async def test_a_store_error_gets_the_store_s_name(open_gated: Open) -> None:
    """Whoever raised it, the operator sees which store it was."""
    store, backend = await open_gated("old")
    backend.faults.append(StoreUnavailableError("down"))
    with pytest.raises(StoreUnavailableError, match=r"^old: down$"):
        await store.write(WriteBatch((trade(),)))


async def test_a_store_that_does_not_answer_times_out() -> None:
    """A call that hangs ends with StoreTimeoutError, and the task is not left cancelled."""

    class Hanging:
        @hookimpl
        async def gateway_query(self, query: Any) -> Any:  # noqa: ARG002 - pluggy goes by the name
            await asyncio.Event().wait()

        @hookimpl
        async def gateway_close(self) -> None:
            """Nothing to release."""

    async def opened(_: OpenContext) -> Any:
        return Hanging()

    store = await open_store(replace(MEMORY, open=opened), context("slow"), timeout=0.05)
    with pytest.raises(StoreTimeoutError, match=r"slow: no answer to gateway_query within 0\.05 s"):
        await store.query(None)  # type: ignore[arg-type] # never looked at
    await store.close()


async def test_wrappers_run_around_each_call() -> None:
    """A third party's context manager is entered and left around the call, and told which store and hook it is."""
    seen: list[str] = []

    class Audit:
        @hookimpl
        def gateway_wrap(self, call: BackendCall) -> AbstractAsyncContextManager[None]:
            @asynccontextmanager
            async def around() -> AsyncIterator[None]:
                seen.append(f"before {call.hook} on {call.backend}")
                yield
                seen.append("after")

            return around()

    manager = new_manager()
    manager.register(Audit())
    store = await open_store(MEMORY, context("a"), manager)
    await store.write(WriteBatch((trade(),)))
    assert seen == ["before gateway_write on a", "after"]
    await store.close()


async def test_a_wrapper_may_refuse() -> None:
    """An error raised by a wrapper stops the call and reaches the caller."""

    class Refusing:
        @hookimpl
        def gateway_wrap(self, call: BackendCall) -> AbstractAsyncContextManager[None]:
            @asynccontextmanager
            async def around() -> AsyncIterator[None]:
                raise CapabilityError(f"no {call.hook} today")
                yield  # type: ignore[unreachable]  # it makes this a generator

            return around()

    manager = new_manager()
    manager.register(Refusing())
    store = await open_store(MEMORY, context("a"), manager)
    with pytest.raises(CapabilityError, match="no gateway_write today"):
        await store.write(WriteBatch((trade(),)))
    await store.close()


async def test_what_is_not_declared_is_not_asked() -> None:
    """A missing capability is a sentence with the store's name and what it was needed for."""
    spec: BackendSpec = replace(MEMORY, capabilities=frozenset({Capability.UPDATE}))
    store = await open_store(spec, context("a"))
    with pytest.raises(CapabilityError, match="a: the memory backend cannot remove rows by age"):
        await store.purge(TRADES, DEFAULT_TENANT, datetime.now(UTC))
    await store.close()


async def test_closing_twice_is_fine_and_health_never_raises() -> None:
    """A closed store says that it is closed."""
    store = await open_store(MEMORY, context("a"))
    assert (await store.health()).ok
    await store.close()
    await store.close()
    assert not (await store.health()).ok


@pytest.mark.parametrize(
    ("hook", "says"), [("gateway_write", "instead of a WriteReceipt"), ("gateway_get", "for each of 2 keys")]
)
async def test_an_answer_that_breaks_the_contract_names_the_plugin(hook: str, says: str) -> None:
    """A receipt that is none, or too few rows, is a StoreError that blames the plugin, not a crash further up."""

    class Sloppy:
        @hookimpl
        async def gateway_write(self, batch: WriteBatch) -> None:
            """Answer nothing."""

        @hookimpl
        async def gateway_get(self, kind: Any, tenant: str, keys: Any) -> list[None]:  # noqa: ARG002 - pluggy goes by names
            """Answer one row, whatever was asked."""
            return [None]

        @hookimpl
        async def gateway_close(self) -> None:
            """Nothing to release."""

    async def opened(_: OpenContext) -> Any:
        return Sloppy()

    store = await open_store(replace(MEMORY, open=opened), context("sloppy"))
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "gateway_write": lambda: store.write(WriteBatch((trade(),))),
        "gateway_get": lambda: store.get(TRADES, DEFAULT_TENANT, (("a",), ("b",))),
    }
    with pytest.raises(StoreError, match=f"sloppy: {hook} .*{says}; this is a fault of the memory plugin"):
        await calls[hook]()
    await store.close()

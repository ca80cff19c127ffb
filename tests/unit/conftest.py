"""Stores for unit tests: the in-memory reference backend, with gates and faults that tests control."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.backend import Backend, OpenContext, WriteBatch, WriteReceipt
from gateway.dispatch import Store, StoreSet
from gateway.hookspecs import hookimpl
from gateway.records.builtin import BUILTIN_KINDS
from gateway_memory.plugin import gateway_backends
from gateway_memory.store import MemoryStore

MEMORY = gateway_backends()[0]


class GatedStore(MemoryStore):
    """The memory backend with a gate that tests close, and errors that tests put in the way of writes."""

    def __init__(self, instance: str) -> None:
        super().__init__(instance, max_rows=1_000_000)
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.faults: list[Exception | None] = []
        self.batches: list[int] = []

    @hookimpl
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Wait for the gate, fail if told to (None lets one batch pass), then write."""
        self.entered.set()
        await self.gate.wait()
        self.batches.append(len(batch.steps))
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault
        return await super().gateway_write(batch)


OpenGated = Callable[[str], Awaitable[tuple[Store, GatedStore]]]


@pytest.fixture
async def open_gated() -> AsyncIterator[OpenGated]:
    """Open memory stores with gates; all share one plugin manager, as in a gateway."""
    stores = StoreSet()

    async def open_one(name: str) -> tuple[Store, GatedStore]:
        backend = GatedStore(name)

        async def opened(_: OpenContext) -> Backend:
            return backend

        context = OpenContext(name, MEMORY.settings(), BUILTIN_KINDS, Path())
        return await stores.open(replace(MEMORY, open=opened), context), backend

    yield open_one
    await stores.close()

"""Stores for unit tests: the in-memory reference backend, with gates and faults that tests control."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.backend import Backend, OpenContext, WriteBatch, WriteReceipt
from gateway.dispatch import Store, StoreSet
from gateway.errors import WriteRejectedError
from gateway.hookspecs import hookimpl
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.row import Key, Row
from gateway_memory.plugin import gateway_backends
from gateway_memory.store import MemoryStore

MEMORY = gateway_backends()[0]


class GatedStore(MemoryStore):
    """The memory backend with a gate that tests close, and errors that tests put in the way of writes.

    Attributes:
        gate: Writes begin while it is set.
        entered: Set when a write has come as far as the gate.
        faults: Raised instead of writing, one a batch; None lets one pass.
        late_faults: Raised after writing, one a batch, as if the answer was lost.
        refuses: Keys of rows that are refused for good.
        linger: Waited for after writing.
        stored: Set when a batch is written.
        batches: How many steps each batch had that came through the gate.
    """

    def __init__(self, instance: str) -> None:
        super().__init__(instance, max_rows=1_000_000)
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.faults: list[Exception | None] = []
        self.late_faults: list[Exception] = []
        self.refuses: set[Key] = set()
        self.linger: asyncio.Event | None = None
        self.stored = asyncio.Event()
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
        if any(isinstance(step, Row) and step.key in self.refuses for step in batch.steps):
            raise WriteRejectedError("a value is too long")
        receipt = await super().gateway_write(batch)
        self.stored.set()
        if self.linger is not None:
            await self.linger.wait()
        if self.late_faults:
            raise self.late_faults.pop(0)
        return receipt


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

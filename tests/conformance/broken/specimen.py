"""What the broken backends are made of: the reference store, with places to break it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from gateway.backend import BackendSpec, Capability, OpenContext, WriteBatch, WriteReceipt
from gateway.hookspecs import hookimpl
from gateway.records.row import Row
from gateway_memory.plugin import MEMORY
from gateway_memory.store import MemoryStore
from gateway_memory.transaction import Transaction

__all__ = ["SPECIMENS", "Broken", "Specimen", "breaks"]


class Specimen(MemoryStore):
    """A reference store whose parts can be replaced one at a time."""

    SPEC: ClassVar[BackendSpec]
    capabilities: ClassVar[frozenset[Capability]] = MEMORY.capabilities
    Steps: ClassVar[type[Transaction]] = Transaction

    def __init__(self, context: OpenContext) -> None:
        super().__init__(context.instance, max_rows=1_000_000, read_only=context.read_only)

    @hookimpl
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Apply a batch with this specimen's own transaction."""
        self._check_writable()
        transaction = self.Steps(self._tables)
        for index, step in enumerate(batch.steps):
            transaction.take(index, step)
        self._commit(transaction)
        return WriteReceipt(superseded=transaction.superseded, updated=transaction.updated)

    def _commit(self, transaction: Transaction) -> None:
        transaction.rows = {place: self.bent(row) for place, row in transaction.rows.items()}
        super()._commit(transaction)

    def bent(self, row: Row) -> Row:
        """Return what is kept of a row; the place for stores that cannot keep every value."""
        return row


@dataclass(frozen=True)
class Broken:
    """One broken backend.

    Attributes:
        spec: What it declares.
        clauses: The clauses that it must not get past.
        path: Where other processes find the spec.
    """

    spec: BackendSpec
    clauses: tuple[str, ...]
    path: str


SPECIMENS: list[Broken] = []
S = TypeVar("S", bound=type[Specimen])


def spec_of(store: type[Specimen]) -> BackendSpec:
    """Return a specimen's declaration."""

    async def opened(context: OpenContext) -> Specimen:
        return store(context)

    return BackendSpec(store.__name__.lower(), "broken", opened, capabilities=store.capabilities)


def breaks(*clauses: str) -> Callable[[S], S]:
    """Register a broken backend with the clauses that must fail on it."""

    def register(store: S) -> S:
        store.SPEC = spec_of(store)
        SPECIMENS.append(Broken(store.SPEC, clauses, f"{store.__module__}:{store.__name__}.SPEC"))
        return store

    return register

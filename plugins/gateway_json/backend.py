"""The data-path hooks: every call is one hop to a thread, so that the event loop never waits for the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Final, TypeVar

from gateway.backend import (
    GroupSummary,
    Health,
    OpenContext,
    RangeDigest,
    Summarize,
    WriteBatch,
    WriteReceipt,
)
from gateway.errors import StoreError, StoreUnavailableError
from gateway.hookspecs import hookimpl
from gateway.query import Query, ReadRange
from gateway.records.codec import to_micros
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway.unfinished import outlives
from gateway_json.failures import ApplyError, read_failure, write_failure
from gateway_json.settings import JsonSettings, directory_of
from gateway_json.store import JsonStore

__all__ = ["JsonBackend", "open_json"]

T = TypeVar("T")
_READERS: Final = 4


async def open_json(context: OpenContext) -> JsonBackend:
    """Open a directory of JSON files.

    Raises:
        StoreLockedError: Another gateway writes there.
        StoreReadOnlyError: This user may not write there.
        StoreCorruptError: What is there is damaged; it was left as it is.
        StoreUnavailableError: The directory cannot be used, or is missing and was to be read only.
    """
    settings = context.settings
    fsync = settings.fsync if isinstance(settings, JsonSettings) else True
    make = partial(JsonStore, directory_of(context), context.kinds, fsync=fsync, read_only=context.read_only)
    # Opening mends what a crash left behind, which must not stop halfway because somebody lost patience.
    opening = asyncio.ensure_future(asyncio.to_thread(_translated, make, write_failure, context.instance))
    try:
        return JsonBackend(context.instance, await asyncio.shield(opening))
    except asyncio.CancelledError:
        opening.add_done_callback(_close_unwanted)
        raise


class JsonBackend:
    """An opened directory of JSON files.

    Args:
        instance: Name in errors.
        store: The directory; closed with the backend.
    """

    def __init__(self, instance: str, store: JsonStore) -> None:
        self._instance = instance
        self._store = store
        self._writer = ThreadPoolExecutor(1, f"gateway-json-{instance}-write")
        self._readers = ThreadPoolExecutor(_READERS, f"gateway-json-{instance}-read")
        self._closing: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        state = "open" if self._closing is None else "closed"
        return f"<JsonBackend {self._instance} {self._store.root} {state}>"

    @hookimpl
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Apply a batch in the writer's thread; it goes on to the end even if its caller is cancelled."""
        return await self._run(self._writer, partial(self._store.write, batch), write_failure)

    @hookimpl
    async def gateway_get(self, kind: KindSpec, tenant: str, keys: Sequence[Key]) -> Sequence[Row | None]:
        """Return the rows of keys, tombstones as they are."""
        return await self._run(self._readers, partial(self._store.get, kind, tenant, keys), read_failure)

    @hookimpl
    async def gateway_query(self, query: Query) -> Sequence[Row]:
        """Return a page of rows."""
        return await self._run(self._readers, partial(self._store.query, query), read_failure)

    @hookimpl
    async def gateway_summarize(self, request: Summarize) -> Sequence[GroupSummary]:
        """Count live rows, None before every other value."""
        return await self._run(self._readers, partial(self._store.summarize, request), read_failure)

    @hookimpl
    async def gateway_digest(self, span: ReadRange) -> RangeDigest:
        """Sum the digests of a stretch of rows."""
        return await self._run(self._readers, partial(self._store.digest, span), read_failure)

    @hookimpl
    async def gateway_purge(self, kind: KindSpec, tenant: str, before: datetime) -> int:
        """Remove rows, tombstones too, whose time lies before a moment; rows without a time stay."""
        purge = partial(self._store.purge, kind, tenant, to_micros(before))
        return await self._run(self._writer, purge, write_failure)

    @hookimpl
    async def gateway_health(self) -> Health:
        """Say whether the directory can be used, what is in it, and what was mended or edited."""
        try:
            return await self._run(self._readers, self._store.health, read_failure)
        except StoreError as error:
            return Health(ok=False, summary=str(error))

    @hookimpl
    async def gateway_close(self) -> None:
        """Finish the writes that were handed in, and let go of the directory."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(asyncio.to_thread(self._close))
        await asyncio.shield(self._closing)

    def _close(self) -> None:
        self._writer.shutdown(wait=True)
        self._readers.shutdown(wait=True)
        self._store.close()

    async def _run(
        self, pool: Executor, work: Callable[[], T], failure: Callable[[OSError], StoreError]
    ) -> T:
        """Do work in a thread.

        It is not interrupted when its caller is cancelled: a write is done or not begun, never half done.
        """
        if self._closing is not None:
            raise StoreUnavailableError("the store is closed; open the gateway again", backend=self._instance)
        job = partial(_translated, work, failure, self._instance)
        future = asyncio.get_running_loop().run_in_executor(pool, job)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            future.add_done_callback(_retrieve)
            outlives(future)
            raise


def _translated(work: Callable[[], T], failure: Callable[[OSError], StoreError], instance: str) -> T:
    """Do work, and let no driver's error past the edge."""
    try:
        return work()
    except ApplyError as carrier:
        raise carrier.error from carrier.error.__cause__
    except StoreError as error:
        error.backend = error.backend or instance
        raise
    except OSError as error:
        translated = failure(error)
        translated.backend = instance
        raise translated from error


def _retrieve(future: asyncio.Future[T]) -> None:
    """Look at what became of work that nobody waits for any more, so that it is not reported as forgotten."""
    if not future.cancelled():
        future.exception()


def _close_unwanted(opening: asyncio.Future[JsonStore]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()

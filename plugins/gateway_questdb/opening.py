"""Opening: the server is looked at, its schema brought up to date, and what a crash left behind is finished."""

from __future__ import annotations

import asyncio

from gateway.backend import OpenContext
from gateway.errors import SchemaError
from gateway_questdb.backend import QuestDbBackend
from gateway_questdb.connections import Readers
from gateway_questdb.schema import QuestDbSchema, judge_marks, marks_of, marks_query, schema_of
from gateway_questdb.settings import settings_of
from gateway_questdb.statements import Statement
from gateway_questdb.tables import Tables
from gateway_questdb.waiting import Waiting

__all__ = ["open_backend"]

_TABLES = "SELECT table_name FROM tables() WHERE table_name = $1"


async def open_backend(context: OpenContext) -> QuestDbBackend:
    """Look at the server, upgrade its schema where that is allowed, and finish what a crash left behind.

    Raises:
        ConfigurationError: The settings cannot work.
        SchemaError: The schema is not the one needed and may not be changed; nothing was touched.
        StoreError: The server cannot be reached, or refuses.
    """
    settings = settings_of(context)
    address = settings.address()
    tables = Tables(context.kinds, settings)
    readers = Readers(address, settings, context.instance)
    waiting = Waiting(readers, settings.wait_seconds, context.instance)
    try:
        missing = await _missing(readers, waiting, tables, context.instance)
        if missing is not None:
            await _upgrade(context, schema_of(context), missing, allowed=settings.auto_schema)
        backend = QuestDbBackend(context, settings, tables, readers, waiting)
    except BaseException:
        await readers.close()
        raise
    try:
        await backend.start()
    except BaseException:
        await backend.gateway_close()
        raise
    return backend


async def _missing(readers: Readers, waiting: Waiting, tables: Tables, instance: str) -> str | None:
    """Return what the schema lacks, by two quick queries; None if it is what the kinds need."""
    if not await readers.fetch(Statement(_TABLES, [tables.marks])):
        return "there is no schema; run `gateway schema upgrade`"
    await waiting.applied([tables.marks])
    return judge_marks(
        marks_of(await readers.fetch(Statement(marks_query(tables.marks), []))), tables, instance
    )


async def _upgrade(context: OpenContext, schema: QuestDbSchema, missing: str, *, allowed: bool) -> None:
    if context.read_only or not allowed:
        raise SchemaError(missing, backend=context.instance)
    await asyncio.to_thread(schema.upgrade)

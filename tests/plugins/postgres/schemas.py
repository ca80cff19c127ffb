"""Schemas of databases under test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.records import KindSpec
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.kind import LogRecord
from gateway_postgres.schema import PostgresSchema, schema_at
from gateway_postgres.settings import PostgresSettings
from tests.samples import Shipment

TENANT = "00000000-0000-0000-0000-00000000000a"
OTHER = "00000000-0000-0000-0000-00000000000b"


def shipments(model: type[LogRecord] = Shipment, *indexes: tuple[str, ...]) -> KindSpec:
    """A third party's kind, in a schema of its own."""
    return KindSpec("shipments", model, time_field="at", indexes=indexes, schema="acme")


def schema_for(
    url: str, *more: KindSpec, kinds: Sequence[KindSpec] = BUILTIN_KINDS, **settings: Any
) -> PostgresSchema:
    """Return the schema of a database for the built-in kinds and some more; keyword arguments are settings."""
    chosen = PostgresSettings(url=url, **settings)
    return schema_at(chosen.address(), chosen, (*kinds, *more), "postgres")


def insert(table: str, tenant: str, record_id: str, moment: str, column: str = "timestamp") -> str:
    """Return the statement that puts a bare row into the table of a log."""
    columns = f'tenant_id, version, digest, deleted, record_id, "{column}"'
    return f"INSERT INTO {table} ({columns}) VALUES ('{tenant}', 1, 1, false, '{record_id}', '{moment}')"  # noqa: S608

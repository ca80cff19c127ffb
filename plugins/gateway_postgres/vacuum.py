"""Which tables are due to be cleaned up or analysed. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from gateway.sql.intents import INTENTS
from gateway.sql.layout import OWN_SCHEMA
from gateway_postgres.facts import TableFacts

__all__ = ["INTENTS_NAME", "to_analyze", "to_vacuum", "worn"]

INTENTS_NAME: Final = f"{OWN_SCHEMA}.{INTENTS}"
"""The table of intents, as facts call it."""
_FEW: Final = 50
_SHARE: Final = 0.1
"""Dead rows worth cleaning up: half of what autovacuum waits for."""
_WORN_ROWS: Final = 10_000
_WORN_INTENTS: Final = 200_000
"""Intents come and go all day. The server cleans up behind 20,000 of them, and has many at a time to do."""
_WORN_SHARE: Final = 0.3
"""Dead rows that show that autovacuum does not keep up."""
_KNOWN_ROWS: Final = 1_000
_CHANGED_SHARE: Final = 0.5
"""A table of fewer rows is planned well without figures; and figures are good until this share has changed."""
_AGE: Final = timedelta(days=7)
"""How much older the figures of a partitioned table may be than those of its partitions."""


def to_vacuum(tables: Iterable[TableFacts]) -> list[TableFacts]:
    """Return the tables with enough dead rows to be cleaned up now, a little before autovacuum would."""
    return [one for one in tables if not one.parent and one.dead > _FEW + _SHARE * one.live]


def worn(tables: Iterable[TableFacts]) -> list[TableFacts]:
    """Return the tables with so many dead rows that autovacuum evidently does not keep up."""
    return [
        one for one in tables if not one.parent and one.dead > max(_worn_rows(one), _WORN_SHARE * one.live)
    ]


def _worn_rows(table: TableFacts) -> int:
    return _WORN_INTENTS if table.name == INTENTS_NAME else _WORN_ROWS


def to_analyze(tables: Iterable[TableFacts]) -> list[TableFacts]:
    """Return the tables whose figures, by which queries are planned, are missing or no longer true.

    The server takes them by itself for tables and partitions, and never for a partitioned table as a whole.
    """
    every = list(tables)
    return [one for one in every if (_parent_stale(one, every) if one.parent else _stale(one))]


def _stale(table: TableFacts) -> bool:
    # Intents are found by their key, whatever the figures say.
    if table.live < _KNOWN_ROWS or table.name == INTENTS_NAME:
        return False
    return table.analysed is None or table.changed > max(_KNOWN_ROWS, _CHANGED_SHARE * table.live)


def _parent_stale(parent: TableFacts, tables: Iterable[TableFacts]) -> bool:
    parts = [one for one in tables if one.kind == parent.kind and not one.parent]
    if sum(one.live for one in parts) < _KNOWN_ROWS:
        return False
    own = parent.analysed
    return own is None or any(one.analysed is not None and one.analysed > own + _AGE for one in parts)

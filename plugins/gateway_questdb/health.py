"""What a QuestDB server says of itself: version, tables that are behind, tables that are suspended."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.backend import Health
from gateway_questdb.connections import Readers
from gateway_questdb.statements import Statement
from gateway_questdb.tables import Tables
from gateway_questdb.waiting import TableState

__all__ = ["BUILD", "OLDEST", "WAL_STATES", "ServerFacts", "judge", "read_facts", "states_of", "version_of"]

OLDEST: Final = (9, 2)
"""The first version with decimals."""
BUILD: Final = "SELECT build()"
WAL_STATES: Final = (
    "SELECT name, suspended, writerTxn, sequencerTxn, errorTag, errorMessage FROM wal_tables()"
)
_VERSION: Final = re.compile(r"QuestDB (\d+)\.(\d+)(\S*)")


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a server says.

    Attributes:
        version: As it spells it; empty if it does not say.
        tables: How far each table of this gateway is, by name.
    """

    version: str
    tables: Mapping[str, TableState]


def version_of(build: str) -> str:
    """Return the version in what a server says of its build; empty if there is none."""
    found = _VERSION.search(build)
    return "" if found is None else f"{found[1]}.{found[2]}{found[3].rstrip(',')}"


def states_of(rows: Sequence[Sequence[Any]], tables: Tables) -> dict[str, TableState]:
    """Return how far this gateway's tables are, of the rows of `WAL_STATES`."""
    own = {tables.groups, tables.marks, *(layout.table for layout in tables)}
    return {
        str(name): TableState(bool(stopped), int(applied), int(known), " ".join(filter(None, (tag, text))))
        for name, stopped, applied, known, tag, text in rows
        if name in own
    }


async def read_facts(readers: Readers, tables: Tables) -> ServerFacts:
    """Ask a server what it says of itself.

    Raises:
        StoreError: It could not answer.
    """
    ((build,),) = await readers.fetch(Statement(BUILD, []))
    rows = await readers.fetch(Statement(WAL_STATES, []))
    return ServerFacts(version_of(str(build)), states_of(rows, tables))


def judge(facts: ServerFacts, details: Mapping[str, Any]) -> Health:
    """Return whether a server can be used. A suspended table takes rows and never shows them."""
    stopped = sorted(name for name, state in facts.tables.items() if state.suspended)
    behind = {name: state.behind for name, state in facts.tables.items() if state.behind}
    told = {**details, "version": facts.version, "suspended": stopped, "behind": behind}
    if stopped:
        advice = "; ".join(f'ALTER TABLE "{name}" RESUME WAL' for name in stopped)
        return Health(
            ok=False,
            summary=f"suspended, so that rows written to them are never shown: {', '.join(stopped)}. Mend the cause, "
            f"then run {advice}",
            details=told,
        )
    lag = f", {sum(behind.values())} transactions behind" if behind else ""
    left = (
        f"; {count} groups could not be finished, see its log"
        if (count := told.get("unfinished_groups"))
        else ""
    )
    version = facts.version or "of unknown version"
    return Health(ok=True, summary=f"QuestDB {version} answers{lag}{left}", details=told)

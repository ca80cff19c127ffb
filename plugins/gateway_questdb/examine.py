"""A close look at a QuestDB store for `gateway doctor`: version, schema, tables that are behind or suspended, disk."""

# ruff: noqa: S608 - names come from registered kinds and are quoted; values are parameters, or made here

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from gateway.backend import OpenContext
from gateway.errors import ConfigurationError, StoreError
from gateway.findings import Finding, fail, ok, warn
from gateway_questdb.groups import pending_query
from gateway_questdb.health import BUILD, OLDEST, WAL_STATES, states_of, version_of
from gateway_questdb.http import Http
from gateway_questdb.schema import QuestDbSchema
from gateway_questdb.settings import settings_of
from gateway_questdb.tables import Tables
from gateway_questdb.waiting import TableState

__all__ = ["examine", "judge_partitions", "judge_states", "judge_version"]

LATE: Final = 1000
"""Transactions that a table may be behind before somebody should look."""
MANY_PARTITIONS: Final = 5000
"""Partitions of a table beyond which each costs more than it spares: files, and time to start."""
_AMPLIFIED: Final = 10.0
"""Bytes written for each byte of rows beyond which rows come too much out of order."""
_NUMBERS: Final = re.compile(r"(\d+)\.(\d+)")


def examine(context: OpenContext) -> list[Finding]:
    """Return what a close look found. A server that cannot be reached is a finding, and nothing is changed."""
    subject = f"store {context.instance}"
    try:
        settings = settings_of(context)
        http = Http(settings.address(), settings.command_timeout, context.instance)
        return list(_look(subject, http, Tables(context.kinds, settings), context))
    except (StoreError, ConfigurationError) as error:
        return [fail(f"{subject}: reachable", str(error), "")]


def _look(subject: str, http: Http, tables: Tables, context: OpenContext) -> Iterator[Finding]:
    ((build,),) = http.rows(BUILD)
    yield from judge_version(subject, version_of(str(build)))
    problems = QuestDbSchema(http, tables, context.instance).check()
    yield from (fail(f"{subject}: schema", problem, "gateway schema upgrade") for problem in problems)
    if problems:
        return
    yield ok(f"{subject}: schema", "every kind has its table")
    yield from judge_states(subject, states_of(http.rows(WAL_STATES), tables))
    yield from _groups(subject, http, tables)
    rows = http.rows(
        "SELECT table_name, table_row_count, table_write_amp_p50, dedup, walEnabled FROM tables()"
    )
    yield from _tables(subject, rows, tables)
    yield from _partitions(subject, http, tables)


def judge_version(subject: str, version: str) -> Iterator[Finding]:
    """Yield whether a server is new enough for this backend."""
    numbers = _NUMBERS.match(version)
    if numbers is None:
        yield warn(f"{subject}: version", "the server does not tell its version", "compare it by hand")
    elif (int(numbers[1]), int(numbers[2])) < OLDEST:
        needed = ".".join(map(str, OLDEST))
        yield fail(
            f"{subject}: version", f"the server is QuestDB {version}", f"upgrade it to {needed} or newer"
        )
    else:
        yield ok(f"{subject}: version", f"QuestDB {version}")


def judge_states(subject: str, states: dict[str, TableState]) -> Iterator[Finding]:
    """Yield which tables do not show what was written to them: those that are suspended, and those that are late."""
    for name, state in sorted(states.items()):
        if state.suspended:
            reason = f", because of {state.reason}" if state.reason else ""
            yield fail(
                f"{subject}: {name}",
                f"the table is suspended{reason}: {state.behind} transactions are acknowledged and never shown",
                f'mend the cause (docs/questdb.md), then run ALTER TABLE "{name}" RESUME WAL on the server',
            )
        elif state.behind > LATE:
            yield warn(
                f"{subject}: {name}",
                f"{state.behind} transactions are acknowledged and not applied yet",
                "write larger batches, or give the server more to work with",
            )
    if not any(state.suspended or state.behind > LATE for state in states.values()):
        late = sum(state.behind for state in states.values())
        yield ok(f"{subject}: tables", f"none is suspended; {late} transactions wait to be applied")


def _groups(subject: str, http: Http, tables: Tables) -> Iterator[Finding]:
    ((count,),) = http.rows(pending_query(tables.groups))
    if count:
        yield warn(
            f"{subject}: groups",
            f"{count} groups over several tables were begun and not finished",
            "whoever opens the store next finishes them; those under way right now count too. If some stay, the log "
            "of a gateway says why, such as kinds that it does not know",
        )


def _tables(subject: str, rows: Sequence[Sequence[Any]], tables: Tables) -> Iterator[Finding]:
    own = {layout.table for layout in tables}
    for name, _, amplified, dedup, wal in rows:
        if name not in own:
            continue
        if not dedup or not wal:
            yield fail(
                f"{subject}: {name}",
                "repeated rows are not dropped: the table was made, or changed, by somebody else",
                f'run ALTER TABLE "{name}" DEDUP ENABLE UPSERT KEYS with the keys that `gateway schema sql` shows',
            )
        if amplified is not None and amplified > _AMPLIFIED:
            yield warn(
                f"{subject}: {name}",
                f"each row is written {amplified:.0f} times, as rows come out of order",
                "write rows in the order of their time, or in larger batches",
            )


def _partitions(subject: str, http: Http, tables: Tables) -> Iterator[Finding]:
    sizes = {}
    for layout in tables:
        query = f"SELECT count(), sum(diskSize) FROM table_partitions('{layout.table}')"
        ((count, size),) = http.rows(query)
        sizes[layout.table] = (int(count or 0), int(size or 0))
    yield from judge_partitions(subject, sizes)


def judge_partitions(subject: str, sizes: dict[str, tuple[int, int]]) -> Iterator[Finding]:
    """Yield what tables take, and which are cut into too many partitions.

    Args:
        subject: What the findings speak of.
        sizes: Partitions and bytes of each table.
    """
    for name, (count, _) in sorted(sizes.items()):
        if count > MANY_PARTITIONS:
            yield warn(
                f"{subject}: {name}",
                f"the table has {count:,} partitions",
                "make new tables with STORAGE_QUESTDB_PARTITION_BY=MONTH and copy the rows, or keep fewer",
            )
    total = sum(size for _, size in sizes.values())
    yield ok(
        f"{subject}: disk",
        f"{total / 2**20:,.0f} MiB in {sum(count for count, _ in sizes.values())} partitions",
    )

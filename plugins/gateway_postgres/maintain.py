"""Upkeep of a PostgreSQL store, beside bots that are writing to it: partitions, retention, vacuum and analyse.

Every step is a short transaction of its own, and waits for locks for a few seconds at most: a step that finds its table
in use is left for the next run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, LiteralString

import psycopg
from psycopg import sql

from gateway.backend import OpenContext
from gateway.errors import StoreReadOnlyError
from gateway.records.kind import KindSpec
from gateway.retention import expiring
from gateway.sql.dialect import POSTGRES, quoted
from gateway_postgres.facts import TableFacts, gather_upkeep
from gateway_postgres.operators import PgConnection, blinded, connected, settings_in
from gateway_postgres.partitions import Chore, Task, apply, plan
from gateway_postgres.portable import present_kinds
from gateway_postgres.statements import postgres_statements
from gateway_postgres.vacuum import to_analyze, to_vacuum

__all__ = ["maintain"]

_PURGE_ROWS: Final = 5_000


def maintain(context: OpenContext, dry_run: bool) -> list[str]:
    """Do what is due, or only say it.

    Args:
        context: Names the server, the operator's login and the kinds.
        dry_run: Only say what would be done.

    Returns:
        What was done, a sentence each.

    Raises:
        StoreReadOnlyError: The login lacks a right that a step needs; the message says which steps were done.
        StoreError: The server cannot be used.
    """
    with connected(context) as connection:
        run = _Run(connection, tuple(present_kinds(connection, context.kinds)), datetime.now(UTC))
        if dry_run:
            return list(run.due())
        run.work()
    if run.refused:
        done = f" Done were: {'; '.join(run.done)}." if run.done else ""
        raise StoreReadOnlyError(
            f"the login {settings_in(context).admin_address().user!r} could not {'; '.join(run.refused)}.{done} Set "
            "STORAGE_POSTGRES_ADMIN_URL to the owner of the tables, as a member of the admin role "
            "(`gateway schema roles` shows the statements)",
            backend=context.instance,
        )
    return run.done


@dataclass
class _Run:
    """One run over one database.

    Attributes:
        connection: As the operator.
        kinds: Those that have tables.
        now: Aware time.
        done: What was done, as sentences.
        refused: What the login may not do, as the ends of sentences.
    """

    connection: PgConnection
    kinds: tuple[KindSpec, ...]
    now: datetime
    done: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def due(self) -> Iterator[str]:
        """Yield what there is to do; changes nothing."""
        for chore in plan(self.connection, self.kinds, self.now):
            yield str(chore) if chore.task is Task.HIDDEN else f"would {chore}"
        for kind, before, rows in self._expired():
            yield f"would remove {rows:,} rows of {kind.name} from before {before:%Y-%m-%d}"
        vacuum, analyze = self._tables()
        yield from (f"would vacuum and analyse {one.name}, with {one.dead:,} dead rows" for one in vacuum)
        yield from (f"would analyse {one.name}" for one in analyze)

    def work(self) -> None:
        """Do it all: what is dropped whole first, then what must be removed row by row, then the rest."""
        chores = plan(self.connection, self.kinds, self.now)
        for chore in chores:
            if chore.task is Task.DROP:
                self._apply(chore)
        self._purge()
        for chore in chores:
            if chore.task is not Task.DROP:
                self._apply(chore)
        self._clean()

    def _apply(self, chore: Chore) -> None:
        if chore.task is Task.HIDDEN:
            self.refused.append(f"look into the default partition of {chore.table}")
            return
        try:
            self.done += apply(self.connection, chore)
        except psycopg.errors.LockNotAvailable:
            self.done.append(f"did not {chore}, for the table is in use; the next run will")
        except psycopg.errors.InsufficientPrivilege:
            self.refused.append(str(chore))

    def _expired(self) -> Iterator[tuple[KindSpec, datetime, int]]:
        """Yield the kinds with rows past their retention that this login sees: from before when, and how many."""
        hidden = set(blinded(self.connection, self.kinds))
        for kind, before in expiring(self.kinds, self.now):
            table = POSTGRES.table(kind)
            if table in hidden:
                continue
            query = f"SELECT count(*) FROM {table} WHERE {quoted(str(kind.time_field))} < %s"  # noqa: S608 - names of a registered kind
            found = self.connection.execute(query.encode(), (before,)).fetchone()
            if found is not None and found[0]:
                yield kind, before, int(found[0])

    def _purge(self) -> None:
        """Remove old rows of all tenants, a portion a transaction, so that bots get their turn in between."""
        hidden = set(blinded(self.connection, self.kinds))
        names = [kind.name for kind, _ in expiring(self.kinds, self.now) if POSTGRES.table(kind) in hidden]
        if names:
            self.refused.append(f"remove old rows of all tenants of {', '.join(names)}")
        for kind, before, _ in list(self._expired()):
            query = f"SELECT DISTINCT tenant_id::text FROM {POSTGRES.table(kind)} WHERE {quoted(str(kind.time_field))} < %s"  # noqa: S608, E501 - as above
            tenants = [name for (name,) in self.connection.execute(query.encode(), (before,)).fetchall()]
            try:
                total = sum(self._purge_tenant(kind, tenant, before) for tenant in tenants)
            except psycopg.errors.InsufficientPrivilege:
                self.refused.append(f"remove old rows of {kind.name}")
            else:
                self.done.append(f"removed {total:,} rows of {kind.name} from before {before:%Y-%m-%d}")

    def _purge_tenant(self, kind: KindSpec, tenant: str, before: datetime) -> int:
        text, total = postgres_statements(kind).purge.encode(), 0
        with psycopg.RawCursor(self.connection) as cursor:
            # Fewer than a portion only where nothing is left, or what is left is held by somebody else right now.
            while removed := cursor.execute(text, (tenant, before, _PURGE_ROWS)).rowcount:
                total += removed
        return total

    def _tables(self) -> tuple[list[TableFacts], list[TableFacts]]:
        """Return what is to be vacuumed, and what is to be analysed beside that."""
        tables = gather_upkeep(self.connection, self.kinds).tables or ()
        vacuum = to_vacuum(tables)
        return vacuum, [one for one in to_analyze(tables) if one not in vacuum]

    def _clean(self) -> None:
        """Vacuum and analyse, without waiting for anybody."""
        if self.connection.info.server_version >= 150_000:
            # What this very connection has just removed is to be counted too.
            self.connection.execute("SELECT pg_stat_force_next_flush()")
        vacuum, analyze = self._tables()
        for one in vacuum:
            self._clean_one("VACUUM (ANALYZE, SKIP_LOCKED) {}", one, f"vacuumed and analysed {one.name}")
        for one in analyze:
            self._clean_one("ANALYZE (SKIP_LOCKED) {}", one, f"analysed {one.name}")

    def _clean_one(self, statement: LiteralString, table: TableFacts, done: str) -> None:
        """Run one of them. A server skips what it may not, or what is locked, with a warning and no error."""
        warnings: list[str] = []

        def note(diagnostic: psycopg.errors.Diagnostic) -> None:
            if diagnostic.severity_nonlocalized == "WARNING":
                warnings.append(f"{diagnostic.sqlstate}")

        self.connection.add_notice_handler(note)
        try:
            name = sql.Identifier(*table.name.split(".", 1))
            self.connection.execute(sql.SQL(statement).format(name))
        except psycopg.errors.QueryCanceled:
            self.done.append(
                f"did not finish with {table.name}: the server's statement_timeout is too short for it"
            )
            return
        finally:
            self.connection.remove_notice_handler(note)
        if "55P03" in warnings:
            self.done.append(f"left {table.name} alone, for it is in use; the next run looks again")
        elif warnings:
            self.refused.append(f"vacuum or analyse {table.name}")
        else:
            self.done.append(done)

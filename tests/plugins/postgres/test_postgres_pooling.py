"""Behind PgBouncer in transaction mode: nothing that one client does is left for the next on the same connection."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from gateway import Gateway, GatewayError, InvalidRecordError, Position
from gateway.backend import Group, KeyRef, Step, Update, WriteBatch
from gateway.records import EVENTS, POSITIONS, Event, Row
from gateway.records.stamp import DEFAULT_TENANT
from tests.plugins.postgres.crowd import Crowd, agrees
from tests.prepared import PreparedDatabases, environ_of, prepared_on
from tests.servers import Database, PgBouncer, PostgresServer

pytestmark = pytest.mark.anyio
NOW: Final = datetime(2026, 3, 12, 11, tzinfo=UTC)


@pytest.fixture(scope="module")
def talkative() -> Iterator[PostgresServer]:
    """A server that writes down every statement it is given."""
    with PostgresServer.wheel(settings={"log_statement": "all"}) as server:
        yield server


@pytest.fixture(scope="module")
def talkative_databases(talkative: PostgresServer) -> Iterator[PreparedDatabases]:
    """Databases on it."""
    yield from prepared_on(talkative)


@pytest.fixture(scope="module")
def narrow(talkative: PostgresServer) -> Iterator[PgBouncer]:
    """A bouncer with one server connection for each database and login: all clients of a test meet on it."""
    with PgBouncer(talkative, pool_size=1) as bouncer:
        yield bouncer


@dataclass(frozen=True)
class Door:
    """A database behind the narrow bouncer.

    Attributes:
        database: The database; its own URLs go around the bouncer.
        url: The bot's URL through the bouncer.
        directory: For the gateways' files.
    """

    database: Database
    url: str
    directory: Path

    def gateway(self, tenant: str = DEFAULT_TENANT, **settings: str) -> Gateway:
        """Return a gateway through the bouncer, not open yet."""
        chosen = environ_of(self.url, tenant=tenant, **settings)
        return Gateway("postgres", data_dir=self.directory, environ=chosen, env_file=None)

    @asynccontextmanager
    async def stranger(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        """Connect a second client of the same login, which knows nothing of tenants."""
        connection = await asyncpg.connect(self.url, statement_cache_size=0, timeout=10)
        try:
            yield connection
        finally:
            await connection.close(timeout=10)

    async def is_clean(self) -> None:
        """Check that a second client on the same server connection finds nothing of the first one's."""
        async with self.stranger() as stranger:
            assert await stranger.fetchval("SELECT current_setting('app.tenant_id', true)") in {None, ""}
            assert await stranger.fetchval("SELECT count(*) FROM bots_core.positions") == 0
            assert await stranger.fetchval("SELECT count(*) FROM bots_core.trades") == 0
            assert await stranger.fetchval("SELECT pg_current_xact_id_if_assigned()::text") is None
            assert await stranger.fetchval("SHOW transaction_read_only") == "off"
            assert await stranger.fetchval("SELECT count(*) FROM pg_prepared_statements") == 0
            held = "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'"
            assert await stranger.fetchval(held) == 0
            assert await stranger.fetchval("SELECT count(*) FROM pg_listening_channels()") == 0
            assert await stranger.fetchval("SELECT count(*) FROM pg_class WHERE relpersistence = 't'") == 0

    def backends(self) -> set[int]:
        """Return the server processes that serve the bot's login on this database."""
        rows = self.database.execute(
            "SELECT pid FROM pg_stat_activity WHERE usename = 'gw_app' AND datname = current_database()"
        )
        return {pid for (pid,) in rows}

    async def blocked(self) -> None:
        """Wait until the server connection waits for a lock."""
        waiting = (
            "SELECT 1 FROM pg_stat_activity WHERE usename = 'gw_app' AND wait_event_type = 'Lock' "
            "AND datname = current_database()"
        )
        async with asyncio.timeout(10):
            while not await asyncio.to_thread(self.database.execute, waiting):  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def locked(self, table: str) -> AsyncIterator[None]:
        """Hold a table, around the bouncer, so that whoever writes into it waits."""
        holder = await asyncpg.connect(self.database.superuser_url)
        try:
            async with holder.transaction():
                await holder.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
                yield
        finally:
            await holder.close()


@pytest.fixture
def door(talkative_databases: PreparedDatabases, narrow: PgBouncer, tmp_path: Path) -> Iterator[Door]:
    """A fresh database behind the bouncer."""
    with talkative_databases.fresh() as database:
        yield Door(database, narrow.url_of(database.app_url), tmp_path)


async def _fill(gateway: Gateway) -> None:
    await gateway.save_position(condition_id="held", side="YES", entry_price=1, opened_at=NOW)
    await gateway.insert_trade(market_name="M", action="buy", side="YES", price=1, amount=1)


async def _fail_in_the_middle(gateway: Gateway) -> None:
    """Let the computation inside an update raise, when its transaction has begun and its rows are locked."""

    def refuse(_: object) -> Any:
        raise InvalidRecordError("on purpose")

    (store,) = gateway.engine.stores.values()
    update = Update(DEFAULT_TENANT, (KeyRef(POSITIONS, ("held",)),), refuse)
    with pytest.raises(InvalidRecordError, match="on purpose"):
        await store.write(WriteBatch((update,)))


async def _be_refused_by_the_server(gateway: Gateway) -> None:
    """Send what only the server refuses: a row of nobody."""
    (store,) = gateway.engine.stores.values()
    stamper = gateway.engine.stamper
    row = stamper.stamp(
        POSITIONS, Position(condition_id="bad", side="YES", entry_price=Decimal(1), opened_at=NOW)
    )
    with pytest.raises(GatewayError):
        await store.write(WriteBatch((row._replace(tenant="nobody"),)))


CALLS: Final[dict[str, Callable[[Gateway], Awaitable[Any]]]] = {
    "one row": lambda g: g.save_position(condition_id="c", side="YES", entry_price=1, opened_at=NOW),
    "many rows": lambda g: g.put_many(
        [Position(condition_id=f"c{at}", side="YES", entry_price=Decimal(1), opened_at=NOW) for at in range(50)]
    ),
    "a log": lambda g: g.insert_trade(market_name="M", action="buy", side="YES", price=1, amount=1),
    "a log with an id of its own": lambda g: g.record_event(record_id="own", session_id="s", event_type="e"),
    "several kinds": lambda g: g.put_many(
        [Position(condition_id="p", side="YES", entry_price=Decimal(1), opened_at=NOW), Event(session_id="s", event_type="e", timestamp=NOW)]
    ),
    "an update": lambda g: g.update_daily_stats("2026-03-12", trade_count_delta=1),
    "two kinds at once": lambda g: g.close_position("held", "why"),
    "a deletion": lambda g: g.delete("positions", "held"),
    "a purge": lambda g: g.purge("order_book_snapshots"),
    "a read by key": lambda g: g.load_position("held"),
    "a listing": lambda g: g.get_trades(),
    "a count": lambda g: g.list_sessions(),
    "health": lambda g: g.health(),
    "an error in an update": _fail_in_the_middle,
    "an error of the server": _be_refused_by_the_server,
}  # fmt: skip
"""What a gateway does, and what may go wrong while it does."""


async def test_nothing_is_left_for_the_next_client(door: Door) -> None:
    """After every call, also one that fails half way, a second client finds no tenant, no rows and no transaction."""
    async with door.gateway() as gateway:
        await _fill(gateway)
        await door.is_clean()
        for name, call in CALLS.items():
            await call(gateway)
            try:
                await door.is_clean()
            except AssertionError as error:
                error.add_note(f"after {name}")
                raise
        # All of that was one server connection, or it would have proved nothing.
        assert len(door.backends()) == 1


def _position(gateway: Gateway, market: str) -> Row:
    record = Position(condition_id=market, side="YES", entry_price=Decimal(1), opened_at=NOW)
    return gateway.engine.stamper.stamp(POSITIONS, record)


def _event(gateway: Gateway, name: str) -> Row:
    record = Event(record_id=name, session_id="s", event_type="e", timestamp=NOW)
    return gateway.engine.stamper.stamp(EVENTS, record)


WRITES: Final[dict[str, Callable[[Gateway], tuple[Step, ...]]]] = {
    "one row": lambda g: (_position(g, "new"),),
    "many rows": lambda g: tuple(_position(g, f"new{at}") for at in range(20)),
    "two kinds": lambda g: (_event(g, "new"), _position(g, "new")),
    "a group": lambda g: (Group((_event(g, "new"), _position(g, "new"))),),
    "an update": lambda g: (
        Update(DEFAULT_TENANT, (KeyRef(POSITIONS, ("new",)),), lambda _: [_event(g, "new"), _position(g, "new")]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("write", WRITES)
async def test_a_write_that_is_cancelled_leaves_nothing(door: Door, write: str) -> None:
    """A write broken off while the server works on it is undone as a whole, and the next client finds nothing of it."""
    async with door.gateway() as gateway:
        await _fill(gateway)
        (store,) = gateway.engine.stores.values()
        async with door.locked("bots_core.positions"):
            task = asyncio.create_task(store.write(WriteBatch(WRITES[write](gateway))))
            await door.blocked()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await door.is_clean()
        assert [position.condition_id for position in await gateway.get_open_positions()] == ["held"]
        assert await gateway.get_events() == []
        await store.write(WriteBatch(WRITES[write](gateway)))
        assert len(await gateway.get_open_positions()) > 1


async def test_a_read_that_is_cancelled_leaves_nothing(door: Door) -> None:
    """A reader that gives up while its query waits leaves no transaction and no tenant behind."""
    async with door.gateway() as gateway:
        await _fill(gateway)
        async with door.locked("bots_core.positions"):
            task = asyncio.create_task(gateway.load_position("held"))
            await door.blocked()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await door.is_clean()
        assert await gateway.load_position("held") is not None


BOT: Final = """
import asyncio, sys
from datetime import datetime, UTC
from gateway import Gateway
async def main():
    async with Gateway("postgres", data_dir=sys.argv[1], env_file=None) as gateway:
        await gateway.save_position(condition_id="held", side="YES", entry_price=1, opened_at=datetime.now(UTC))
        print("ready", flush=True)
        sys.stdin.readline()
        await asyncio.gather(
            gateway.close_position("held", "why"),
            gateway.update_daily_stats("2026-03-12", trade_count_delta=1),
        )
asyncio.run(main())
"""


async def test_a_bot_killed_in_the_middle_of_a_write_leaves_nothing(door: Door) -> None:
    """Kill -9 of the client, with its transaction open: it is rolled back, and the next client finds it clean."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("STORAGE_")}
    bot = subprocess.Popen(
        [sys.executable, "-c", BOT, str(door.directory)],
        env=environment | environ_of(door.url),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert bot.stdin is not None
        assert bot.stdout is not None
        assert bot.stdout.readline() == "ready\n"
        async with door.locked("bots_core.closed_positions"):
            bot.stdin.write("go\n")
            bot.stdin.flush()
            await door.blocked()
            bot.send_signal(signal.SIGKILL)
            bot.wait(timeout=10)
    finally:
        bot.kill()
        bot.communicate()
    await door.is_clean()
    async with door.gateway() as gateway:
        held = await gateway.load_position("held")
        assert held is not None
        assert held.is_open
        assert await gateway.query("closed_positions") == []
        assert (await gateway.get_or_create_daily_stats("2026-03-12")).total_trades == 0


async def test_two_gateways_hammer_one_server_connection(door: Door) -> None:
    """Many callers of two clients with statements of all kinds never meet each other's prepared statements."""

    async def story(crowd: Crowd) -> None:
        await crowd.more(400)

    async with door.gateway() as one, door.gateway("22222222-2222-2222-2222-222222222222") as two:
        crowds = [Crowd(one), Crowd(two)]
        ledgers = await asyncio.gather(*(crowd.live(story, writers=16) for crowd in crowds))
        for gateway, ledger in zip((one, two), ledgers, strict=True):
            assert not ledger.errors
            await agrees(gateway, ledger)
        assert len(door.backends()) == 1
    await door.is_clean()


# What is left out here, PgBouncer sets by itself whenever it gives a server connection to another client.
FORBIDDEN: Final = (
    (r"\bLISTEN\b|\bNOTIFY\b|\bUNLISTEN\b", "a notification that a pooler loses"),
    (r"pg_(try_)?advisory_(un)?lock(_shared)?\(", "a lock of a session, which a pooler grants to two clients at once"),
    (r"set_config\('app\.tenant_id', [^)]*false\)", "a tenant for the whole session"),
    (r"(statement|execute [^:]+): SET (?!LOCAL\b|TRANSACTION\b|(application_name|client_encoding|DateStyle|TimeZone)\b)", "a setting for the whole session"),
    (r"execute (?!<unnamed>)", "a prepared statement with a name"),
    (r"\bPREPARE\b|\bDEALLOCATE\b|\bDECLARE\b.*WITH HOLD", "what lives as long as the session"),
    (r"CREATE TEMP\w* TABLE(?!.*ON COMMIT DROP)", "a table that lives as long as the session"),
)  # fmt: skip


async def test_what_is_sent_has_no_effect_beyond_its_transaction(
    door: Door, talkative: PostgresServer
) -> None:
    """Nothing that the server was sent for the bot's login, by any call, lives longer than a transaction."""
    async with door.gateway() as gateway:
        await _fill(gateway)
        for call in CALLS.values():
            await call(gateway)
    mine = f"gw_app@{door.database.name} LOG: "
    said = [line for line in talkative.log.splitlines() if mine in line]
    assert len(said) > 50
    for pattern, what in FORBIDDEN:
        found = [line for line in said if re.search(pattern, line)]
        assert not found, (what, found[:3])


async def test_two_upgrades_through_the_bouncer_exclude_each_other(
    talkative: PostgresServer, tmp_path: Path
) -> None:
    """Two owners who make the schema at once, through a pooler, take turns; both end well, and the schema is right."""
    with talkative.fresh() as database, PgBouncer(talkative, pool_size=3) as bouncer:
        chosen = environ_of(
            bouncer.url_of(database.app_url), postgres_admin_url=bouncer.url_of(database.owner_url)
        )
        environment = {key: value for key, value in os.environ.items() if not key.startswith("STORAGE_")}
        command = [sys.executable, "-m", "gateway.cli", "--backends", "postgres", "schema"]
        processes = [
            subprocess.Popen(
                [*command, "upgrade"],
                env=environment | chosen,
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        for process in processes:
            out, errors = process.communicate(timeout=60)
            assert process.returncode == 0, out + errors
        checked = subprocess.run(
            [*command, "check"],
            env=environment | chosen,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr
        said = [line for line in talkative.log.splitlines() if f"gw_owner@{database.name} LOG: " in line]
        assert said
        for pattern, what in FORBIDDEN:
            found = [line for line in said if re.search(pattern, line)]
            assert not found, (what, found[:3])

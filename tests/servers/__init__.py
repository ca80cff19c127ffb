"""Real servers for tests, for benchmarks and for a person: PostgreSQL, PgBouncer, Valkey, QuestDB, TimescaleDB.

Each starts on loopback with a port and a directory of its own, and is gone when the process that started it is
gone, however that one died. `python -m tests.servers` starts them all; `STORAGE_TEST_<NAME>_URL` uses a server
that the developer already has.

    with PostgresServer.wheel() as server, server.fresh() as database:
        connect(database.app_url)
"""

from tests.servers.origin import MissingServerError, Origin
from tests.servers.pgbouncer import PgBouncer
from tests.servers.postgres import Database, PostgresServer
from tests.servers.proxy import FaultProxy
from tests.servers.questdb import QuestDbServer
from tests.servers.redis import RedisCluster, RedisServer, Sentinels
from tests.servers.server import Server, ServerFailedError
from tests.servers.timescale import TimescaleServer
from tests.servers.valkey import ValkeyServer

__all__ = [
    "Database",
    "FaultProxy",
    "MissingServerError",
    "Origin",
    "PgBouncer",
    "PostgresServer",
    "QuestDbServer",
    "RedisCluster",
    "RedisServer",
    "Sentinels",
    "Server",
    "ServerFailedError",
    "TimescaleServer",
    "ValkeyServer",
]

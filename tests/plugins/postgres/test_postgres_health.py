"""Health: whether the server can be used, and what it says of itself."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.backend import OpenContext
from gateway_postgres.backend import PostgresBackend
from gateway_postgres.health import ServerFacts, judge, objection
from tests.servers import Database, PgBouncer

Context = Callable[..., OpenContext]
Open = Callable[[OpenContext], Awaitable[PostgresBackend]]

FACTS = ServerFacts(
    pid=1,
    version="18.1",
    version_num=180_001,
    encoding="UTF8",
    role="bot",
    superuser=False,
    bypasses_row_security=False,
    in_recovery=False,
    read_only=False,
    tls=True,
    connections_used=3,
    connections_max=100,
)


def test_what_is_as_it_should_be_is_healthy() -> None:
    """A server that answers, for a login without special rights, is all that is asked."""
    health = judge(FACTS, writes=True, production=True, details={"pooler": False})
    assert health.ok
    assert "18.1" in health.summary
    assert health.details["pooler"] is False
    assert "pid" not in health.details


@pytest.mark.parametrize(
    ("change", "words"),
    [({"superuser": True}, "is a superuser"), ({"bypasses_row_security": True}, "has BYPASSRLS")],
)
def test_a_login_that_row_security_does_not_hold_for_is_unfit_for_production(
    change: dict[str, Any], words: str
) -> None:
    """In production the store cannot be used with it; elsewhere it is said."""
    facts = replace(FACTS, **change)
    for production in (True, False):
        health = judge(facts, writes=True, production=production, details={})
        assert health.ok is not production
        assert words in health.summary


@pytest.mark.parametrize(
    ("change", "words"), [({"in_recovery": True}, "standby"), ({"read_only": True}, "read-only")]
)
def test_a_server_that_takes_no_writes_serves_only_readers(change: dict[str, Any], words: str) -> None:
    """A standby is unfit for a store that is written, and fit for one that is read."""
    facts = replace(FACTS, **change)
    health = judge(facts, writes=True, production=False, details={})
    assert not health.ok
    assert words in health.summary
    assert judge(facts, writes=False, production=False, details={}).ok


@pytest.mark.parametrize(
    ("change", "words"),
    [({"version_num": 130_009, "version": "13.9"}, "13.9"), ({"encoding": "LATIN1"}, "LATIN1")],
)
def test_servers_that_cannot_keep_a_store_are_refused(change: dict[str, Any], words: str) -> None:
    """Versions before 14 and other encodings than UTF-8 are refused by name; all others are not."""
    refused = objection(replace(FACTS, **change))
    assert refused is not None
    assert words in str(refused)
    assert objection(replace(FACTS, version_num=140_000)) is None


@pytest.mark.anyio
async def test_a_server_says_what_an_operator_asks(context: Context, opened: Open) -> None:
    """Version, role, connections, pool, schema and pooler are told, ready for JSON, and no password is."""
    made = context()
    health = await (await opened(made)).gateway_health()
    assert health.ok, health.summary
    details = health.details
    assert (details["role"], details["superuser"], details["pooler"], details["tls"]) == (
        "gw_app",
        False,
        False,
        False,
    )
    assert details["schema_revision"]
    assert 0 < details["connections_used"] <= details["connections_max"]
    assert details["pool_total"] == 15
    secret = str(made.settings.url).partition("@")[0].rpartition(":")[2]
    assert secret not in json.dumps(dict(details))


@pytest.mark.anyio
async def test_a_superuser_is_named(context: Context, opened: Open, prepared_database: Database) -> None:
    """On a real server a superuser is found out, and refused in production."""
    for production in (False, True):
        backend = await opened(context(url=prepared_database.superuser_url, production=production))
        health = await backend.gateway_health()
        assert health.ok is not production
        assert "superuser" in health.summary


@pytest.mark.anyio
async def test_a_database_set_to_read_only_is_named(
    context: Context, opened: Open, prepared_database: Database
) -> None:
    """A server that refuses writes is not healthy for a bot that writes."""
    prepared_database.execute(
        f'ALTER DATABASE "{prepared_database.name}" SET default_transaction_read_only = on'
    )
    health = await (await opened(context())).gateway_health()
    assert not health.ok
    assert "takes no writes" in health.summary


@pytest.mark.anyio
async def test_a_schema_that_may_not_be_seen_is_no_failure(
    context: Context, opened: Open, prepared_database: Database
) -> None:
    """Where the revision cannot be read, the rest is told all the same."""
    backend = await opened(context())
    prepared_database.execute("REVOKE ALL ON gateway.alembic_version FROM PUBLIC, gateway_app")
    health = await backend.gateway_health()
    assert health.ok
    assert health.details["schema_revision"] is None


@pytest.mark.anyio
async def test_a_pooler_is_named(
    context: Context, opened: Open, prepared_database: Database, pgbouncer: PgBouncer
) -> None:
    """Through PgBouncer the store is healthy and says that it is behind one."""
    health = await (await opened(context(url=pgbouncer.url_of(prepared_database.app_url)))).gateway_health()
    assert health.ok
    assert health.details["pooler"] is True


@pytest.mark.anyio
async def test_health_does_not_raise(context: Context, opened: Open) -> None:
    """A closed store answers that it is not usable."""
    backend = await opened(context())
    await backend.gateway_close()
    health = await backend.gateway_health()
    assert not health.ok
    assert "closed" in health.summary

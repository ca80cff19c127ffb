"""PostgreSQL as production runs it: what is not safe is refused, and no password is seen anywhere by anybody."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import subprocess
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from typer.testing import CliRunner

from gateway import Gateway, SyncGateway, telemetry
from gateway.cli.app import make_app
from gateway.config import load_configuration, open_context
from gateway.errors import ConfigurationError, GatewayError, StoreError
from gateway.registry import discover
from tests.servers import Database, PostgresServer

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Login:
    """Where and as whom, in pieces to put together again in every way that users do."""

    user: str
    password: str
    host: str
    port: int
    database: str

    @property
    def place(self) -> str:
        """The URL behind the user part."""
        return f"{self.host}:{self.port}/{self.database}"

    @property
    def encoded(self) -> str:
        """The password with every single character percent-encoded."""
        return "".join(f"%{byte:02X}" for byte in self.password.encode())


def login_of(url: str, **changes: Any) -> Login:
    """Take a URL apart."""
    parts = urlsplit(url)
    assert parts.username is not None
    assert parts.password is not None
    given = {
        "user": parts.username,
        "password": unquote(parts.password),
        "host": parts.hostname,
        "port": parts.port,
    }
    return Login(**{**given, "database": parts.path[1:], **changes})


SPELLINGS: Mapping[str, Callable[[Login], dict[str, str]]] = {
    "in the URL": lambda it: {"STORAGE_POSTGRES_URL": f"postgresql://{it.user}:{quote(it.password, safe='')}@{it.place}"},
    "encoded": lambda it: {"STORAGE_POSTGRES_URL": f"postgresql://{it.user}:{it.encoded}@{it.place}"},
    "as a parameter": lambda it: {"STORAGE_POSTGRES_URL": f"postgresql://{it.user}@{it.place}?password={quote(it.password)}"},
    "by itself": lambda it: {
        "STORAGE_POSTGRES_URL": f"postgresql://{it.user}@{it.place}",
        "STORAGE_POSTGRES_PASSWORD": it.password,
    },
    "in DATABASE_URL": lambda it: {
        "STORAGE_BACKENDS": "",
        "DATABASE_URL": f"postgres://{it.user}:{quote(it.password, safe='')}@{it.place}",
    },
    "in STORAGE_BACKENDS": lambda it: {
        "STORAGE_BACKENDS": f"postgresql+asyncpg://{it.user}:{quote(it.password, safe='')}@{it.place}"
    },
    "for the operator": lambda it: {
        "STORAGE_POSTGRES_URL": f"postgresql://{it.user}:{quote(it.password, safe='')}@{it.place}",
        "STORAGE_POSTGRES_ADMIN_URL": f"postgresql://{it.user}@{it.place}",
        "STORAGE_POSTGRES_ADMIN_PASSWORD": it.password,
    },
}  # fmt: skip


def variables(login: Login, spelling: str, **more: str) -> dict[str, str]:
    """Return the variables of a bot."""
    return {"STORAGE_BACKENDS": "postgres", **SPELLINGS[spelling](login), **more}


def closed_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def failing(database: Database, how: str) -> Login:
    """Return a login that the server, or what is in front of it, refuses."""
    changes: dict[str, dict[str, Any]] = {
        "wrong password": {"password": f"wr0ng/{secrets.token_hex(8)}@x"},
        "wrong user": {"user": "nobody_of_that_name"},
        "no server": {"port": closed_port()},
        "no host": {"host": "no-such-host.invalid"},
        "no database": {"database": "no_such_database"},
    }
    return login_of(database.owner_url, **changes[how])


FAILURES = ("wrong password", "wrong user", "no server", "no host", "no database")


def seen_in(text: str, login: Login) -> bool:
    """Tell whether a password can be read, as it is or encoded."""
    spelled = {login.password, login.encoded, quote(login.password), quote(login.password, safe="")}
    return any(spelling in text for spelling in spelled)


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep what this process was started with out of it."""
    for name in ("DATABASE_URL", "POSITION_BACKEND", "ENVIRONMENT", "RAILWAY_ENVIRONMENT", "PGPASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "no-passwords"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Listen to every logger of the process, however talkative."""
    with caplog.at_level(logging.DEBUG):
        yield caplog


@pytest.mark.anyio
@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_every_spelling_works_and_shows_no_password(
    spelling: str, prepared_database: Database, tmp_path: Path, everything_logged: pytest.LogCaptureFixture
) -> None:
    """A bot writes and reads, whichever way its password was given, and neither its objects nor its logs hold it."""
    login = login_of(prepared_database.app_url)
    environ = variables(login, spelling)
    async with Gateway(environ=environ, env_file=None, data_dir=tmp_path) as gateway:
        await gateway.insert_alert(alert_type="trade", level="INFO")
        assert len(await gateway.get_alerts()) == 1
        health = await gateway.health()
        (store,) = gateway.configuration.stores
        context = open_context(gateway.configuration, store, ())
        shown = f"{gateway!r} {gateway.configuration!r} {gateway.configuration.values} {health!r} {store!r} {context!r}"
        backend = gateway.plugin_manager.get_plugin("postgres")
        shown += (
            f"{store.settings} {store.settings!r} {store.settings.endpoints()} {backend!r} {vars(gateway)}"
        )
    assert health.ok
    assert not seen_in(f"{shown} {everything_logged.text}", login)


@pytest.mark.anyio
@pytest.mark.parametrize("how", FAILURES)
@pytest.mark.parametrize("spelling", ["in the URL", "encoded", "as a parameter", "by itself"])
async def test_no_password_is_in_an_error_or_its_traceback(
    spelling: str,
    how: str,
    postgres_database: Database,
    tmp_path: Path,
    everything_logged: pytest.LogCaptureFixture,
) -> None:
    """Whatever goes wrong on the way in, the error, all that led to it, and the logs can be sent to anybody."""
    login = failing(postgres_database, how)
    environ = variables(login, spelling, STORAGE_POSTGRES_CONNECT_TIMEOUT="3")
    gateway = Gateway(environ=environ, env_file=None, data_dir=tmp_path)
    with pytest.raises(StoreError) as caught:
        await gateway.open()
    assert str(caught.value).startswith("postgres: ")
    report = "".join(traceback.format_exception(caught.value))
    assert not seen_in(f"{report} {caught.value!r} {gateway!r} {everything_logged.text}", login)


@pytest.mark.parametrize("url", [
    "postgresql://bot:{}/x@127.0.0.1:1/d",
    "postgresql://bot:{}?x@127.0.0.1:1/d",
    "postgresql://bot:{}#x@127.0.0.1:1/d",
    "postgresql://bot:{}:x@127.0.0.1:port/d",
    "postgresql://bot:{}@127.0.0.1:1/d?sslmode=maybe",
    "postgresql://bot:{}@127.0.0.1:1/d?port=1,2,3",
    "postgresql://127.0.0.1:1/d?password={}&nonsense=1",
    "postgresql://bot:{} x@127.0.0.1:1/d",
    "postgresql:bot:{}@127.0.0.1:1/d",
    "postgresql://[bot:{}@127.0.0.1:1/d",
    "mysql://bot:{}@127.0.0.1:1/d",
])  # fmt: skip
def test_a_url_that_cannot_be_read_is_refused_without_its_password(url: str, tmp_path: Path) -> None:
    """Where a piece of the password lands in the port or in the path, the sentence does not quote it."""
    secret = secrets.token_hex(8)
    environ = {"STORAGE_BACKENDS": "postgres", "STORAGE_POSTGRES_URL": url.format(secret)}
    with (
        pytest.raises(GatewayError) as caught,
        SyncGateway(environ=environ, env_file=None, data_dir=tmp_path),
    ):
        pass
    assert secret not in "".join(traceback.format_exception(caught.value))


COMMANDS = (
    ("config",),
    ("config", "--json"),
    ("doctor",),
    ("doctor", "--json"),
    ("health",),
    ("health", "--json"),
    ("plugins", "--json"),
    ("schema", "current"),
    ("--debug", "schema", "check"),
    ("--debug", "stats"),
)


@pytest.mark.parametrize("how", ["none", *FAILURES])
def test_no_command_prints_a_password(
    how: str, prepared_database: Database, everything_logged: pytest.LogCaptureFixture
) -> None:
    """What an operator types at three in the morning, and pastes into a chat, can be pasted."""
    login = login_of(prepared_database.app_url) if how == "none" else failing(prepared_database, how)
    for spelling in SPELLINGS if how == "none" else ("by itself", "in the URL"):
        environ = variables(login, spelling, STORAGE_POSTGRES_CONNECT_TIMEOUT="3")
        for command in COMMANDS if spelling == "in the URL" else COMMANDS[:2]:
            done = CliRunner().invoke(make_app(), command, env=environ)
            assert isinstance(done.exception, SystemExit | None), done.exception
            if command[0] in {"health", "schema"}:
                assert done.exit_code == (0 if how == "none" else 3), done.output  # it did reach the server
            assert not seen_in(done.output, login), (spelling, command)
    assert not seen_in(everything_logged.text, login)


@pytest.mark.parametrize("variable", ["ENVIRONMENT", "RAILWAY_ENVIRONMENT"])
@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://bot:postgres@127.0.0.1:{port}/d", "well-known default"),
        ("postgresql://bot:BOT@localhost:{port}/d", "well-known default"),
        ("postgresql://username:STRONG_PASSWORD@host:{port}/dbname?sslmode=require", "well-known default"),
        ("postgresql://bot@10.255.255.1:{port}/d?sslmode=verify-full", "no password"),
        ("postgresql://bot:9f3ac2e1@10.255.255.1:{port}/d", "plain text"),
        ("postgresql://bot:9f3ac2e1@127.0.0.1,10.255.255.1:{port}/d?sslmode=prefer", "plain text"),
    ],
)
def test_production_refuses_before_anything_connects(
    variable: str, url: str, says: str, tmp_path: Path
) -> None:
    """A bot does not start on a default password or in plain text; and nobody listened, so nobody was asked."""
    environ = {variable: "production", "DATABASE_URL": url.format(port=closed_port())}
    with (
        pytest.raises(ConfigurationError, match=f"not safe in production.*{says}"),
        SyncGateway(environ=environ, env_file=None, data_dir=tmp_path / "data"),
    ):
        pass
    assert not (tmp_path / "data").exists()
    # In development the same bot gets as far as the server, which is not there.
    relaxed = {"DATABASE_URL": environ["DATABASE_URL"], "STORAGE_POSTGRES_CONNECT_TIMEOUT": "0.2"}
    gateway = Gateway(environ=relaxed, env_file=None, data_dir=tmp_path / "data")
    assert open_context(gateway.configuration, gateway.configuration.stores[0], ()).production is False


def test_commands_refuse_too_and_the_looking_glass_does_not(tmp_path: Path) -> None:
    """`config` shows what is wrong, `doctor` counts it as a failure, and whatever would connect is refused."""
    environ = {
        "ENVIRONMENT": "production",
        "STORAGE_DATA_DIR": str(tmp_path),
        "DATABASE_URL": f"postgresql://bot:changeme@127.0.0.1:{closed_port()}/d",
    }
    ran = {name: CliRunner().invoke(make_app(), name.split(), env=environ) for name in ("config", "doctor", "stats", "schema upgrade")}  # fmt: skip
    assert {name: done.exit_code for name, done in ran.items()} == {"config": 0, "doctor": 1, "stats": 2, "schema upgrade": 2}  # fmt: skip
    assert all("well-known default" in done.output for done in ran.values())


def test_production_runs_with_a_password_of_its_own(prepared_database: Database, tmp_path: Path) -> None:
    """What the guard asks for is enough: the same bot with a random password starts, stores and reads."""
    environ = {"ENVIRONMENT": "production", "DATABASE_URL": prepared_database.app_url}
    with SyncGateway(environ=environ, env_file=None, data_dir=tmp_path / "data") as gateway:
        gateway.insert_alert(alert_type="trade", level="INFO")
        assert len(gateway.get_alerts()) == 1


@pytest.mark.parametrize(
    "scheme", ["postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg2", "POSTGRESQL"]
)
def test_every_scheme_in_use_reaches_the_same_store(
    scheme: str, prepared_database: Database, tmp_path: Path
) -> None:
    """Platforms and SQLAlchemy spell one thing in several ways."""
    url = prepared_database.app_url.replace("postgresql://", f"{scheme}://")
    for environ in (
        {"DATABASE_URL": url},
        {"STORAGE_BACKENDS": url},
        {"STORAGE_BACKENDS": "postgres", "STORAGE_POSTGRES_URL": url},
    ):
        with SyncGateway(environ=environ, env_file=None, data_dir=tmp_path) as gateway:
            assert gateway.health().ok


def test_instances_read_their_own_variables(prepared_database: Database, tmp_path: Path) -> None:
    """A store that is called `new` is set by STORAGE_NEW_…, the password among that."""
    login = login_of(prepared_database.app_url)
    environ = {
        "STORAGE_BACKENDS": "old=memory,new=postgres",
        "STORAGE_NEW_URL": f"postgresql://{login.user}@{login.place}",
        "STORAGE_NEW_PASSWORD": login.password,
    }
    with SyncGateway(environ=environ, env_file=None, data_dir=tmp_path) as gateway:
        gateway.insert_alert(alert_type="trade", level="INFO")
        assert set(gateway.health().backends) == {"old", "new"}


def test_one_database_is_one_store_whoever_asks(prepared_database: Database) -> None:
    """Two databases on one server are two stores; one database through two logins is one, and proves nothing."""
    registry = discover()
    environ = {"STORAGE_BACKENDS": "old=postgres,new=postgres", "STORAGE_OLD_URL": prepared_database.app_url}
    with pytest.raises(ConfigurationError, match="are the same postgres store"):
        load_configuration(
            registry, environ={**environ, "STORAGE_NEW_URL": prepared_database.admin_url}, env_file=None
        )
    other = prepared_database.app_url + "_other"
    assert (
        len(load_configuration(registry, environ={**environ, "STORAGE_NEW_URL": other}, env_file=None).stores)
        == 2
    )


@pytest.mark.anyio
async def test_no_span_holds_a_password(
    prepared_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans of calls that work, and of calls that a lost database makes fail, can be sent to a collector."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    telemetry.refresh()
    login = login_of(prepared_database.app_url)
    try:
        async with Gateway(
            environ=variables(login, "in the URL", STORAGE_RETRY_SECONDS="0", STORAGE_TELEMETRY_SAMPLE="1"),
            env_file=None,
            data_dir=tmp_path,
        ) as gateway:
            await gateway.insert_alert(alert_type="trade", level="INFO")
            prepared_database.drop()
            with pytest.raises(GatewayError):
                await gateway.insert_alert(alert_type="trade", level="INFO")
    finally:
        monkeypatch.undo()
        telemetry.refresh()
    spans = exporter.get_finished_spans()
    assert any(span.status.status_code is trace.StatusCode.ERROR for span in spans)
    assert not seen_in("".join(span.to_json() for span in spans), login)


def test_the_login_for_bots_is_bound_and_its_password_is_not_printed(postgres15: PostgresServer) -> None:
    """The script that compose runs makes a login in the app group alone, with the password of the environment."""
    psql = [
        str(postgres15.programs.binaries / "psql"),
        "--no-psqlrc",
        "--quiet",
        "--dbname",
        postgres15.url(),
    ]
    roles, login = (str(ROOT / "contrib" / "sql" / name) for name in ("roles.sql", "bot_login.sql"))
    environ = {name: value for name, value in os.environ.items() if name != "GATEWAY_BOT_PASSWORD"}
    password = f"it's {secrets.token_hex(8)}"
    runs = [
        subprocess.run(
            [*psql, "--file", file], env={**environ, **given}, capture_output=True, text=True, check=False
        )
        for file, given in ((roles, {}), (login, {}), (login, {"GATEWAY_BOT_PASSWORD": password}))
    ]
    try:
        assert [run.returncode for run in runs] == [0, 3, 0], [run.stderr for run in runs]
        assert "set GATEWAY_BOT_PASSWORD" in runs[1].stderr
        assert password not in "".join(run.stdout + run.stderr for run in runs)
        found = postgres15.execute(
            "SELECT rolcanlogin, rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb,"
            " (SELECT array_agg(roleid::regrole::text) FROM pg_auth_members WHERE member = r.oid)"
            " FROM pg_roles r WHERE rolname = 'gateway_bot'"
        )
        assert found == [(True, False, ["gateway_app"])]
        url = postgres15.url(user="gateway_bot", password=password)
        tried = subprocess.run(
            [psql[0], "--no-psqlrc", "--dbname", url, "--command", "SELECT 1"],
            capture_output=True,
            check=False,
        )
        assert tried.returncode == 0, tried.stderr
    finally:
        postgres15.execute("DROP ROLE IF EXISTS gateway_bot")

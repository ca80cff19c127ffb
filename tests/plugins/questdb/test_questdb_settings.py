"""Where a server is, read from a URL and settings, without a secret in anything that people read."""

from __future__ import annotations

import asyncpg
import pytest
from questdb import QuestDBError, QuestDBErrorCode

from gateway.errors import (
    ConfigurationError,
    GatewayError,
    SchemaError,
    StoreError,
    StoreFullError,
    StoreTimeoutError,
    StoreUnavailableError,
    WriteRejectedError,
)
from gateway_questdb.address import Address, parse_address
from gateway_questdb.errors import refused, translate
from gateway_questdb.settings import QuestDbSettings


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("questdb://host", Address("host")),
        ("http://host:9001", Address("host", port=9001)),
        ("https://host?pg_port=5", Address("host", pg_port=5, tls=True, pg_tls=True)),
        ("questdb://me:p%40ss@host", Address("host", user="me", password="p@ss", named=True)),  # noqa: S106 - made up
        ("questdb://[::1]:9", Address("::1", port=9)),
    ],
)
def test_a_url_names_a_server(url: str, expected: Address) -> None:
    """Ports, the login and encryption come from the URL; what it leaves open is what a new server has."""
    assert parse_address(url) == expected


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgres://host", "questdb://"),
        ("questdb://", "no host"),
        ("questdb://host:port", "port"),
        ("questdb://host?pg_port=x", "pg_port"),
        ("questdb://host?other=1", "other"),
        ("questdb://host/table", "a path"),
    ],
)
def test_a_wrong_url_is_refused(url: str, says: str) -> None:
    """The message says what is wrong and shows how a URL looks."""
    with pytest.raises(ConfigurationError, match=says):
        parse_address(url)


def test_settings_fill_what_the_url_leaves_open() -> None:
    """The URL wins over a setting; together they are one address."""
    settings = QuestDbSettings.model_validate(
        {"url": "questdb://bot@host:9000", "user": "other", "password": "secret", "pg_port": 99}
    )
    address = settings.address()
    assert (address.user, address.password, address.pg_port) == ("bot", "secret", 99)
    with pytest.raises(ConfigurationError, match="STORAGE_QUESTDB_URL"):
        QuestDbSettings().address()


def test_no_secret_is_shown() -> None:
    """Neither settings nor addresses show a password or a token."""
    settings = QuestDbSettings.model_validate(
        {"url": "questdb://bot:hidden1@host", "password": "hidden2", "token": "hidden3"}
    )
    shown = f"{settings!r} {settings.address()!r} {settings.address()} {settings.endpoints()!r}"
    assert "hidden" not in shown


def test_production_is_told_what_it_has_to_know() -> None:
    """Both ports are judged: the default password counts as one, and a token proves who connects."""
    plain = QuestDbSettings(url="questdb://host").endpoints()
    assert [(one.password, one.encrypted) for one in plain] == [("quest", False)]
    safe = QuestDbSettings.model_validate(
        {"url": "https://me:long-and-random@host", "token": "t"}
    ).endpoints()
    assert [(one.authenticated, one.encrypted, one.verified) for one in safe] == [
        (True, True, True),
        (False, True, True),
    ]


def test_the_client_is_configured_without_surprises() -> None:
    """A semicolon in a password ends nothing, and nothing is flushed by itself."""
    made = parse_address("https://me:a%3Btls_verify=unsafe_off@host").sender_configuration(5, 1)
    assert made.startswith("https::addr=host:9000;auto_flush=off;")
    assert "password=a;;tls_verify=unsafe_off;tls_verify=on;" in made


@pytest.mark.parametrize(
    ("error", "expected", "transient"),
    [
        (ConnectionRefusedError(), StoreUnavailableError, True),
        (TimeoutError(), StoreTimeoutError, True),
        (asyncpg.ConnectionDoesNotExistError("gone"), StoreUnavailableError, True),
        (QuestDBError(QuestDBErrorCode.SocketError, "reset"), StoreUnavailableError, True),
        (QuestDBError(QuestDBErrorCode.ServerFlushError, '{"code":"invalid","message":"line 1: table: t, column: c; cast error"}'), WriteRejectedError, False),
        (QuestDBError(QuestDBErrorCode.ServerFlushError, '{"code":"invalid","message":"table: t, column: c does not exist"}'), SchemaError, False),
        (QuestDBError(QuestDBErrorCode.ServerFlushError, '{"code":"internal error","message":"No space left on device"}'), StoreFullError, False),
        (QuestDBError(QuestDBErrorCode.ServerFlushError, "Could not flush buffer: 503"), StoreUnavailableError, True),
        (asyncpg.PostgresError("table does not exist [table=x]"), SchemaError, False),
        (asyncpg.PostgresError("something new"), StoreError, False),
    ],
)  # fmt: skip
def test_errors_say_whether_trying_again_can_help(
    error: Exception, expected: type[GatewayError], transient: bool
) -> None:
    """What the drivers raise becomes the gateway's own error, transient or permanent."""
    found = translate(error, "questdb")
    assert type(found) is expected
    assert found.transient is transient


@pytest.mark.parametrize(
    ("status", "body", "transient"),
    [
        (301, b"", False),
        (400, b"Bad Request", False),
        (404, b"Not Found", False),
        (405, b"Method not allowed", False),
        (413, b"too large", False),
        (501, b"", False),
        (400, b'{"code":"internal error","message":"commit error for table"}', True),
        (408, b"", True),
        (429, b"Too Many Requests", True),
        (500, b'{"code":"internal error"}', True),
        (502, b"<h1>Bad Gateway</h1>", True),
        (503, b"", True),
    ],
)
def test_what_can_never_succeed_is_not_tried_for_ever(status: int, body: bytes, transient: bool) -> None:
    """A status of another server, or of a limit, is permanent and says where to look; one that passes is transient."""
    found = refused(status, body, "questdb")
    assert found.transient is transient
    if not transient:
        assert str(status) in str(found)
        assert "Check that URL and port" in str(found)


def test_a_refusal_shows_no_value_of_a_row() -> None:
    """What the server quotes of a refused row stays out of the message; the column's name is in it."""
    body = b'{"code":"invalid","message":"error in line 1: table: t, column: amount; cast error from protocol type: secret-value"}'
    said = str(refused(400, body, "questdb"))
    assert "secret-value" not in said
    assert "table: t, column: amount" in said
    assert isinstance(refused(401, b"", "questdb"), StoreError)

"""Where a server is: its two ports, as whom to connect, and whether the ways there are encrypted.

Rows are written over HTTP and read over the PostgreSQL protocol, which a server offers at another port.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from gateway.errors import ConfigurationError
from gateway.upkeep import Endpoint

__all__ = ["DEFAULT_PASSWORD", "DEFAULT_USER", "Address", "parse_address"]

DEFAULT_PORT: Final = 9000
DEFAULT_PG_PORT: Final = 8812
DEFAULT_USER: Final = "admin"
DEFAULT_PASSWORD: Final = "quest"  # noqa: S105 - what a new server has; production refuses it
SCHEMES: Final = ("questdb", "http", "https")
_EXAMPLE: Final = "questdb://user:password@host:9000?pg_port=8812"


@dataclass(frozen=True, slots=True)
class Address:
    """A server and a login.

    Attributes:
        host: Name or address.
        port: Of HTTP, which takes rows.
        pg_port: Of the PostgreSQL protocol, which answers queries.
        user: Who connects.
        password: Their password.
        token: A bearer token for HTTP, instead of the password.
        tls: Whether HTTP is encrypted.
        pg_tls: Whether the PostgreSQL protocol is.
        verify: Whether the server must prove that it is the one meant.
        ca: File of the authorities to trust; None for those that this machine trusts.
        named: Whether somebody named the login; a server that nobody configured takes any over HTTP.
    """

    host: str
    port: int = DEFAULT_PORT
    pg_port: int = DEFAULT_PG_PORT
    user: str = DEFAULT_USER
    password: str = field(default=DEFAULT_PASSWORD, repr=False)
    token: str | None = field(default=None, repr=False)
    tls: bool = False
    pg_tls: bool = False
    verify: bool = True
    ca: str | None = None
    named: bool = False

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def sender_configuration(self, timeout: float, retry: float) -> str:
        """Return what the official client is configured with; holds the password.

        Args:
            timeout: Seconds that one request may take.
            retry: Seconds for which the client repeats a request that the server could not take.
        """
        options = {
            "addr": f"{self.host}:{self.port}",
            "auto_flush": "off",
            "request_timeout": str(round(timeout * 1000)),
            "retry_timeout": str(round(retry * 1000)),
        }
        if self.token is not None:
            options["token"] = self.token
        elif self.named:
            options |= {"username": self.user, "password": self.password}
        if self.tls:
            options["tls_verify"] = "on" if self.verify else "unsafe_off"
            options |= {"tls_roots": self.ca} if self.ca else {"tls_ca": "webpki_and_os_roots"}
        # A semicolon ends a value; two of them stand for one.
        parts = "".join(f"{name}={value.replace(';', ';;')};" for name, value in options.items())
        return f"{'https' if self.tls else 'http'}::{parts}"

    def asyncpg_arguments(self) -> dict[str, Any]:
        """Return what asyncpg connects with; holds the password."""
        context: ssl.SSLContext | bool = False
        if self.pg_tls:
            context = ssl.create_default_context(cafile=self.ca)
            if not self.verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
        return {
            "host": self.host,
            "port": self.pg_port,
            "user": self.user,
            "password": self.password,
            "database": "qdb",
            "ssl": context,
        }

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Return both ports as the rules for production need to know them."""
        password = None if self.token is not None else self.password
        http = Endpoint(
            self.host,
            self.user,
            password,
            authenticated=self.token is not None,
            encrypted=self.tls,
            verified=self.tls and self.verify,
        )
        pg = Endpoint(
            self.host, self.user, self.password, encrypted=self.pg_tls, verified=self.pg_tls and self.verify
        )
        return tuple(dict.fromkeys((http, pg)))


def parse_address(url: str, **given: Any) -> Address:
    """Return the server that a URL names.

    Args:
        url: `questdb://`, `http://` or `https://`, with the port of HTTP and `?pg_port=`.
        given: What settings say beside the URL; the URL wins. None means that they say nothing.

    Raises:
        ConfigurationError: It is no such URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ConfigurationError(f"the URL of a QuestDB store begins with questdb://, as in {_EXAMPLE}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(
            f"the URL of a QuestDB store has an invalid port; write {_EXAMPLE}"
        ) from error
    if not host:
        raise ConfigurationError(f"the URL of a QuestDB store names no host; write {_EXAMPLE}")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(options.keys() - {"pg_port"})
    if unknown or parts.path.strip("/") or parts.fragment:
        raise ConfigurationError(
            f"the URL of a QuestDB store has {', '.join(unknown) or 'a path'}, which nothing reads; write {_EXAMPLE}"
        )
    found = {name: value for name, value in given.items() if value is not None}
    found |= _parts_of(parts.username, parts.password, port, options.get("pg_port"))
    if parts.scheme == "https":
        found["tls"] = True
    found.setdefault("pg_tls", found.get("tls", False))
    return Address(host, named="password" in found or "user" in found, **found)


def _parts_of(
    user: str | None, password: str | None, port: int | None, pg_port: str | None
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if user:
        found["user"] = unquote(user)
    if password is not None:
        found["password"] = unquote(password)
    if port is not None:
        found["port"] = port
    if pg_port is not None:
        if not (pg_port.isascii() and pg_port.isdigit() and 0 < int(pg_port) < 65536):
            raise ConfigurationError("pg_port in the URL of a QuestDB store must be a number up to 65535")
        found["pg_port"] = int(pg_port)
    return found

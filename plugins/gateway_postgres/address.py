"""Where a server is and as whom to connect: one reading of a URL for both drivers.

asyncpg and libpq read URLs with small differences, and each fills gaps from the environment in its own way. So the
URL is read once, here, by libpq's rules, and both drivers get the finished parts.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from gateway.errors import ConfigurationError
from gateway.upkeep import Endpoint
from gateway_postgres.passfile import find_password
from gateway_postgres.tls import Tls, tls_of

__all__ = ["DEFAULT_PORT", "Address", "Login", "parse_address"]

DEFAULT_PORT: Final = 5432
SCHEMES: Final = ("postgres", "postgresql")
_TARGETS: Final = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")
_YES: Final = frozenset({"1", "true", "yes", "on"})

_PARTS: Final = frozenset({"host", "port", "user", "password", "dbname", "database", "passfile"})
_TLS: Final = frozenset({"sslmode", "ssl", "sslrootcert", "sslcert", "sslkey"})
_OTHERS: Final = frozenset({"application_name", "target_session_attrs", "pgbouncer"})
_NAMED: Final = frozenset(
    # A text, because a list of this length would fill a page.
    """
    channel_binding client_encoding command_timeout connect_timeout connection_limit fallback_application_name
    gssencmode hostaddr keepalives keepalives_idle krbsrvname load_balance_hosts options pool_size pool_timeout
    prepared_statement_cache_size require_auth schema search_path service ssl_max_protocol_version
    ssl_min_protocol_version sslcrl sslnegotiation sslpassword statement_cache_size timeout
    """.split()  # noqa: SIM905 - see above
)
"""Options that others read. Errors name these; any other name may be a piece of a password with a ? or & in it."""


@dataclass(frozen=True, slots=True)
class Login:
    """What settings say beside the URL.

    Attributes:
        password: Used where the URL has none.
        tls: Mode of TLS where the URL has none; None leaves it to `PGSSLMODE` and the default.
        ca: File of certificates to trust, or `system`.
        cert: File of the client's certificate.
        key: File of its key.
    """

    password: str | None = field(default=None, repr=False)
    tls: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """A server, or several that stand in for each other, and a login.

    Attributes:
        hosts: Names, addresses, or directories of sockets, in the order they are tried.
        ports: One for each host.
        user: Who connects.
        password: The password; None where none is known.
        database: Name of the database.
        tls: How the connection is protected.
        application: What the server calls the connection in its lists; None leaves that to the caller.
        target: Which of several servers will do, as in libpq's `target_session_attrs`; by default the one that takes
            writes, where writes are to be made.
        pooler: Whether the URL says that a pooler stands in front of the server.
    """

    hosts: tuple[str, ...]
    ports: tuple[int, ...]
    user: str
    password: str | None = field(repr=False)
    database: str
    tls: Tls
    application: str | None = None
    target: str | None = None
    pooler: bool = False

    def __str__(self) -> str:
        """Return the address as people read it, without the password."""
        places = ",".join(f"{host}:{port}" for host, port in zip(self.hosts, self.ports, strict=True))
        return f"{self.user}@{places}/{self.database}"

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Return one endpoint for each server that a connection may go to."""
        return tuple(
            Endpoint(
                host=None if is_socket(host) else host,
                user=self.user,
                password=self.password,
                authenticated=self.tls.cert is not None,
                encrypted=self.tls.encrypted,
                verified=self.tls.verified,
            )
            for host in self.hosts
        )

    def asyncpg_arguments(self) -> dict[str, Any]:
        """Return the arguments of `asyncpg.connect` that say as whom and how; `attempts` says where."""
        return {
            "dsn": self.tls.dsn(),
            "ssl": self.tls.context(),
            "user": self.user,
            # An empty text, so that the driver does not look for a password by itself a second time.
            "password": self.password or "",
            "database": self.database,
        }

    def attempts(self, *, writes: bool = True) -> list[dict[str, Any]]:
        """Return where `asyncpg.connect` may go, one server after the other, and what each must be to serve.

        Args:
            writes: Whether the connection is to write; it decides between several servers where the URL does not.
        """
        target = self._target(writes)
        # Any server is second choice, when none was a standby.
        wanted = ("standby", "any") if target == "prefer-standby" else (target,)
        places = [{"host": host, "port": port} for host, port in zip(self.hosts, self.ports, strict=True)]
        return [{**place, "target_session_attrs": each} for each in wanted for place in places]

    def _target(self, writes: bool) -> str:
        return self.target or ("read-write" if writes and len(self.hosts) > 1 else "any")

    def psycopg_arguments(self) -> dict[str, Any]:
        """Return the arguments of `psycopg.connect` that say where and as whom.

        Behind a pooler prepared statements must be off too: pass `prepare_threshold=None`.
        """
        given = {
            # An empty text, so that libpq does not follow PGHOSTADDR to where the other driver does not go.
            "hostaddr": "",
            "host": ",".join(self.hosts),
            "port": ",".join(map(str, self.ports)),
            "user": self.user,
            "password": self.password,
            "dbname": self.database,
            # Of several servers, the operator's commands need the one that takes writes, as the bot does.
            "target_session_attrs": self._target(writes=True),
            **self.tls.libpq_arguments(),
        }
        return {name: value for name, value in given.items() if value is not None}


def is_socket(host: str) -> bool:
    """Tell whether a host is the directory of a socket on this machine."""
    return host.startswith(("/", "@"))


def parse_address(url: str, login: Login, environ: Mapping[str, str] = os.environ) -> Address:
    """Read a URL, and fill what it leaves open from settings and from libpq's environment variables.

    Args:
        url: `postgresql://user:password@host:port/database?sslmode=verify-full`; a driver behind a plus sign, as
            SQLAlchemy writes it, is read over.
        login: What settings say beside the URL.
        environ: Where `PGHOST`, `PGUSER`, `PGPASSWORD` and so on are looked up.

    Raises:
        ConfigurationError: It is no such URL, or says two things; no message shows a password.
    """
    userinfo, places, path, options = _split(url)
    user, password = (unquote(part) for part in (userinfo.partition(":")[0], userinfo.partition(":")[2]))
    plain = "" if places and not options.get("host") else options.get("host") or environ.get("PGHOST")
    hosts, ports = _places(plain or places or "localhost", encoded=not plain)
    ports = _ports(options.get("port") or (None if any(ports) else environ.get("PGPORT")), ports, len(hosts))
    user = user or options.get("user") or environ.get("PGUSER") or _own_name()
    database = path or options.get("dbname") or options.get("database") or environ.get("PGDATABASE") or user
    password = password or options.get("password") or login.password or environ.get("PGPASSWORD") or ""
    if not password:
        file = _passfile(options.get("passfile") or environ.get("PGPASSFILE"))
        password = find_password(file, hosts, ports, database, user) or ""
    target = options.get("target_session_attrs")
    if target is not None and target not in _TARGETS:
        raise ConfigurationError(f"target_session_attrs in a PostgreSQL URL is one of {', '.join(_TARGETS)}")
    return Address(
        hosts,
        ports,
        user,
        password or None,
        database,
        _tls(options, login, environ),
        options.get("application_name"),
        target,
        options.get("pgbouncer", "").lower() in _YES,
    )


def _split(url: str) -> tuple[str, str, str, dict[str, str]]:
    """Split a URL into user part, hosts, database and options."""
    scheme, separator, rest = url.strip().partition("://")
    if not separator or scheme.lower().partition("+")[0] not in SCHEMES:
        raise ConfigurationError(
            "a PostgreSQL store is named by a URL such as postgresql://user:password@host:5432/database"
        )
    before, _, query = rest.partition("?")
    authority, _, path = before.partition("/")
    userinfo, _, places = authority.rpartition("@")
    if "@" in path:
        raise ConfigurationError(
            "the PostgreSQL URL has an @ behind its first slash: percent-encode the password (/ is %2F, @ is %40, "
            "? is %3F, # is %23), or leave it out and set STORAGE_POSTGRES_PASSWORD"
        )
    # A plus sign is one, as in libpq: only forms on web pages mean a space by it.
    options = dict(parse_qsl(query.replace("+", "%2B"), keep_blank_values=True))
    unknown = options.keys() - _PARTS - _TLS - _OTHERS
    if unknown:
        named = sorted(unknown & _NAMED)
        if len(named) < len(unknown):
            named.append("one that is not shown, as it may be a piece of the password (? is %3F, & is %26)")
        raise ConfigurationError(
            f"the PostgreSQL URL has options that are not read: {', '.join(named)}; leave them out. Read are "
            f"{', '.join(sorted(_PARTS | _TLS | _OTHERS))}, and the rest is set as STORAGE_POSTGRES_<SETTING>"
        )
    return userinfo, places, unquote(path), options


def _places(text: str, *, encoded: bool) -> tuple[tuple[str, ...], tuple[int | None, ...]]:
    """Split `host:port,host:port`; hosts may be addresses of IPv6 with or without brackets, or directories."""
    hosts: list[str] = []
    ports: list[int | None] = []
    for place in text.split(","):
        if place.startswith("["):
            host, _, port = place[1:].partition("]")
            port = port.removeprefix(":")
        elif _is_bare_ipv6(place):
            host, port = place, ""
        else:
            host, _, port = place.partition(":")
        hosts.append((unquote(host) if encoded else host) or "localhost")
        ports.append(_port(port) if port else None)
    return tuple(hosts), tuple(ports)


def _is_bare_ipv6(place: str) -> bool:
    try:
        return ip_address(place.partition("%")[0]).version == 6
    except ValueError:
        return False


def _ports(text: str | None, ports: tuple[int | None, ...], count: int) -> tuple[int, ...]:
    given = tuple(map(_port, text.split(","))) if text else ()
    if len(given) == 1:
        given *= count
    if given and len(given) != count:
        raise ConfigurationError(f"the PostgreSQL URL names {count} hosts and {len(given)} ports")
    if given:
        return tuple(own or other for own, other in zip(ports, given, strict=True))
    return tuple(port or DEFAULT_PORT for port in ports)


def _port(text: str) -> int:
    # Not quoted in the message: where a password was not percent-encoded, this is a piece of it.
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65_536:
        raise ConfigurationError(
            "the port in the PostgreSQL URL is not a number from 1 to 65535; if it is a part of the password, "
            "percent-encode that (: is %3A, / is %2F, @ is %40)"
        )
    return int(text)


def _passfile(chosen: str | None) -> Path:
    # Not pathlib's home(), which raises where this process has none, as in containers with a user of their own.
    return Path(chosen or os.path.expanduser("~/.pgpass"))  # noqa: PTH111 - see above


def _own_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise ConfigurationError(
            "the PostgreSQL URL names no user, and this process has none either"
        ) from None


def _tls(options: Mapping[str, str], login: Login, environ: Mapping[str, str]) -> Tls:
    mode = options.get("sslmode") or options.get("ssl")
    if mode and login.tls and mode != login.tls:
        raise ConfigurationError(
            f"the PostgreSQL URL says sslmode={mode} and the setting says tls={login.tls}; keep one of the two"
        )
    return tls_of(
        mode or login.tls or environ.get("PGSSLMODE"),
        ca=options.get("sslrootcert") or login.ca,
        cert=options.get("sslcert") or login.cert,
        key=options.get("sslkey") or login.key,
    )

"""Where the servers are and as whom to connect: one reading of a URL for a server, for sentinels and for a cluster."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qsl, unquote

from gateway.errors import ConfigurationError
from gateway.upkeep import Endpoint
from gateway_redis.tls import Tls

__all__ = ["Address", "Login", "Place", "Shape", "parse_address"]

EXAMPLE: Final = "redis://user:password@host:6379/0"
_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379

Place = tuple[str, int]
"""Host and port of one server; a port of 0 makes the host the path of a socket file."""


class Shape(StrEnum):
    """How the servers stand together."""

    SINGLE = "single"
    """One server."""
    SENTINEL = "sentinel"
    """One master at a time, which sentinels name."""
    CLUSTER = "cluster"
    """Several masters, each with a part of the keys."""


_SHAPES: Final = {
    "": Shape.SINGLE,
    "unix": Shape.SINGLE,
    "sentinel": Shape.SENTINEL,
    "cluster": Shape.CLUSTER,
}


@dataclass(frozen=True, slots=True)
class Login:
    """As whom to connect.

    Attributes:
        user: The ACL user; None for the default one.
        password: Its password; None for none.
    """

    user: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Address:
    """What a URL and the settings beside it say.

    Attributes:
        shape: How the servers stand together.
        places: The server, the sentinels, or the nodes to ask for the cluster's map first.
        login: As whom to connect to servers that hold values.
        sentinel: As whom to connect to sentinels.
        database: Number of the database.
        service: What the sentinels call the master; empty elsewhere.
        tls: How connections are protected; None for plain text.
    """

    shape: Shape
    places: tuple[Place, ...]
    login: Login
    sentinel: Login
    database: int
    service: str
    tls: Tls | None

    def __str__(self) -> str:
        """Return the address as people read it, without passwords."""
        where = ",".join(f"{host}:{port}" if port else host for host, port in self.places)
        what = (
            f"sentinels of {self.service}: "
            if self.service
            else "cluster: "
            if self.shape is Shape.CLUSTER
            else ""
        )
        return f"{what}{where}/{self.database}"

    def space_of(self, prefix: str) -> str:
        """Return what tells apart the entries of one name on one server: the database, and how keys begin."""
        return f"{self.database} {prefix}"

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Return one endpoint for each place that the URL names.

        Sentinels name further servers; those are reached with the same login and the same protection.
        """
        tls = self.tls
        return tuple(
            Endpoint(
                host=host if port else None,
                user=self.login.user,
                password=self.login.password,
                authenticated=tls is not None and tls.cert is not None,
                encrypted=tls is not None,
                verified=tls is not None and tls.verified,
            )
            for host, port in self.places
        )


def parse_address(url: str, login: Login, sentinel: Login, tls: Tls) -> Address:
    """Read a URL, and fill what it leaves open from settings.

    Args:
        url: `redis://user:password@host:6379/0`, `rediss://` with TLS, `redis+unix:///run/redis.sock`,
            `redis+sentinel://host1,host2/service/0`, or `redis+cluster://host1,host2`.
        login: Taken where the URL has no user or password.
        sentinel: As whom to connect to sentinels.
        tls: How connections are protected if the URL asks for TLS.

    Raises:
        ConfigurationError: It is no such URL, or says two things; no message shows a password.
    """
    scheme, separator, rest = url.strip().partition("://")
    base, _, variant = scheme.lower().partition("+")
    if not separator or base not in {"redis", "rediss"} or variant not in _SHAPES:
        raise ConfigurationError(
            f"a Redis cache is named by a URL such as {EXAMPLE}; rediss:// asks for TLS, and redis+sentinel://, "
            "redis+cluster:// and redis+unix:// (or with rediss) say how the servers stand together"
        )
    shape = _SHAPES[variant]
    before, _, query = rest.partition("?")
    authority, _, path = before.partition("/")
    userinfo, _, places = authority.rpartition("@")
    if "@" in path:
        raise ConfigurationError(
            "the Redis URL has an @ behind its first slash: percent-encode the password (/ is %2F, @ is %40, ? is "
            "%3F, # is %23), or leave it out and set STORAGE_REDIS_PASSWORD"
        )
    user, _, password = userinfo.partition(":")
    database, service, socket = _path(unquote(path), shape, socket=variant == "unix", query=query)
    if socket and base == "rediss":
        raise ConfigurationError("a socket file on this machine has no TLS: write redis+unix:///path")
    return Address(
        shape,
        ((socket, 0),) if socket else _places(places, _SENTINEL_PORT if shape is Shape.SENTINEL else _PORT),
        Login(unquote(user) or login.user, unquote(password) or login.password),
        sentinel,
        database,
        service,
        tls if base == "rediss" else None,
    )


def _path(path: str, shape: Shape, *, socket: bool, query: str) -> tuple[int, str, str]:
    """Return the number of the database, the sentinels' service, and the socket file, as far as there are any."""
    options = dict(parse_qsl(query, keep_blank_values=True))
    asked = options.pop("db", "")
    if options:
        raise ConfigurationError(
            f"the Redis URL has options that are not read: {', '.join(sorted(options))}; the only one is db, and the "
            "rest is set as STORAGE_REDIS_<SETTING>"
        )
    if socket:
        if not path:
            raise ConfigurationError("the Redis URL names no socket file; write redis+unix:///run/redis.sock")
        return _number(asked), "", f"/{path}"
    service = ""
    if shape is Shape.SENTINEL:
        service, _, path = path.partition("/")
        if not service:
            raise ConfigurationError(
                "the sentinels must be told which master is meant; write redis+sentinel://host1,host2/SERVICE"
            )
    if path and asked:
        raise ConfigurationError("the Redis URL names a database twice; leave out the option db")
    number = _number(path or asked)
    if number and shape is Shape.CLUSTER:
        raise ConfigurationError("a Redis cluster has database 0 alone; leave the number out of the URL")
    return number, service, ""


def _number(text: str) -> int:
    if not text:
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > 4:
        raise ConfigurationError(
            f"what follows the host in a Redis URL is the number of a database, as in {EXAMPLE}"
        )
    return int(text)


def _places(text: str, default: int) -> tuple[Place, ...]:
    """Split `host:port,host:port`; an address of IPv6 stands in brackets."""
    return tuple(_place(part.strip(), default) for part in (text or "localhost").split(",") if part.strip())


def _place(part: str, default: int) -> Place:
    if part.startswith("["):
        host, _, rest = part[1:].partition("]")
        port = rest.removeprefix(":")
    else:
        host, _, port = part.partition(":")
    if not host or (port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536)):
        raise ConfigurationError(
            "a host in the Redis URL is written host:port, an address of IPv6 in brackets, and the port is a number"
        )
    return unquote(host), int(port or default)

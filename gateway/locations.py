"""Whether two URLs may mean one database: who asks, how, and by which of its names makes no other database of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from typing import Final
from urllib.parse import parse_qsl, unquote

from gateway.guard import is_remote

__all__ = ["ServerPlace", "may_be_one", "server_of"]

_USER: Final = re.compile(r"[^/?#]*@")
_HERE: Final = "localhost"
"""Stands for every name of this machine: its sockets, and its loopback addresses."""


@dataclass(frozen=True, slots=True)
class ServerPlace:
    """What a URL says about where a database is.

    Attributes:
        hosts: The servers, each with its port; an empty port is the backend's own default.
        database: Name of the database; empty where the URL leaves it to the backend or to the user's name.
    """

    hosts: frozenset[tuple[str, str]]
    database: str


def server_of(rest: str) -> ServerPlace | None:
    """Return which database a URL means; None for one that names no server, such as that of a file.

    Args:
        rest: The URL without its scheme and the colon behind it.
    """
    if not rest.startswith("//"):
        return None
    body, _, query = _without_user(rest[2:]).partition("?")
    options = dict(parse_qsl(query))
    authority, _, path = body.partition("/")
    names = options.get("host") or authority
    if not names:
        return None
    ports = options.get("port", "").split(",")
    hosts = [_host(part) for part in names.split(",")]
    if len(ports) == 1:
        ports *= len(hosts)
    found = {(host, port or other) for (host, port), other in zip(hosts, ports, strict=False)}
    return ServerPlace(
        frozenset(found), unquote(path) or options.get("dbname") or options.get("database") or ""
    )


def may_be_one(one: ServerPlace, two: ServerPlace) -> bool:
    """Tell whether two places may be the same database, as far as URLs can say: what is not said may be anything."""
    meet = any(
        host == other and (port == other_port or not (port and other_port))
        for (host, port), (other, other_port) in product(one.hosts, two.hosts)
    )
    return meet and (one.database == two.database or not (one.database and two.database))


def _without_user(body: str) -> str:
    user = _USER.match(body)
    if user is not None:
        return body[user.end() :]
    # A password with a slash in it that was not percent-encoded.
    before, mark, query = body.partition("?")
    return f"{before.rpartition('@')[2]}{mark}{query}"


def _host(text: str) -> tuple[str, str]:
    """Split `host:port`; the address may be one of IPv6 in brackets, or a directory of sockets."""
    name, _, port = text.rpartition("]")[2].partition(":") if text.startswith("[") else text.partition(":")
    name = text[1:].partition("]")[0] if text.startswith("[") else unquote(name)
    return (name.rstrip(".").casefold() if is_remote(name) else _HERE), port

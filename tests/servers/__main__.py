"""Start servers for a person or a script and wait: `python -m tests.servers [--json] [NAME ...]`.

With `--json` one line is printed when all are ready: {"servers": [{"name", "version", "obtained", "urls"}],
"missing": [reason, ...]}. They end with Ctrl-C, with SIGTERM, and when this process is gone for any other reason.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, Final

from tests.servers import (
    MissingServerError,
    PgBouncer,
    PostgresServer,
    QuestDbServer,
    Server,
    TimescaleServer,
    ValkeyServer,
)

DATABASE: Final = "dev_"


def _postgres(server: PostgresServer) -> dict[str, str]:
    made = server.database(DATABASE)
    logins = {
        "superuser": made.superuser_url,
        "owner": made.owner_url,
        "app": made.app_url,
        "readonly": made.readonly_url,
        "admin": made.admin_url,
    }
    return {name: url for name, url in logins.items() if url}


class _Servers:
    """What was started, with the URLs of each."""

    def __init__(self, stack: ExitStack) -> None:
        self.started: list[tuple[Server, dict[str, str]]] = []
        self.missing: list[str] = []
        self._stack = stack

    def start(self, name: str) -> None:
        try:
            server = self._stack.enter_context(MAKERS[name](self))
        except MissingServerError as missing:
            self.missing.append(str(missing))
            return
        self.started.append((server, self._urls(server)))

    def _urls(self, server: Server) -> dict[str, str]:
        match server:
            case PostgresServer():
                return _postgres(server)
            case PgBouncer():
                return {"console": server.admin_url, **self._through(server)}
            case ValkeyServer():
                return {"url": server.url()}
            case QuestDbServer():
                return {"http": server.http_url, "postgres": server.pg_url}
        return {}

    def _through(self, bouncer: PgBouncer) -> dict[str, str]:
        urls = next(urls for server, urls in self.started if server is bouncer.postgres)
        return {name: bouncer.url_of(urls[name]) for name in ("owner", "app")}

    def first_postgres(self) -> PostgresServer:
        """Return the server that the bouncer stands before."""
        for server, _ in self.started:
            if isinstance(server, PostgresServer):
                return server
        raise MissingServerError("PgBouncer", "there is no PostgreSQL for it to stand before")


MAKERS: Final[dict[str, Callable[[_Servers], Server]]] = {
    "postgres18": lambda _: PostgresServer.default(),
    "postgres15": lambda _: PostgresServer.debian(),
    "pgbouncer": lambda servers: PgBouncer(servers.first_postgres()),
    "timescale": lambda _: TimescaleServer.default(),
    "valkey": lambda _: ValkeyServer.default(),
    "questdb": lambda _: QuestDbServer.default(),
}


def _described(servers: _Servers) -> dict[str, Any]:
    described = [
        {
            "name": server.origin.name,
            "version": server.origin.version,
            "obtained": server.origin.obtained,
            "urls": urls,
        }
        for server, urls in servers.started
    ]
    return {"servers": described, "missing": servers.missing}


def _table(servers: _Servers) -> str:
    lines: list[str] = []
    for server, urls in servers.started:
        lines.append(f"{server.origin}, ready in {server.started_in:.2f} s")
        lines += [f"    {name:<10} {url}" for name, url in urls.items()]
    lines += [f"not here: {reason}" for reason in servers.missing]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Start the servers named, or all, and wait until asked to end."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.servers", description="Start real servers and wait."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(MAKERS)}; all if none is given"
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON when all are ready")
    asked = parser.parse_args(arguments)
    unknown = set(asked.names) - set(MAKERS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(MAKERS)}")
    wanted = set(asked.names or MAKERS) | ({"postgres18"} if "pgbouncer" in asked.names else set())
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt), ExitStack() as stack:
        servers = _Servers(stack)
        for name in (name for name in MAKERS if name in wanted):
            servers.start(name)
        print(json.dumps(_described(servers)) if asked.json else _table(servers), flush=True)  # noqa: T201
        if not asked.json:
            print("Ctrl-C ends them and removes what they stored.", flush=True)  # noqa: T201
        signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

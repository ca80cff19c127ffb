"""PgBouncer in transaction mode: clients share few server connections, as in production."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from tests.servers.origin import MissingServerError, Origin, given_url
from tests.servers.places import give
from tests.servers.postgres import PostgresServer
from tests.servers.server import Server

__all__ = ["PgBouncer"]


class PgBouncer(Server):
    """A bouncer in front of a server; it takes the server's logins with the same passwords.

    Attributes:
        postgres: The server behind it, which must have been started.
        pool_size: Server connections for each database and login: few, so that clients meet on them.
    """

    slug = "pgbouncer"
    ending = signal.SIGINT  # waits for running transactions, then ends
    sudden = signal.SIGTERM

    def __init__(
        self, postgres: PostgresServer, *, pool_size: int = 4, settings: Mapping[str, str] | None = None
    ) -> None:
        self.postgres = postgres
        self.pool_size = pool_size
        self._settings = dict(settings or {})
        given = given_url("PGBOUNCER") if postgres.given else None
        if given:
            parts = urlsplit(given)
            host, port = parts.hostname or "127.0.0.1", parts.port or 6432
            origin = Origin("PgBouncer", "?", "STORAGE_TEST_PGBOUNCER_URL")
            super().__init__(origin, host=host, port=port, given=True)
        else:
            self._program = _find()
            super().__init__(
                Origin("PgBouncer", _version(self._program), f"Debian pgbouncer, {self._program}")
            )

    def url_of(self, url: str) -> str:
        """Return the same URL through the bouncer."""
        parts = urlsplit(url)
        login = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{login}@{self.host}:{self.port}"))

    @property
    def admin_url(self) -> str:
        """The URL of the bouncer's own console, for `SHOW POOLS` and `RECONNECT`; autocommit, simple queries."""
        return self.url_of(self.postgres.url("pgbouncer"))

    def _prepare(self, directory: Path) -> None:
        users = directory / "users.txt"
        lines = [f'"{name}" "{secret}"\n' for name, secret in self.postgres.passwords.items()]
        users.touch(mode=0o600)
        users.write_text("".join(lines), encoding="utf-8")
        give(users)

    def _command(self, directory: Path) -> Sequence[str]:
        settings = {
            "listen_addr": self.host,
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": str(directory / "users.txt"),
            "admin_users": "postgres",
            "pool_mode": "transaction",
            "default_pool_size": str(self.pool_size),
            "max_client_conn": "500",
            # Seconds: after the server was away, the next client must not wait for the default of 15.
            "server_login_retry": "1",
            **self._settings,
        }
        # `ignore_startup_parameters` is left out on purpose: the product must work without it.
        text = [f"[databases]\n* = host={self.postgres.host} port={self.postgres.port}\n[pgbouncer]\n"]
        text += [f"{name} = {value}\n" for name, value in settings.items()]
        written = directory / "pgbouncer.ini"
        written.write_text("".join(text), encoding="utf-8")
        give(written)
        return [self._program, str(written)]


def _find() -> str:
    found = shutil.which(
        "pgbouncer", path="/usr/local/bin:/usr/bin:/usr/sbin:/usr/local/sbin:/opt/homebrew/bin"
    )
    if found is None:
        raise MissingServerError("PgBouncer", "apt-get install pgbouncer, as scripts/servers.sh does")
    return found


def _version(program: str) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"PgBouncer (\S+)", done.stdout)
    return found[1] if found else "?"

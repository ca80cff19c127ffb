"""PostgreSQL servers, and databases on them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote, unquote, urlsplit

from tests.servers.origin import MissingServerError, Origin, given_url
from tests.servers.places import User, give, memory, scratch
from tests.servers.postgres_programs import (
    LOGINS,
    Programs,
    debian_programs,
    roles_sql,
    template_of,
    wheel_programs,
)
from tests.servers.server import Server, alive

__all__ = ["Database", "PostgresServer"]

SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "300",
    "shared_buffers": "64MB",
    # A killed process leaves its writes with the operating system, so that `kill` loses nothing that was
    # committed although nothing is forced to the disk; only a power failure could. synchronous_commit stays on:
    # without it an acknowledged commit could still lie in the memory of the process.
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "on",
    "log_line_prefix": "%m [%p] %u@%d ",
}

_names = (f"gw_{secrets.token_hex(4)}_{number}" for number in range(1_000_000))


@dataclass(frozen=True)
class Database:
    """One database, owned by `gw_owner`. The URLs are `postgresql://user:password@host:port/name`."""

    name: str
    superuser_url: str = field(repr=False)
    owner_url: str = field(repr=False)
    app_url: str = field(repr=False)
    readonly_url: str = field(repr=False)
    admin_url: str = field(repr=False)
    server: PostgresServer = field(repr=False)

    def drop(self) -> None:
        """Remove the database and end who is connected to it; nothing if it is gone."""
        self.server.execute(f'DROP DATABASE IF EXISTS "{self.name}" WITH (FORCE)')

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements as the superuser and return the rows of the last one."""
        return self.server.execute(*statements, database=self.name)


class PostgresServer(Server):
    """A server that takes logins over TCP with scram-sha-256 only.

    Superuser `postgres`; groups gateway_app, gateway_readonly, gateway_admin; logins gw_owner, gw_app, gw_readonly,
    gw_admin, each in the group of its name. `with PostgresServer.wheel() as server:` starts and removes one.
    """

    slug = "postgres"
    ending = signal.SIGINT  # "fast": roll back, write a checkpoint, end
    sudden = signal.SIGQUIT  # "immediate": end

    def __init__(
        self, programs: Programs, *, tls: bool = False, settings: Mapping[str, str] | None = None
    ) -> None:
        if tls and not programs.tls:
            raise MissingServerError(
                "PostgreSQL with TLS", f"the one of {programs.obtained} was built without it"
            )
        super().__init__(programs.origin())
        self.programs = programs
        self.settings = {**SETTINGS, **(settings or {})}
        self.tls = tls
        self._passwords: dict[str, str] = {}
        self._superuser = "postgres"

    @classmethod
    def wheel(cls, *, settings: Mapping[str, str] | None = None) -> Self:
        """Return a server of the wheel's PostgreSQL 18, not started; it has no TLS."""
        return cls(wheel_programs(), settings=settings)

    @classmethod
    def debian(cls, *, tls: bool = False, settings: Mapping[str, str] | None = None) -> Self:
        """Return a server of the system's PostgreSQL, not started; with `tls` it refuses plain connections."""
        return cls(debian_programs(), tls=tls, settings=settings)

    @classmethod
    def default(cls) -> Self:
        """Return the developer's own server if `STORAGE_TEST_POSTGRES_URL` names one, else the wheel's."""
        url = given_url("POSTGRES")
        if url:
            return cls.from_url(url)
        try:
            return cls.wheel()
        except MissingServerError:  # no wheel for this platform
            return cls.debian()

    @classmethod
    def from_url(cls, url: str, obtained: str = "STORAGE_TEST_POSTGRES_URL") -> Self:
        """Return a server that runs already; `url` is a superuser's. The groups and logins are made on it."""
        parts = urlsplit(url)
        made = cls.__new__(cls)
        host, port = parts.hostname or "127.0.0.1", parts.port or 5432
        Server.__init__(made, Origin("PostgreSQL", "?", obtained), host=host, port=port, given=True)
        made.settings, made.tls = {}, False
        made._superuser = unquote(parts.username or "postgres")
        # All test processes must agree on the passwords, and nobody else can know them.
        made._passwords = {
            name: hashlib.sha256(f"{name} {url}".encode()).hexdigest()[:24] for name in LOGINS
        } | {made._superuser: unquote(parts.password or "")}
        return made

    def url(self, database: str = "postgres", user: str | None = None, password: str | None = None) -> str:
        """Return the URL of a login, the superuser's if none is named, with its own password if none is given."""
        name = user or self._superuser
        secret = self._passwords[name] if password is None else password
        login = quote(name, safe="") + (f":{quote(secret, safe='')}" if secret else "")
        return f"postgresql://{login}@{self.host}:{self.port}/{quote(database, safe='')}"

    @property
    def passwords(self) -> Mapping[str, str]:
        """The password of each login."""
        return dict(self._passwords)

    @property
    def ca_file(self) -> Path:
        """The certificate that vouches for the server's own, which is for 127.0.0.1 and localhost; with `tls`."""
        return self.directory / "ca.pem"

    def start(self) -> None:
        """Start the server; one that the developer gave gets the groups and logins."""
        super().start()
        if self.given and self.origin.version == "?":
            rows = self.execute(
                "SELECT pg_advisory_lock(20261121)", *roles_sql(self._passwords), "SHOW server_version"
            )
            self.origin = Origin("PostgreSQL", str(rows[0][0]).split()[0], self.origin.obtained)

    def kill(self) -> None:
        """End the server and all its processes with SIGKILL; its data stay."""
        self._must_be_ours("kills the server")
        children = _children(self.pid) if self.pid else []
        super().kill()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self._wait(lambda: not any(alive(child) for child in children), "die")

    def database(self, prefix: str = "", template: str = "template0") -> Database:
        """Create a database with a name of its own, owned by `gw_owner`: an empty one, or a copy of `template`.

        Of `template0`, which nobody can be connected to; TimescaleDB's launcher looks into `template1` now and then.
        """
        name = f"{prefix}{next(_names)}"
        self.execute(f'CREATE DATABASE "{name}" OWNER gw_owner TEMPLATE "{template}"')
        return Database(
            name,
            superuser_url=self.url(name),
            owner_url=self.url(name, "gw_owner"),
            app_url=self.url(name, "gw_app"),
            readonly_url=self.url(name, "gw_readonly"),
            admin_url=self.url(name, "gw_admin"),
            server=self,
        )

    @contextlib.contextmanager
    def fresh(self, template: str = "template0") -> Iterator[Database]:
        """Create a database and drop it at the end; the server is started if a test left it ended."""
        self.start()
        made = self.database(template=template)
        try:
            yield made
        finally:
            self.start()
            made.drop()

    def execute(self, *statements: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run statements as the superuser, each on its own, and return the rows of the last one."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            rows: list[tuple[Any, ...]] = []
            for statement in statements:
                cursor = connection.execute(statement.encode())
                rows = cursor.fetchall() if cursor.description else []
            return rows

    def _prepare(self, directory: Path) -> None:
        template = template_of(self.programs)
        self._passwords = template.passwords
        _copy(template.data, directory / "data")
        methods = "hostssl" if self.tls else "host"
        (directory / "data" / "pg_hba.conf").write_text(
            f"{methods} all,replication all 127.0.0.1/32 scram-sha-256\n"
        )
        if self.tls:
            _make_certificates(directory)

    def _command(self, directory: Path) -> Sequence[str]:
        settings = {**self.settings, "port": str(self.port)}
        if self.tls:
            files = {"ssl_cert_file": "server.pem", "ssl_key_file": "server.key"}
            settings |= {"ssl": "on"} | {key: str(directory / name) for key, name in files.items()}
        options = [f"--{name}={value}" for name, value in settings.items()]
        return self.programs.command("postgres", "-D", directory / "data", *options)

    def _user(self) -> User | None:
        return self.programs.user()

    def _scratch(self) -> Path:
        if self.programs.root:
            return scratch(self.slug, self.programs.kept)
        return scratch(self.slug, memory() if self.settings.get("fsync") == "off" else None)

    def _ready(self, directory: Path) -> bool:
        """Tell whether the server says in its pid file that it takes connections, which is what pg_ctl looks at."""
        with contextlib.suppress(OSError):
            lines = (directory / "data" / "postmaster.pid").read_text().splitlines()
            return len(lines) > 7 and int(lines[0]) == self.pid and lines[7].strip() == "ready"
        return False


def _children(pid: int) -> list[int]:
    """Return the ids of a process's children; each of PostgreSQL's is in a session of its own."""
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _copy(source: Path, target: Path) -> None:
    # cp keeps the owner and clones files where the file system can.
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def _make_certificates(directory: Path) -> None:
    import trustme

    authority = trustme.CA()
    mine = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(directory / "ca.pem")
    mine.private_key_pem.write_to_path(directory / "server.key")
    for number, blob in enumerate(mine.cert_chain_pems):
        blob.write_to_path(directory / "server.pem", append=number > 0)
    (directory / "server.key").chmod(0o600)
    give(directory / "server.key")

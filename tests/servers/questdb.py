"""QuestDB: the artifact of its makers, run with the Java that is there."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

from tests.servers.origin import MissingServerError, Origin, given_url
from tests.servers.places import cache_directory, give
from tests.servers.ports import free_port
from tests.servers.server import Server

__all__ = ["QuestDbServer"]

MEMORY: Final = "512m"

SETTINGS: Final = {
    "line.tcp.enabled": "false",
    "line.udp.enabled": "false",
    "http.min.enabled": "false",
    "telemetry.enabled": "false",
    # A misspelled table or column is an error, not a new table.
    "line.auto.create.new.tables": "false",
    "line.auto.create.new.columns": "false",
    "shared.network.worker.count": "2",
    "shared.query.worker.count": "2",
    "cairo.o3.column.memory.size": "262144",  # bytes; the default takes 16 MB for each column
    "pg.user": "admin",
    "pg.password": "quest",
    "pg.readonly.user.enabled": "false",
}


class QuestDbServer(Server):
    """A server with HTTP at `port` and the PostgreSQL protocol at `pg_port`."""

    slug = "questdb"
    patience = 60.0  # a JVM on a busy machine

    def __init__(self, jar: Path, java: str, *, settings: Mapping[str, str] | None = None) -> None:
        version = re.search(r"questdb-(\S+)\.jar", jar.name)
        super().__init__(
            Origin("QuestDB", version[1] if version else "?", f"Maven org.questdb:questdb, {java}")
        )
        self._jar = jar
        self._java = java
        self._settings = {**SETTINGS, **(settings or {})}
        self.pg_port = 0

    @classmethod
    def default(cls, *, settings: Mapping[str, str] | None = None) -> Self:
        """Return the developer's server if `STORAGE_TEST_QUESTDB_URL` names one, else the one in the cache.

        Raises:
            MissingServerError: There is no Java 17, or the artifact has not been fetched.
        """
        url = given_url("QUESTDB")
        if url:
            return cls.from_url(url)
        jars = sorted((cache_directory() / "questdb").glob("questdb-*.jar"))
        java = shutil.which("java")
        if java is None or not jars:
            remedy = "run scripts/servers.sh, which fetches it with Maven; it needs a JDK 17 and mvn"
            raise MissingServerError("QuestDB", remedy)
        return cls(jars[-1], java, settings=settings)

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Return a server that runs already; `http://host:9000?pg_port=8812`."""
        parts = urlsplit(url)
        made = cls(Path(), "")
        made.origin = Origin("QuestDB", "?", "STORAGE_TEST_QUESTDB_URL")
        made.host, made.port, made.given = parts.hostname or "127.0.0.1", parts.port or 9000, True
        made.pg_port = int(urllib.parse.parse_qs(parts.query).get("pg_port", ["8812"])[0])
        return made

    @property
    def http_url(self) -> str:
        """`http://host:port`: queries, and rows over the line protocol."""
        return f"http://{self.host}:{self.port}"

    @property
    def pg_url(self) -> str:
        """The URL for drivers of PostgreSQL."""
        return f"postgresql://admin:quest@{self.host}:{self.pg_port}/qdb"

    @property
    def line_address(self) -> str:
        """What the client is configured with: `http::addr=host:port;`."""
        return f"http::addr={self.host}:{self.port};"

    def query(self, sql: str) -> list[list[Any]]:
        """Run one statement over HTTP and return its rows, none for a statement without any.

        Raises:
            urllib.error.HTTPError: The server refuses the statement.
        """
        address = f"{self.http_url}/exec?{urllib.parse.urlencode({'query': sql})}"
        with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310 - our own address
            rows: list[list[Any]] = json.load(answer).get("dataset", [])
            return rows

    def _take_ports(self) -> None:
        super()._take_ports()
        self.pg_port = free_port()

    def _prepare(self, directory: Path) -> None:
        for path in (directory / "root", directory / "root" / "conf"):
            path.mkdir()
            give(path)

    def _command(self, directory: Path) -> Sequence[str]:
        binds = {
            "http.bind.to": f"{self.host}:{self.port}",
            "pg.net.bind.to": f"{self.host}:{self.pg_port}",
        }
        lines = [f"{name}={value}\n" for name, value in {**self._settings, **binds}.items()]
        written = directory / "root" / "conf" / "server.conf"
        written.write_text("".join(lines), encoding="utf-8")
        give(written)
        module = "io.questdb/io.questdb.ServerMain"
        heap = ["-XX:+UseParallelGC", f"-Xmx{MEMORY}", f"-Djava.io.tmpdir={directory}"]
        return [self._java, *heap, "-p", str(self._jar), "-m", module, "-d", str(directory / "root")]

    def _ready(self, directory: Path) -> bool:  # noqa: ARG002 - others look into it
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{self.http_url}/ping", timeout=1) as answer,  # noqa: S310 - our own address
        ):
            return bool(answer.status == 204)
        return False

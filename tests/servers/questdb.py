"""QuestDB: the artifact of its makers, run with the Java that is there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import signal
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

from tests.servers.origin import MissingServerError, Origin, given_url
from tests.servers.places import cache_directory, give, locked
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

FEW_THREADS: Final = {
    # Every thread of a pool wakes up a hundred times a second as long as the server lives.
    "shared.write.worker.count": "1",
    "wal.apply.worker.count": "1",
    "view.compiler.worker.count": "1",
    "export.worker.count": "1",
    "mat.view.refresh.worker.count": "0",
    # After its work each thread would give way ten thousand times before it sleeps: seconds of a small machine's time.
    **{
        f"{pool}.worker.{name}.threshold": value
        for pool in ("shared", "wal.apply", "view.compiler", "export")
        for name, value in (("yield", "5"), ("nap", "20"), ("sleep", "200"))
    },
}
"""For a server that is not measured."""

QUICK: Final = ("-XX:TieredStopAtLevel=1", "-XX:+DisableExplicitGC", "-XX:MetaspaceSize=96m")
"""For a server that lives for minutes: compile fast instead of well, and collect no garbage at the start."""

LOGGING: Final = """\
writers=stdout
w.stdout.class=io.questdb.log.LogConsoleWriter
w.stdout.level={level}
"""


class QuestDbServer(Server):
    """A server with HTTP at `port` and the PostgreSQL protocol at `pg_port`."""

    slug = "questdb"
    sudden = signal.SIGKILL  # an orderly end takes a second
    patience = 60.0  # a JVM on a busy machine

    def __init__(
        self, jar: Path, java: str, *, settings: Mapping[str, str] | None = None, options: Sequence[str] = ()
    ) -> None:
        version = re.search(r"questdb-(\S+)\.jar", jar.name)
        super().__init__(
            Origin("QuestDB", version[1] if version else "?", f"Maven org.questdb:questdb, {java}")
        )
        self._jar = jar
        self._java = java
        self._settings = {**SETTINGS, **(settings or {})}
        self._options = tuple(options)
        self.pg_port = 0

    @classmethod
    def default(cls, *, settings: Mapping[str, str] | None = None, quick: bool = True) -> Self:
        """Return the developer's server if `STORAGE_TEST_QUESTDB_URL` names one, else the one in the cache.

        Args:
            settings: Of the server, beside those that all tests want.
            quick: Start with as little work as can be; what is to be measured runs faster without.

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
        options = (*QUICK, _archive_option(jars[-1], java)) if quick else ()
        threads = FEW_THREADS if quick else {}
        return cls(jars[-1], java, settings={**threads, **(settings or {})}, options=options)

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
        level = "ERROR" if self._options else "INFO"
        for name, text in (("server.conf", "".join(lines)), ("log.conf", LOGGING.format(level=level))):
            written = directory / "root" / "conf" / name
            written.write_text(text, encoding="utf-8")
            give(written)
        module = "io.questdb/io.questdb.ServerMain"
        heap = ["-XX:+UseParallelGC", f"-Xmx{MEMORY}", f"-Djava.io.tmpdir={directory}"]
        return [
            self._java,
            *heap,
            *self._options,
            "-p",
            str(self._jar),
            "-m",
            module,
            "-d",
            str(directory / "root"),
        ]

    def _ready(self, directory: Path) -> bool:  # noqa: ARG002 - others look into it
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{self.http_url}/ping", timeout=1) as answer,  # noqa: S310 - our own address
        ):
            return bool(answer.status == 204)
        return False


def _archive_option(jar: Path, java: str) -> str:
    """Return the option that loads the server's classes from an archive, which is made once and kept in the cache.

    Reading and checking its classes is half of what a start costs.
    """
    name = hashlib.sha256(f"{jar} {jar.stat().st_mtime_ns} {_stamp(java)} {QUICK}".encode()).hexdigest()[:12]
    with locked("questdb-classes") as cache:
        kept = cache / "questdb" / f"classes-{name}.jsa"
        if not kept.is_file():
            _make_archive(jar, java, kept)
    return f"-XX:SharedArchiveFile={kept}"


def _stamp(java: str) -> str:
    """Return what changes with the Java: an archive is of use to the very one that wrote it."""
    program = Path(java).resolve()
    return f"{program} {program.stat().st_mtime_ns}"


def _make_archive(jar: Path, java: str, kept: Path) -> None:
    half = Path("classes.jsa")

    class Teacher(QuestDbServer):
        def _command(self, directory: Path) -> Sequence[str]:
            self._options = (*QUICK, f"-XX:ArchiveClassesAtExit={directory / half}")
            return super()._command(directory)

    with Teacher(jar, java) as server:
        server.query("CREATE TABLE one (at TIMESTAMP, n LONG) TIMESTAMP(at) PARTITION BY DAY WAL")
        server.query("INSERT INTO one VALUES (now(), 1)")
        server.query("SELECT at, sum(n) FROM one SAMPLE BY 1h")
        server.stop()
        shutil.copyfile(server.directory / half, kept.with_suffix(".half"))
    kept.with_suffix(".half").rename(kept)

"""Redis as it stands in production: with TLS and users, with a replica and sentinels, and as a cluster."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.servers.origin import MissingServerError, Origin
from tests.servers.places import give
from tests.servers.ports import free_port
from tests.servers.server import ServerFailedError
from tests.servers.valkey import ValkeyServer, find_program, origin_of

__all__ = ["RedisCluster", "RedisServer", "Sentinels", "eventually"]

PATIENCE: Final = 30.0


def eventually(done: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Look again and again until something is so, because a server says of itself when, and nobody else does.

    Raises:
        ServerFailedError: It was not so in time.
    """
    until = time.monotonic() + patience
    while not done():
        if time.monotonic() > until:
            raise ServerFailedError(f"not within {patience} s: {what}")
        time.sleep(0.01)


class RedisServer(ValkeyServer):
    """A server with what a test asks of it.

    Args:
        program: The server's program.
        origin: Where it is from.
        tls: Takes encrypted connections only; `ca_file` vouches for it.
        users: ACL rules by the user's name, without the password, which is the server's own.
        lines: Further lines of its configuration.
    """

    slug = "redis"

    def __init__(
        self,
        program: Path,
        origin: Origin,
        *,
        tls: bool = False,
        users: Mapping[str, str] | None = None,
        lines: Sequence[str] = (),
    ) -> None:
        super().__init__(program, origin)
        self.tls = tls
        self._users = dict(users or {})
        self._further = tuple(lines)

    @classmethod
    def made(cls, **wanted: Any) -> Self:
        """Return a server of the program that every test runs on; see the class for the arguments.

        Raises:
            MissingServerError: There is none.
        """
        program, obtained = find_program()
        return cls(program, origin_of(program, obtained), **wanted)

    @classmethod
    def debian(cls, **wanted: Any) -> Self:
        """Return a server of the system's Redis, which has TLS.

        Raises:
            MissingServerError: There is none.
        """
        for name in ("redis-server", "valkey-server"):
            found = shutil.which(name)
            if found:
                return cls(Path(found), origin_of(Path(found), f"the system's {found}"), **wanted)
        raise MissingServerError("Redis with TLS", "apt-get install redis-server")

    @property
    def password(self) -> str:
        """The password of every user."""
        return self._password

    @property
    def ca_file(self) -> Path:
        """The certificate that vouches for the server's own, which is for 127.0.0.1 and localhost; with `tls`."""
        return self.directory / "ca.pem"

    def url_of(self, user: str, scheme: str = "redis") -> str:
        """Return the URL of one of the users."""
        return f"{scheme}://{user}:{self._password}@{self.host}:{self.port}/0"

    def client(self) -> Any:
        """Return a client for a test to look and to change things with; close it."""
        import redis

        secured: dict[str, Any] = {"ssl": True, "ssl_ca_certs": str(self.ca_file)} if self.tls else {}
        return redis.Redis(self.host, self.port, password=self._password, socket_timeout=10, **secured)

    def ask(self, *words: str | int) -> Any:
        """Send one command over a connection of its own and return the whole answer."""
        client = self.client()
        try:
            return client.execute_command(*words)
        finally:
            client.close()

    def _lines(self, directory: Path) -> list[str]:
        lines = [*super()._lines(directory), *self._further]
        lines += [f"user {name} on >{self._password} {rules}" for name, rules in self._users.items()]
        if self.tls:
            _make_certificates(directory)
            lines += [
                f"tls-cert-file {directory / 'server.pem'}",
                f"tls-key-file {directory / 'server.key'}",
                f"tls-ca-cert-file {directory / 'ca.pem'}",
                "tls-auth-clients no",
            ]
        return lines

    def _command(self, directory: Path) -> Sequence[str]:
        if not self.tls:
            return super()._command(directory)
        where = ["--bind", self.host, "--port", "0", "--tls-port", str(self.port)]
        return [str(self._program), str(directory / "valkey.conf"), *where]

    def _ready(self, directory: Path) -> bool:
        if not self.tls:
            return super()._ready(directory)
        import redis

        try:
            return bool(self.ask("PING"))
        except (redis.RedisError, OSError):
            return False


class _Replica(RedisServer):
    """A server that follows another one."""

    def __init__(self, program: Path, origin: Origin, master: RedisServer) -> None:
        super().__init__(program, origin)
        self._password = master.password
        self._master = master

    def _lines(self, directory: Path) -> list[str]:
        follow = [f"replicaof {self._master.host} {self._master.port}", f"masterauth {self._password}"]
        return [*super()._lines(directory), *follow, "repl-diskless-sync-delay 0"]


class _Sentinel(ValkeyServer):
    """A server that watches over a master, and names another one when it is gone."""

    slug = "sentinel"

    def __init__(self, program: Path, origin: Origin, service: str, master: RedisServer, quorum: int) -> None:
        super().__init__(program, origin)
        self._password = ""
        self._service, self._master, self._quorum = service, master, quorum

    def _lines(self, directory: Path) -> list[str]:
        name, master = self._service, self._master
        return [
            f"dir {directory}",
            f"sentinel monitor {name} {master.host} {master.port} {self._quorum}",
            f"sentinel auth-pass {name} {master.password}",
            f"sentinel down-after-milliseconds {name} 500",
            f"sentinel failover-timeout {name} 3000",
        ]

    def _command(self, directory: Path) -> Sequence[str]:
        return [*super()._command(directory), "--sentinel"]


class Sentinels:
    """A master, a replica and three sentinels; `with Sentinels() as group:` starts and removes them.

    Attributes:
        service: What the sentinels call the master.
        servers: The master as it was at first, and its replica.
    """

    service = "prices"

    def __init__(self) -> None:
        program, obtained = find_program()
        origin = origin_of(program, obtained)
        master = RedisServer(program, origin, lines=("repl-diskless-sync-delay 0",))
        self.servers = (master, _Replica(program, origin, master))
        self._sentinels = [_Sentinel(program, origin, self.service, master, 2) for _ in range(3)]
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for server in self.servers:
                stack.enter_context(server)
            # A master that comes back as a replica logs in with the same password.
            self.servers[0].ask("CONFIG", "SET", "masterauth", self.servers[0].password)
            eventually(self._linked, "the replica follows its master")
            for sentinel in self._sentinels:
                stack.enter_context(sentinel)
            eventually(self._agreed, "the sentinels know each other and the replica")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """The URL of the sentinels and the service."""
        places = ",".join(f"{one.host}:{one.port}" for one in self._sentinels)
        return f"redis+sentinel://:{self.servers[0].password}@{places}/{self.service}/0"

    def master_port(self) -> int:
        """Ask the first sentinel where the master is."""
        found = self._tell(self._sentinels[0], "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
        return int(found[1])

    def fail_over(self) -> None:
        """Kill the master, and wait until the sentinels have made its replica the master."""
        self.servers[0].kill()
        port = self.servers[1].port
        eventually(lambda: self.master_port() == port, "the sentinels name the replica")

    def ask_fail_over(self) -> None:
        """Let the sentinels make the replica the master while the old one lives."""
        self._tell(self._sentinels[0], "SENTINEL", "FAILOVER", self.service)
        port = self.servers[1].port
        eventually(lambda: self.master_port() == port, "the sentinels name the replica")

    def _linked(self) -> bool:
        return bool(self.servers[1].ask("INFO", "replication")["master_link_status"] == "up")

    def _agreed(self) -> bool:
        for sentinel in self._sentinels:
            said = self._tell(sentinel, "SENTINEL", "MASTER", self.service)
            seen = {_text(name): _text(value) for name, value in said.items()}
            if int(seen["num-other-sentinels"]) < 2 or int(seen["num-slaves"]) < 1:
                return False
        return True

    def _tell(self, sentinel: ValkeyServer, *words: str) -> Any:
        import redis

        client: Any = redis.Redis(sentinel.host, sentinel.port, socket_timeout=10)
        try:
            return client.execute_command(*words)
        finally:
            client.close()


class _ClusterNode(RedisServer):
    """One node of a cluster; its bus has a port of its own."""

    bus: int = 0

    def _take_ports(self) -> None:
        super()._take_ports()
        self.bus = free_port()

    def _command(self, directory: Path) -> Sequence[str]:
        cluster = [
            "--cluster-enabled",
            "yes",
            "--cluster-port",
            str(self.bus),
            "--cluster-node-timeout",
            "2000",
        ]
        return [*super()._command(directory), *cluster]


class RedisCluster:
    """Three masters that share the slots; `with RedisCluster() as cluster:` starts and removes them."""

    def __init__(self) -> None:
        program, obtained = find_program()
        origin = origin_of(program, obtained)
        self.nodes = [_ClusterNode(program, origin) for _ in range(3)]
        for node in self.nodes[1:]:
            node._password = self.nodes[0].password  # all nodes of a cluster have one
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for node in self.nodes:
                stack.enter_context(node)
            first = self.nodes[0]
            bounds = (0, 5461, 10923, 16384)
            for at, node in enumerate(self.nodes):
                node.ask("CLUSTER", "ADDSLOTSRANGE", bounds[at], bounds[at + 1] - 1)
                node.ask("CLUSTER", "SET-CONFIG-EPOCH", at + 1)
                if node is not first:
                    first.ask("CLUSTER", "MEET", node.host, node.port, node.bus)
            self.settle()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """The URL of the first two nodes."""
        places = ",".join(f"{one.host}:{one.port}" for one in self.nodes[:2])
        return f"redis+cluster://:{self.nodes[0].password}@{places}"

    def settle(self) -> None:
        """Wait until every node says that every slot is served, and knows the same masters."""
        eventually(lambda: all(self._whole(node) for node in self.nodes), "the cluster is whole")

    def id_of(self, at: int) -> str:
        """Return the id that a node has in the cluster."""
        return _text(self.nodes[at].ask("CLUSTER", "MYID"))

    def owns(self, at: int, slot: int) -> bool:
        """Tell whether a node has a slot."""
        node = self.nodes[at]
        ranges = node.ask("CLUSTER", "SLOTS")
        said = ranges if isinstance(ranges, list) else [[*key, value] for key, value in ranges.items()]
        return any(first <= slot <= last and node.port in _ports(rest) for first, last, *rest in said)

    def migrate(self, source: int, target: int, key: str) -> None:
        """Move one key from a node to another, as a tool that moves a slot does."""
        other = self.nodes[target]
        words = (other.host, other.port, "", 0, 5_000, "AUTH", other.password, "KEYS", key)
        self.nodes[source].ask("MIGRATE", *words)

    def _whole(self, node: RedisServer) -> bool:
        said = dict(line.split(":", 1) for line in _text(node.ask("CLUSTER", "INFO")).split())
        return said["cluster_state"] == "ok" and int(said["cluster_known_nodes"]) == len(self.nodes)


def _ports(said: object) -> set[int]:
    """Return every number in a nested answer that can be a port."""
    if isinstance(said, dict):
        return _ports(list(said.values()))
    if isinstance(said, list | tuple):
        return set().union(*map(_ports, said))
    return {said} if isinstance(said, int) else set()


def _text(said: object) -> str:
    return said.decode() if isinstance(said, bytes) else str(said)


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

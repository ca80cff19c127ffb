"""A proxy before HTTP that cuts requests and answers off."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

from tests.servers import QuestDbServer

__all__ = ["Cutter"]


class Cutter:
    """A proxy before HTTP that lets so many bytes of each connection through and then cuts it off."""

    def __init__(self, server: QuestDbServer) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.limit: int | None = None
        self.swallow = False
        self.cuts = 0
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._run(self._accept)

    def _run(self, work: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection((self._server.host, self._server.port))
                self._sockets += [client, server]
                self._run(self._forward, client, server)
                self._run(self._back, server, client)

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                rest = len(data) if self.limit is None else max(0, self.limit - passed)
                target.sendall(data[:rest])
                passed += len(data)
                if rest < len(data):
                    self.cuts += 1
                    break
        self._end(source, target)

    def _back(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                if self.swallow and data.startswith(b"HTTP/1.1 204"):
                    self.cuts += 1
                    break
                target.sendall(data)
        self._end(source, target)

    def _end(self, *sockets: socket.socket) -> None:
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def end_all(self) -> None:
        """End all connections there are, as a server does that lets idle ones go."""
        self._end(*self._sockets)

    def close(self) -> None:
        """Cut everything and stop."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._end(*self._sockets)
        for thread in self._threads:
            thread.join(timeout=10)
        for one in self._sockets:
            one.close()

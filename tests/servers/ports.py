"""Ports for servers of a test run."""

from __future__ import annotations

import random
import socket
from typing import Final

__all__ = ["LOOPBACK", "accepts", "free_port"]

LOOPBACK: Final = "127.0.0.1"
FIRST: Final = 15_000
LAST: Final = 29_999
"""Below the range that systems take the *clients'* ports from (32768 and up on Linux, 49152 elsewhere).

Inside that range a client that connects again and again to a server that is down can be given the very port
it calls, and then talks to itself and keeps the server from coming back.
"""

_chance = random.SystemRandom()


def free_port() -> int:
    """Return a port that nothing listens on at this moment; whoever binds it must be ready to ask again."""
    for _ in range(200):
        port = _chance.randint(FIRST, LAST)
        if not accepts(LOOPBACK, port) and _can_bind(port):
            return port
    raise RuntimeError(f"no free port between {FIRST} and {LAST}")


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def accepts(host: str, port: int) -> bool:
    """Tell whether something accepts connections at a port."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True

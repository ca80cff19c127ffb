"""Keeping idle connections alive, for plugins whose drivers do not."""

from __future__ import annotations

import socket
from typing import Final

__all__ = ["keep_alive"]

_PROBES: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6}
"""Seconds without traffic before the first probe and between two, and how many of them may go unanswered."""


def keep_alive(held: socket.socket) -> None:
    """Let the system probe a connection that is idle.

    Clouds forget connections that were idle for four to six minutes, without a word to either side; the next call on
    one would then wait for its whole timeout.

    Args:
        held: A socket of TCP.
    """
    held.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _PROBES.items():
        if hasattr(socket, name):
            held.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

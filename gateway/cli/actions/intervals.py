"""Stopping work that goes on for ever, or takes long, when the system asks for it with SIGTERM."""

from __future__ import annotations

import select
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from types import FrameType
from typing import Final

__all__ = ["StopRequest", "stop_request"]

_LONGEST_WAIT: Final = timedelta(minutes=1)
"""A clock that is set, or a machine that slept, is noticed after that time."""


class StopRequest:
    """Whether somebody asked to stop, and waiting that ends when somebody does."""

    def __init__(self) -> None:
        self._asked = False
        # A signal is handled between any two steps of the main thread, and so inside a lock that the thread holds: an
        # event, which has one, could wait for itself for ever. Sockets have none, and Windows can wait for them too.
        self._woken, self._wake = socket.socketpair()
        self._wake.setblocking(False)

    def __repr__(self) -> str:
        return f"<StopRequest {'asked' if self.asked else 'not asked'}>"

    @property
    def asked(self) -> bool:
        """Whether somebody did."""
        return self._asked

    def ask(self) -> None:
        """Ask to stop at the next good moment. May be called by whatever interrupts a wait."""
        if not self._asked:
            self._asked = True
            self._wake.send(b"x")

    def wait(self, span: timedelta) -> None:
        """Wait for at most this long, or until somebody asks."""
        select.select([self._woken], [], [], max(0.0, min(span, _LONGEST_WAIT).total_seconds()))

    def close(self) -> None:
        """Give back what waiting needs."""
        self._woken.close()
        self._wake.close()


@contextmanager
def stop_request(*, at_once: bool) -> Iterator[StopRequest]:
    """Give what SIGTERM sets while the body runs.

    Args:
        at_once: Whether the first SIGTERM interrupts the work, as Ctrl-C does, so that it tidies up; otherwise the
            work ends when it looks, and the second one interrupts it.
    """
    with closing(StopRequest()) as request:
        if threading.current_thread() is threading.main_thread():
            with _handled(request, at_once=at_once):
                yield request
        else:
            yield request  # only the main thread may handle signals


@contextmanager
def _handled(request: StopRequest, *, at_once: bool) -> Iterator[None]:
    def asked(_number: int, _frame: FrameType | None) -> None:
        if at_once or request.asked:
            raise KeyboardInterrupt
        request.ask()

    before = signal.signal(signal.SIGTERM, asked)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

"""The proxy that breaks connections does each thing that it is named for, and heals from it."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.servers import FaultProxy

QUICK = 0.3
"""Seconds after which nothing is expected any more."""
PATIENT = 10.0


@contextmanager
def echoing() -> Iterator[tuple[str, int]]:
    """Run a server that gives back what it gets."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def echo(one: socket.socket) -> None:
            with one:
                try:
                    while data := one.recv(65_536):
                        one.sendall(data)
                except OSError:
                    pass

        def accept() -> None:
            while True:
                try:
                    one, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=echo, args=(one,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()
        listening.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    """Stand before a server that gives back what it gets."""
    with echoing() as (host, port), FaultProxy(host, port) as proxy:
        yield proxy


def connected(proxy: FaultProxy, seconds: float = PATIENT) -> socket.socket:
    """Connect through the proxy."""
    return socket.create_connection((proxy.host, proxy.port), timeout=seconds)


def answered(one: socket.socket, data: bytes = b"hello") -> float:
    """Send something, make sure that it comes back, and return after how many seconds."""
    one.settimeout(PATIENT)
    began = time.monotonic()
    one.sendall(data)
    got = b""
    while len(got) < len(data):
        piece = one.recv(65_536)
        assert piece, "the connection was ended"
        got += piece
    assert got == data
    return time.monotonic() - began


def unanswered(one: socket.socket) -> None:
    """Send something, and make sure that nothing comes back, and that the connection stays."""
    one.settimeout(QUICK)
    one.sendall(b"hello")
    with pytest.raises(TimeoutError):
        one.recv(1)


def ended(one: socket.socket) -> None:
    """Make sure that a connection comes to an end without an answer."""
    one.settimeout(PATIENT)
    with suppress(ConnectionError):
        assert one.recv(1) == b""


def test_what_is_delayed_comes_late(proxy: FaultProxy) -> None:
    """Both directions wait."""
    with connected(proxy) as one:
        answered(one)
        proxy.delay(0.2)
        assert answered(one) >= 0.4
        proxy.heal()
        answered(one)


def test_what_is_throttled_comes_slowly_and_whole(proxy: FaultProxy) -> None:
    """So many bytes a second, and nothing is lost when it heals."""
    with connected(proxy) as one:
        answered(one)
        proxy.throttle(20_000)
        assert answered(one, b"x" * 15_000) >= 0.5
        proxy.heal()
        answered(one, b"x" * 100_000)


def test_what_is_not_read_arrives_after_healing(proxy: FaultProxy) -> None:
    """A peer that reads nothing keeps what was sent; connections outlive it."""
    with connected(proxy) as one:
        answered(one)
        proxy.throttle(0)
        unanswered(one)
        proxy.heal()
        one.settimeout(PATIENT)
        assert one.recv(100) == b"hello"
        answered(one)


def test_what_is_silent_hears_nothing(proxy: FaultProxy) -> None:
    """Old and new connections stand and carry nothing; healing ends them."""
    with connected(proxy) as old:
        answered(old)
        proxy.silence()
        with connected(proxy) as new:
            unanswered(old)
            unanswered(new)
            proxy.heal()
            ended(old)
            ended(new)
    with connected(proxy) as after:
        answered(after)


def test_what_is_half_open_hears_nothing(proxy: FaultProxy) -> None:
    """The server's side is gone, the client's stands."""
    with connected(proxy) as one:
        answered(one)
        proxy.half_open()
        unanswered(one)
        proxy.heal()
        ended(one)
    with connected(proxy) as after:
        answered(after)


def test_what_has_vanished_cannot_be_connected_to(proxy: FaultProxy) -> None:
    """Connections stand and carry nothing, and an attempt to connect is neither taken nor refused."""
    with connected(proxy) as one:
        answered(one)
        proxy.vanish()
        unanswered(one)
        with pytest.raises(TimeoutError):
            connected(proxy, QUICK)
        proxy.heal()
        ended(one)
    with connected(proxy) as after:
        answered(after)


def test_what_is_reset_says_so(proxy: FaultProxy) -> None:
    """A reset is no orderly end; new connections get through."""
    with connected(proxy) as one:
        answered(one)
        proxy.reset()
        one.settimeout(PATIENT)
        with pytest.raises(ConnectionResetError) as raised:
            one.recv(1)
        assert raised.value.errno == errno.ECONNRESET
    with connected(proxy) as after:
        answered(after)


def test_what_is_refused_comes_to_an_end(proxy: FaultProxy) -> None:
    """Old and new connections end."""
    with connected(proxy) as old:
        answered(old)
        proxy.refuse()
        ended(old)
        with connected(proxy) as new:
            ended(new)
        proxy.heal()
    with connected(proxy) as after:
        answered(after)


def test_what_flaps_works_and_does_not_in_turns(proxy: FaultProxy) -> None:
    """Each connection is reset after a while, and others get through until healing leaves one alone."""
    ends = 0
    proxy.flap(0.1, 0.1)
    end = time.monotonic() + PATIENT
    worked = False
    while not (worked and ends >= 3) and time.monotonic() < end:
        try:
            with connected(proxy) as one:
                while True:
                    answered(one)
                    worked = True
                    time.sleep(0.01)
        except (AssertionError, ConnectionError):
            ends += 1
    assert worked
    assert ends >= 3
    proxy.heal()
    with connected(proxy) as one:
        answered(one)

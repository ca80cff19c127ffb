"""What comes back over HTTP, in whatever pieces, and what the server offers beside it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest
from hypothesis import given
from hypothesis import strategies as st
from questdb import QuestDBError, Sender

from gateway_questdb.exchange import answer_in
from tests.servers import QuestDbServer

STORED = b"HTTP/1.1 204 OK\r\nServer: questDB/1.0\r\nDate: Sat, 21 Nov 2026 19:11:06 GMT\r\n\r\n"
BODIES = st.binary(max_size=40)


def chunked(body: bytes, sizes: list[int]) -> bytes:
    """Return a body in chunks of these sizes, the rest in one."""
    found, rest = b"", body
    for size in sizes:
        part, rest = rest[:size], rest[size:]
        found += b"%x\r\n%b\r\n" % (len(part), part) if part else b""
    found += b"%x\r\n%b\r\n" % (len(rest), rest) if rest else b""
    return found + b"00\r\n\r\n"


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, int, bytes, bool]:
    """Return the bytes of an answer, and its status, body and whether the connection goes on."""
    body = draw(BODIES)
    status = draw(st.sampled_from([200, 400, 401, 503]))
    goes_on = draw(st.booleans())
    lines = [b"HTTP/1.1 %d Something said" % status, b"Content-Type: application/json"]
    lines += [] if goes_on else [b"connection: Close"]
    if draw(st.booleans()):
        lines.append(b"transfer-encoding: Chunked")
        sent = chunked(body, draw(st.lists(st.integers(1, 9), max_size=4)))
    else:
        lines.append(b"content-LENGTH: %d" % len(body))
        sent = body
    return b"\r\n".join(lines) + b"\r\n\r\n" + sent, status, body, goes_on


@given(answers(), st.data())
def test_an_answer_is_read_once_it_is_whole_and_not_before(
    answer: tuple[bytes, int, bytes, bool], data: st.DataObject
) -> None:
    """Every beginning of an answer is incomplete, the whole of it is read, whatever it is framed by."""
    sent, status, body, goes_on = answer
    assert answer_in(sent) == (status, body, goes_on)
    if sent:
        part = data.draw(st.integers(0, len(sent) - 1))
        assert answer_in(sent[:part]) is None


@pytest.mark.parametrize("part", range(0, len(STORED), 7))
def test_what_says_that_rows_are_stored_is_whole(part: int) -> None:
    """The server's answer to rows that it took has no body, and half of it says nothing."""
    assert answer_in(STORED) == (204, b"", True)
    assert answer_in(STORED[:part]) is None
    assert answer_in(STORED.replace(b"Server", b"Connection: close\r\nServer")) == (204, b"", False)


def test_what_ends_with_the_connection_is_whole_at_its_end() -> None:
    """Without a length the body goes on until the server ends the connection."""
    sent = b"HTTP/1.1 502 Bad gateway\r\n\r\nsome words"
    assert answer_in(sent) is None
    assert answer_in(sent, ended=True) == (502, b"some words", True)


@pytest.mark.parametrize(
    "sent", [b"SSH-2.0-x\r\n\r\n\r\n\r\n", b"HTTP/1.1 nothing\r\n\r\n", b"\x15\x03\r\n\r\n"]
)
def test_what_is_no_answer_of_http_is_refused(sent: bytes) -> None:
    """Something else at the port is an error, not an answer that never ends."""
    with pytest.raises(ValueError, match=r"HTTP|invalid literal|unpack"):
        answer_in(sent, ended=True)


def test_the_server_offers_no_qwp(questdb: QuestDbServer) -> None:
    """Rows go as lines since this server has nothing else; if it offers QWP one day, docs/questdb.md must decide anew."""
    with urllib.request.urlopen(f"{questdb.http_url}/settings", timeout=30) as answer:  # noqa: S310 - our own server
        config = json.load(answer)["config"]
    assert config["ilp.proto.transports"] == ["http"]
    assert 3 in config["line.proto.support.versions"], "decimals need the third version of lines"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{questdb.http_url}/write/v4", timeout=30)  # noqa: S310 - the same
    with caught.value:
        assert caught.value.code == 404
    with pytest.raises(QuestDBError, match="404"):
        Sender.from_conf(f"ws::addr={questdb.host}:{questdb.port};auto_flush=off;").establish()  # type: ignore[no-untyped-call]

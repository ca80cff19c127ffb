"""A close look at SQLite files for the doctor: facts of real files, and what they mean."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.backend import OpenContext, WriteBatch
from gateway.findings import Finding, Level
from gateway.records import Row
from gateway_sqlite import examine as module
from gateway_sqlite.backend import SqliteBackend
from gateway_sqlite.examine import FileFacts, examine, judge, network_in
from gateway_sqlite.maintain import LONG_LOG

MakeContext = Callable[..., OpenContext]
OpenStore = Callable[..., Awaitable[SqliteBackend]]
PLAIN = FileFacts(10 * 2**20, 2**20, 2**20)
MOUNTS = """\
/dev/sda1 / ext4 rw,relatime 0 0
server:/export /srv/bots nfs4 rw 0 0
/dev/sdb1 /srv/bots/local xfs rw 0 0
//box/share /mnt/with\\040blank cifs rw 0 0
broken
"""


async def _fill(opened: OpenStore, rows: Sequence[Row]) -> None:
    store = await opened()
    await store.gateway_write(WriteBatch(rows))
    await store.gateway_close()


def _worth_a_word(findings: list[Finding]) -> list[Finding]:
    return [one for one in findings if one.level is not Level.OK]


def test_an_ordinary_file_is_as_it_should_be() -> None:
    """There is something to read about it, and nothing to do."""
    findings = judge("s", PLAIN)
    assert {one.level for one in findings} == {Level.OK}
    assert {one.subject for one in findings} == {"s: log", "s: space"}


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        (replace(PLAIN, log=LONG_LOG + 1), "log"),
        (replace(PLAIN, bytes=200 * 2**20, free=150 * 2**20), "space"),
        (replace(PLAIN, on_network="nfs4"), "disk"),
    ],
)
def test_each_fault_of_a_file_is_found(facts: FileFacts, word: str) -> None:
    """A long log, a hollow file and a network disk, each by itself and with advice."""
    (found,) = _worth_a_word(judge("s", facts))
    assert found.subject == f"s: {word}"
    assert found.level is Level.WARN
    assert found.advice


@pytest.mark.parametrize(
    "facts",
    [
        replace(PLAIN, log=LONG_LOG),
        replace(PLAIN, bytes=2**20, free=2**20 - 4096),
        replace(PLAIN, bytes=10 * 2**30, free=2**30),
    ],
    ids=["a long log that is usual", "a small file that is empty", "a large file with some room"],
)
def test_what_is_usual_is_no_fault(facts: FileFacts) -> None:
    """Nobody is called for it."""
    assert _worth_a_word(judge("s", facts)) == []


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/bot/a.db", ""),
        ("/srv/bots/a.db", "nfs4"),
        ("/srv/bots/local/a.db", ""),
        ("/srv/botsandmore/a.db", ""),
        ("/mnt/with blank/a.db", "cifs"),
    ],
)
def test_the_nearest_mount_counts(path: str, kind: str) -> None:
    """A local disk inside a network disk is local, and names that only begin alike are others."""
    assert network_in(MOUNTS, Path(path)) == kind


@pytest.mark.anyio
async def test_a_real_file_has_nothing_wrong(
    context: MakeContext, opened: OpenStore, trades: Callable[[int], list[Row]]
) -> None:
    """In use and closed; where there is no file, opening it says so, and this says nothing."""
    assert examine(context()) == []
    store = await opened()
    await store.gateway_write(WriteBatch(trades(3)))
    assert _worth_a_word(examine(context())) == []
    await store.gateway_close()
    assert _worth_a_word(examine(context())) == []


@pytest.mark.anyio
async def test_a_file_that_was_emptied_is_seen(
    context: MakeContext, opened: OpenStore, trades: Callable[[int], list[Row]], path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The room that removed rows leave behind is counted."""
    monkeypatch.setattr(module, "_EMPTY_BYTES", 4096)
    await _fill(opened, trades(5000))
    assert _worth_a_word(examine(context())) == []
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM trades")
    assert [one.subject for one in _worth_a_word(examine(context()))] == ["store sqlite: space"]


@pytest.mark.anyio
async def test_a_log_that_nobody_shortens_is_seen(
    context: MakeContext, opened: OpenStore, trades: Callable[[int], list[Row]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Its length is that of the file beside the store."""
    monkeypatch.setattr(module, "LONG_LOG", 1000)
    store = await opened()
    await store.gateway_write(WriteBatch(trades(200)))
    assert [one.subject for one in _worth_a_word(examine(context()))] == ["store sqlite: log"]


def test_a_file_that_cannot_be_read_is_a_finding(context: MakeContext, path: Path) -> None:
    """The doctor goes on with the rest."""
    path.write_bytes(b"this is no database\n" * 300)
    (found,) = examine(context())
    assert found.level is Level.FAIL
    assert "no SQLite database" in found.sentence

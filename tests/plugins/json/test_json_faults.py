"""Faults with real processes and file systems: kill -9, a full disk, missing permissions."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.backend import Group, OpenContext, WriteBatch
from gateway.errors import StoreFullError, StoreReadOnlyError
from gateway.query import Query
from gateway.records import CLOSED_POSITIONS, POSITIONS, TRADES, Row
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.codec import to_micros
from gateway.records.stamp import DEFAULT_TENANT, row_of
from gateway_json.backend import open_json
from gateway_json.files import Appended, Disk
from gateway_json.settings import JsonSettings
from gateway_json.store import JsonStore

FORKING = "ignore:This process:DeprecationWarning"
"""Forking beside threads is deprecated; these children end without ever returning to pytest."""

WRITER = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from gateway.backend import Group, WriteBatch
from gateway.records import CLOSED_POSITIONS, POSITIONS, TRADES, ClosedPosition, Position, Trade
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.stamp import Stamper
from gateway_json.store import JsonStore

store, stamper, now = JsonStore(Path(sys.argv[1]), BUILTIN_KINDS), Stamper(), datetime.now(UTC)
market = dict(side="YES", entry_price="0.5", opened_at=now)
for number in range(1_000_000):
    name = f"{sys.argv[2]}-{number}"
    when, market_name = now + timedelta(hours=number % 60), "B" * (number % 700)
    side = dict(action="buy", side="YES", price="0.1", amount="3")
    trade = Trade(record_id=name, timestamp=when, market_name=market_name, **side)
    group = Group((
        stamper.stamp(POSITIONS, Position(condition_id=name, is_open=False, **market)),
        stamper.stamp(CLOSED_POSITIONS,
                      ClosedPosition(record_id=name, condition_id=name, closed_at=now, **market)),
    ))
    store.write(WriteBatch([stamper.stamp(TRADES, trade), group]))
    print(name, flush=True)
"""


def test_kill_9_loses_nothing_acknowledged(root: Path) -> None:
    """A writer killed again and again leaves every acknowledged row and no half group."""
    acknowledged: list[str] = []
    rng = random.Random(7)
    for life in range(4):
        command = [sys.executable, "-c", WRITER, str(root), str(life)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            acknowledged += [child.stdout.readline().strip() for _ in range(rng.randrange(20, 60))]
            child.kill()
            acknowledged += child.stdout.read().split("\n")[:-1]
    assert len(set(acknowledged)) >= 80
    store = JsonStore(root, BUILTIN_KINDS)
    keys = [(name,) for name in acknowledged]
    for kind in (TRADES, POSITIONS, CLOSED_POSITIONS):
        found = store.get(kind, DEFAULT_TENANT, keys)
        assert [row is not None and row.intact for row in found] == [True] * len(keys)
    everything = [
        store.query(Query(kind, DEFAULT_TENANT, limit=10_000)) for kind in (POSITIONS, CLOSED_POSITIONS)
    ]
    assert {row.key for row in everything[0]} == {row.key for row in everything[1]}
    store.close()


def test_two_processes_do_not_write_one_directory(root: Path) -> None:
    """The second writer is refused at once, by the number of the first."""
    command = [sys.executable, "-c", WRITER, str(root)]
    with subprocess.Popen([*command, "a"], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "a-0\n"
        second = subprocess.run([*command, "b"], capture_output=True, text=True, check=False)
        first.kill()
    assert second.returncode == 1
    assert f"StoreLockedError: {root} is being written by process {first.pid} on" in second.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 256 KiB, which only root can."""
    mounted = tmp_path / "small"
    mounted.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mounted)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a small file system; run as root to test a really full disk")
    yield mounted
    subprocess.run(["umount", str(mounted)], check=True)


def _leftovers(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.suffix == ".tmp" or path.name == "_pending.json"]


@pytest.mark.anyio
async def test_a_full_disk_touches_nothing_stored(
    small_disk: Path, trade: Callable[..., Row], position: Callable[..., Row]
) -> None:
    """When space runs out, the write fails by name, what was stored is whole, and later writes go on."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 65_536)
    context = OpenContext("json", JsonSettings(), BUILTIN_KINDS, small_disk)
    backend = await open_json(context)
    trades: list[Row] = []
    held = position("0xabc")

    async def fill() -> None:
        nonlocal held
        for number in range(10_000):
            batch = [trade(reason="x" * 900), position("0xabc", extra={"n": number, "pad": "y" * 900})]
            await backend.gateway_write(WriteBatch(batch))
            trades.append(batch[0])
            held = batch[1]

    with pytest.raises(StoreFullError, match=r"^json: no space left"):
        await fill()
    assert len(trades) > 3
    for _ in range(2):
        assert list(await backend.gateway_query(Query(TRADES, DEFAULT_TENANT))) == trades
        assert list(await backend.gateway_query(Query(POSITIONS, DEFAULT_TENANT))) == [held]
        assert _leftovers(small_disk) == []
        with pytest.raises(StoreFullError):
            await backend.gateway_write(WriteBatch([trade(reason="z" * 1000) for _ in range(200)]))
    ballast.unlink()
    later = trade()
    await backend.gateway_write(WriteBatch([later]))
    await backend.gateway_close()
    backend = await open_json(context)
    assert list(await backend.gateway_query(Query(TRADES, DEFAULT_TENANT))) == [*trades, later]
    assert (await backend.gateway_health()).details["recovered"] == []
    await backend.gateway_close()


def _in_child(work: Callable[[], object]) -> str:
    """Run work in a forked child, which may give up its rights, and return its error's name and text."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work()
            answer = "done"
        except BaseException as error:  # noqa: BLE001  the child reports whatever happened and ends
            answer = f"{type(error).__name__}: {error}"
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read().decode()
    os.waitpid(pid, 0)
    return answer


class _DyingDisk(Disk):
    """A disk whose process dies at its n-th operation: before it, or in the middle of an append."""

    left = 0

    def prepare(self, path: Path, chunks: Iterable[bytes]) -> Path:
        self._age()
        return super().prepare(path, chunks)

    def publish(self, tmp: Path, path: Path) -> None:
        self._age()
        super().publish(tmp, path)

    def append(self, path: Path, data: bytes) -> Appended:
        if self.left == 1:
            with path.open("ab") as file:
                file.write(data[: len(data) // 2])
        self._age()
        return super().append(path, data)

    def sync_dir(self, directory: Path) -> None:
        self._age()
        super().sync_dir(directory)

    def _age(self) -> None:
        type(self).left -= 1
        if self.left == 0:
            os._exit(9)


@pytest.mark.filterwarnings(FORKING)
def test_dying_at_any_moment_leaves_all_or_nothing(
    root: Path, trade: Callable[..., Row], position: Callable[..., Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group of two states and a log row that changes its day is whole or absent after a death anywhere."""
    monkeypatch.setattr("gateway_json.store.Disk", _DyingDisk)
    store = JsonStore(root, BUILTIN_KINDS)
    store.write(WriteBatch([old := trade(), before := position("0xa")]))
    store.close()
    outcomes: list[bool] = []
    while True:
        values = list(old.values)
        values[TRADES.index("timestamp")] = to_micros(datetime(2026, 3, 13 + len(outcomes) % 9, tzinfo=UTC))
        moved = row_of(TRADES, old.tenant, position().version, values)
        group = (moved, position("0xa"), position(f"0xb{len(outcomes)}"))
        monkeypatch.setattr(_DyingDisk, "left", 0)
        answer = _in_child(lambda: _die_writing(root, group, len(outcomes) + 1))  # noqa: B023  called at once
        store = JsonStore(root, BUILTIN_KINDS)
        trades = store.query(Query(TRADES, old.tenant))
        states = store.get(POSITIONS, old.tenant, [row.key for row in group[1:]])
        done = trades == [moved]
        assert (trades, states) == (([moved], list(group[1:])) if done else ([old], [before, None]))
        assert store.get(TRADES, old.tenant, [old.key]) == trades
        outcomes.append(done)
        store.close()
        if answer == "done":
            break
        old, before = (moved, group[1]) if done else (old, before)
    assert len(outcomes) > 10
    assert {True, False} <= set(outcomes)
    assert outcomes == sorted(outcomes), "the later the death, the more is done"


def _die_writing(root: Path, group: tuple[Row, ...], operations: int) -> None:
    store = JsonStore(root, BUILTIN_KINDS)
    _DyingDisk.left = operations
    store.write(WriteBatch([Group(group)]))
    _DyingDisk.left = 0


def _append_beyond(path: Path, limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    Disk().append(path, b"x" * 100 + b"\n")


@pytest.mark.filterwarnings(FORKING)
def test_a_partial_append_is_cut_off_again(tmp_path: Path) -> None:
    """When a file may not grow, the part of a line that fitted is removed again."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"whole line\n")
    answer = _in_child(lambda: _append_beyond(path, 50))
    assert f"[Errno {errno.EFBIG}]" in answer
    assert path.read_bytes() == b"whole line\n"


@pytest.mark.filterwarnings(FORKING)
def test_a_read_only_directory_is_refused_by_name() -> None:
    """Without write permission, opening to write fails with what to do."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "json"
        JsonStore(root, BUILTIN_KINDS).close()
        before = sorted(root.iterdir())
        for path, mode in ((root.parent, 0o755), (root / ".lock", 0o444), (root, 0o555)):
            path.chmod(mode)

        def work() -> None:
            if os.geteuid() == 0:
                os.setuid(65534)
            asyncio.run(open_json(OpenContext("json", JsonSettings(url=str(root)), BUILTIN_KINDS, root)))

        answer = _in_child(work)
        root.chmod(0o755)
        assert sorted(root.iterdir()) == before
    assert answer.startswith(f"{StoreReadOnlyError.__name__}: json: ")
    assert "may not be written" in answer

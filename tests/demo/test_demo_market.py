from __future__ import annotations

import asyncio
import gzip
import json
from decimal import Decimal
from itertools import islice, pairwise
from pathlib import Path

import pytest

from gateway.demo.market import Tick, TickFeed, find_data, generated_market, recorded_market
from gateway.errors import InvalidRecordError


def record(root: Path, rows: object) -> Path:
    """Write a recording of ticks under a directory, and return the directory."""
    path = root / "market" / "XRP_ETH-trades.json.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(json.dumps(rows).encode()))
    return root


ROWS = [
    [1570752011620, "1", None, "sell", 0.00141342, 23.0, 0.03250866],
    [1570752011620, "2", None, "buy", 5.330000000000001e-05, 54.0, 0.07628364],
    [1570752017964, "3", None, "sell", 0.00141266, 8.0, 0.01130128],
]


def test_the_same_seed_gives_the_same_ticks() -> None:
    """Two generators with one seed agree, and another seed gives another market."""
    first = list(islice(generated_market(3).ticks(0), 200))
    assert first == list(islice(generated_market(3).ticks(0), 200))
    assert first != list(islice(generated_market(4).ticks(0), 200))


def test_a_generated_market_goes_on_where_it_stood() -> None:
    """Starting at tick 70 gives what a start at 0 gives from there on."""
    whole = list(islice(generated_market(3).ticks(0), 100))
    assert list(islice(generated_market(3).ticks(70), 30)) == whole[70:]


def test_generated_ticks_move_forward_in_time_with_ids_of_their_own() -> None:
    """No id appears twice, times only grow, and prices are positive."""
    ticks = list(islice(generated_market(7).ticks(0), 2_000))
    assert len({tick.id for tick in ticks}) == 2_000
    assert all(one.at < next_.at for one, next_ in pairwise(ticks))
    assert all(tick.price > 0 for tick in ticks)


def test_a_recording_is_read_exactly(tmp_path: Path) -> None:
    """Prices come out by their shortest representation, and two ticks of one moment stay two."""
    ticks = list(islice(recorded_market(record(tmp_path, ROWS)).ticks(0), 3))
    exact = ["0.00141342", "0.00005330000000000001", "0.00141266"]
    assert [tick.price for tick in ticks] == [Decimal(text) for text in exact]
    assert ticks[0].at == ticks[1].at
    assert ticks[0].at.isoformat() == "2019-10-11T00:00:11.620000+00:00"


def test_a_recording_is_played_in_laps(tmp_path: Path) -> None:
    """The second lap has ids of its own and goes on in time."""
    ticks = list(islice(recorded_market(record(tmp_path, ROWS)).ticks(0), 6))
    assert [tick.id for tick in ticks] == ["1", "2", "3", "1-1", "2-1", "3-1"]
    assert ticks[3].at > ticks[2].at
    assert ticks[4] == next(recorded_market(tmp_path).ticks(4))


@pytest.mark.parametrize(
    "content",
    [b"", b"no gzip", gzip.compress(b"{"), gzip.compress(b"[[1]]"), gzip.compress(b"[]")],
    # Compressed bytes hold the time they were made, and a test must have the same name in every process.
    ids=["empty", "no gzip", "half a document", "short rows", "no rows"],
)
def test_a_damaged_recording_is_refused(tmp_path: Path, content: bytes) -> None:
    """Whatever is no recording gives one sentence that names the file."""
    path = record(tmp_path, ROWS) / "market" / "XRP_ETH-trades.json.gz"
    path.write_bytes(content)
    with pytest.raises(InvalidRecordError, match="XRP_ETH-trades"):
        recorded_market(tmp_path)


def test_a_directory_without_a_recording_is_refused(tmp_path: Path) -> None:
    """Asking for data that are not there does not fall back to the generator in silence."""
    with pytest.raises(InvalidRecordError, match="holds no"):
        find_data(tmp_path)


def test_data_beside_the_current_directory_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`../shared/data` is used where it holds a recording."""
    record(tmp_path / "shared" / "data", ROWS)
    (tmp_path / "checkout").mkdir()
    monkeypatch.chdir(tmp_path / "checkout")
    assert find_data() == (tmp_path / "shared" / "data").resolve()


@pytest.mark.anyio
async def test_the_feed_tells_of_the_closing_and_goes_on_after_it() -> None:
    """While the market is closed nothing is traded; the next tick after it is the one that was due."""
    stop = asyncio.Event()
    closed = False
    seen: list[Tick | None] = []
    feed = TickFeed(generated_market(1), 10_000, lambda: closed, stop)
    async for tick in feed.play(0):
        seen.append(tick)
        if len(seen) == 3:
            closed = True
        if tick is None:
            closed = False
        if len(seen) == 6:
            stop.set()
    ticks = list(islice(generated_market(1).ticks(0), 5))
    assert seen == [*ticks[:3], None, *ticks[3:]]


@pytest.mark.anyio
async def test_a_stopped_feed_ends_even_while_the_market_is_closed() -> None:
    """Nobody waits for a market that does not open again."""
    stop = asyncio.Event()
    feed = TickFeed(generated_market(1), 10_000, lambda: True, stop)
    seen = []
    async with asyncio.timeout(5):
        async for tick in feed.play(0):
            seen.append(tick)
            stop.set()
    assert seen == [None]

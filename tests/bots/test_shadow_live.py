"""Shadow reads beside live writes and a mirror that is behind: nothing false is reported, and what is true is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway_memory.plugin import MEMORY, MemorySettings
from gateway_sqlite.plugin import SPEC as SQLITE
from tests.lagging import LaggingPair, lagging_pair

pytestmark = pytest.mark.anyio
IN_MEMORY = (MemorySettings(), MemorySettings())


def _unquestioned(pair: LaggingPair) -> None:
    counters = pair.counters
    assert counters.shadow_match > 0
    assert counters.shadow_lagging > 0, "the mirror was never behind, so nothing was tried"
    assert (counters.shadow_failed, counters.shadow_timed_out) == (0, 0)


async def test_a_lagging_mirror_is_never_called_diverged(tmp_path: Path) -> None:
    """Under writes to the same few keys, deletions and purges, thousands of comparisons report no difference."""
    async with lagging_pair(tmp_path, MEMORY, IN_MEMORY) as pair:
        await pair.live(1_500)
        assert await pair.found() == ()
        _unquestioned(pair)


async def test_a_lagging_file_is_never_called_diverged(tmp_path: Path) -> None:
    """The same between two SQLite files."""
    settings = tuple(SQLITE.settings(url=str(tmp_path / f"{name}.db")) for name in ("old", "new"))
    async with lagging_pair(tmp_path, SQLITE, (settings[0], settings[1])) as pair:
        await pair.live(500, bots=2)
        assert await pair.found() == ()
        _unquestioned(pair)


async def test_what_a_lagging_mirror_lost_is_found(tmp_path: Path) -> None:
    """Keys that the mirror says it has, and has not, are reported among live writes, and no others are."""
    async with lagging_pair(tmp_path, MEMORY, IN_MEMORY) as pair:
        pair.lost = {"m03", "m07"}
        await pair.live(1_000, purging=False)
        found = {(one.kind, one.key[0]) for one in await pair.found() if one.subject != "count"}
        assert found == {("positions", "m03"), ("positions", "m07")}


@pytest.mark.soak
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("seed", [1, 2])
async def test_half_a_million_comparisons_report_nothing_false(tmp_path: Path, seed: int) -> None:
    """A long run under live writes, with a mirror that is up to a tenth of a second behind."""
    async with lagging_pair(tmp_path, MEMORY, IN_MEMORY, seed=seed, lag=0.1) as pair:
        await pair.live(500_000)
        assert await pair.found() == ()
        _unquestioned(pair)

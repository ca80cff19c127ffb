"""What the in-memory backend does beyond the contract: it is bounded, and it says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.backend import OpenContext
from gateway.conformance import KINDS, PROBE_LOG, Scribe
from gateway.conformance.rows import batch
from gateway.dispatch import Store, open_store
from gateway.errors import StoreFullError
from gateway_memory.plugin import MEMORY, MemorySettings

pytestmark = pytest.mark.anyio


async def opened(directory: Path, max_rows: int) -> Store:
    """Open a store with a small bound."""
    context = OpenContext("small", MemorySettings(max_rows=max_rows), KINDS, directory)
    return await open_store(MEMORY, context)


async def test_a_full_store_refuses_the_whole_batch(tmp_path: Path) -> None:
    """Of a batch that does not fit nothing is stored, and the error names the variable to raise."""
    store, scribe = await opened(tmp_path, 3), Scribe("t")
    kept = [scribe.log(), scribe.log()]
    await store.write(batch(*kept))
    with pytest.raises(StoreFullError, match="STORAGE_SMALL_MAX_ROWS") as caught:
        await store.write(batch(scribe.log(), scribe.log()))
    assert caught.value.backend == "small"
    assert list(await store.query(scribe.query(PROBE_LOG))) == kept


async def test_a_full_store_takes_newer_versions(tmp_path: Path) -> None:
    """What replaces a row needs no room, and what is purged gives room back."""
    store, scribe = await opened(tmp_path, 1), Scribe("t")
    await store.write(batch(scribe.state(label="old")))
    newer = scribe.state(label="new")
    await store.write(batch(newer, scribe.tombstone(newer)))
    assert (await store.health()).details == {"rows": 1, "max_rows": 1}


async def test_two_openings_share_nothing(tmp_path: Path) -> None:
    """A second store opened the same way is empty."""
    first, second, scribe = await opened(tmp_path, 9), await opened(tmp_path, 9), Scribe("t")
    row = scribe.log()
    await first.write(batch(row))
    assert await second.get(PROBE_LOG, "t", [row.key]) == [None]


def test_the_bound_must_be_positive() -> None:
    """A store for no rows at all is a mistake in the settings."""
    with pytest.raises(ValueError, match="max_rows"):
        MemorySettings(max_rows=0)

"""`kill -9` of whoever writes the local journal: what was acknowledged is there, and the file can be used at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.intents import Intent, Stretch
from gateway.journal.file import JournalFile
from gateway.journal.local import LocalJournal
from gateway.records.stamp import DEFAULT_TENANT
from gateway.records.trading import TRADES
from tests.children import Start, children

WRITER = """
import asyncio, sys
from pathlib import Path
from gateway.intents import Intent
from gateway.journal.file import JournalFile
from gateway.journal.local import LocalJournal
from gateway.records.stamp import DEFAULT_TENANT
from gateway.records.trading import TRADES

path, owner = Path(sys.argv[1]), sys.argv[2]

async def work():
    journal = LocalJournal(JournalFile(path), "a", [TRADES])
    numbers = iter(range(1, 1_000_000))

    async def one():
        for number in numbers:
            made = [("b", Intent(owner, number, part, TRADES, DEFAULT_TENANT, (f"{number}",), 1, "")) for part in (0, 1)]
            await journal.note(made)
            print(number, flush=True)

    await asyncio.gather(*(one() for _ in range(8)))

asyncio.run(work())
"""


@pytest.fixture
def start() -> Iterator[Start]:
    """Give what starts writers; they are gone at the end."""
    with children() as starting:
        yield starting


@pytest.mark.parametrize("seed", range(3))
def test_what_was_acknowledged_outlives_the_writer(start: Start, tmp_path: Path, seed: int) -> None:
    """Two writers at once, killed at a random moment; an intent is there whole, with all parts of its step, or not."""
    path = tmp_path / "journal.db"
    writers = {owner: start("-c", WRITER, path, owner) for owner in ("one", "two")}
    acknowledged: dict[str, list[int]] = {}
    for owner, writer in writers.items():
        assert writer.stdout is not None
        count = random.Random(f"{owner} {seed}").randrange(1, 120)
        acknowledged[owner] = [int(writer.stdout.readline()) for _ in range(count)]
    for owner, writer in writers.items():
        writer.kill()
        assert writer.stdout is not None
        rest = (
            writer.stdout.read()
        )  # `communicate` leaves out what `readline` has buffered, and begins within a line
        acknowledged[owner] += [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    asyncio.run(_check(path, acknowledged))


async def _check(path: Path, acknowledged: dict[str, list[int]]) -> None:
    file = JournalFile(path)
    journal = LocalJournal(file, "a", [TRADES])
    found = await journal.pending("b", DEFAULT_TENANT, 1_000_000)
    for owner, numbers in acknowledged.items():
        kept = [(one.number, one.part) for one in found if one.owner == owner]
        assert set(numbers) <= {number for number, _ in kept}
        assert kept == [(number, part) for number in sorted({one for one, _ in kept}) for part in (0, 1)]
    assert await journal.acknowledge(
        "b", DEFAULT_TENANT, [Stretch(owner, 0, 2**62) for owner in acknowledged]
    )
    await journal.note([("b", Intent("me", 1, 0, TRADES, DEFAULT_TENANT, ("x",), 1, ""))])
    assert len(await journal.pending("b", DEFAULT_TENANT, 9)) == 1
    await file.close()

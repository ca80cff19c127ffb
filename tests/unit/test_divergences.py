"""Divergences: kept once each, bounded, and listed from another process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.compare import REDACTED, compare_rows
from gateway.divergences.log import Divergence, DivergenceLog, State, divergence_of, refusal_of
from gateway.migration.control_file import ControlFile
from gateway.records import Comparison, KindSpec, Record, Shape, Text
from gateway.records.row import Row
from gateway.records.stamp import row_of
from gateway.telemetry import Counters

pytestmark = pytest.mark.anyio


class Secret(Record):
    name: Text
    value: Text | None = None
    other: Text | None = None


KIND = KindSpec("secrets", Secret, key=("name",), shape=Shape.STATE)
PRIVATE = KindSpec(
    "private_secrets",
    type("PrivateSecret", (Secret,), {}),
    key=("name",),
    shape=Shape.STATE,
    comparison=Comparison(redact=frozenset({"name", "value"})),
)


def _row(
    name: str, value: str | None, *, version: int = 1, kind: KindSpec = KIND, other: str | None = None
) -> Row:
    return row_of(kind, "t", version, (name, value, other))


def _divergence(
    name: str = "a", value: str = "right", *, version: int = 1, kind: KindSpec = KIND
) -> Divergence:
    found = compare_rows(kind, _row(name, "left", kind=kind), _row(name, value, version=version, kind=kind))
    return divergence_of(found, tenant="t", primary="old", shadow="new")


@pytest.fixture
def file(tmp_path: Path) -> ControlFile:
    """The file of a control store that is not there yet."""
    return ControlFile(tmp_path / "control.db")


async def test_a_divergence_is_listed_as_it_was_found(file: ControlFile) -> None:
    """Fields, both values, versions and stores are what the comparison found."""
    log = DivergenceLog(file)
    log.record(_divergence())
    await log.aclose()
    (kept,) = log.listed()
    assert (kept.kind, kept.key, kept.versions, kept.primary, kept.shadow) == (
        "secrets",
        ("a",),
        (1, 1),
        "old",
        "new",
    )
    assert [(one.field, one.left, one.right) for one in kept.differences] == [("value", "left", "right")]
    assert kept.reason == "same version, other content"
    assert kept.count == 1


async def test_the_same_one_is_counted_and_not_repeated(file: ControlFile) -> None:
    """Finding a difference again, in memory or on disk, raises its count and keeps when it was seen first."""
    log = DivergenceLog(file)
    first = _divergence(value="right")
    log.record(first)
    await log.flush()
    log.record(_divergence(value="other"))
    log.record(_divergence(value="latest"))
    await log.aclose()
    (kept,) = log.listed()
    assert kept.count == 3
    assert kept.first_seen == first.first_seen
    assert kept.last_seen > kept.first_seen
    assert kept.differences[0].right == "latest"


async def test_key_fields_and_stores_tell_them_apart(file: ControlFile) -> None:
    """Another key, another set of fields, another tenant and another pair of stores are other divergences."""
    both = compare_rows(KIND, _row("a", "left", other="x"), _row("a", "right", other="y"))
    some = compare_rows(KIND, _row("a", "left"), _row("a", "right"))
    found = [
        divergence_of(some, tenant="t", primary="old", shadow="new"),
        divergence_of(both, tenant="t", primary="old", shadow="new"),
        divergence_of(some, tenant="u", primary="old", shadow="new"),
        divergence_of(some, tenant="t", primary="new", shadow="old"),
        _divergence("b"),
    ]
    log = DivergenceLog(file)
    for one in found:
        log.record(one)
    await log.aclose()
    assert {one.identity for one in log.listed()} == {one.identity for one in found}
    assert len(log.listed()) == 5


async def test_the_oldest_make_room_and_are_counted(file: ControlFile) -> None:
    """Beyond the bound those not seen for longest go, and their number is known to this and any process."""
    counters = Counters()
    log = DivergenceLog(file, kept=3, counters=counters)
    for name in "abcde":
        log.record(_divergence(name))
        await log.flush()
    await log.aclose()
    assert [one.key for one in log.listed()] == [("e",), ("d",), ("c",)]
    assert counters.divergences_dropped == 2
    assert DivergenceLog(file).dropped() == 2


async def test_the_buffer_is_bounded_while_the_control_store_is_away(tmp_path: Path) -> None:
    """What cannot be written waits, up to a bound beyond which it is counted, and is written later."""
    (tmp_path / "place").touch()
    counters = Counters()
    log = DivergenceLog(ControlFile(tmp_path / "place" / "control.db"), buffered=2, counters=counters)
    for name in "abc":
        log.record(_divergence(name))
    assert not await log.flush()
    assert counters.divergences_dropped == 1
    (tmp_path / "place").unlink()
    assert await log.flush()
    assert {one.key for one in log.listed()} == {("a",), ("b",)}
    await log.aclose()


async def test_nothing_private_reaches_the_disk(file: ControlFile) -> None:
    """Redacted values and keys are nowhere in the control store's bytes, and keys are still told apart."""
    log = DivergenceLog(file)
    log.record(_divergence("private-key-one", "private-value", kind=PRIVATE))
    log.record(_divergence("private-key-two", "private-value", kind=PRIVATE))
    await log.aclose()
    assert [one.key for one in log.listed()] == [(REDACTED,), (REDACTED,)]
    stored = b"".join(path.read_bytes() for path in file.path.parent.iterdir())
    assert REDACTED.encode() in stored
    assert b"private-" not in stored


async def test_closing_writes_what_waits(file: ControlFile) -> None:
    """A divergence found a moment before the end is kept, however long the writer wanted to gather."""
    log = DivergenceLog(file, interval=3600)
    log.record(_divergence())
    await log.aclose()
    assert len(log.listed()) == 1


async def test_the_list_can_be_narrowed_and_cleared(file: ControlFile) -> None:
    """A limit and a kind narrow the list; clearing empties it and says how many there were."""
    log = DivergenceLog(file)
    for name in "abc":
        log.record(_divergence(name))
    log.record(_divergence("d", kind=PRIVATE))
    await log.aclose()
    assert len(log.listed(2)) == 2
    assert [one.kind for one in log.listed(kind="private_secrets")] == ["private_secrets"]
    assert log.clear() == 4
    assert log.listed() == ()


async def test_nothing_found_makes_no_file(file: ControlFile) -> None:
    """A log that never had anything to keep lists nothing and leaves no control store behind."""
    log = DivergenceLog(file)
    await log.aclose()
    assert (log.listed(), log.dropped()) == ((), 0)
    assert not file.path.exists()


async def test_what_is_resolved_stays_so_until_it_is_found_again(file: ControlFile) -> None:
    """A resolution is kept with who and why, goes not away by what was seen before it, and ends when it is seen again."""
    log = DivergenceLog(file)
    before = _divergence("a")
    log.record(_divergence("a"))
    log.record(_divergence("b"))
    await log.flush()
    (entry,) = (one for one in log.listed() if one.key == ("a",))
    assert log.store.resolve([entry.identity, "nobody"], who="ana", why="repaired by hand") == 1
    assert log.store.resolve([entry.identity], who="bo", why="again") == 0
    log.record(before)
    await log.flush()
    (kept,) = log.store.listed(state=State.RESOLVED)
    assert kept.resolution is not None
    assert (kept.resolution.who, kept.resolution.why, kept.count) == ("ana", "repaired by hand", 2)
    assert [one.key for one in log.store.listed(state=State.OPEN)] == [("b",)]
    assert log.store.counts() == {State.OPEN: 1, State.RESOLVED: 1}
    log.record(_divergence("a"))
    await log.aclose()
    (again,) = (one for one in log.listed() if one.key == ("a",))
    assert (again.resolution, again.reopened, again.count) == (None, 1, 3)
    assert log.store.counts() == {State.OPEN: 2, State.RESOLVED: 0}


async def test_resolved_ones_make_room_first(file: ControlFile) -> None:
    """What nobody has looked at is not let go for what somebody has."""
    log = DivergenceLog(file, kept=2)
    for name in "ab":
        log.record(_divergence(name))
        await log.flush()
    (newest, _) = log.listed()
    log.store.resolve([newest.identity], who="ana", why="known")
    log.record(_divergence("c"))
    await log.aclose()
    assert [one.key for one in log.listed()] == [("c",), ("a",)]


async def test_a_row_that_the_mirror_refuses_is_a_divergence(file: ControlFile) -> None:
    """It is told apart from other findings about the row, says why, and its private key does not show."""
    log = DivergenceLog(file)
    stores = {"tenant": "t", "primary": "old", "mirror": "new"}
    for _ in range(2):
        log.record(refusal_of(PRIVATE, ("private-key",), 7, reason="value out of range", **stores))
    found = compare_rows(PRIVATE, _row("private-key", "x", kind=PRIVATE), None)
    log.record(divergence_of(found, tenant="t", primary="old", shadow="new"))
    await log.aclose()
    refused, missing = sorted(log.listed(), key=lambda one: one.subject)
    assert (refused.subject, refused.reason, refused.versions) == (
        "refusal", "refused by the mirror: value out of range", (7, None),
    )  # fmt: skip
    assert (refused.key, refused.count, missing.subject) == ((REDACTED,), 2, "row")


async def test_what_another_release_noted_is_left_out(file: ControlFile) -> None:
    """An entry with a field that this release does not know, or without one that it does, can be read."""
    log = DivergenceLog(file)
    log.record(_divergence())
    await log.aclose()
    with file.writing() as connection:
        connection.execute(
            "UPDATE divergences SET body = json_remove(json_set(body, '$.novelty', 1), '$.subject', '$.resolution')"
        )
    (kept,) = log.listed()
    assert (kept.key, kept.subject, kept.open) == (("a",), "row", True)


_LIST = """
import sys
from pathlib import Path
from gateway.divergences.log import DivergenceLog
from gateway.migration.control_file import ControlFile
print(*(one.key[0] for one in DivergenceLog(ControlFile(Path(sys.argv[1]))).listed()))
"""


async def test_another_process_lists_them(file: ControlFile) -> None:
    """What a bot found is listed by a command in another process, while the bot runs."""
    log = DivergenceLog(file)
    log.record(_divergence("seen-elsewhere"))
    await log.flush()
    command = [sys.executable, "-c", _LIST, str(file.path)]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    assert listed.stdout.strip() == "seen-elsewhere"
    await log.aclose()

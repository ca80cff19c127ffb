"""Who may use the cache, and when: decisions from what is known of the epoch row. Pure.

Each store has one row (`CacheEpoch`) that says whether the cache in front of it is closed, opening or open. A process
looks at the row again and again, and acts on what it saw for a limited time only:

* **reading** from the cache: until `permit` after it *began* to look, and only while the row says `open`;
* **writing** to the store: until `patience_of(...)` after that. `opening` or `open`: announce the write to the cache,
  or close the row if the cache cannot be reached. `closed`: write without the cache, once the row has been known not to
  be open for `permit`, since by then everybody who saw it open has stopped reading from the cache; and not before the
  row says that writes may last as long as this one, since it is opened by what it says.

The row only goes `closed -> opening -> open`, and back to `closed` from both. `opening` lasts at least `rest_of(...)`:
longer than any write that was begun without the cache, or announced to an earlier epoch, can take. So whoever reads
from an epoch can rely on every write under way being announced to it. The next opening has a new epoch, under whose
name nothing is kept yet.

Times are seconds of one process's monotonic clock; no two processes compare theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from typing import Final

__all__ = [
    "Change",
    "Epoch",
    "Known",
    "State",
    "Step",
    "changes",
    "learn",
    "may_read",
    "next_step",
    "patience_of",
    "rest_of",
]

_SLACK: Final = 0.25
_MARGIN: Final = 0.1
"""Both are parts of a fence's time."""


class State(StrEnum):
    """What a row says."""

    CLOSED = "closed"
    OPENING = "opening"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Epoch:
    """What a row says, without who and why.

    Attributes:
        state: Whether the cache may be used.
        name: Of the entries of this opening.
        incarnation: The server that holds them.
        permit: How long a reader may act on the row, in seconds.
        fence: How long an announced write may last, in seconds.
    """

    state: State
    name: str
    incarnation: str
    permit: float
    fence: float


@dataclass(frozen=True, slots=True)
class Known:
    """What a process knows of a row.

    Attributes:
        epoch: What it says; a row that does not exist counts as closed.
        stamp: Version and digest of the row; None if it does not exist.
        began: When the latest look that showed it began.
        since: When the first look that showed it ended.
        quiet: Since when it is certain not to have been open; None while it is open.
    """

    epoch: Epoch
    stamp: tuple[int, int] | None
    began: float
    since: float
    quiet: float | None


class Step(Enum):
    """What a writer has to do next."""

    LOOK = "look"
    """Look at the row: what is known of it is too old."""
    WAIT = "wait"
    """Wait: somebody may still read from the cache, though nobody begins to."""
    PLAIN = "plain"
    """Write without the cache."""
    FENCE = "fence"
    """Announce the write to the cache, then write."""
    CLOSE = "close"
    """Close the row, or have the closed one say that writes may last longer."""


@dataclass(frozen=True, slots=True)
class Change:
    """A row that is due to change.

    Attributes:
        at: Index of the row.
        epoch: What it is to say.
        reason: Why, for people.
    """

    at: int
    epoch: Epoch
    reason: str


def patience_of(epoch: Epoch) -> float:
    """Return for how many seconds a writer may act on a row after it began to look at it.

    Longer than the permit, since a store that is slow to answer a look must not stop writes.
    """
    return epoch.permit + _SLACK * epoch.fence


def rest_of(epoch: Epoch) -> float:
    """Return for how many seconds a row must have been `opening` before it may be open."""
    return patience_of(epoch) + epoch.fence + _MARGIN * epoch.fence


def learn(
    before: Known | None, epoch: Epoch, stamp: tuple[int, int] | None, began: float, ended: float
) -> Known:
    """Return what is known after a look at a row.

    Args:
        before: What was known of it.
        epoch: What it says.
        stamp: The row's own.
        began: When the look began.
        ended: When it ended.
    """
    if before is not None and before.stamp == stamp:
        return replace(before, began=max(before.began, began))
    quiet: float | None = ended
    if epoch.state is State.OPEN:
        quiet = None
    elif before is not None and before.quiet is not None and before.epoch.state is State.CLOSED:
        # It was closed when the look before began. Too little time has passed since for it to have been open between.
        quiet = before.quiet if ended - before.began < _SLACK * before.epoch.fence else ended
    return Known(epoch, stamp, began, ended, quiet)


def may_read(known: Sequence[Known | None], now: float) -> Epoch | None:
    """Return the epoch that may be read from; None if none may.

    Args:
        known: What is known of the row of every store; each may be the one that is written or read next.
        now: The time.
    """
    first = known[0] if known else None
    if first is None:
        return None
    for one in known:
        if one is None or one.epoch.state is not State.OPEN or now >= one.began + one.epoch.permit:
            return None
        if one.epoch.name != first.epoch.name or one.epoch.incarnation != first.epoch.incarnation:
            return None
    return first.epoch


def next_step(known: Known | None, now: float, *, able: bool, fence: float = 0.0) -> tuple[Step, float]:
    """Return what a writer has to do next, and for how many seconds at most if it is to wait.

    Args:
        known: What is known of the row of the store that is to be written.
        now: The time.
        able: Whether the cache can be told of the write, as far as the writer knows.
        fence: How long the write may last, in seconds.
    """
    if known is None or now >= known.began + patience_of(known.epoch):
        return Step.LOOK, 0.0
    if known.epoch.state is not State.CLOSED:
        return (Step.FENCE if able else Step.CLOSE), 0.0
    if 0 < known.epoch.fence < fence:
        return Step.CLOSE, 0.0
    safe = (known.since if known.quiet is None else known.quiet) + known.epoch.permit
    return (Step.PLAIN, 0.0) if now >= safe else (Step.WAIT, safe - now)


def changes(
    known: Sequence[Known | None],
    now: float,
    *,
    incarnation: str | None,
    wanted: Epoch,
    pause: float,
    holding: bool = False,
) -> list[Change]:
    """Return which rows are due to change, as seen from one process.

    Args:
        known: What it knows of the row of each store.
        now: The time.
        incarnation: The server that the process reaches; None if it reaches none.
        wanted: Permit and fence as this process needs them, and a name that was never used, for a new epoch.
        pause: Seconds for which a closed row is left alone.
        holding: Whether this process needs the cache closed.
    """
    due: list[Change] = []
    leading: Epoch | None = None
    agreed = _agreed(wanted, known)
    for at, one in enumerate(known):
        if one is None:
            continue
        change = _reason_to_close(one.epoch, incarnation, agreed, leading, holding=holding)
        if change is not None:
            due.append(Change(at, replace(one.epoch, state=State.CLOSED), change))
            continue
        if one.epoch.state is not State.CLOSED:
            leading = leading or one.epoch
            if one.epoch.state is State.OPENING and incarnation and now - one.since >= rest_of(one.epoch):
                due.append(Change(at, replace(one.epoch, state=State.OPEN), "every writer knows of it"))
        elif incarnation is not None and not holding and _has_rested(one, now, pause):
            leading = leading or _next(incarnation, wanted, agreed, known)
            due.append(Change(at, replace(leading, state=State.OPENING), "the cache can be reached"))
    return due


def _reason_to_close(
    epoch: Epoch, incarnation: str | None, agreed: Epoch, leading: Epoch | None, *, holding: bool
) -> str | None:
    """Return why a row should be closed; None if it should not, or is."""
    if epoch.state is State.CLOSED:
        return None
    if holding:
        return "rows are being written beside the cache"
    if incarnation is None:
        # Whoever writes next closes an open row; one that is opening is kept from it, since that costs nobody a wait.
        return "the cache cannot be reached from here" if epoch.state is State.OPENING else None
    if epoch.incarnation != incarnation:
        return "the cache is another server than it was"
    if epoch.fence < agreed.fence:
        return "writes may take longer than was agreed"
    if epoch.permit < agreed.permit:
        return "another store's row grants longer permits"
    if leading is not None and leading.name != epoch.name:
        return "another store's row names another epoch"
    return None


def _agreed(wanted: Epoch, known: Sequence[Known | None]) -> Epoch:
    """Return fence and permit that an epoch must have at least, so that no row takes back what it said before.

    Whoever acted on it may still be running, with writes under way. A permit that this process would like does not
    count: only one that was granted may have been acted on.
    """
    rows = [one.epoch for one in known if one is not None and one.epoch.fence > 0]
    fence = max([wanted.fence, *(one.fence for one in rows)])
    return replace(wanted, fence=fence, permit=max((one.permit for one in rows), default=0.0))


def _has_rested(one: Known, now: float, pause: float) -> bool:
    """Tell whether a closed row was closed for so long that it may be opened: nobody reads by what it said before."""
    return one.stamp is None or now - one.since >= max(pause, one.epoch.permit)


def _next(incarnation: str, wanted: Epoch, agreed: Epoch, known: Sequence[Known | None]) -> Epoch:
    """Return the epoch to open: one that another store's row has already, or a new one."""
    for other in known:
        if (
            other is not None
            and other.epoch.state is not State.CLOSED
            and other.epoch.incarnation == incarnation
            and other.epoch.fence >= agreed.fence
            and other.epoch.permit >= agreed.permit
        ):
            return other.epoch
    permit = max(wanted.permit, agreed.permit)
    return Epoch(State.OPENING, wanted.name, incarnation, permit, agreed.fence)

"""Holding a mirror back, letting it go on, forgetting it; and taking off the mark that it lacks something."""

from __future__ import annotations

import getpass
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Final

from gateway.backend import Capability
from gateway.cli.actions.mirroring import home, primary_of
from gateway.cli.output import note, print_json, print_line
from gateway.cli.session import Session
from gateway.errors import ConfigurationError
from gateway.intents import stretches_of
from gateway.mirror.homes import Change
from gateway.mirror.state import cleared, paused, resumed
from gateway.records.mirroring import MirrorState

__all__ = ["clear_marks", "forget_mirror", "pause_mirror", "resume_mirror"]

_TEXT_LIMIT: Final = 1024
_PORTION: Final = 5_000
_LASTING: Final = {Capability.JOURNAL, Capability.DURABLE}
"""What a store has one of whose journal somebody else can see."""
_NOTHING: Final = "nothing waited for it"
_CLEARED: Final = "it lacks nothing any more; the mark is taken off"
_MARKED: Final = (
    "it stays marked as lacking writes, for when this copy began changes were not kept for it, or only just again; "
    "see `gateway mirror status`, and copy once more when it says that they are"
)


def pause_mirror(session: Session, target: str, why: str, who: str | None, *, as_json: bool) -> None:
    """Hold a mirror back, for every bot.

    Raises:
        ConfigurationError: It is no mirror, or no reason was given.
        StoreError: Its primary, where this is kept, could not be written.
    """
    by = getpass.getuser() if who is None else who
    for name, text in (("--who", by), ("--why", why)):
        if not text.strip():
            raise ConfigurationError(f"{name} is empty; everybody who looks at the mirror wants to know")
        if len(text) > _TEXT_LIMIT:
            raise ConfigurationError(
                f"the text of {name} is longer than {_TEXT_LIMIT} characters; shorten it"
            )
    change = partial(paused, by=by, why=why, now=datetime.now(UTC))
    state = session.run(_change(session, target, change))
    if as_json:
        print_json({"mirror": target, "paused": True, "changed": state is not None})
        return
    print_line(f"{target} is paused: {why}", "bold")
    note(
        "running bots stop writing it within about a second; what it misses is kept, up to STORAGE_JOURNAL_ROWS and "
        f"STORAGE_JOURNAL_AGE. End it with `gateway mirror resume {target}`"
    )


def resume_mirror(session: Session, target: str, *, as_json: bool) -> None:
    """Let a mirror be written again, by every bot.

    Raises:
        ConfigurationError: It is no mirror.
        StoreError: Its primary, where this is kept, could not be written.
    """
    state = session.run(_change(session, target, resumed))
    if as_json:
        print_json({"mirror": target, "paused": False, "changed": state is not None})
    elif state is None:
        print_line(f"{target} was not paused")
    else:
        print_line(f"{target} is written again", "green")
        note(f"it gets what it missed from the running bots, or by `gateway mirror drain {target}`")


async def _change(session: Session, target: str, change: Change) -> MirrorState | None:
    async with home(session, primary_of(session, target), writable=True) as kept:
        return await kept.states.change(target, change)


def forget_mirror(session: Session, target: str, *, as_json: bool) -> None:
    """Drop what waits for a store that is not configured any more.

    Raises:
        ConfigurationError: It is configured.
        StoreError: A store could not be written.
    """
    if target in session.instances:
        raise ConfigurationError(
            f"{target} is configured, and what waits for it is handed over: `gateway mirror drain {target}`"
        )
    dropped = session.run(_forget(session, target))
    if as_json:
        print_json({"mirror": target, "dropped": dropped})
    else:
        print_line(f"{dropped:,} changes waited for {target}, and are dropped" if dropped else _NOTHING)


async def _forget(session: Session, target: str) -> int:
    dropped = 0
    for store in session.configuration.stores:
        if not store.spec.capabilities & _LASTING:
            continue
        async with home(session, store.instance, writable=True) as kept:
            while waiting := await kept.journal.pending(target, session.tenant, _PORTION):
                done = stretches_of((one.owner, one.number) for one in waiting)
                dropped += await kept.journal.acknowledge(target, session.tenant, done)
    return dropped


async def clear_marks(session: Session, ways: Iterable[tuple[str, str]], began: datetime) -> dict[str, str]:
    """Take the mark that they lack something off the mirrors that everything was copied to.

    Args:
        session: Names the stores.
        ways: From which store to which other.
        began: When the copy began.

    Returns:
        What became of the mark, by mirror; nothing of those that had none.
    """
    found = {}
    for source, target in ways:
        if not session.configuration.store(source).spec.capabilities & _LASTING:
            continue
        async with home(session, source) as kept:
            state = await kept.states.read(target)
        if state.behind_since is None:
            continue
        async with home(session, source, writable=True) as kept:
            became = await kept.states.change(target, partial(cleared, began=began))
        found[target] = _CLEARED if became is not None else _MARKED
    return found

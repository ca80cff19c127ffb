"""What is known of the way to a mirror, and every change of that. Pure; `gateway.mirror.homes` keeps it.

A change takes the state as it is and returns the state as it is to be, or None to leave it: that is how several
processes change one row without losing what another one wrote.
"""

from __future__ import annotations

import os
import socket
from datetime import datetime, timedelta
from typing import Final

from gateway.records.mirroring import MirrorState
from gateway.records.types import TEXT_LENGTH

__all__ = [
    "LEASE",
    "SETTLED",
    "behind",
    "claimed",
    "claims",
    "cleared",
    "here",
    "lacks",
    "paused",
    "released",
    "reported",
    "resumed",
    "resumed_intents",
    "suspended",
]

LEASE: Final = timedelta(seconds=30)
"""For how long a relay may be taken to be at work without a word from it."""
SETTLED: Final = timedelta(seconds=5)
"""How long after intents are written again every process surely writes them."""


def here() -> str:
    """Return how this process is called in a state."""
    return f"{os.getpid()}@{socket.gethostname()}"


def paused(state: MirrorState, by: str, why: str, now: datetime) -> MirrorState:
    """Return the state with the mirror held back; who did so first, and when, stays if it was."""
    since = state.paused_at if state.paused else now
    return state.model_copy(
        update={"paused": True, "paused_at": since, "paused_by": _cut(by), "pause_reason": _cut(why)}
    )


def resumed(state: MirrorState) -> MirrorState | None:
    """Return the state with the mirror written again; None if it was not held back."""
    if not state.paused:
        return None
    return state.model_copy(update={"paused": False, "paused_at": None, "paused_by": "", "pause_reason": ""})


def claims(state: MirrorState, owner: str, now: datetime) -> bool:
    """Tell whether a gateway may be the one that replays: nobody is, it is itself, or who was is gone."""
    if state.relay_owner in {"", owner} or state.relay_until is None or state.relay_until <= now:
        return True
    # The clock of whoever wrote it may be far ahead; nobody holds a lease for longer than one.
    return state.relay_until > now + 2 * LEASE or _is_gone(state.relay_where)


def claimed(state: MirrorState, owner: str, where: str, now: datetime) -> MirrorState | None:
    """Return the state with the lease taken or prolonged; None if another one has it, or the mirror is held back."""
    if state.paused or not claims(state, owner, now):
        return None
    return state.model_copy(
        update={"relay_owner": owner, "relay_where": _cut(where), "relay_until": now + LEASE}
    )


def released(state: MirrorState, owner: str) -> MirrorState | None:
    """Return the state without the gateway's lease; None if it has none."""
    if state.relay_owner != owner:
        return None
    return state.model_copy(update={"relay_owner": "", "relay_where": "", "relay_until": None})


def reported(state: MirrorState, circuit: str, error: str, refused: int, now: datetime) -> MirrorState | None:
    """Return the state with what its relay found; None if that is nothing new. The last error stays."""
    error = _cut(error) or state.last_error
    if (circuit, error, refused) == (state.circuit, state.last_error, state.refused):
        return None
    at = now if error != state.last_error else state.last_error_at
    return state.model_copy(
        update={"circuit": circuit, "last_error": error, "last_error_at": at, "refused": refused}
    )


def suspended(state: MirrorState, since: int, why: str) -> MirrorState:
    """Return the state with intents not written any more, and the mirror lacking what was written from a version on."""
    oldest = since if state.behind_since is None else min(since, state.behind_since)
    reason = state.behind_reason if state.behind_since is not None else _cut(why)
    return state.model_copy(
        update={"suspended": True, "resumed_at": None, "behind_since": oldest, "behind_reason": reason}
    )


def resumed_intents(state: MirrorState, now: datetime) -> MirrorState | None:
    """Return the state with intents written again; None if they are, or the mirror is held back."""
    if not state.suspended or state.paused:
        return None
    return state.model_copy(update={"suspended": False, "resumed_at": now})


def behind(state: MirrorState) -> bool:
    """Tell whether the mirror lacks writes that no journal has, so that only a copy can bring them."""
    return state.suspended or state.behind_since is not None


def lacks(state: MirrorState, version: int) -> bool:
    """Tell whether a mirror may lack a write of this version for good, so that its journal says nothing about it.

    While intents are not written that is any write: history is written with the versions of its own time.
    """
    return state.suspended or (state.behind_since is not None and version >= state.behind_since)


def cleared(state: MirrorState, began: datetime) -> MirrorState | None:
    """Return the state after everything was copied; None if the mark has to stay.

    Args:
        state: The state.
        began: When the copy began. It has brought everything that was written before, so it counts only if every
            process was writing intents by then.
    """
    if state.behind_since is None or state.suspended:
        return None
    if state.resumed_at is not None and began < state.resumed_at + SETTLED:
        return None
    return state.model_copy(update={"behind_since": None, "behind_reason": "", "resumed_at": None})


def _is_gone(where: str) -> bool:
    """Tell whether a process of this machine has ended; of others nobody here can know."""
    pid, _, host = where.partition("@")
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False


def _cut(text: str) -> str:
    """Return a text as one line that fits its field."""
    line = " ".join(text.replace("\0", "").split())
    return line if len(line) <= TEXT_LENGTH else f"{line[: TEXT_LENGTH - 1]}…"

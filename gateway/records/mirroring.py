"""What stores keep about their mirrors: the row by which all processes know how the way to a mirror stands."""

from __future__ import annotations

from typing import Final

from gateway.records.kind import KindSpec, Record, Shape
from gateway.records.types import Count, Flag, Text, Time

__all__ = ["MIRROR_STATES", "MirrorState"]


class MirrorState(Record):
    """How the way to a mirror stands, for everybody who writes the store and for whoever looks.

    Attributes:
        target: Instance name of the mirror.
        paused: Whether an operator holds it back: nothing is sent to it, intents gather.
        paused_at: Since when.
        paused_by: Who holds it back.
        pause_reason: Why.
        relay_owner: Which gateway replays intents; empty for none.
        relay_where: Its process and host.
        relay_until: Until when it may be taken to be at it; whoever finds this in the past takes over.
        circuit: `closed` (the mirror is written) or `open` (it failed, and is only tried now and then).
        last_error: What went wrong last; empty for nothing.
        last_error_at: When.
        refused: How many rows the mirror refuses for good, by the relay's last count.
        suspended: Whether intents are not written at present, because the journal had reached its bound.
        behind_since: The smallest version whose intent was dropped or not written; the mirror lacks writes from there
            on until a copy has brought them. None if it lacks none.
        behind_reason: Why.
        resumed_at: Since when intents are written again.
    """

    target: Text
    paused: Flag = False
    paused_at: Time | None = None
    paused_by: Text = ""
    pause_reason: Text = ""
    relay_owner: Text = ""
    relay_where: Text = ""
    relay_until: Time | None = None
    circuit: Text = "closed"
    last_error: Text = ""
    last_error_at: Time | None = None
    refused: Count = 0
    suspended: Flag = False
    behind_since: Count | None = None
    behind_reason: Text = ""
    resumed_at: Time | None = None


MIRROR_STATES: Final = KindSpec(
    "mirror_states", MirrorState, key=("target",), shape=Shape.STATE, schema="supporting", local=True
)

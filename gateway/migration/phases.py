"""The phases of a migration and the steps between them. Pure.

```
legacy -> dual_write -> shadow_read -> cutover -> complete
       <-            <-             <-
```

Every step goes to a neighbour. Until `complete` each step can be taken back, because the store that no longer leads
is still written; `complete` ends that, so nothing leads out of it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from gateway.errors import PhaseError

__all__ = ["ORDER", "Phase", "check_step", "neighbours"]


class Phase(StrEnum):
    """Where a kind stands between the old store and the new one."""

    LEGACY = "legacy"
    """The old store alone."""
    DUAL_WRITE = "dual_write"
    """Both are written, the old one leads and is read; history is copied and verified."""
    SHADOW_READ = "shadow_read"
    """The same, and reads are repeated on the new store and compared."""
    CUTOVER = "cutover"
    """The new store leads and is read; the old one is kept in step, and compared."""
    COMPLETE = "complete"
    """The new store alone. There is no way back."""


ORDER: Final[tuple[Phase, ...]] = tuple(Phase)


def neighbours(phase: Phase) -> tuple[Phase, ...]:
    """Return the phases that can follow: the next one, and the one before unless the migration is complete."""
    at = ORDER.index(phase)
    back = ORDER[at - 1 : at] if at and phase is not Phase.COMPLETE else ()
    return (*back, *ORDER[at + 1 : at + 2])


def check_step(current: Phase, wanted: Phase) -> None:
    """Allow a step to a neighbour, or to where one stands.

    Raises:
        PhaseError: The step would skip a phase or leave the last; the message names the way.
    """
    if wanted is current or wanted in neighbours(current):
        return
    if current is Phase.COMPLETE:
        raise PhaseError(
            "the migration is complete and the old store is no longer kept in step, so there is no way back by flags; "
            "start a migration in the other direction instead (swap the two in STORAGE_BACKENDS)"
        )
    here, there = ORDER.index(current), ORDER.index(wanted)
    step = ORDER[here + (1 if there > here else -1)]
    raise PhaseError(f"from {current.value} to {wanted.value} skips a phase; go to {step.value} first")

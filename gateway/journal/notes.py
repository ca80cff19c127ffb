"""Which intents a batch leaves behind. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.backend import Step, Update
from gateway.intents import Intent, Journaling, Stretch
from gateway.records.row import Row

__all__ = ["Note", "notes_of", "notes_of_rows", "stretch_of"]

Note = tuple[str, Intent]
"""The mirror that is to get a row, and the intent."""


def notes_of(steps: Sequence[Step], journaling: Journaling) -> list[Note]:
    """Return the intents of a batch, without those of updates, whose rows are known only once they ran."""
    found: list[Note] = []
    for at, (step, targets) in enumerate(zip(steps, journaling.targets, strict=True)):
        if targets and not isinstance(step, Update):
            found += notes_of_rows((step,) if isinstance(step, Row) else step.rows, journaling, at)
    return found


def notes_of_rows(rows: Sequence[Row], journaling: Journaling, at: int, first: int = 0) -> Iterator[Note]:
    """Yield the intents of the rows of one step, given by its index.

    Args:
        rows: What the step stores.
        journaling: Of its batch.
        at: Its index.
        first: The part that the first row is.
    """
    owner, number = journaling.owner, journaling.first + at
    trace = journaling.traces.get(at, "")
    for target in journaling.targets[at]:
        for part, row in enumerate(rows, first):
            yield target, Intent(owner, number, part, row.kind, row.tenant, row.key, row.version, trace)


def stretch_of(journaling: Journaling) -> Stretch:
    """Return the numbers of a batch's steps."""
    return Stretch(journaling.owner, journaling.first, journaling.first + len(journaling.targets) - 1)

"""Progress of long work, on the error stream and on terminals only."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from gateway.cli.output import console_of

__all__ = ["Meter", "metered"]


class _Rate(ProgressColumn):
    """Rows a second."""

    def render(self, task: Task) -> Text:
        """Return the rate so far, empty before there is one."""
        return Text(f"{task.speed:,.0f} rows/s" if task.speed else "", style="cyan")


class Meter:
    """One bar a kind.

    Args:
        progress: Where the bars are drawn; None draws nothing.
    """

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._bars: dict[str, int] = {}

    def show(self, name: str, done: int, total: int) -> None:
        """Set a bar; the first call makes it."""
        if self._progress is None:
            return
        if name not in self._bars:
            self._bars[name] = self._progress.add_task(name, total=total)
        self._progress.update(self._bars[name], completed=done, total=total)  # type: ignore[arg-type]  # TaskID is an int


@contextmanager
def metered() -> Iterator[Meter]:
    """Give a meter that draws if the error stream is a terminal."""
    if not sys.stderr.isatty():
        yield Meter(None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console_of(sys.stderr)) as progress:
        yield Meter(progress)

"""What commands print: results on the standard output, everything else on the error stream.

Colours and widths are for terminals; into a file or a pipe go plain lines of whatever length they need.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final, NoReturn, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.cli.values import cell

__all__ = [
    "console_of",
    "json_text",
    "note",
    "print_empty",
    "print_json",
    "print_line",
    "print_next",
    "print_table",
    "table_of",
]

_PLAIN_WIDTH: Final = 100_000
"""Columns of an output that is no terminal: nothing is wrapped or shortened in a file."""

_STYLES: Final = {
    "ok": "green",
    "yes": "green",
    "warn": "yellow",
    "fail": "bold red",
    "no": "bold red",
    "behind": "yellow",
    "paused": "yellow",
    "full": "bold red",
    "needs a copy": "bold red",
    "unknown": "bold red",
}


class _Console(Console):
    """Leaves it to the command line what to do once nobody reads any more; rich would end the process."""

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def console_of(stream: TextIO) -> Console:
    """Return a console on a stream; it shows values as they are, without markup or guessed colours."""
    width = None if stream.isatty() else _PLAIN_WIDTH
    return _Console(
        file=stream, width=width, markup=False, highlight=False, emoji=False, force_terminal=stream.isatty()
    )


def json_text(value: Any, stream: TextIO) -> str:
    """Return JSON on one line, readable to people where the stream can carry it."""
    encoding = (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "")
    return json.dumps(value, ensure_ascii=encoding != "utf8")


def print_json(value: Any) -> None:
    """Print the one JSON document of a command with `--json`."""
    sys.stdout.write(json_text(value, sys.stdout) + "\n")


def print_line(text: str, style: str = "") -> None:
    """Print one line of the result."""
    console_of(sys.stdout).print(Text(text, style=style), soft_wrap=True)


def note(text: str, style: str = "") -> None:
    """Tell the person something that is not part of the result."""
    console_of(sys.stderr).print(Text(text, style=style), soft_wrap=True)


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str | None = None,
    marked: str | None = None,
) -> None:
    """Print a table.

    Args:
        columns: Headings.
        rows: Cells, JSON-ready; numbers stand to the right.
        title: A line above it.
        marked: Heading of the column whose words (`ok`, `fail`, ...) get their colour.
    """
    console = console_of(sys.stdout)
    if title:
        console.print(Text(title, style="bold"))
    console.print(table_of(columns, rows, marked=marked))


def table_of(columns: Sequence[str], rows: Iterable[Sequence[object]], *, marked: str | None = None) -> Table:
    """Return a table; see `print_table`."""
    kept = [tuple(row) for row in rows]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for at, name in enumerate(columns):
        numbers = [row[at] for row in kept if row[at] is not None]
        right = bool(numbers) and all(
            isinstance(value, int | float) and not isinstance(value, bool) for value in numbers
        )
        table.add_column(Text(name), justify="right" if right else "left", overflow="fold")
    for row in kept:
        table.add_row(*(_styled(value, name == marked) for name, value in zip(columns, row, strict=True)))
    return table


def print_empty(kinds: Iterable[str]) -> None:
    """Name the kinds that a table leaves out because no store holds a row of them."""
    names = list(dict.fromkeys(kinds))
    if names:
        print_line(f"empty: {', '.join(names)}", "dim")


def print_next(commands: Sequence[str]) -> None:
    """Print what to type next."""
    if commands:
        print_line("")
        print_line("next:", "bold")
        for command in commands:
            print_line(f"  {command}")


def _styled(value: object, marked: bool) -> Text:
    shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else cell(value)
    return Text(shown, style=_STYLES.get(shown, "") if marked else "")

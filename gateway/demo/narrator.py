"""The demo's voice: numbered steps, the command behind each, proofs with numbers, and a live panel.

The panel is for terminals. Into a file or a pipe go plain lines without control characters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TextIO

from rich import box
from rich.console import Console, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

__all__ = ["Narrator"]

_REFRESH: Final = 6
_PLAIN_WIDTH: Final = 200


class Narrator:
    """Tells the story on a stream.

    Args:
        stream: A terminal, a file or a pipe.
    """

    def __init__(self, stream: TextIO) -> None:
        width = None if stream.isatty() else _PLAIN_WIDTH
        self.console = Console(
            file=stream,
            width=width,
            markup=False,
            highlight=False,
            emoji=False,
            force_terminal=stream.isatty(),
        )
        self._step = 0
        unicode = _can_show("✓✗─", self.console.encoding)
        self._tick, self._cross = ("✓", "✗") if unicode else ("ok", "FAILED")
        # A frame of lines is for people; a file gets letters that every tool can read.
        self._box = box.SIMPLE_HEAD if unicode and self.console.is_terminal else box.ASCII2
        self._frame = box.ROUNDED if unicode else box.ASCII2

    def title(self, text: str, *lines: str) -> None:
        """Open the story."""
        self._line(text, "bold cyan")
        for line in lines:
            self._line(f"  {line}", "dim")

    def step(self, title: str, why: str = "") -> None:
        """Begin the next numbered step."""
        self._step += 1
        self._line("")
        self._line(f"{self._step}. {title}", "bold")
        if why:
            self._line(f"   {why}", "dim")

    def command(self, text: str) -> None:
        """Show what is typed."""
        self._line(f"   $ {text}", "yellow")

    def done(self, text: str) -> None:
        """Report what was proved or reached."""
        self.console.print(Text.assemble(("   " + self._tick, "bold green"), f" {text}"), soft_wrap=True)

    def note(self, text: str) -> None:
        """Say something on the side."""
        self._line(f"     {text}", "dim")

    def fail(self, text: str) -> None:
        """Report what failed."""
        self._line("")
        self._line(f"{self._cross} {text}", "bold red")

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Show a table; all columns but the first stand to the right. Without names it has no header."""
        table = Table(box=self._box, title=Text(title), title_justify="left", title_style="bold")
        table.pad_edge, table.show_header = False, any(columns)
        for at, name in enumerate(columns):
            table.add_column(Text(name), justify="right" if at else "left", no_wrap=True)
        for row in rows:
            table.add_row(*(Text(f"{cell:,}" if type(cell) is int else str(cell)) for cell in row))
        self._line("")
        self.console.print(table)

    def next(self, title: str, lines: Iterable[str]) -> None:
        """End with what to type next."""
        self._line("")
        self._line(title, "bold")
        for line in lines:
            self._line(f"  {line}", "yellow")

    @contextmanager
    def watching(self, facts: Callable[[], Sequence[tuple[str, str]]]) -> Iterator[None]:
        """Keep a panel with the latest facts below the story, on a terminal.

        Args:
            facts: Returns names and values; called several times a second, from another thread.
        """
        if not self.console.is_terminal:
            yield
            return

        def panel() -> RenderableType:
            return self._panel(facts())

        with Live(get_renderable=panel, console=self.console, refresh_per_second=_REFRESH, transient=True):
            yield

    def _panel(self, facts: Sequence[tuple[str, str]]) -> Panel:
        half = (len(facts) + 1) // 2
        lines = [self._facts(facts[:half]), self._facts(facts[half:])]
        return Panel(
            Text("\n").join(lines),
            box=self._frame,
            border_style="cyan",
            title="paper bot",
            title_align="left",
        )

    @staticmethod
    def _facts(facts: Sequence[tuple[str, str]]) -> Text:
        shown = [Text.assemble((name, "dim"), " ", (value, "bold")) for name, value in facts]
        line = Text("   ").join(shown)
        line.no_wrap = True
        return line

    def _line(self, text: str, style: str = "") -> None:
        self.console.print(Text(text, style=style), soft_wrap=True)


def _can_show(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True

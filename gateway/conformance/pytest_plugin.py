"""What pytest loads wherever the gateway is installed: one line at the end for whoever ran the kit.

It imports nothing but the standard library and does nothing in runs without conformance tests. The clauses
come with the classes of `gateway.conformance`, not from here.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pytest

__all__ = ["pytest_terminal_summary"]

_WORDS: Final = {"passed": "kept", "failed": "broken", "error": "not reached", "skipped": "not asked"}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say for each backend how many clauses it kept."""
    for backend, counts in sorted(_tally(terminalreporter).items()):
        parts = [f"{counts[outcome]} {word}" for outcome, word in _WORDS.items() if counts[outcome]]
        terminalreporter.write_line(f"conformance of {backend}: {', '.join(parts)}")


def _tally(terminalreporter: pytest.TerminalReporter) -> dict[str, Counter[str]]:
    tally: dict[str, Counter[str]] = {}
    for outcome in _WORDS:
        for report in terminalreporter.stats.get(outcome, ()):
            # The property travels with the report, so it also comes back from the processes of pytest-xdist.
            for name, backend in getattr(report, "user_properties", ()):
                if name == "conformance":
                    tally.setdefault(str(backend), Counter())[outcome] += 1
    return tally

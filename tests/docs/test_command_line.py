"""The command line and its documentation: commands and options stand in docs/cli.md, and none beside them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from gateway.cli.app import make_app

SHELL = {"console", "bash", "sh", "shell"}
PLACEHOLDER = re.compile(r"^[\[<]|^[A-Z][A-Z_.…]*\]?$")


def _walk(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield words, command
    for name, child in getattr(command, "commands", {}).items():
        yield from _walk(child, (*words, name))


@pytest.fixture(scope="module")
def commands() -> dict[tuple[str, ...], Any]:
    """Every command by its words, the groups among them."""
    found = dict(_walk(typer.main.get_command(make_app()), ("gateway",)))
    assert len(found) > 10
    return found


def _options(command: Any) -> set[str]:
    names = {name for item in command.params for name in (*item.opts, *item.secondary_opts)}
    return {name for name in names if name.startswith("--")} | {"--help"}


@pytest.fixture(scope="module")
def guide(root: Path) -> str:
    """docs/cli.md."""
    return (root / "docs" / "cli.md").read_text(encoding="utf-8")


def test_every_command_is_documented(commands: dict[tuple[str, ...], Any], guide: str) -> None:
    """docs/cli.md names each command in full."""
    leaves = [" ".join(words) for words, command in commands.items() if not getattr(command, "commands", {})]
    assert [words for words in leaves if not re.search(rf"{words}\b", guide)] == []


def test_every_option_is_documented(commands: dict[tuple[str, ...], Any], guide: str) -> None:
    """docs/cli.md names each option of each command."""
    options = {name for command in commands.values() for name in _options(command)}
    assert sorted(name for name in options - {"--help"} if name not in guide) == []


def _typed(pages: list[Any]) -> Iterator[tuple[str, list[str]]]:
    """Yield each `gateway ...` that a page tells the reader to type, in blocks and in the text."""
    for page in pages:
        lines = [
            line for block in page.blocks() if block.language in SHELL for line in block.body.splitlines()
        ]
        quoted = re.findall(r"`(gateway [a-z][^`\n]*)`", page.prose)
        for line in (*lines, *quoted):
            text = line.strip().removeprefix("$ ")
            if re.match(r"(\w+=\S+ )*gateway( |$)", text):
                words = shlex.split(
                    text.partition(" # ")[0].partition(" | ")[0].partition(" > ")[0], comments=True
                )
                yield f"{page}: {text}", words[words.index("gateway") :]


def _fault(words: list[str], commands: dict[tuple[str, ...], Any]) -> str | None:
    """Return what is wrong with a typed command: an unknown word or option; None if it is right."""
    path: tuple[str, ...] = ("gateway",)
    allowed = _options(commands[path])
    for word in words[1:]:
        group = getattr(commands[path], "commands", {})
        if word.startswith("--"):
            if word.partition("=")[0] not in allowed:
                return f"no option {word}"
        elif group and not PLACEHOLDER.match(word) and word != "...":
            if "|" in word:
                unknown = set(word.split("|")) - set(group)
                return f"no command {unknown}" if unknown else None
            if word not in group:
                # The value of an option of the root stands where a command could.
                if words[words.index(word) - 1].startswith("--"):
                    continue
                return f"no command {word}"
            path = (*path, word)
            allowed |= _options(commands[path])
    return None


def test_every_command_that_is_shown_exists(commands: dict[tuple[str, ...], Any], pages: list[Any]) -> None:
    """What a page tells the reader to type is accepted: its commands and its options are real."""
    shown = list(_typed(pages))
    assert len(shown) > 15
    faults = [f"{where} ({fault})" for where, words in shown if (fault := _fault(words, commands))]
    assert faults == []


def test_every_phase_step_shown_is_a_neighbour(pages: list[Any]) -> None:
    """The README's rollout could be typed as it stands: no step skips a phase."""
    from gateway.migration.phases import Phase, check_step

    block = next(block for block in pages[0].blocks() if "gateway copy" in block.body)
    phases = [Phase(name) for name in re.findall(r"gateway phase set (\w+)", block.body)]
    assert phases[-1] is Phase.COMPLETE
    for before, after in zip([Phase.LEGACY, *phases], phases, strict=False):
        check_step(before, after)


def test_exit_codes_are_documented(guide: str) -> None:
    """docs/cli.md gives the meaning of each exit code."""
    from gateway.cli.exits import ExitCode

    assert [code for code in ExitCode if not re.search(rf"\b{int(code)}\b", guide)] == []

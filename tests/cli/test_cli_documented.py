"""docs/cli.md and the command line name the same commands and options."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from typer.main import get_command

from gateway.cli.app import make_app
from gateway.cli.exits import ExitCode

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
HELP = {"--help", "-h"}


def _commands(command: Any, name: str = "gateway") -> dict[str, set[str]]:
    """Return the options of every command by its full name; a group counts if it does something itself."""
    children: dict[str, Any] = getattr(command, "commands", {})
    found = {}
    if not children or command.invoke_without_command:
        found[name] = {
            option for parameter in command.params for option in parameter.opts if option.startswith("--")
        } - HELP
    for child in children.values():
        found |= _commands(child, f"{name} {child.name}")
    return found


def _sections() -> dict[str, str]:
    """Return the text of each section about a command."""
    parts = re.split(r"^### (gateway .+)$", PAGE.read_text(), flags=re.MULTILINE)
    texts = [re.split(r"^## ", text, flags=re.MULTILINE)[0] for text in parts[2::2]]
    return dict(zip(parts[1::2], texts, strict=True))


def test_every_command_is_documented_and_every_documented_one_exists() -> None:
    """The headings are the commands."""
    assert set(_sections()) == set(_commands(get_command(make_app())))


def test_every_option_is_documented_and_every_documented_one_exists() -> None:
    """Each command's list of options is the command's own."""
    sections = _sections()
    for name, options in _commands(get_command(make_app())).items():
        listed = [line for line in sections[name].splitlines() if line.startswith("- ")]
        documented = {option for line in listed for option in re.findall(r"`(--[a-z-]+)", line)}
        assert documented == options, name


def test_the_options_before_the_command_are_documented() -> None:
    """The root's options are listed, and no others."""
    section = PAGE.read_text().split("## Options before the command")[1].split("\n## ")[0]
    listed = {
        option
        for line in section.splitlines()
        if line.startswith("- ")
        for option in re.findall(r"`(--[a-z-]+)", line)
    }
    root: Any = get_command(make_app())
    options = {option for parameter in root.params for option in parameter.opts if option.startswith("--")}
    assert listed == options - HELP


def test_every_exit_code_is_documented() -> None:
    """The table of exit codes is complete."""
    section = PAGE.read_text().split("## Exit codes")[1].split("\n## ")[0]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", section, flags=re.MULTILINE)} == {
        int(code) for code in ExitCode
    }


def test_every_command_has_a_sentence_of_help() -> None:
    """No command or option is left without an explanation."""

    def check(command: Any, name: str) -> None:
        assert command.help, name
        for parameter in command.params:
            assert getattr(parameter, "help", None) or parameter.name == "help", f"{name} {parameter.name}"
        for child in getattr(command, "commands", {}).values():
            check(child, f"{name} {child.name}")

    check(get_command(make_app()), "gateway")

"""Examples are code: each Python block runs as it stands, in an empty directory."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def test_the_example_runs(python_block: Any, tmp_path: Path) -> None:
    """A reader who copies the example gets what the page promises, without a warning."""
    ast.parse(python_block.body)
    if python_block.marked:
        return
    environ = {name: value for name, value in os.environ.items() if not name.startswith("STORAGE_")}
    command = [sys.executable, "-W", "error", "-c", python_block.body]
    done = subprocess.run(
        command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_readme_opens_with_its_two_commands(root: Path) -> None:
    """Whoever opens the README sees first how to watch it and how to test it."""
    lines = [line for line in (root / "README.md").read_text(encoding="utf-8").splitlines() if line]
    assert lines[0].startswith("# ")
    assert lines[1] == "```console"
    assert lines[2].startswith("make demo")
    assert lines[3].startswith("make test")


def test_the_quickstart_is_short(pages: list[Any]) -> None:
    """The first example of the README fits on a screen."""
    first = next(block for block in pages[0].blocks() if block.language == "python")
    assert len(first.body.splitlines()) <= 25

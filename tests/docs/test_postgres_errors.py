"""docs/errors.md against the translation of PostgreSQL's errors."""

from __future__ import annotations

import re
from pathlib import Path

from gateway_postgres import errors


def test_each_state_becomes_what_the_page_says(root: Path) -> None:
    """The table of docs/errors.md has every SQLSTATE, and every class of them, that is told apart, and no other."""
    text = (root / "docs" / "errors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ((?:`[0-9A-Z]{2,5}…?`(?:, )?)+) \| `(\w+)` \| (.+?) \|$", text, re.MULTILINE)
    documented = {state: error for states, error, _ in rows for state in re.findall(r"`(.+?)`", states)}
    translated = {state: kind.__name__ for state, (kind, _) in errors._BY_STATE.items()}
    translated |= {f"{start}…": kind.__name__ for start, (kind, _) in errors._BY_CLASS.items()}
    assert documented == translated

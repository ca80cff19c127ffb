"""What stands in the repository's files: the product, and nothing of the machine it was made on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

# Written in pieces, so that this file does not hold what it looks for.
MACHINE_PATHS = re.compile(
    r"(?<![\w.~])/(?:" + "|".join(("ro" + "ot", "wo" + "rk", "t" + "mp", "home/" + r"\w+")) + r")/[\w.-]+"
)
HOSTS = re.compile(
    "|".join(
        (
            r"py" + r"pi\.org", r"python" + r"hosted", r"npm" + r"js\.", r"maven\." + r"org",
            r"arti" + r"factory",
            r"index" + r"-url", r"find" + r"-links", r"local" + r"host:\d{5}/",
        )
    )
)  # fmt: skip
LEFTOVERS = re.compile(r"\b(?:" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b")
BINARY = {".gz", ".png", ".db", ".parquet"}


@pytest.fixture(scope="module")
def texts(files: list[Path]) -> dict[Path, str]:
    """The text of each file."""
    return {path: path.read_text(encoding="utf-8") for path in files if path.suffix not in BINARY}


def _found(pattern: re.Pattern[str], texts: dict[Path, str], root: Path) -> list[str]:
    return [
        f"{path.relative_to(root)}:{number}: {match.group()}"
        for path, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        for match in pattern.finditer(line)
    ]


def test_no_paths_of_a_machine(texts: dict[Path, str], root: Path) -> None:
    """No file names a directory of the machine it was written on."""
    assert _found(MACHINE_PATHS, texts, root) == []


def test_no_package_registries(texts: dict[Path, str], root: Path) -> None:
    """Where packages come from is the user's configuration, not ours."""
    assert _found(HOSTS, texts, root) == []


def test_nothing_is_left_for_later(texts: dict[Path, str], root: Path) -> None:
    """Code says what it does, not what somebody will do."""
    assert _found(LEFTOVERS, texts, root) == []


def test_the_patterns_find_what_they_look_for() -> None:
    """The tests above can fail."""
    assert MACHINE_PATHS.search("see /" + "tmp/x")
    assert not MACHINE_PATHS.search("sqlite:///data/gateway.db and a/tmp/b")
    assert HOSTS.search("https://py" + "pi.org/simple")
    assert LEFTOVERS.search("# TO" + "DO later")


def test_text_files_end_with_a_newline(texts: dict[Path, str], root: Path) -> None:
    """Files end as editors and diffs expect, and none has Windows line ends."""
    wrong = [
        str(path.relative_to(root))
        for path, text in texts.items()
        if text and (not text.endswith("\n") or "\r" in text)
    ]
    assert wrong == []


def test_the_changelog_keeps_its_format(root: Path) -> None:
    """Releases stand newest first with their dates, and changes under the headings of Keep a Changelog."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    assert text.startswith("# Changelog\n")
    releases = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert releases[0] == "[Unreleased]"
    dated = [re.fullmatch(r"\[\d+\.\d+\.\d+\] - (\d{4}-\d{2}-\d{2})", release) for release in releases[1:]]
    assert all(dated)
    dates = [found[1] for found in dated if found]
    assert dates == sorted(dates, reverse=True)
    headings = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert headings <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_changes_are_sentences(root: Path) -> None:
    """Each entry of the changelog is a sentence that a user can read."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    entries = re.findall(r"^- (.+?)(?=\n(?:- |\n|\Z))", text, re.MULTILINE | re.DOTALL)
    assert len(entries) > 3
    assert [entry for entry in entries if not entry.rstrip().endswith(".")] == []


def test_scripts_can_be_run(files: list[Path], root: Path) -> None:
    """What is meant to be run is executable and fails on the first error."""
    scripts: list[Any] = [path for path in files if path.suffix == ".sh" or path == root / ".ci" / "run"]
    assert len(scripts) >= 2
    assert [path.name for path in scripts if not path.stat().st_mode & 0o100] == []
    assert [
        path.name for path in scripts if "set -euo pipefail" not in path.read_text(encoding="utf-8")
    ] == []

"""What the tests of the documentation share: its pages, and the code that they are held against."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)(?P<info>[^\n]*)\n(?P<body>.*?)^(?P=indent)```",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    language: str
    marked: bool
    body: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Page:
    """One Markdown file."""

    path: Path
    text: str

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def prose(self) -> str:
        """The page without its fenced blocks."""
        return FENCE.sub("", self.text)

    def blocks(self) -> Iterator[Block]:
        """Yield the fenced blocks; one after a comment with `no-run` is marked."""
        for found in FENCE.finditer(self.text):
            before = self.text[: found.start()].rstrip().rsplit("\n", 1)[-1]
            indent = len(found["indent"])
            body = "\n".join(line[indent:] for line in found["body"].splitlines())
            yield Block(
                self.path,
                self.text.count("\n", 0, found.start()) + 1,
                found["language"],
                "no-run" in found["info"] or ("<!--" in before and "no-run" in before),
                body,
            )


def all_pages() -> list[Page]:
    """Return the pages that users read."""
    paths = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        *sorted((ROOT / "docs").glob("**/*.md")),
    ]
    return [Page(path, path.read_text(encoding="utf-8")) for path in paths]


def tracked_files() -> list[Path]:
    """Return every file of the repository, new ones that are not ignored among them."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=30)
    paths = [ROOT / name.decode() for name in done.stdout.split(b"\0") if name]
    return sorted(path for path in set(paths) if path.is_file())


@pytest.fixture(scope="session")
def pages() -> list[Page]:
    """README, CONTRIBUTING, CHANGELOG and everything under docs/."""
    found = all_pages()
    assert len(found) > 8
    return found


@pytest.fixture(scope="session")
def everything(pages: list[Page]) -> str:
    """The text of all pages."""
    return "\n".join(page.text for page in pages)


@pytest.fixture(scope="session")
def files() -> list[Path]:
    """Every file of the repository."""
    found = tracked_files()
    assert len(found) > 50
    return found


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that takes `python_block` each Python example, and one that takes `page` each page."""
    if "python_block" in metafunc.fixturenames:
        blocks = [
            block for page in all_pages() for block in page.blocks() if block.language in {"python", "py"}
        ]
        metafunc.parametrize("python_block", blocks, ids=str)
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", all_pages(), ids=str)

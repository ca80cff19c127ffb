"""Links lead somewhere: files exist, headings exist, files named in the text exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
REPOSITORY_PATH = re.compile(r"`((?:tests|docs|gateway|plugins|contrib|scripts|benchmarks)/[\w./-]*\w)`")


def _anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_resolve(page: Any, root: Path) -> None:
    """Each relative link of a page names a file of the repository, and its anchor a heading there."""
    broken = []
    for target in LINK.findall(page.prose):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.path.parent / name).resolve() if name else page.path
        inside = path.is_relative_to(root) and path.exists()
        if not inside or (anchor and anchor not in _anchors(path)):
            broken.append(target)
    assert broken == []


def test_files_named_in_the_text_exist(page: Any, root: Path) -> None:
    """A file or directory that a page names is there."""
    assert [name for name in REPOSITORY_PATH.findall(page.prose) if not (root / name).exists()] == []


def test_every_page_can_be_reached(pages: list[Any], root: Path) -> None:
    """Each page under docs/ is linked from the index."""
    index = (root / "docs" / "index.md").read_text(encoding="utf-8")
    linked = set(LINK.findall(index))
    names = {page.path.name for page in pages if page.path.parent.name == "docs"} - {"index.md"}
    assert len(names) > 5
    assert sorted(names - linked) == []


def test_clauses_named_in_the_text_exist(pages: list[Any]) -> None:
    """A conformance clause that a page names is one of the kit's."""
    from gateway.conformance import BackendConformance
    from gateway.conformance.clauses import clauses_of

    known = {clause.name for clause in clauses_of(BackendConformance)}
    mentioned = {name for page in pages for name in re.findall(r"`(test_[a-z_0-9]+)`", page.text)}
    assert mentioned
    assert sorted(mentioned - known) == []

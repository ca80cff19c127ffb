"""constraints.txt pins what pyproject.toml asks for, and says nothing of where it came from."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import requires
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


@pytest.fixture(scope="module")
def pins(sources: Any) -> dict[str, str]:
    """Version by package."""
    lines = (sources.root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    entries = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.]+", entry) for entry in entries)
    names = [entry.split("==")[0] for entry in entries]
    assert names == sorted(names)
    return dict(entry.split("==") for entry in entries)


def _asked(sources: Any) -> list[Requirement]:
    project = tomllib.loads((sources.root / "pyproject.toml").read_text(encoding="utf-8"))
    groups = [project["build-system"]["requires"], project["project"]["dependencies"]]
    groups += project["project"]["optional-dependencies"].values()
    found = [Requirement(text) for group in groups for text in group]
    return [item for item in found if item.name != "storage-gateway"]


def test_every_dependency_is_pinned_within_its_range(sources: Any, pins: dict[str, str]) -> None:
    """What is tested is what pyproject.toml allows."""
    asked = _asked(sources)
    assert len(asked) > 15
    wrong = [
        str(item)
        for item in asked
        if not item.specifier.contains(pins.get(canonicalize_name(item.name), "0"))
    ]
    assert wrong == []


def test_dependencies_of_dependencies_are_pinned(pins: dict[str, str]) -> None:
    """Nothing that gets installed is left to the day of the installation."""
    needed = {
        canonicalize_name(item.name)
        for name in pins
        for item in map(Requirement, requires(name) or ())
        if item.marker is None or item.marker.evaluate({"extra": ""})
    }
    assert needed - set(pins) == set()

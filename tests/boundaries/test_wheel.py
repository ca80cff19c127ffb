"""What is published: every package, typed, with its entry points, and nothing else."""

from __future__ import annotations

import configparser
import subprocess
import sys
import tomllib
from email.parser import Parser
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest


@pytest.fixture(scope="module")
def wheel(sources: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as a release builds it."""
    target = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--wheel",
        "--outdir",
        str(target),
        str(sources.root),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content."""
    target = tmp_path_factory.mktemp("unpacked")
    with ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def _project(sources: Any) -> dict[str, Any]:
    parsed = tomllib.loads((sources.root / "pyproject.toml").read_text(encoding="utf-8"))
    project: dict[str, Any] = parsed["project"]
    return project


def test_every_package_file_is_in_the_wheel(sources: Any, unpacked: Path) -> None:
    """Code, type markers and migration templates arrive; caches do not."""
    places = [sources.root / "gateway", *(sources.root / "plugins" / name for name in sources.plugins)]
    wanted = {
        path.relative_to(place.parent)
        for place in places
        for path in place.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    arrived = {path.relative_to(unpacked) for path in unpacked.rglob("*") if path.is_file()}
    assert wanted - arrived == set()
    assert {path.parts[0] for path in arrived if ".dist-info" not in path.parts[0]} == {
        "gateway",
        *sources.plugins,
    }


def test_every_package_is_marked_as_typed(sources: Any, unpacked: Path) -> None:
    """Type checkers of bots and plugins read our annotations."""
    unmarked = [
        name for name in ("gateway", *sources.plugins) if not (unpacked / name / "py.typed").is_file()
    ]
    assert unmarked == []


def test_entry_points_lead_to_modules(sources: Any, unpacked: Path) -> None:
    """Each declared entry point is in the wheel and names a module of the wheel."""
    (file,) = unpacked.glob("*.dist-info/entry_points.txt")
    published = configparser.ConfigParser()
    published.optionxform = str  # type: ignore[assignment,method-assign]  # the documented way to keep the case of names
    published.read(file)
    project = _project(sources)
    groups = {**project["entry-points"], "console_scripts": project["scripts"]}
    declared = {group: dict(entries) for group, entries in groups.items() if entries}
    assert {group: dict(published[group]) for group in published.sections()} == declared
    for target in (value for entries in declared.values() for value in entries.values()):
        module = unpacked / target.partition(":")[0].replace(".", "/")
        assert module.with_suffix(".py").is_file() or (module / "__init__.py").is_file(), target


def test_metadata_says_what_users_need(sources: Any, unpacked: Path) -> None:
    """Name, licence text, Python version, extras and the README are published."""
    (file,) = unpacked.glob("*.dist-info/METADATA")
    metadata = Parser().parsestr(file.read_text(encoding="utf-8"))
    assert metadata["Name"] == "storage-gateway"
    assert metadata["Requires-Python"] == ">=3.11"
    assert set(metadata.get_all("Provides-Extra", [])) == set(_project(sources)["optional-dependencies"])
    assert "make demo" in file.read_text(encoding="utf-8")
    assert list(unpacked.glob("*.dist-info/licenses/LICENSE"))


def test_the_wheel_runs_from_another_place(unpacked: Path, tmp_path: Path) -> None:
    """The published files work without the checkout around them."""
    body = (
        "import sys; sys.path.insert(0, sys.argv[1]); import gateway, gateway_sqlite.plugin as plugin; "
        "print(gateway.__file__, plugin.SPEC.name, gateway.SyncGateway.__name__)"
    )
    command = [sys.executable, "-I", "-W", "error", "-c", body, str(unpacked)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(unpacked / "gateway" / "__init__.py"), "sqlite", "SyncGateway"]

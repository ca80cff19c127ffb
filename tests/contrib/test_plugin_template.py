"""The template is what it says: a distribution that a third party can build, install and be found by."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TEMPLATE = Path(__file__).resolve().parents[2] / "contrib" / "plugin_template"
FIND = """
from gateway.registry import discover
found = discover()
spec = found.backend("yourstore")
print(spec.name, sorted(capability.value for capability in spec.capabilities))
"""


def run(*arguments: str, cwd: Path, path: Path) -> str:
    """Run Python with an extra directory to import from; return what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STORAGE_")}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**environment, "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the template, as its user would make one."""
    return Path(shutil.copytree(TEMPLATE, tmp_path_factory.mktemp("copy") / "plugin"))


@pytest.fixture(scope="module")
def installed(copied: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that the built template was installed into."""
    target = tmp_path_factory.mktemp("installed")
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", str(target)]
    run("-m", "pip", "install", *options, str(copied), cwd=copied, path=target)
    return target


def test_the_gateway_finds_the_installed_template(installed: Path) -> None:
    """Its entry point is found and its declaration is accepted."""
    assert (installed / "gateway_yourstore" / "plugin.py").is_file()
    found = run("-c", FIND, cwd=installed, path=installed)
    assert found.startswith("yourstore ['atomic_batch', 'durable', 'multi_process', 'purge', 'update']")


def test_the_templates_own_tests_pass(copied: Path, installed: Path) -> None:
    """The conformance kit, run the way its user runs it, keeps nothing open."""
    told = run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=copied, path=installed)
    assert "conformance of yourstore: " in told
    assert "broken" not in told
    assert "not reached" not in told

"""The way in: `make` finds a Python that fits or says what is missing, and CI runs what a developer runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

OLD_PYTHON = "#!/bin/sh\nexit 1\n"
BARE_PYTHON = '#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; esac\nexit 0\n'


def _setup(sources: Any, directory: Path, python: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of the setup script where `python3` is what is given and there is no other."""
    (directory / "scripts").mkdir()
    shutil.copy(sources.root / "scripts" / "setup.sh", directory / "scripts")
    programs = directory / "bin"
    programs.mkdir()
    for name in ("bash", "dirname", "env", "rm"):
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    (programs / "python3").write_text(python)
    (programs / "python3").chmod(0o755)
    script = directory / "scripts" / "setup.sh"
    environ = {"PATH": str(programs), "HOME": str(directory)}
    return subprocess.run([script], env=environ, capture_output=True, text=True, timeout=30, check=False)


def test_without_a_fitting_python_one_sentence_says_so(sources: Any, tmp_path: Path) -> None:
    """On a machine whose Python is too old, nothing is made, and the sentence names what is needed."""
    done = _setup(sources, tmp_path, OLD_PYTHON)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "Python 3.11 or newer is needed" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_without_the_venv_package_one_sentence_says_so(sources: Any, tmp_path: Path) -> None:
    """On a system that splits venv from Python, the sentence names the package."""
    done = _setup(sources, tmp_path, BARE_PYTHON)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "install its venv package" in done.stderr
    assert not (tmp_path / ".venv").exists()


def _targets(sources: Any) -> set[str]:
    makefile = (sources.root / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))


def test_make_alone_lists_every_target(sources: Any) -> None:
    """Whoever types `make` sees what there is, and nothing is started."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "-C", str(sources.root)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert set(re.findall(r"^  make ([a-z-]+) ", done.stdout, re.MULTILINE)) == _targets(sources)


def test_ci_runs_the_makefile(sources: Any) -> None:
    """CI has no commands of its own: it runs targets that a developer can run."""
    script = (sources.root / ".ci" / "run").read_text(encoding="utf-8")
    called = set(re.findall(r"^(?:stage \w+|exec) make ([a-z-]+)$", script, re.MULTILINE))
    assert {"check", "test"} <= called <= _targets(sources)


def test_make_commands_in_the_guides_exist(sources: Any) -> None:
    """The README and the guide for contributors name targets that exist."""
    texts = [(sources.root / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md")]
    named = {
        target
        for text in texts
        for target in re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)`", text, re.MULTILINE)
    }
    flat = {name for pair in named for name in pair if name}
    assert {"demo", "test", "check"} <= flat <= _targets(sources)

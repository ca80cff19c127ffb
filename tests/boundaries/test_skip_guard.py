"""The rules of the root conftest: skips are counted aloud, and CI takes only those that are meant."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SKIPPED_FOR = {
    "want of a server": "pytest.skip('no server')",
    "an undeclared capability": "pytest.skip('not asked: the backend does not declare purge')",
}


def _run(sources: Any, directory: Path, body: str, *, ci: bool) -> subprocess.CompletedProcess[str]:
    shutil.copy(sources.root / "conftest.py", directory)
    (directory / "pytest.ini").write_text("[pytest]\nmarkers = shared_data: real data\n")
    (directory / "test_it.py").write_text(f"import pytest\n\n{body}\n")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    # Only the root conftest is of interest here; importing everybody's plugins takes most of a short run.
    environ |= {"CI": str(ci).lower(), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs"]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=directory, env=environ, timeout=60, check=False
    )


@pytest.mark.parametrize("ci", [True, False])
def test_a_skip_fails_in_ci_only(sources: Any, tmp_path: Path, ci: bool) -> None:
    """A test skipped for want of something passes on a desk and fails in CI, with its reason."""
    done = _run(sources, tmp_path, f"def test_one():\n    {SKIPPED_FOR['want of a server']}", ci=ci)
    assert done.returncode == int(ci)
    assert ("skipped, which CI does not allow: no server" in done.stdout) is ci


def test_a_module_that_skips_itself_fails_in_ci(sources: Any, tmp_path: Path) -> None:
    """The same holds for a whole module."""
    done = _run(sources, tmp_path, "pytest.skip('no server', allow_module_level=True)", ci=True)
    assert done.returncode != 0
    assert "skipped, which CI does not allow: no server" in done.stdout


def test_a_clause_that_is_not_asked_passes_in_ci(sources: Any, tmp_path: Path) -> None:
    """A capability that a backend does not declare is no missing test."""
    body = f"def test_one():\n    {SKIPPED_FOR['an undeclared capability']}\n\ndef test_two(): pass"
    done = _run(sources, tmp_path, body, ci=True)
    assert done.returncode == 0
    assert "1 passed, 1 skipped" in done.stdout


def test_the_server_that_ci_may_lack_is_said_aloud(sources: Any, tmp_path: Path) -> None:
    """One server cannot be had everywhere: its tests are skipped even in CI, which says how many and why."""
    body = (
        "import pytest\n\ndef test_one(): pytest.skip('no server, which CI may lack: TimescaleDB: not here')"
    )
    done = _run(sources, tmp_path, body, ci=True)
    assert done.returncode == 0
    assert "1 test(s) were NOT run: no server, which CI may lack: TimescaleDB: not here" in done.stdout


def test_missing_servers_are_counted(sources: Any, tmp_path: Path) -> None:
    """On a desk, a run without a server says how many tests it left out, and what to install."""
    skips = [
        f"def test_{n}(): pytest.skip('no server: PgBouncer: apt-get install pgbouncer')" for n in range(3)
    ]
    done = _run(sources, tmp_path, "\n\n".join(skips), ci=False)
    assert done.returncode == 0
    assert "3 test(s) were NOT run: no server: PgBouncer: apt-get install pgbouncer" in done.stdout


def test_missing_legacy_data_is_said_aloud(sources: Any, tmp_path: Path) -> None:
    """Tests on the real legacy data may be skipped anywhere, and the run says how many were."""
    body = "@pytest.mark.shared_data\ndef test_one():\n    pytest.skip('no legacy data beside the checkout')"
    done = _run(sources, tmp_path, body, ci=True)
    assert done.returncode == 0
    assert "1 test(s) on real legacy data were NOT run: no legacy data beside the checkout" in done.stdout

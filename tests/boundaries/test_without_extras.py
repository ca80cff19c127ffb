"""The core works with its own dependencies alone; no extra is needed, and a missing one is named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

EXTRAS = (
    "aiosqlite",
    "alembic",
    "anyio",
    "hypothesis",
    "opentelemetry",
    "numpy",
    "orjson",
    "pandas",
    "prometheus_client",
    "pyarrow",
    "pytest",
    "rich",
    "sqlalchemy",
    "typer",
)
NEED_AN_EXTRA = ("gateway.cli", "gateway.conformance", "gateway.demo", "gateway.sql")
ALLOWED = {
    "annotated_types", "dotenv", "msgspec", "pluggy", "pydantic", "pydantic_core", "pydantic_settings",
    "tenacity", "typing_extensions", "typing_inspection", "xxhash",
}  # fmt: skip
"""The core's dependencies and theirs."""

BLOCKER = """
import importlib.abc, json, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None

BLOCKED = set(json.loads(sys.argv[1]))
sys.meta_path.insert(0, Blocker())
"""


def _run(body: str, cwd: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", BLOCKER + body, json.dumps(EXTRAS), *args]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=60, check=False)


def test_every_core_module_imports_without_extras(sources: Any, tmp_path: Path) -> None:
    """Importing the whole core pulls in nothing beyond its declared dependencies."""
    modules = [name for name in sources.modules("gateway") if not name.startswith(NEED_AN_EXTRA)]
    body = """
import importlib
for name in sys.argv[2:]:
    importlib.import_module(name)
places = {name: str(getattr(module, "__file__", "")) for name, module in sys.modules.items()}
installed = [name for name, place in places.items() if "site-packages" in place]
print(json.dumps(sorted({name.split(".")[0] for name in installed})))
"""
    done = _run(body, tmp_path, *modules)
    assert done.returncode == 0, done.stderr
    foreign = {name for name in json.loads(done.stdout) if not name.startswith("_")} - ALLOWED
    assert foreign == set()


def test_the_blocker_blocks(tmp_path: Path) -> None:
    """What the tests above rely on: in their process the extras cannot be imported."""
    done = _run("import aiosqlite", tmp_path)
    assert done.returncode == 1
    assert "No module named 'aiosqlite'" in done.stderr


def test_a_missing_driver_is_named_with_its_extra(tmp_path: Path) -> None:
    """Without the default store's driver a bot is told what to install, and nothing is created."""
    body = """
from gateway import Gateway
from gateway.errors import ConfigurationError
try:
    Gateway(environ={}, env_file=None)
except ConfigurationError as error:
    print(error)
"""
    done = _run(body, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "pip install 'storage-gateway[sqlite]'" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_json_works_without_sql(tmp_path: Path) -> None:
    """A store whose driver is there runs although the others' drivers are not."""
    body = """
BLOCKED.discard("orjson")
from datetime import UTC, datetime
from gateway import SyncGateway
with SyncGateway("json", environ={}, env_file=None) as gateway:
    gateway.save_position(condition_id="a", side="YES", entry_price="0.5", opened_at=datetime.now(UTC))
    print(len(gateway.get_open_positions()))
"""
    done = _run(body, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "1"

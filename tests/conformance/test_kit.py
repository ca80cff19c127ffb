"""The kit as a guest in other people's test runs: light, quiet, and clear about what it did."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.backend import BackendSpec, Capability, OpenContext
from gateway.conformance import KINDS, Clause, Harness
from gateway_memory.plugin import MEMORY
from gateway_memory.store import MemoryStore

LIGHT = """
import sys
import gateway.conformance.pytest_plugin
heavy = {"hypothesis", "anyio", "pydantic", "pluggy", "gateway.backend", "gateway_memory"}
print(sorted(heavy & set(sys.modules)))
"""
SUITE = """
from gateway.conformance import BackendConformance
from gateway_memory.plugin import MEMORY

class TestMine(BackendConformance):
    spec = MEMORY
"""


def run(*arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run Python in a directory of its own."""
    command = [sys.executable, *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=100, check=False
    )


def pytest_in(directory: Path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest over one file, with warnings as errors."""
    (directory / "test_it.py").write_text(text, encoding="utf-8")
    options = ["-q", "-W", "error", "-p", "no:cacheprovider", "--strict-markers", "--rootdir", str(directory)]
    return run("-m", "pytest", *options, *arguments, "test_it.py", directory=directory)


def test_the_pytest_plugin_is_light(tmp_path: Path) -> None:
    """Loading the plugin, as every pytest run with the gateway installed does, imports nothing heavy."""
    done = run("-c", LIGHT, directory=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_other_tests_are_not_disturbed(tmp_path: Path) -> None:
    """A run without conformance tests shows no trace of the kit."""
    done = pytest_in(tmp_path, "def test_one(): pass\n")
    assert done.returncode == 0, done.stdout
    assert "conformance" not in done.stdout


def test_the_run_ends_with_a_count(tmp_path: Path) -> None:
    """An author sees how many clauses were kept and how many were not asked, also from another process."""
    done = pytest_in(tmp_path, SUITE, "-k", "purge or second_writer", "-n", "1")
    assert done.returncode == 0, done.stdout
    assert "conformance of memory: 7 kept, 1 not asked" in done.stdout


def test_a_failed_clause_is_counted_as_broken(tmp_path: Path) -> None:
    """A backend that fails a clause fails the run, and the count says so."""
    text = SUITE.replace(
        "spec = MEMORY", "spec = dataclasses.replace(MEMORY, capabilities=frozenset(Capability))"
    )
    text = f"import dataclasses\nfrom gateway.backend import Capability\n{text}"
    done = pytest_in(tmp_path, text, "-k", "a_reopened_store")
    assert done.returncode == 1, done.stdout
    assert "conformance of memory: 1 broken" in done.stdout


def test_a_clause_is_asked_by_what_is_declared() -> None:
    """A clause says why a backend is not asked, naming what it does not declare."""
    clause = Clause(
        "test_x", "X.", frozenset({Capability.DURABLE, Capability.PURGE}), Capability.MULTI_PROCESS
    )
    assert clause.objection(frozenset({Capability.DURABLE, Capability.PURGE})) is None
    assert "purge" in str(clause.objection(frozenset({Capability.DURABLE})))
    assert "multi_process" in str(clause.objection(frozenset(Capability)))


def test_a_spec_that_no_process_can_import_is_explained(tmp_path: Path) -> None:
    """Clauses with several processes say what to set when they cannot find the spec."""

    async def opened(context: OpenContext) -> MemoryStore:
        return MemoryStore(context.instance, max_rows=1)

    context = OpenContext("hidden", MEMORY.settings(), KINDS, tmp_path)
    with Harness(BackendSpec("hidden", "", opened), context) as harness:
        scribe = harness.scribe()
        with pytest.raises(AssertionError, match="spec_path"):
            harness.start("open", scribe)


def test_a_worker_that_fails_is_shown(tmp_path: Path) -> None:
    """What another process wrote to its standard error stands in the failure of the clause."""
    context = OpenContext("memory", MEMORY.settings(), KINDS, tmp_path)
    with Harness(MEMORY, context, "gateway_memory.plugin:NOTHING") as harness:
        scribe = harness.scribe()
        with pytest.raises(AssertionError, match="NOTHING"):
            harness.finish(harness.start("open", scribe))


def test_a_harness_cleans_up(tmp_path: Path) -> None:
    """Stores are closed and processes ended when a clause is done, however it ended."""
    context = OpenContext("memory", MEMORY.settings(), KINDS, tmp_path)
    with Harness(MEMORY, context) as harness:
        store = harness.run(harness.open())
        process = harness.start("write", harness.scribe())
        assert repr(harness) == "<Harness memory stores=1 workers=1>"
    assert process.returncode is not None
    assert repr(store) == "<Store memory (memory) closed>"

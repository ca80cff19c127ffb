"""The script that writes the next frozen revision."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from gateway.records import TRADES, KindSpec
from gateway.records.builtin import BUILTIN_KINDS
from gateway.sql.migrations import REVISIONS

SCRIPT = Path(__file__).parents[2] / "scripts" / "new_revision.py"


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module that writes into a directory of the test."""
    spec = importlib.util.spec_from_file_location("new_revision", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "VERSIONS", tmp_path)
    return module


def test_nothing_to_write(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """While the revisions give what the kinds need, no file is written."""
    assert script.main("nothing") == 1
    assert "nothing to write" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_changed_kind_and_a_new_one(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, everything: KindSpec
) -> None:
    """A new index and a new kind become code that Python can run, with the way back beside it."""
    changed = replace(TRADES, indexes=(*TRADES.indexes, ("order_id",)))
    kinds = [changed if kind is TRADES else kind for kind in BUILTIN_KINDS]
    monkeypatch.setattr(script, "BUILTIN_KINDS", (*kinds, everything))
    assert script.main("Orders, and everything!") == 0
    (written,) = tmp_path.iterdir()
    following = f"{len(REVISIONS) + 1:04d}"
    assert written.name == f"rev_{following}_orders_and_everything.py"
    text = written.read_text()
    compile(text, written.name, "exec")
    for part in (
        f'revision = "{following}"',
        f'down_revision = "{REVISIONS[-1]}"',
        "create(TableShape(name='everything', schema='bots_core'",
        "('price', StorageType.MONEY)",
        "add_index('trades', 'bots_core', ('order_id',))",
    ):
        assert part in text
    back = text.partition("def downgrade")[2]
    assert "drop('everything', 'bots_core')" in back
    assert "drop_index('trades', 'bots_core', ('order_id',))" in back

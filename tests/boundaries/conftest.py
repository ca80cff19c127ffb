"""What the boundary tests share: the source trees, read once, as syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Imported:
    """One imported name: `name` is None where a whole module is imported."""

    module: str
    name: str | None
    line: int


@dataclass(frozen=True)
class Module:
    """One source file."""

    name: str
    path: Path
    tree: ast.Module = field(repr=False)

    @property
    def lines(self) -> int:
        """Length of the file."""
        return len(self.path.read_text(encoding="utf-8").splitlines())

    @property
    def public(self) -> frozenset[str]:
        """The names in `__all__`; of a module without one, none."""
        for node in self.tree.body:
            targets = node.targets if isinstance(node, ast.Assign) else []
            if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
                assert isinstance(node, ast.Assign)
                return frozenset(ast.literal_eval(node.value))
        return frozenset()

    def imports(self, *, type_only: bool = False) -> tuple[Imported, ...]:
        """Return what is imported anywhere in the file; what only type checkers see, if asked for."""
        return _all_imports(self.tree, type_only)


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def _all_imports(tree: ast.Module, type_only: bool) -> tuple[Imported, ...]:
    return tuple(_imports(tree, type_only))


def _imports(node: ast.AST, type_only: bool) -> Iterator[Imported]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test) and not type_only:
            continue
        if isinstance(child, ast.Import):
            yield from (Imported(alias.name, None, child.lineno) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from (Imported(child.module or ".", alias.name, child.lineno) for alias in child.names)
        yield from _imports(child, type_only)


@dataclass(frozen=True)
class Sources:
    """The checkout, and the modules of a directory in it."""

    root: Path

    def modules(self, *directories: str) -> dict[str, Module]:
        """Return the modules below directories that are on the import path's level, by dotted name."""
        found = {}
        for directory in directories:
            for path in sorted((self.root / directory).rglob("*.py")):
                name = _dotted(path.relative_to((self.root / directory).parent))
                found[name] = Module(name, path, _parsed(path))
        assert found, f"no modules under {directories}"
        return found

    @property
    def plugins(self) -> list[str]:
        """Names of the plugin packages."""
        names = sorted(path.name for path in (self.root / "plugins").glob("gateway_*") if path.is_dir())
        assert names, "no plugins found"
        return names


def _dotted(path: Path) -> str:
    parts = list(path.with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.fixture(scope="session")
def sources() -> Sources:
    """The checkout."""
    return Sources(ROOT)

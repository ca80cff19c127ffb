"""Files and functions stay short enough to be read."""

from __future__ import annotations

import ast
from statistics import median
from typing import Any

MODULE_LINES = 400
FUNCTION_LINES = 45
TYPICAL_LINES = 10

LONG_MODULES: dict[str, str] = {}
"""Modules that may be longer, each with the reason."""


def _functions(tree: ast.Module) -> list[tuple[str, int]]:
    """Return each function with its length, its docstring not counted."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if ast.get_docstring(node) is not None:
                first = node.body[0]
                length -= (first.end_lineno or first.lineno) - first.lineno + 1
            found.append((node.name, length))
    return found


def _everything(sources: Any) -> dict[str, Any]:
    modules: dict[str, Any] = sources.modules("gateway", *(f"plugins/{plugin}" for plugin in sources.plugins))
    return modules


def test_no_module_is_too_long(sources: Any) -> None:
    """A module of more than 400 lines is about more than one thing, unless it stands here with a reason."""
    long = {
        name: module.lines for name, module in _everything(sources).items() if module.lines > MODULE_LINES
    }
    assert {name: lines for name, lines in long.items() if name not in LONG_MODULES} == {}
    assert set(LONG_MODULES) <= set(long), "an exception is no longer needed"


def test_no_function_is_too_long(sources: Any) -> None:
    """A function is read at a glance."""
    long = {
        f"{name}.{function}": length
        for name, module in _everything(sources).items()
        for function, length in _functions(module.tree)
        if length > FUNCTION_LINES
    }
    assert long == {}


def test_functions_are_short_as_a_rule(sources: Any) -> None:
    """Half of all functions have ten lines or fewer."""
    lengths = [length for module in _everything(sources).values() for _, length in _functions(module.tree)]
    assert len(lengths) > 100
    assert median(lengths) <= TYPICAL_LINES

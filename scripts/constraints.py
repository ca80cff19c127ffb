"""Write constraints.txt: the version of every package that the current environment was tested with.

Run it as `.venv/bin/python scripts/constraints.py` after upgrading packages and passing `make check test`.
"""

from __future__ import annotations

import re
from importlib.metadata import distributions
from pathlib import Path
from typing import Final

TARGET: Final = Path(__file__).resolve().parent.parent / "constraints.txt"
OURS: Final = {"storage-gateway"}
BOOTSTRAP: Final = {"pip", "setuptools", "wheel"}
"""Comes with Python's own venv module, at whatever version that has."""

HEADER: Final = """\
# The versions that this release was tested with. Used by `make`; `pip install storage-gateway` takes any
# version that pyproject.toml allows. Written by scripts/constraints.py.
"""


def canonical(name: str) -> str:
    """Return a distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> list[str]:
    """Return `name==version` for every installed distribution but our own and pip's."""
    installed = {canonical(found.name): found.version for found in distributions()}
    return [f"{name}=={installed[name]}" for name in sorted(installed) if name not in OURS | BOOTSTRAP]


def main() -> None:
    """Write the file and say how many packages it pins."""
    lines = pins()
    TARGET.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{TARGET.name}: {len(lines)} packages")


if __name__ == "__main__":
    main()

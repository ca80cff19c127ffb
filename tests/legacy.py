"""Where the recorded data of real bots lies, and the skip for checkouts that have none beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

__all__ = ["legacy_positions"]

DATA: Final = Path(__file__).resolve().parents[2] / "shared" / "data"


def legacy_positions() -> Path:
    """Return the directory of the position files of a real bot; a test that asks for it is skipped without it."""
    source = DATA / "polymarket" / "positions"
    if not source.is_dir():
        pytest.skip(f"the real position files are not there: {source}")
    return source

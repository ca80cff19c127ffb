"""Position files as an older bot left them, for machines without the recorded ones."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Final

__all__ = ["write_legacy_positions"]

COUNT: Final = 40
_NEWEST: Final = 1_700_000_000
_MONTH: Final = 30 * 86_400


def write_legacy_positions(directory: Path, seed: int) -> int:
    """Write position files of a made-up bot and return how many; the same seed gives the same files.

    Args:
        directory: Where to; it is created.
        seed: Chooses markets and prices.
    """
    dice = random.Random(seed)  # noqa: S311 - data for show, nothing is guarded by it
    directory.mkdir(parents=True, exist_ok=True)
    for _ in range(COUNT):
        price = round(dice.uniform(0.02, 0.95), 3)
        fields = {
            "condition_id": f"0x{dice.getrandbits(256):064x}",
            "timestamp": _NEWEST - dice.uniform(0, _MONTH),
            "entry_price": price,
            "position_side": dice.choice(("YES", "NO")),
            "position_open": True,
            "trailing_stop_price": round(price / 2, 4),
        }
        path = directory / f"position_{fields['condition_id']}.json"
        path.write_text(json.dumps(fields, indent=2), encoding="utf-8")
    return COUNT

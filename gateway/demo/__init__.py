"""The demo: a paper-trading bot moves from JSON to SQLite while it trades, is killed, and loses nothing."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["main"]


def main(
    fast: bool = False,
    keep: Path | None = None,
    data: Path | None = None,
    seed: int = 7,
    json_output: bool = False,
) -> int:
    """Play the demo and return its exit code.

    Args:
        fast: Keep the pauses short, for tests.
        keep: Directory to play in, new or empty; it stays. None plays in a temporary one.
        data: Directory of recorded data, or `generated`; None looks for one, and generates a market if there
            is none.
        seed: Of the generator.
        json_output: Print the result as one JSON document, and the story on the error stream.

    Returns:
        0 if every proof holds, 1 if one does not, 2 if the demo cannot begin, 130 if it was interrupted.
    """
    try:
        from gateway.demo.runner import Options, run
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f"error: the demo needs {error.name}, which is not installed; "
            "run `pip install 'storage-gateway[all]'`\n"
        )
        return 2
    return run(Options(fast=fast, keep=keep, data=data, seed=seed, json_output=json_output))

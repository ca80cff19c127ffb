"""`python -m gateway.demo`: the demo without the command line's extra options."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from gateway.demo import main

__all__ = ["run"]


def run(argv: Sequence[str] | None = None) -> int:
    """Play the demo as typed, and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m gateway.demo", description="Watch a live bot move to another store."
    )
    parser.add_argument("--fast", action="store_true", help="keep the pauses short")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="play in this new or empty directory, and keep it"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="directory of recorded data, or: generated")
    parser.add_argument("--seed", type=int, default=7, help="seed of the generated market")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    given = parser.parse_args(argv)
    return main(fast=given.fast, keep=given.keep, data=given.data, seed=given.seed, json_output=given.json)


if __name__ == "__main__":
    raise SystemExit(run())

"""The `gateway` command: what an operator types. Needs the `cli` extra."""

from __future__ import annotations

import sys
from typing import TextIO

__all__ = ["main"]


def main() -> None:
    """Run the command line and end the process with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        _write_anything(stream)
    try:
        import typer  # noqa: F401 - only to find out whether it is there
    except ImportError:
        sys.stderr.write(
            "the command line is not installed; install it with pip install 'storage-gateway[cli]'\n"
        )
        sys.exit(2)
    from gateway.cli.app import run

    sys.exit(run())


def _write_anything(stream: TextIO) -> None:
    """Let a terminal that cannot show a character get its escape instead of ending the command half-way."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")

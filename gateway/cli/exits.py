"""Exit codes, and how an error becomes one sentence on the error stream."""

from __future__ import annotations

import json
import os
import sys
import traceback
from contextlib import suppress
from enum import IntEnum

from gateway.cli.plain import printable
from gateway.errors import CapabilityError, ConfigurationError, GatewayError, InvalidRecordError, StoreError

__all__ = ["ExitCode", "abandon_output", "code_of", "report", "report_error"]


class ExitCode(IntEnum):
    """What the exit code of a command says."""

    OK = 0
    """It did what was asked, and found nothing wrong."""
    PROBLEM = 1
    """It ran, and found a problem: differences, damage, a failed check, nothing under a key."""
    USAGE = 2
    """Wrong usage or configuration; nothing was done."""
    UNAVAILABLE = 3
    """A store could not be used."""
    INTERRUPTED = 130
    """Interrupted from the keyboard."""
    CUT_OFF = 141
    """Whoever read the output stopped reading, as `head` does; what a shell reports for SIGPIPE."""


def code_of(error: GatewayError) -> ExitCode:
    """Return the exit code that an error means."""
    if isinstance(error, StoreError):
        return ExitCode.UNAVAILABLE
    if isinstance(error, ConfigurationError | InvalidRecordError | CapabilityError):
        return ExitCode.USAGE
    return ExitCode.PROBLEM


def abandon_output() -> None:
    """Send the rest of the standard output nowhere, for nobody reads it; Python would complain when it ends."""
    with suppress(OSError, ValueError):  # a stream that is no file, or was closed
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def report_error(error: GatewayError, *, as_json: bool, debug: bool = False) -> ExitCode:
    """Write an error of the gateway to the error stream, and return the exit code that it means.

    Args:
        error: What happened; it is being handled.
        as_json: Whether the command was given `--json`.
        debug: Whether its traceback is shown too.
    """
    if debug:
        traceback.print_exc()
    code = code_of(error)
    report(type(error).__name__, str(error), code, as_json=as_json)
    return code


def report(kind: str, sentence: str, code: int, *, as_json: bool) -> None:
    """Write an error to the error stream, as a sentence or as `{"error": ...}`.

    Args:
        kind: Class of the error.
        sentence: What is wrong and what to do.
        code: The exit code that follows.
        as_json: Whether the command was given `--json`.
    """
    text = f"error: {printable(sentence)}"
    if as_json:
        text = json.dumps(
            {"error": {"type": kind, "message": sentence, "exit_code": int(code)}}, ensure_ascii=False
        )
    sys.stderr.write(f"{text}\n")

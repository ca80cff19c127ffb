"""What a check found: how it stands, in one sentence, and what to do about it."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

__all__ = ["Finding", "Level", "fail", "ok", "permissions", "warn"]


class Level(StrEnum):
    """How a check ended."""

    OK = "ok"
    """As it should be."""
    WARN = "warn"
    """It works, but somebody should look at it."""
    FAIL = "fail"
    """It does not work, or data is at risk."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        level: How it ended.
        subject: What was looked at.
        sentence: What was found.
        advice: What to do; empty if nothing.
    """

    level: Level
    subject: str
    sentence: str
    advice: str = ""


def ok(subject: str, sentence: str) -> Finding:
    """Return that all is well."""
    return Finding(Level.OK, subject, sentence)


def warn(subject: str, sentence: str, advice: str) -> Finding:
    """Return that somebody should look at it."""
    return Finding(Level.WARN, subject, sentence, advice)


def fail(subject: str, sentence: str, advice: str) -> Finding:
    """Return that it does not work."""
    return Finding(Level.FAIL, subject, sentence, advice)


def permissions(subject: str, path: Path) -> Finding:
    """Check that nobody else may write a file or directory, nor read it."""
    mode = stat.S_IMODE(path.stat().st_mode)
    wanted = "700" if path.is_dir() else "600"
    if mode & stat.S_IWOTH:
        return fail(
            subject, f"{path} may be written by every user (mode {mode:03o})", f"chmod {wanted} {path}"
        )
    if mode & stat.S_IROTH:
        return warn(subject, f"{path} may be read by every user (mode {mode:03o})", f"chmod {wanted} {path}")
    return ok(subject, f"{path} has mode {mode:03o}")

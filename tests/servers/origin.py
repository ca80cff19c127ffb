"""Where a server comes from, and what is said when there is none."""

from __future__ import annotations

import os
from dataclasses import dataclass

__all__ = ["MissingServerError", "Origin", "given_url"]


@dataclass(frozen=True)
class Origin:
    """What a test ran against: `obtained` names the package or the variable that the server came from."""

    name: str
    version: str
    obtained: str

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.obtained})"


class MissingServerError(RuntimeError):
    """A server cannot be had here; the message says what to install."""

    def __init__(self, name: str, remedy: str) -> None:
        super().__init__(f"{name}: {remedy}")


def given_url(name: str) -> str | None:
    """Return what `STORAGE_TEST_<name>_URL` says, or None where it is unset or empty."""
    return os.environ.get(f"STORAGE_TEST_{name}_URL") or None

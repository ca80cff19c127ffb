"""The Alembic environment of SQL stores, and the revisions that exist.

The list is spelled out so that opening a store can compare a revision without importing Alembic; a test holds it to
the scripts in `versions`. `scripts/new_revision.py` helps to write the next one.
"""

from __future__ import annotations

from typing import Final

__all__ = ["HEAD", "REVISIONS"]

REVISIONS: Final = ("0001",)
"""All revisions, the oldest first."""

HEAD: Final = REVISIONS[-1]
"""The revision this gateway needs."""

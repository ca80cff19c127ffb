"""The Alembic environment of SQL stores, and the revisions that exist.

The list is spelled out so that opening a store can compare a revision without importing Alembic; a test holds
it to the scripts in `versions`. `scripts/new_revision.py` helps to write the next one.
"""

from __future__ import annotations

from typing import Final

from gateway.errors import SchemaTooNewError

__all__ = ["HEAD", "REVISIONS", "refuse_newer"]

REVISIONS: Final = ("0001", "0002")
"""All revisions, the oldest first."""

HEAD: Final = REVISIONS[-1]
"""The revision this gateway needs."""


def refuse_newer(revision: str | None, backend: str) -> None:
    """Stop at a schema that a newer gateway made.

    Raises:
        SchemaTooNewError: The revision is unknown here; nothing was touched.
    """
    if revision is not None and revision not in REVISIONS:
        raise SchemaTooNewError(
            f"the schema is at revision {revision}, which this gateway does not know (it knows up to "
            f"{HEAD}): nothing was touched; upgrade storage-gateway, or point it at another store",
            backend=backend,
        )

"""Rows that a mirror refuses for good, as divergences: nobody else would ever hear of them."""

from __future__ import annotations

from datetime import UTC, datetime

import xxhash

from gateway.compare import Outcome, shown_key
from gateway.divergences import Divergence
from gateway.errors import GatewayError
from gateway.records.digest import canonical_bytes
from gateway.records.row import Row
from gateway.redaction import redact

__all__ = ["REFUSED", "refusal_of"]

REFUSED = "refused by the mirror"


def refusal_of(primary: str, mirror: str, row: Row, error: GatewayError) -> Divergence:
    """Return the divergence of a row that the mirror lacks because it refuses it; the same one each time it is tried.

    Args:
        primary: Instance name of the store that has the row.
        mirror: Instance name of the store that refuses it.
        row: The row.
        error: What the mirror said.
    """
    now = datetime.now(UTC)
    names = (*row.key, REFUSED, primary, mirror)
    marks = canonical_bytes(row.kind.name, row.tenant, 0, False, names)
    # What a store says of a value may quote it, and the value may be private.
    said = "" if row.kind.comparison.redact else f": {redact(str(error))}"
    return Divergence(
        identity=xxhash.xxh3_128_hexdigest(marks),
        kind=row.kind.name,
        key=shown_key(row.kind, row.key),
        outcome=Outcome.DIVERGED,
        reason=f"{REFUSED}{said}",
        differences=(),
        versions=(row.version, None),
        primary=primary,
        shadow=mirror,
        first_seen=now,
        last_seen=now,
    )

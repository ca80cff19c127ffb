"""Rows that a mirror refuses for good, as divergences: nobody else would ever hear of them."""

from __future__ import annotations

from gateway.divergences.divergence import Divergence, refusal_of
from gateway.errors import GatewayError
from gateway.records.row import Row
from gateway.redaction import redact

__all__ = ["refused_row"]


def refused_row(primary: str, mirror: str, row: Row, error: GatewayError) -> Divergence:
    """Return the divergence of a row that the mirror lacks because it refuses it; the same one each time it is tried.

    Args:
        primary: Instance name of the store that has the row.
        mirror: Instance name of the store that refuses it.
        row: The row.
        error: What the mirror said.
    """
    # What a store says of a value may quote it, and the value may be private.
    said = "it does not say why in public" if row.kind.comparison.redact else redact(str(error))
    return refusal_of(
        row.kind, row.key, row.version, tenant=row.tenant, primary=primary, mirror=mirror, reason=said
    )

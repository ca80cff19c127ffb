"""What an opening found and mended, and what people changed: kept for `gateway_health`, bounded."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any, Final

from gateway.records.row import Row

__all__ = ["Report"]

_KEPT: Final = 200
_log = logging.getLogger("gateway_json")


class Report:
    """Findings of one opened store. Only the latest of each sort are kept; all are counted.

    Attributes:
        recovered: How many things were mended or set aside since the store was opened.
    """

    def __init__(self) -> None:
        self.recovered = 0
        self._recovered: deque[str] = deque(maxlen=_KEPT)
        self._edited: dict[str, None] = {}

    def mended(self, sentence: str) -> None:
        """Note, and log as a warning, that something damaged was recovered or moved aside."""
        self.recovered += 1
        self._recovered.append(sentence)
        _log.warning("%s", sentence)

    def read(self, row: Row, where: str) -> None:
        """Note where a row was read whose digest no longer fits, which means that a person edited it."""
        if row.intact or where in self._edited:
            return
        if len(self._edited) < _KEPT:
            self._edited[where] = None
        _log.warning(
            "%s was edited outside the gateway: its digest no longer fits. It is served as it is; "
            "store it again through the gateway to make it whole",
            where,
        )

    def details(self) -> dict[str, Any]:
        """Return the findings, JSON-ready."""
        edited = list(self._edited)
        return {"recovered": list(self._recovered), "recovered_count": self.recovered, "edited": edited}

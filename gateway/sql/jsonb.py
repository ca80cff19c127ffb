"""JSON in PostgreSQL: `jsonb` for people to query, and the canonical text where `jsonb` would not give it back.

`jsonb` keeps numbers as decimals and orders keys its own way. The canonical text is made again from it when a row is
read. That gives the very text, except for the few spellings of floats of which `jsonb` forgets that they were floats.
"""

from __future__ import annotations

import json
import re
from typing import Final

from gateway.records.codec import json_text

__all__ = ["canonical_json", "exact_column", "needs_exact"]

_FORGOTTEN: Final = re.compile(r"\de\+|-0\.0(?!\d)")
_decode: Final = json.JSONDecoder().decode


def exact_column(name: str) -> str:
    """Return the column beside a JSON field that holds its canonical text where that is needed.

    No field has two underscores in a row in its name, so none is called like it.
    """
    return f"{name}__exact"


def needs_exact(text: str) -> bool:
    """Tell whether a canonical text might not come back from `jsonb`.

    Floats from 1e16 on are written with a positive exponent, which comes back as a whole number; negative zero loses
    its sign. Text inside the document that looks like one is taken for one, which costs space and nothing else.
    """
    return ("e+" in text or "-0.0" in text) and _FORGOTTEN.search(text) is not None


def canonical_json(text: str) -> str:
    """Return the canonical text of what PostgreSQL printed; canonical text comes back as it is.

    Raises:
        ValueError: That is no JSON.
    """
    # Not msgspec: it turns whole numbers of more than 64 bits into floats.
    return json_text(_decode(text))

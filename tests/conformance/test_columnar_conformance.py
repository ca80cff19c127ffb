"""The reference store with columns and bars keeps the clauses about them."""

from __future__ import annotations

from gateway.conformance import BackendConformance
from tests.conformance.broken.columnar import COLUMNAR


class TestColumnarConformance(BackendConformance):
    """The in-memory backend, with what only some stores can, under the kit."""

    spec = COLUMNAR
    spec_path = "tests.conformance.broken.columnar:COLUMNAR"

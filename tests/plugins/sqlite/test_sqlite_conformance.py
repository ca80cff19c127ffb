"""SQLite keeps every promise of the contract."""

from __future__ import annotations

from gateway.conformance import BackendConformance
from gateway_sqlite.plugin import SPEC


class TestSqliteConformance(BackendConformance):
    """The SQLite backend under the kit."""

    spec = SPEC

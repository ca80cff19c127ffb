"""The whole kit in one class."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from gateway.backend import BackendSettings, BackendSpec, OpenContext
from gateway.conformance.answering import AnswerClauses
from gateway.conformance.cancelling import CancellationClauses
from gateway.conformance.columns import ColumnClauses
from gateway.conformance.concurrency import ConcurrencyClauses
from gateway.conformance.durability import DurabilityClauses
from gateway.conformance.fidelity import FidelityClauses
from gateway.conformance.grouping import GroupClauses
from gateway.conformance.guarding import GuardClauses
from gateway.conformance.harness import Harness
from gateway.conformance.journaling import JournalClauses
from gateway.conformance.kinds import ALL_KINDS
from gateway.conformance.listing import ListingClauses
from gateway.conformance.paging import PagingClauses
from gateway.conformance.purging import PurgeClauses
from gateway.conformance.sampling import SampleClauses
from gateway.conformance.tenancy import TenancyClauses
from gateway.conformance.tombstones import TombstoneClauses
from gateway.conformance.totals import TotalClauses
from gateway.conformance.updating import UpdateClauses
from gateway.conformance.writing import WriteClauses

__all__ = ["BackendConformance"]


class BackendConformance(
    WriteClauses,
    GuardClauses,
    TombstoneClauses,
    GroupClauses,
    UpdateClauses,
    FidelityClauses,
    ListingClauses,
    PagingClauses,
    TotalClauses,
    TenancyClauses,
    PurgeClauses,
    ColumnClauses,
    SampleClauses,
    AnswerClauses,
    ConcurrencyClauses,
    CancellationClauses,
    DurabilityClauses,
    JournalClauses,
):
    """Every promise of `gateway.backend`. Derive from it, name it `Test…`, and give it a spec.

    Attributes:
        spec: The backend under test.
        settings: How to open it; the defaults of the spec's settings class if this is None.
        spec_path: Where another process imports the spec from, as `package.module:ATTRIBUTE`. Only needed
            where it is no attribute of a module of the package that brings it.
    """

    spec: ClassVar[BackendSpec]
    settings: ClassVar[BackendSettings | None] = None
    spec_path: ClassVar[str | None] = None

    def make_context(self, tmp_path: Path) -> OpenContext:
        """Return how to open the store; override it to reach a server.

        Every clause calls it once. Clauses use tenants of their own, so one server can serve them all.
        """
        settings = self.settings if self.settings is not None else self.spec.settings()
        return OpenContext(self.spec.name, settings, ALL_KINDS, tmp_path)

    @pytest.fixture
    def harness(self, tmp_path: Path, record_property: Callable[[str, object], None]) -> Iterator[Harness]:
        """Give a clause its store, its event loop and its processes, and clean up behind it."""
        record_property("conformance", self.spec.name)
        with Harness(self.spec, self.make_context(tmp_path), self.spec_path) as harness:
            yield harness

"""The kit rejects broken backends: each of them, by the clause that is meant to catch it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from gateway.backend import OpenContext
from gateway.conformance import BackendConformance, Harness, clauses_of
from gateway.conformance.kinds import ALL_KINDS
from gateway.errors import GatewayError
from tests.conformance.broken import (
    answers,
    columnar,
    durable,
    guards,
    journals,
    listings,
    totals,
    updates,
    values,
    writes,
)
from tests.conformance.broken.specimen import SPECIMENS, Broken

MODULES: Final = (answers, columnar, durable, guards, journals, listings, totals, updates, values, writes)
CASES: Final = [
    pytest.param(broken, clause, id=f"{broken.spec.name}-{clause.removeprefix('test_')}")
    for broken in SPECIMENS
    for clause in broken.clauses
]
REJECTIONS: Final = (AssertionError, GatewayError, pytest.fail.Exception)
"""What a clause fails with. Anything else is a fault of the clause, and shows as one."""
CLAUSES: Final = [clause.name for clause in clauses_of(BackendConformance)]


@pytest.mark.usefixtures("unshrunk")
@pytest.mark.parametrize(("broken", "clause"), CASES)
def test_a_broken_backend_is_rejected(broken: Broken, clause: str, tmp_path: Path) -> None:
    """A backend with one defect fails the clause that is about it."""
    context = OpenContext(broken.spec.name, broken.spec.settings(), ALL_KINDS, tmp_path)
    with Harness(broken.spec, context, broken.path) as harness, pytest.raises(REJECTIONS) as caught:
        getattr(BackendConformance(), clause)(harness)
    # A clause whose other process cannot even start fails too, but it has caught nobody.
    assert "worker process" not in str(caught.value)


@pytest.mark.parametrize("clause", CLAUSES)
def test_every_clause_can_fail(clause: str) -> None:
    """Each clause of the kit is failed by at least one broken backend, so that none is for show."""
    assert any(clause in broken.clauses for broken in SPECIMENS), f"no broken backend is caught by {clause}"


def test_the_broken_backends_name_real_clauses() -> None:
    """The clauses that broken backends are said to fail exist."""
    named = {clause for broken in SPECIMENS for clause in broken.clauses}
    assert named <= set(CLAUSES)
    assert {broken.path.partition(":")[0] for broken in SPECIMENS} == {module.__name__ for module in MODULES}

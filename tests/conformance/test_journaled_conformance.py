"""The reference stores with intents keep the clauses about them."""

from __future__ import annotations

from gateway.conformance import BackendConformance
from tests.conformance.broken.journals import JOURNALED, JOURNALED_FILE


class TestJournaledConformance(BackendConformance):
    """The in-memory backend with intents, under the kit."""

    spec = JOURNALED
    spec_path = "tests.conformance.broken.journals:JOURNALED"


class TestJournaledFileConformance(BackendConformance):
    """The store in a file with intents, under the kit."""

    spec = JOURNALED_FILE
    spec_path = "tests.conformance.broken.journals:JOURNALED_FILE"

"""A durable store for one process keeps every promise: the clauses about crashes and locks can be kept."""

from __future__ import annotations

from gateway.conformance import BackendConformance
from tests.conformance.broken.durable import FILE


class TestFileConformance(BackendConformance):
    """The file store, of which the broken durable backends are made, under the kit."""

    spec = FILE
    spec_path = "tests.conformance.broken.durable:FILE"

"""The reference backend keeps every promise it can be asked."""

from __future__ import annotations

from gateway.conformance import BackendConformance
from gateway_memory.plugin import MEMORY


class TestMemoryConformance(BackendConformance):
    """The in-memory backend under the kit."""

    spec = MEMORY

"""QuestDB keeps every promise of the contract that its capabilities ask for, on a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.backend import OpenContext
from gateway.conformance import BackendConformance
from gateway.conformance.kinds import ALL_KINDS
from gateway_questdb.plugin import SPEC
from gateway_questdb.settings import QuestDbSettings
from tests.servers import QuestDbServer


class TestQuestDbConformance(BackendConformance):
    """All clauses that are asked of the backend."""

    spec = SPEC

    @pytest.fixture(autouse=True)
    def place(self, questdb: QuestDbServer) -> None:
        """Choose the server."""
        self.url = f"questdb://{questdb.host}:{questdb.port}?pg_port={questdb.pg_port}"

    def make_context(self, tmp_path: Path) -> OpenContext:
        """Return how to open the store."""
        return OpenContext("questdb", QuestDbSettings(url=self.url), ALL_KINDS, tmp_path)

    url: str

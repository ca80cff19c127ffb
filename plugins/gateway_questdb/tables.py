"""The tables of one store: which layout each registered kind has. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gateway.errors import UnknownKindError
from gateway.records.kind import KindSpec
from gateway_questdb.layout import Layout, layout_of
from gateway_questdb.settings import QuestDbSettings

__all__ = ["Tables"]


class Tables:
    """Layouts by kind.

    Args:
        kinds: Every registered kind.
        settings: The prefix of names, and how partitions are cut.
    """

    def __init__(self, kinds: Iterable[KindSpec], settings: QuestDbSettings) -> None:
        self._prefix = settings.table_prefix
        self._layouts = {
            kind: layout_of(kind, settings.table_prefix, settings.partition_by) for kind in kinds
        }
        self.kinds = {kind.name: kind for kind in self._layouts}

    def __iter__(self) -> Iterator[Layout]:
        return iter(self._layouts.values())

    def __getitem__(self, kind: KindSpec) -> Layout:
        found = self._layouts.get(kind)
        if found is None:
            raise UnknownKindError(
                f"{kind.name} is no registered kind, so the store made no table for it; register it before the "
                "gateway is opened"
            )
        return found

    @property
    def groups(self) -> str:
        """Name of the table in which groups over several tables are written down."""
        return f"{self._prefix}gateway_groups"

    @property
    def marks(self) -> str:
        """Name of the table that tells which kinds the other tables were made for."""
        return f"{self._prefix}gateway_kinds"

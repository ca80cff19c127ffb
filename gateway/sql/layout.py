"""How the tables of one store are laid out: what the settings say, and what is there to build on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gateway.sql.intervals import Interval

__all__ = ["CHUNK_SCHEMA", "OWN_SCHEMA", "Group", "Layout", "Partitioning"]

OWN_SCHEMA: Final = "gateway"
"""Schema of the gateway's own tables and functions, in databases that have schemas."""

CHUNK_SCHEMA: Final = "gateway_chunks"
"""Schema of the chunks of hypertables."""


class Partitioning(StrEnum):
    """How a table is cut by time."""

    NATIVE = "native"
    """Partitions of PostgreSQL, made ahead."""
    TIMESCALE = "timescale"
    """A hypertable of TimescaleDB, which makes its chunks by itself."""
    NONE = "none"
    """Not at all."""


class Group(StrEnum):
    """Group roles of a store; logins are members of one."""

    APP = "app"
    """Bots: read and write the rows of one tenant at a time."""
    READONLY = "readonly"
    """People and dashboards: read the rows of one tenant at a time."""
    ADMIN = "admin"
    """Operators: read and write the rows of all tenants."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What the statements that make a schema depend on beside the kinds.

    Attributes:
        dialect: As SQLAlchemy calls the database.
        partitioning: How new tables of time are cut.
        interval: How much time one partition holds.
        ahead: How many partitions are made ahead of the current one.
        prefix: Group roles are called `<prefix>_app` and so on.
        groups: Which of them exist; rights are given to those alone.
        schemas: Schemas that exist already; the others are made.
        timescale: Schema of the functions of TimescaleDB, where it is installed.
        insisted: Whether a setting names the way of cutting, so that tables cut otherwise are worth a word.
    """

    dialect: str
    partitioning: Partitioning = Partitioning.NATIVE
    interval: Interval = Interval.MONTH
    ahead: int = 3
    prefix: str = "gateway"
    groups: frozenset[Group] = frozenset(Group)
    schemas: frozenset[str] = frozenset()
    timescale: str | None = None
    insisted: bool = False

    def role(self, group: Group) -> str:
        """Return the name of a group role."""
        return f"{self.prefix}_{group.value}"

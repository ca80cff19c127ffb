"""Rows: what stores keep. A row is a record in canonical values, with the columns that the gateway adds."""

from __future__ import annotations

from typing import NamedTuple

from gateway.records.codec import Value, codec_of
from gateway.records.digest import digest_of
from gateway.records.kind import KindSpec, Record

__all__ = ["Key", "Row"]

Key = tuple[Value, ...]
"""The canonical values of a kind's key fields, in their order."""


class Row(NamedTuple):
    """One version of one row.

    Attributes:
        kind: The kind it belongs to.
        tenant: Whose row it is.
        version: When it was written, by the hybrid clock.
        digest: Fingerprint of all that follows from the row; see `gateway.records.digest`.
        deleted: Whether this is a tombstone. A tombstone keeps its key and its time field; the rest is None.
        values: Canonical values in the order of `kind.fields`, the key first.
    """

    kind: KindSpec
    tenant: str
    version: int
    digest: int
    deleted: bool
    values: tuple[Value, ...]

    @property
    def key(self) -> Key:
        """The values that identify the row within its kind and tenant."""
        return self.values[: len(self.kind.key)]

    @property
    def stamp(self) -> tuple[int, int]:
        """What decides between two rows of one key: the version, and between equal versions the digest."""
        return (self.version, self.digest)

    @property
    def position(self) -> Key:
        """The values of `kind.order`: where the row stands in listings."""
        return tuple(self.values[self.kind.index(name)] for name in self.kind.order)

    @property
    def intact(self) -> bool:
        """Whether the values still give the digest that was stored with them."""
        return self.digest == digest_of(self.kind.name, self.tenant, self.version, self.deleted, self.values)

    def record(self) -> Record:
        """Return the record; raises `InvalidRecordError` if the values do not form one."""
        return codec_of(self.kind).decode(self.values)

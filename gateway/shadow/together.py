"""What is compared together: reads by key of the same stores cost the other store one question. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from gateway.backend import GroupSummary, Summarize
from gateway.records.row import Row
from gateway.shadow.looks import KeyRead, RowRead

if TYPE_CHECKING:
    from gateway.dispatch import Store

__all__ = ["ReadOperation", "together"]


class ReadOperation(NamedTuple):
    """A read that a bot did.

    Attributes:
        reader: The store that answered.
        shadow: The store to compare with.
        request: What was asked: keys, or a query or count as the store got it.
        answer: What the bot was given: for keys one entry each, tombstones and None included; rows; or groups.
        trace: The `traceparent` of the read; empty where it is not traced.
    """

    reader: Store
    shadow: Store
    request: RowRead | Summarize
    answer: Sequence[Row | None] | Sequence[GroupSummary]
    trace: str = ""


def together(operations: Sequence[ReadOperation]) -> list[list[ReadOperation]]:
    """Return the operations by what can be compared at once, in the order of the first of each.

    Reads by key go together where stores, kind and tenant are the same; anything else stands alone.
    """
    groups: list[list[ReadOperation]] = []
    alike: dict[tuple[str, str, str, str], list[ReadOperation]] = {}
    for operation in operations:
        request = operation.request
        if not isinstance(request, KeyRead):
            groups.append([operation])
            continue
        about = (operation.reader.name, operation.shadow.name, request.kind.name, request.tenant)
        group = alike.get(about)
        if group is None:
            group = alike[about] = []
            groups.append(group)
        group.append(operation)
    return groups

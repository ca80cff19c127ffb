"""A record kind whose rows are carried out once, as a third party would bring it: it is never written to two stores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.hookspecs import hookimpl
from gateway.records import KindSpec, Record
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.kind import Shape
from gateway.records.types import Text, Time

__all__ = ["CRASH_KINDS", "WORK_ORDERS", "WorkOrder", "WorkOrders"]


class WorkOrder(Record):
    """Something to be done once."""

    order_id: Text
    task: Text
    created_at: Time


WORK_ORDERS: Final = KindSpec("work_orders", WorkOrder, key=("order_id",), shape=Shape.QUEUE)
CRASH_KINDS: Final = (*BUILTIN_KINDS, WORK_ORDERS)


class WorkOrders:
    """The plugin that brings the kind."""

    @hookimpl
    def gateway_record_kinds(self) -> Sequence[KindSpec]:
        """Bring it."""
        return (WORK_ORDERS,)

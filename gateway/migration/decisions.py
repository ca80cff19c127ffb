"""What an operator decided about phases, and the plan that follows from it. Pure.

Decisions belong to one pair of stores. Swapping the two in `STORAGE_BACKENDS`, or naming a third, begins
another migration, and the decisions of the last one say nothing about it: `complete` of `json,sqlite` must
not make a bot read from PostgreSQL once it runs with `sqlite,postgres`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from gateway.errors import PhaseError
from gateway.migration.phases import Phase, check_step
from gateway.routing import KindPlan, RoutingPlan

__all__ = ["ALL_KINDS", "FORCED", "Change", "ControlState", "Decision", "check_move", "pair_of", "resolve"]

ALL_KINDS: Final = "*"
"""Stands for every kind; a later decision about one kind goes before it."""


FORCED: Final = " (forced: not verified)"
"""What the reason of a decision ends with that was taken without proof."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Where an operator put a kind.

    Attributes:
        kind: Name of the kind, or `*`.
        plan: Where it stands.
        epoch: The epoch that this decision began.
        who: Who decided.
        why: Their reason.
        at: When, in UTC.
    """

    kind: str
    plan: KindPlan
    epoch: int
    who: str
    why: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """One step that was taken; an entry of the audit trail.

    Attributes:
        kind: Name of the kind, or `*`.
        before: Where it stood.
        after: Where it stands since.
        epoch: The epoch that the step began.
        who: Who took it.
        why: Their reason.
        at: When, in UTC.
        pair: The stores it was about, `old>new`.
    """

    kind: str
    before: KindPlan
    after: KindPlan
    epoch: int
    who: str
    why: str
    at: datetime
    pair: str


@dataclass(frozen=True, slots=True)
class ControlState:
    """All decisions about one pair of stores, at one moment.

    Attributes:
        epoch: Grows with every change of the control store; 0 while nothing was ever decided.
        decisions: By name of the kind, or `*`.
    """

    epoch: int = 0
    decisions: Mapping[str, Decision] = field(default_factory=dict)

    @property
    def plans(self) -> dict[str, KindPlan]:
        """Where the decided kinds stand, by name or `*`."""
        return {name: decision.plan for name, decision in self.decisions.items()}

    def decision(self, kind: str) -> Decision | None:
        """Return the decision that holds for a kind: its own, or the one for all, if any."""
        return self.decisions.get(kind) or self.decisions.get(ALL_KINDS)

    @property
    def forced(self) -> bool:
        """Whether the last decision was taken without proof, as it says."""
        last = max(self.decisions.values(), key=lambda decision: decision.epoch, default=None)
        return last is not None and last.why.endswith(FORCED)

    def explain(self, kind: str) -> str:
        """Return in words who decided where a kind stands."""
        decision = self.decision(kind)
        if decision is None:
            return "environment"
        scope = " for all kinds" if decision.kind == ALL_KINDS and kind != ALL_KINDS else ""
        return f"control store, epoch {decision.epoch}, by {decision.who}{scope}: {decision.why}"


def pair_of(backends: Sequence[str]) -> str:
    """Return the name of a migration between stores: `old>new`."""
    return ">".join(backends)


def resolve(base: RoutingPlan, state: ControlState) -> RoutingPlan:
    """Return the plan that holds: what was decided in the control store, and the environment for the rest.

    Args:
        base: The plan from the environment.
        state: Decisions about the same pair of stores.
    """
    plans = state.plans
    everything = plans.pop(ALL_KINDS, None)
    # A decision about all kinds was made knowing what the environment says, so it wins over kinds named there too.
    # None wins over STORAGE_PLACES: what lives in one store or both for good is no part of a migration.
    named = {**(base.kinds if everything is None else {}), **plans}
    named |= {name: base.kinds[name] for name in base.placed}
    return replace(
        base, default=everything or base.default, kinds=named, epoch=state.epoch, forced=state.forced
    )


def check_move(current: KindPlan, wanted: KindPlan) -> None:
    """Allow a move that no bot can be hurt by while others have not followed yet.

    Raises:
        PhaseError: It skips a phase for some of the keys; the message names the way.
    """
    check_step(current.phase, wanted.phase)
    if wanted.share and wanted.phase is Phase.CUTOVER:
        raise PhaseError(
            "in cutover the new store leads for every key; to let it lead for a share of them, "
            "stay in shadow_read and set the share there"
        )
    if wanted.share and current.phase is Phase.LEGACY:
        raise PhaseError(
            "the new store holds no history yet, so no share of the keys can be read from it; "
            "go to dual_write without a share, run `gateway copy` and `gateway verify`, then set the share"
        )
    if current.share and wanted.phase is Phase.LEGACY:
        raise PhaseError(
            f"{current.share:g} percent of the keys are led by the new store; "
            "set the share to 0 first, then go to legacy"
        )

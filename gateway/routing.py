"""Routes: which store leads, which follows, which is read and which is compared. Pure.

| phase | primary | mirror | reads | shadow |
|---|---|---|---|---|
| legacy | old | - | old | - |
| dual_write | old | new | old | - |
| shadow_read | old | new | old | new |
| cutover | new | old | new | old |
| complete | new | - | new | - |

A kind can be cut over for a share of its keys: those keys follow `cutover`, the others the kind's phase. Listings
are answered by the old store until the share is 100 %, since both stores hold every row and one must answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from gateway.errors import ConfigurationError
from gateway.migration.phases import Phase
from gateway.records.codec import Value
from gateway.records.digest import share_of
from gateway.records.kind import KindSpec, Shape

__all__ = ["KindPlan", "MirrorMode", "Route", "RoutingPlan", "parse_cutover", "route_for"]


class MirrorMode(StrEnum):
    """How the mirror is written."""

    SYNC = "sync"
    """The caller waits for both; a mirror failure is reported."""
    OFF = "off"
    """Only the primary is written."""


@dataclass(frozen=True, slots=True)
class Route:
    """The stores of one operation, by instance name.

    Attributes:
        primary: Commits first and orders the writes.
        mirrors: Get what the primary committed.
        reader: Answers reads.
        shadow: Repeats sampled reads, for comparison.
    """

    primary: str
    mirrors: tuple[str, ...]
    reader: str
    shadow: str | None


@dataclass(frozen=True, slots=True)
class KindPlan:
    """Where one kind stands.

    Attributes:
        phase: Its phase.
        share: Percent of its keys that are cut over ahead of the phase; 0 leaves all to the phase.
    """

    phase: Phase
    share: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 100:
            raise ConfigurationError(
                f"a cutover share must lie between 0 and 100 percent, not {self.share:g}"
            )
        if self.share and self.phase in {Phase.LEGACY, Phase.COMPLETE}:
            raise ConfigurationError(
                f"nothing can be cut over in phase {self.phase.value}, where only one store is written; "
                "set the phase to dual_write or shadow_read first"
            )

    def phase_of(self, share: float) -> Phase:
        """Return the phase of a key whose `share_of` is given."""
        return Phase.CUTOVER if share < self.share else self.phase

    @property
    def listing_phase(self) -> Phase:
        """The phase by which queries over many keys are answered."""
        return Phase.CUTOVER if self.share >= 100 else self.phase


_SINGLE_WRITE: Final = {Phase.LEGACY, Phase.COMPLETE}
_NEW_LEADS: Final = {Phase.CUTOVER, Phase.COMPLETE}
_COMPARED: Final = {Phase.SHADOW_READ, Phase.CUTOVER}


def _needs_mirror(plan: KindPlan) -> bool:
    return plan.phase in _COMPARED or plan.share > 0


def route_for(
    phase: Phase, old: str, new: str, *, shape: Shape = Shape.LOG, mirror: MirrorMode = MirrorMode.SYNC
) -> Route:
    """Return the route of a phase between two stores.

    Queues are never executed twice: they have a primary and nothing else.
    """
    leader, follower = (new, old) if phase in _NEW_LEADS else (old, new)
    paired = phase not in _SINGLE_WRITE and shape is not Shape.QUEUE
    return Route(
        primary=leader,
        mirrors=(follower,) if paired and mirror is MirrorMode.SYNC else (),
        reader=leader,
        shadow=follower if paired and phase in _COMPARED else None,
    )


@dataclass(frozen=True)
class RoutingPlan:
    """All routes at one moment. Immutable: an operation takes the plan once and keeps it to its end.

    Attributes:
        backends: Instance names, one or two; the first is the old store.
        default: Where kinds stand that are not named.
        kinds: Where named kinds stand.
        mirror: How mirrors are written.
        epoch: Grows with every change of the control store; 0 for a plan made from the environment.
        placed: Names of the kinds that `STORAGE_PLACES` holds where they are: no step for all kinds moves them.
    """

    backends: tuple[str, ...]
    default: KindPlan = KindPlan(Phase.LEGACY)
    kinds: Mapping[str, KindPlan] = field(default_factory=dict)
    mirror: MirrorMode = MirrorMode.SYNC
    epoch: int = 0
    placed: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not 1 <= len(self.backends) <= 2:
            raise ConfigurationError(
                f"the gateway writes to one store or to two, not to {len(self.backends)}; "
                "name one or two in STORAGE_BACKENDS"
            )
        if self.mirror is MirrorMode.OFF and any(map(_needs_mirror, (self.default, *self.kinds.values()))):
            raise ConfigurationError(
                "with STORAGE_MIRROR_MODE=off only one store is written, so nothing can be compared or cut over; "
                "set it to sync, or the phase to legacy, dual_write or complete"
            )
        routes: dict[tuple[Phase, Shape], Route] = {
            (phase, shape): self._route(phase, shape) for phase in Phase for shape in Shape
        }
        object.__setattr__(self, "_routes", routes)

    def _route(self, phase: Phase, shape: Shape) -> Route:
        if len(self.backends) == 1:
            only = self.backends[0]
            return Route(only, (), only, None)
        return route_for(phase, *self.backends, shape=shape, mirror=self.mirror)

    def plan_of(self, kind: KindSpec) -> KindPlan:
        """Return where a kind stands; a companion stands where its leading kind does."""
        return self.kinds.get(kind.companion_of or kind.name, self.default)

    def is_placed(self, kind: KindSpec) -> bool:
        """Tell whether `STORAGE_PLACES` says where a kind, or the one that it moves along with, lives."""
        return (kind.companion_of or kind.name) in self.placed

    def lives_alone(self, kind: KindSpec) -> bool:
        """Tell whether a kind is held in one store of two, so that the other has nothing to compare it with."""
        return self.is_placed(kind) and self.plan_of(kind).phase in _SINGLE_WRITE

    def route(self, kind: KindSpec, tenant: str, key: Sequence[Value]) -> Route:
        """Return the route of one key."""
        plan = self.plan_of(kind)
        if not plan.share or kind.companion_of is not None:
            # A companion's rows are written along the route of the row they accompany; read alone, they are a listing.
            return self.listing(kind)
        routes: dict[tuple[Phase, Shape], Route] = self.__dict__["_routes"]
        return routes[plan.phase_of(share_of(kind.name, tenant, key)), kind.shape]

    def keyed(self, kind: KindSpec) -> bool:
        """Tell whether different keys of a kind may go different ways."""
        return 0 < self.plan_of(kind).share < 100 and kind.companion_of is None

    def listing(self, kind: KindSpec) -> Route:
        """Return the route of queries over many keys."""
        routes: dict[tuple[Phase, Shape], Route] = self.__dict__["_routes"]
        return routes[self.plan_of(kind).listing_phase, kind.shape]

    def with_kind(self, kind: str, plan: KindPlan) -> RoutingPlan:
        """Return a plan in which one kind stands elsewhere."""
        return replace(self, kinds={**self.kinds, kind: plan})


def parse_cutover(text: str) -> dict[str, float]:
    """Read `trades,positions:25%`: kinds, each with the percent of its keys that the new store leads.

    Raises:
        ConfigurationError: The text is no such list.
    """
    shares: dict[str, float] = {}
    for part in filter(None, (item.strip() for item in text.split(","))):
        name, _, share = part.partition(":")
        name = name.strip()
        try:
            percent = float(share.strip().removesuffix("%")) if share else 100.0
        except ValueError:
            percent = -1.0
        if not name or not 0 <= percent <= 100:
            raise ConfigurationError(
                f"STORAGE_CUTOVER: {part!r} is no kind with a share; write it as in trades,positions:25%"
            )
        if name in shares:
            raise ConfigurationError(f"STORAGE_CUTOVER names {name!r} twice; name each kind once")
        shares[name] = percent
    return shares

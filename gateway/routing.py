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
from typing import Final

from gateway.errors import ConfigurationError
from gateway.migration.phases import Phase
from gateway.modes import MODES, MirrorMode
from gateway.records.codec import Value
from gateway.records.digest import share_of
from gateway.records.kind import KindSpec, Shape

__all__ = [
    "KindPlan",
    "MirrorMode",
    "Route",
    "RoutingPlan",
    "leaders_moved",
    "parse_cutover",
    "route_for",
]


@dataclass(frozen=True, slots=True)
class Route:
    """The stores of one operation, by instance name.

    Attributes:
        primary: Commits first and orders the writes.
        mirrors: Get what the primary committed.
        reader: Answers reads.
        shadow: Repeats sampled reads, for comparison.
        mode: How the mirrors are written; says nothing where there are none.
    """

    primary: str
    mirrors: tuple[str, ...]
    reader: str
    shadow: str | None
    mode: MirrorMode = MirrorMode.JOURNALED


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


def _moves_leader(plan: KindPlan) -> bool:
    return plan.phase is Phase.CUTOVER or plan.share > 0


def route_for(
    phase: Phase, old: str, new: str, *, shape: Shape = Shape.LOG, mirror: MirrorMode = MirrorMode.JOURNALED
) -> Route:
    """Return the route of a phase between two stores.

    Queues are never executed twice: they have a primary and nothing else. What is not mirrored is not compared either.
    """
    leader, follower = (new, old) if phase in _NEW_LEADS else (old, new)
    paired = phase not in _SINGLE_WRITE and shape is not Shape.QUEUE and mirror is not MirrorMode.OFF
    return Route(
        primary=leader,
        mirrors=(follower,) if paired else (),
        reader=leader,
        shadow=follower if paired and phase in _COMPARED else None,
        mode=mirror if paired else MirrorMode.JOURNALED,
    )


@dataclass(frozen=True)
class RoutingPlan:
    """All routes at one moment. Immutable: an operation takes the plan once and keeps it to its end.

    Attributes:
        backends: Instance names, one or two; the first is the old store.
        default: Where kinds stand that are not named.
        kinds: Where named kinds stand.
        mirror: How mirrors are written.
        modes: How those of named kinds are.
        epoch: Grows with every change of the control store; 0 for a plan made from the environment.
        placed: Names of the kinds that `STORAGE_PLACES` holds where they are: no step for all kinds moves them.
        forced: Whether an operator wants it to be followed even if a store that is to lead lacks something.
    """

    backends: tuple[str, ...]
    default: KindPlan = KindPlan(Phase.LEGACY)
    kinds: Mapping[str, KindPlan] = field(default_factory=dict)
    mirror: MirrorMode = MirrorMode.JOURNALED
    modes: Mapping[str, MirrorMode] = field(default_factory=dict)
    epoch: int = 0
    placed: frozenset[str] = frozenset()
    forced: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.backends) <= 2:
            raise ConfigurationError(
                f"the gateway writes to one store or to two, not to {len(self.backends)}; "
                "name one or two in STORAGE_BACKENDS"
            )
        self._check_modes()
        routes = {
            (phase, shape, mode): self._route(phase, shape, mode)
            for phase in Phase
            for shape in Shape
            for mode in MirrorMode
        }
        object.__setattr__(self, "_routes", routes)

    def _check_modes(self) -> None:
        """Refuse to compare, or to cut over, what is not mirrored."""
        others = (plan for kind, plan in self.kinds.items() if kind not in self.modes)
        if self.mirror is MirrorMode.OFF and any(map(_needs_mirror, (self.default, *others))):
            raise ConfigurationError(
                "with STORAGE_MIRROR_MODE=off only one store is written, so nothing can be compared or cut over; "
                "set it to journaled or sync, or the phase to legacy, dual_write or complete"
            )
        for kind, mode in self.modes.items():
            if mode is MirrorMode.OFF and _moves_leader(self.kinds.get(kind, self.default)):
                raise ConfigurationError(
                    f"{MODES} says {kind}:off, so one store alone has its rows and nothing of it can be cut "
                    f"over; mirror it, or leave it where it is with STORAGE_PLACES={kind}:{self.backends[0]}"
                )

    def _route(self, phase: Phase, shape: Shape, mode: MirrorMode) -> Route:
        if len(self.backends) == 1:
            only = self.backends[0]
            return Route(only, (), only, None)
        return route_for(phase, *self.backends, shape=shape, mirror=mode)

    def plan_of(self, kind: KindSpec) -> KindPlan:
        """Return where a kind stands; a companion stands where its leading kind does."""
        return self.kinds.get(kind.companion_of or kind.name, self.default)

    def mode_of(self, kind: KindSpec) -> MirrorMode:
        """Return how the mirror of a kind is written; a companion's as its leading kind's."""
        return self.modes.get(kind.companion_of or kind.name, self.mirror)

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
        return self._found(plan.phase_of(share_of(kind.name, tenant, key)), kind)

    def keyed(self, kind: KindSpec) -> bool:
        """Tell whether different keys of a kind may go different ways."""
        return 0 < self.plan_of(kind).share < 100 and kind.companion_of is None

    def listing(self, kind: KindSpec) -> Route:
        """Return the route of queries over many keys."""
        return self._found(self.plan_of(kind).listing_phase, kind)

    def routes(self, kind: KindSpec) -> tuple[Route, ...]:
        """Return every route that a key of a kind may go."""
        plan = self.plan_of(kind)
        phases = (plan.phase, Phase.CUTOVER) if self.keyed(kind) else (plan.listing_phase,)
        return tuple(self._found(phase, kind) for phase in phases)

    def _found(self, phase: Phase, kind: KindSpec) -> Route:
        routes: dict[tuple[Phase, Shape, MirrorMode], Route] = self.__dict__["_routes"]
        return routes[phase, kind.shape, self.mode_of(kind)]

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


def leaders_moved(old: RoutingPlan, new: RoutingPlan) -> frozenset[tuple[str, str]]:
    """Return from which store to which other the lead of some key passes when one plan takes another's place.

    Only where the old plan mirrors from the one to the other: elsewhere there is nothing that could be waited for.
    """
    moved: set[tuple[str, str]] = set()
    if len(old.backends) < 2 or old.backends != new.backends:
        return frozenset()
    for kind in (
        "",
        *old.kinds,
        *new.kinds,
    ):  # no kind is called "", which stands for those that nobody names
        before, after = old.kinds.get(kind, old.default), new.kinds.get(kind, new.default)
        for share in (0.0, before.share, after.share):  # between these, all keys go the same way
            was, becomes = before.phase_of(share), after.phase_of(share)
            if was not in _SINGLE_WRITE and (was in _NEW_LEADS) != (becomes in _NEW_LEADS):
                moved.add((old.backends[was in _NEW_LEADS], old.backends[becomes in _NEW_LEADS]))
    return frozenset(moved)

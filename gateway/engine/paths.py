"""Paths: routes with everything looked up, and how one plan takes another's place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.backend import Capability
from gateway.cache.front import KeyReading, reader_for
from gateway.errors import ConfigurationError
from gateway.lanes.lane import Lane
from gateway.mirror.contract import Mirroring
from gateway.mirror.way import Way
from gateway.modes import MirrorMode
from gateway.records.kind import KindSpec
from gateway.records.row import Key
from gateway.routing import Route, RoutingPlan

__all__ = ["Path", "Paths"]


@dataclass(frozen=True, eq=False, slots=True)
class Path:
    """A route with everything looked up. One object a route, so that writes can be grouped by it cheaply.

    Attributes:
        route: The names.
        lane: Lane of the primary.
        way: The mirrors; None if there are none.
        reader: Answers reads by key.
        by_column: Whether one of the stores takes rows by column.
    """

    route: Route
    lane: Lane
    way: Way | None
    reader: KeyReading
    by_column: bool


class Paths:
    """The paths of a plan.

    Args:
        plan: The routes to begin with.
        tenant: Whose keys.
        lanes: The lanes by instance name.
        readers: What reads by key, by instance name.
        mirrors: Knows the feeds; None if no plan will ever have a mirror.

    Attributes:
        plan: The routes of this moment.
        turn: Counts the changes. Who has waited since a path was chosen has to choose again if it moved on.
    """

    def __init__(
        self,
        plan: RoutingPlan,
        tenant: str,
        lanes: Mapping[str, Lane],
        readers: Mapping[str, KeyReading],
        mirrors: Mirroring | None,
    ) -> None:
        self.plan = plan
        self.turn = 0
        self._tenant = tenant
        self._lanes = lanes
        self._readers = readers
        self._mirrors = mirrors
        self._waiting = False
        self._kinds: dict[KindSpec, Path] = {}
        self._routes: dict[tuple[Route, bool], Path] = {}

    def __repr__(self) -> str:
        return f"<Paths epoch={self.plan.epoch}{' waiting' if self._waiting else ''}>"

    def follow(self, plan: RoutingPlan) -> None:
        """Take other routes from now on, and wait for no mirror that the plan does not wait for."""
        self.plan = plan
        self.wait_for_mirrors(False)

    def wait_for_mirrors(self, waiting: bool) -> None:
        """Let every write wait for its mirrors, or no longer; how they fare is not reported to the callers."""
        self._waiting = waiting
        self._kinds = {}
        self.turn += 1

    def of_key(self, kind: KindSpec, key: Key) -> Path:
        """Return the way of one key."""
        path = self._kinds.get(kind)
        if path is not None:
            return path
        plan = self.plan
        path = self._path(plan.route(kind, self._tenant, key))
        if not plan.keyed(kind):
            self._kinds[kind] = path  # every key of the kind goes this way, so look it up once
        return path

    def targets(self, kinds: Iterable[KindSpec]) -> tuple[str, ...]:
        """Return the mirrors that rows of some kinds may go to, whatever their keys."""
        plan = self.plan
        routes = (route for kind in kinds for route in plan.routes(kind))
        return tuple(dict.fromkeys(name for route in routes for name in route.mirrors))

    def of_listing(self, kind: KindSpec) -> Path:
        """Return the way of queries over many keys."""
        return self._path(self.plan.listing(kind))

    def _path(self, route: Route) -> Path:
        path = self._routes.get((route, self._waiting))
        if path is None:
            ends = [self._lanes[name].store for name in (route.primary, *route.mirrors)]
            columnar = any(Capability.COLUMNS in end.capabilities for end in ends)
            lane, reader = self._lanes[route.primary], reader_for(self._readers, route)
            path = Path(route, lane, self._way(route), reader, columnar)
            self._routes[route, self._waiting] = path
        return path

    def _way(self, route: Route) -> Way | None:
        if not route.mirrors:
            return None
        if self._mirrors is None:
            raise ConfigurationError(
                "this engine was made without mirrors and cannot follow a plan that has some"
            )
        feeds = tuple(self._mirrors.feed(route.primary, name) for name in route.mirrors)
        asked = route.mode is MirrorMode.SYNC
        return Way(feeds, route.mirrors, asked or self._waiting, asked)

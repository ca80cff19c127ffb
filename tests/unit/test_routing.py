"""Routes: which store leads, follows, answers and is compared."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigurationError
from gateway.migration.phases import Phase
from gateway.modes import MirrorMode, parse_modes
from gateway.records import ALERTS, CLOSED_POSITIONS, POSITIONS, TRADES, Record, Text
from gateway.records.digest import share_of
from gateway.records.kind import KindSpec, Shape
from gateway.routing import KindPlan, Route, RoutingPlan, leaders_moved, parse_cutover, route_for

PAIRED = [Phase.DUAL_WRITE, Phase.SHADOW_READ, Phase.CUTOVER]
KEYS = st.text(min_size=1, max_size=20)
SHARES = st.floats(0, 100)


class Command(Record):
    command_id: Text


QUEUE = KindSpec("commands", Command, key=("command_id",), shape=Shape.QUEUE)


@pytest.mark.parametrize(
    ("phase", "route"),
    [
        (Phase.LEGACY, Route("old", (), "old", None)),
        (Phase.DUAL_WRITE, Route("old", ("new",), "old", None)),
        (Phase.SHADOW_READ, Route("old", ("new",), "old", "new")),
        (Phase.CUTOVER, Route("new", ("old",), "new", "old")),
        (Phase.COMPLETE, Route("new", (), "new", None)),
    ],
)
def test_every_phase_has_the_route_of_the_table(phase: Phase, route: Route) -> None:
    """Each of the five phases gives exactly the route that the documented table says."""
    assert route_for(phase, "old", "new") == route
    assert RoutingPlan(("old", "new"), KindPlan(phase)).route(TRADES, "t", ("a",)) == route


@pytest.mark.parametrize("phase", list(Phase))
def test_a_queue_has_one_store_in_every_phase(phase: Phase) -> None:
    """Rows that are executed are never on two stores, and never read from two."""
    route = RoutingPlan(("old", "new"), KindPlan(phase)).route(QUEUE, "t", ("a",))
    assert (route.mirrors, route.shadow) == ((), None)
    assert route.primary == route.reader


@pytest.mark.parametrize("phase", list(Phase))
def test_without_a_mirror_only_the_primary_is_written(phase: Phase) -> None:
    """Mirror mode off leaves the leader and the reader as they are and removes the mirror."""
    on = route_for(phase, "old", "new")
    off = route_for(phase, "old", "new", mirror=MirrorMode.OFF)
    assert off.mirrors == ()
    assert (off.primary, off.reader) == (on.primary, on.reader)


@pytest.mark.parametrize("phase", list(Phase))
def test_one_store_is_everything_at_once(phase: Phase) -> None:
    """With a single store every phase reads and writes it, and compares nothing."""
    plan = RoutingPlan(("only",), KindPlan(phase))
    assert plan.route(TRADES, "t", ("a",)) == Route("only", (), "only", None)
    assert plan.listing(TRADES) == Route("only", (), "only", None)


@given(st.sampled_from(list(Phase)), st.sampled_from([Shape.LOG, Shape.STATE, Shape.COUNTER]))
def test_what_leads_answers_and_nothing_is_its_own_mirror(phase: Phase, shape: Shape) -> None:
    """In every phase reads go to the primary, and mirror and shadow are other stores than it."""
    route = route_for(phase, "old", "new", shape=shape)
    assert route.reader == route.primary
    assert route.primary not in route.mirrors
    assert route.shadow != route.primary


@given(st.sampled_from(list(zip(list(Phase), list(Phase)[1:], strict=False))))
def test_adjacent_phases_share_the_store_that_leads_one_of_them(pair: tuple[Phase, Phase]) -> None:
    """While some bots are one phase ahead, every store that answers anyone is written by everyone."""
    routes = [route_for(phase, "old", "new") for phase in pair]
    readers = {route.reader for route in routes}
    for route in routes:
        assert readers <= {route.primary, *route.mirrors}


@given(KEYS, SHARES, SHARES)
def test_raising_a_share_only_adds_keys(key: str, one: float, two: float) -> None:
    """A key that is cut over at a share stays cut over at every greater share."""
    low, high = sorted((one, two))
    at = share_of("positions", "t", (key,))
    if KindPlan(Phase.DUAL_WRITE, low).phase_of(at) is Phase.CUTOVER:
        assert KindPlan(Phase.DUAL_WRITE, high).phase_of(at) is Phase.CUTOVER


@given(KEYS)
def test_the_ends_of_a_share_are_nobody_and_everybody(key: str) -> None:
    """No key is cut over at 0 percent, and every key at 100."""
    at = share_of("positions", "t", (key,))
    assert KindPlan(Phase.DUAL_WRITE, 0).phase_of(at) is Phase.DUAL_WRITE
    assert KindPlan(Phase.DUAL_WRITE, 100).phase_of(at) is Phase.CUTOVER


def test_a_quarter_of_the_keys_is_about_a_quarter() -> None:
    """At 25 percent the new store leads 24 to 26 of 100 keys, and always the same ones."""
    plan = RoutingPlan(("old", "new"), kinds={"positions": KindPlan(Phase.SHADOW_READ, 25)})
    leaders = [plan.route(POSITIONS, "t", (f"market-{n}",)).primary for n in range(20_000)]
    assert 0.24 < leaders.count("new") / len(leaders) < 0.26
    assert leaders[:500] == [plan.route(POSITIONS, "t", (f"market-{n}",)).primary for n in range(500)]


def test_shares_of_tenants_and_kinds_are_independent() -> None:
    """A key's place depends on its kind and tenant too, so that not always the same keys go first."""
    places = {share_of(kind, tenant, ("a",)) for kind in ("positions", "trades") for tenant in ("t", "u")}
    assert len(places) == 4


def test_listings_stay_with_the_phase_until_the_share_is_whole() -> None:
    """A query over many keys is answered by the old store at 99.9 percent and by the new one at 100."""
    almost = RoutingPlan(("old", "new"), kinds={"positions": KindPlan(Phase.DUAL_WRITE, 99.9)})
    whole = almost.with_kind("positions", KindPlan(Phase.DUAL_WRITE, 100))
    assert almost.listing(POSITIONS).reader == "old"
    assert whole.listing(POSITIONS).reader == "new"
    assert almost.keyed(POSITIONS)
    assert not whole.keyed(POSITIONS)


def test_a_companion_stands_where_its_leader_does() -> None:
    """A kind that is written with another one moves with it, whatever the default is."""
    plan = RoutingPlan(("old", "new"), KindPlan(Phase.LEGACY), {"positions": KindPlan(Phase.CUTOVER)})
    assert CLOSED_POSITIONS.companion_of == "positions"
    assert plan.plan_of(CLOSED_POSITIONS) == KindPlan(Phase.CUTOVER)
    assert plan.listing(CLOSED_POSITIONS).primary == "new"


def test_a_kind_of_its_own_leaves_the_others_alone() -> None:
    """Moving one kind gives a new plan and changes neither the old plan nor the other kinds."""
    plan = RoutingPlan(("old", "new"), KindPlan(Phase.DUAL_WRITE))
    moved = plan.with_kind("trades", KindPlan(Phase.SHADOW_READ))
    assert plan.plan_of(TRADES).phase is Phase.DUAL_WRITE
    assert moved.plan_of(TRADES).phase is Phase.SHADOW_READ
    assert moved.plan_of(POSITIONS).phase is Phase.DUAL_WRITE


@pytest.mark.parametrize("share", [-1, 100.5, float("nan")])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    """A share must be a percentage."""
    with pytest.raises(ConfigurationError, match="between 0 and 100"):
        KindPlan(Phase.DUAL_WRITE, share)


@pytest.mark.parametrize("phase", [Phase.LEGACY, Phase.COMPLETE])
def test_a_share_needs_two_stores_that_are_written(phase: Phase) -> None:
    """Where one store alone is written, no share of the keys can be led by another."""
    with pytest.raises(ConfigurationError, match="only one store is written"):
        KindPlan(phase, 10)


@pytest.mark.parametrize("backends", [(), ("a", "b", "c")])
def test_the_gateway_writes_one_store_or_two(backends: tuple[str, ...]) -> None:
    """No store and three stores are refused with their number."""
    with pytest.raises(ConfigurationError, match=f"not to {len(backends)}"):
        RoutingPlan(backends)


def test_a_cutover_list_is_read() -> None:
    """Kinds stand for 100 percent unless a share follows; blanks and a trailing comma do not matter."""
    assert parse_cutover(" trades, positions:25% ,alerts:0.5,") == {
        "trades": 100.0,
        "positions": 25.0,
        "alerts": 0.5,
    }
    assert parse_cutover("") == {}


@pytest.mark.parametrize("text", ["trades:x", ":25%", "trades:101", "trades:-1%", "trades:nan"])
def test_a_cutover_list_that_is_none_is_refused(text: str) -> None:
    """What is no kind with a share is refused, with a form that works."""
    with pytest.raises(ConfigurationError, match="STORAGE_CUTOVER"):
        parse_cutover(text)


def test_a_kind_named_twice_is_refused() -> None:
    """Two shares for one kind contradict each other."""
    with pytest.raises(ConfigurationError, match="twice"):
        parse_cutover("trades,trades:20")


@given(st.dictionaries(st.sampled_from(["trades", "positions", "alerts"]), st.integers(0, 100)))
def test_what_is_written_as_a_cutover_list_is_read_back(shares: dict[str, int]) -> None:
    """Any set of kinds and whole percentages survives being written and read."""
    assert parse_cutover(",".join(f"{kind}:{share}%" for kind, share in shares.items())) == shares


@pytest.mark.parametrize("phase", PAIRED)
def test_the_share_leads_ahead_of_the_phase(phase: Phase) -> None:
    """In every phase that writes both stores, the keys of the share are led by the new one."""
    plan = RoutingPlan(("old", "new"), KindPlan(phase, 50))
    leaders = {plan.route(TRADES, "t", (str(n),)).primary for n in range(100)}
    assert leaders == ({"new"} if phase is Phase.CUTOVER else {"old", "new"})


def test_a_kind_has_a_mirror_mode_of_its_own() -> None:
    """Routes carry the mode; off leaves the primary alone and compares nothing; companions follow their leader."""
    modes = {"positions": MirrorMode.SYNC, "trades": MirrorMode.OFF}
    plan = RoutingPlan(("old", "new"), KindPlan(Phase.SHADOW_READ), modes=modes)
    assert plan.listing(ALERTS).mode is MirrorMode.JOURNALED
    assert plan.listing(CLOSED_POSITIONS).mode is MirrorMode.SYNC
    assert plan.listing(TRADES) == Route("old", (), "old", None)
    assert plan.listing(ALERTS).mirrors == plan.listing(POSITIONS).mirrors == ("new",)


def test_what_is_not_mirrored_cannot_be_cut_over() -> None:
    """A leader without a mirror would leave everything behind; the refusal says what to do."""
    modes = {"trades": MirrorMode.OFF}
    with pytest.raises(ConfigurationError, match="STORAGE_PLACES=trades:old"):
        RoutingPlan(("old", "new"), KindPlan(Phase.CUTOVER), modes=modes)
    RoutingPlan(("old", "new"), KindPlan(Phase.CUTOVER), {"trades": KindPlan(Phase.LEGACY)}, modes=modes)


@given(st.dictionaries(st.sampled_from(["trades", "positions"]), st.sampled_from(list(MirrorMode))))
def test_what_is_written_as_modes_is_read_back(modes: dict[str, MirrorMode]) -> None:
    """Any set of kinds and modes survives being written and read, with and without a mode for all."""
    text = ",".join(f"{kind}:{mode}" for kind, mode in modes.items())
    assert parse_modes(text) == (MirrorMode.JOURNALED, modes)
    assert parse_modes(f" Sync , {text}") == (MirrorMode.SYNC, modes)


@pytest.mark.parametrize(
    "text", ["maybe", "trades:maybe", ":sync", "sync,off", "trades:off,trades:sync", "trades:"]
)
def test_modes_that_are_none_are_refused(text: str) -> None:
    """What is no mode, or is said twice, is refused with the variable's name."""
    with pytest.raises(ConfigurationError, match="STORAGE_MIRROR_MODE"):
        parse_modes(text)


PLANS = st.builds(
    lambda default, kinds: RoutingPlan(("old", "new"), default, kinds),
    st.sampled_from([KindPlan(phase) for phase in Phase]),
    st.dictionaries(
        st.sampled_from(["trades", "positions"]),
        st.builds(KindPlan, st.sampled_from(PAIRED), st.sampled_from([0.0, 10.0, 60.0, 100.0])),
    ),
)


@given(PLANS, PLANS, st.lists(KEYS, min_size=1, max_size=20))
def test_every_lead_that_passes_on_is_told(old: RoutingPlan, new: RoutingPlan, keys: list[str]) -> None:
    """Whenever a key's leader changes and the old plan mirrored to the new one, the two are among those to be drained."""
    moved = leaders_moved(old, new)
    for kind in (TRADES, POSITIONS, ALERTS):
        for key in keys:
            before, after = old.route(kind, "t", (key,)), new.route(kind, "t", (key,))
            if after.primary in before.mirrors:
                assert (before.primary, after.primary) in moved


@given(PLANS)
def test_nothing_passes_on_where_nothing_changes(plan: RoutingPlan) -> None:
    """The same plan again drains nothing."""
    assert leaders_moved(plan, plan) == frozenset()


@given(PLANS, st.sampled_from([TRADES, POSITIONS, ALERTS, CLOSED_POSITIONS]), KEYS)
def test_the_routes_of_a_kind_are_all_that_a_key_can_go(plan: RoutingPlan, kind: KindSpec, key: str) -> None:
    """No key goes a way that the plan does not name for its kind."""
    assert plan.route(kind, "t", (key,)) in plan.routes(kind)

"""What settings say of single kinds: where each stands, how it is mirrored, and which are cached. Pure."""

from __future__ import annotations

from typing import Final

from gateway.errors import ConfigurationError, UnknownKindError
from gateway.migration.phases import Phase
from gateway.modes import MODES, parse_modes
from gateway.places import PLACES, parse_places
from gateway.records.kind import KindSpec
from gateway.records.registry import KindRegistry
from gateway.routing import KindPlan, RoutingPlan, parse_cutover
from gateway.settings import PREFIX, GatewaySettings
from gateway.stores import BACKENDS

__all__ = ["cached_kinds", "first_plan", "named_kind"]

MAX_TIMEOUT: Final = 120.0


def cached_kinds(settings: GatewaySettings, kinds: KindRegistry) -> tuple[KindSpec, ...]:
    """Return the kinds that a cache is to serve.

    Raises:
        UnknownKindError: `STORAGE_CACHE_KINDS` names one that nobody registered.
        ConfigurationError: It names one that does not allow a cache, or calls to stores may take too long for one.
    """
    if settings.timeout > MAX_TIMEOUT:
        raise ConfigurationError(
            f"{PREFIX}TIMEOUT={settings.timeout:g} is too long for a cache, which stays closed for twice that after "
            f"it was lost; set it to {MAX_TIMEOUT:g} or less, or name no cache in {BACKENDS}"
        )
    allowed = tuple(kind for kind in kinds if kind.cacheable)
    for name in settings.cache_kinds:
        kind = named_kind(f"{PREFIX}CACHE_KINDS", name, kinds)
        if not kind.cacheable:
            raise ConfigurationError(
                f"{PREFIX}CACHE_KINDS names {name!r}, which allows no cache; those that do are "
                f"{', '.join(kind.name for kind in allowed)}"
            )
    return tuple(kind for kind in allowed if not settings.cache_kinds or kind.name in settings.cache_kinds)


def first_plan(settings: GatewaySettings, names: tuple[str, ...], kinds: KindRegistry) -> RoutingPlan:
    """Return where every kind stands, by the settings alone.

    Args:
        settings: The settings.
        names: Instance names of the stores, the old one first.
        kinds: The registered kinds.

    Raises:
        UnknownKindError: A setting names a kind that nobody registered.
        ConfigurationError: The settings contradict each other, or need two stores where there is one.
    """
    pair = len(names) == 2
    phase = settings.phase or (Phase.DUAL_WRITE if pair else Phase.LEGACY)
    shares = parse_cutover(settings.cutover)
    if not pair and (shares or phase not in {Phase.LEGACY, Phase.COMPLETE}):
        culprit = f"{PREFIX}CUTOVER" if shares else f"{PREFIX}PHASE={phase.value}"
        raise ConfigurationError(
            f"{culprit} needs two stores, but only {names[0]!r} is named; "
            f"name both in {BACKENDS}, the old one first"
        )
    places = parse_places(settings.places, names)
    for kind in shares:
        _check_named(f"{PREFIX}CUTOVER", kind, kinds)
        if kind in places:
            raise ConfigurationError(
                f"{PREFIX}CUTOVER and {PLACES} both name {kind!r}; name it in one of them"
            )
    for kind in places:
        _check_named(PLACES, kind, kinds)
    held = {kind: KindPlan(phase, share) for kind, share in shares.items()}
    held |= {kind: KindPlan(own) for kind, own in places.items()}
    mode, modes = parse_modes(settings.mirror_mode)
    for kind in modes:
        _check_named(MODES, kind, kinds)
    return RoutingPlan(names, KindPlan(phase), held, mode, modes, placed=frozenset(places))


def named_kind(variable: str, name: str, kinds: KindRegistry) -> KindSpec:
    """Return the kind that a variable names.

    Raises:
        UnknownKindError: Nobody registered it; the message says which variable names it.
    """
    try:
        return kinds.get(name)
    except UnknownKindError as error:
        raise UnknownKindError(f"{variable}: {error}") from error


def _check_named(variable: str, name: str, kinds: KindRegistry) -> None:
    kind = named_kind(variable, name, kinds)
    if kind.companion_of is not None:
        raise ConfigurationError(
            f"{variable} names {name!r}, whose rows move with {kind.companion_of!r}; name that one"
        )

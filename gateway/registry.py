"""Guarded discovery of plugins: one that is broken is reported, and never stops the others.

Plugins are entry points of four groups. Each is loaded on its own, vetted before its hooks count, and asked
for what it brings. Whatever goes wrong becomes a `PluginProblem`; only a configuration that uses what has the
problem fails, with the same sentence.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from gateway.backend import BackendSpec
from gateway.catalogue import DISTRIBUTION, unknown_backend
from gateway.errors import ConfigurationError, PluginError, UnknownBackendError
from gateway.hookspecs import new_manager
from gateway.legacy import LegacySource
from gateway.origins import (
    ALL_GROUPS,
    BACKENDS,
    CLI,
    DEFAULT_GROUPS,
    IN_PROCESS,
    LEGACY_SOURCES,
    RECORD_KINDS,
    Origin,
    by_precedence,
    driver_hint,
    installed_entry_points,
    normal,
    nothing_denied,
)
from gateway.records import builtin
from gateway.records.kind import KindSpec
from gateway.records.registry import KindRegistry, declared_kinds
from gateway.vetting import brief, fault_of_backend, fault_of_hooks, items_of, type_name

if TYPE_CHECKING:
    import typer

__all__ = [
    "ALL_GROUPS",
    "BACKENDS",
    "CLI",
    "DEFAULT_GROUPS",
    "LEGACY_SOURCES",
    "RECORD_KINDS",
    "BackendPlugin",
    "PluginProblem",
    "PluginRegistry",
    "discover",
]

_log: Final = logging.getLogger(__name__)
_warned: Final[set[PluginProblem]] = set()


@dataclass(frozen=True, slots=True)
class PluginProblem:
    """Why a plugin, or a part of it, cannot be used.

    Attributes:
        name: Name of the entry point.
        group: Entry point group, `in-process`, or `deny` for an entry of the deny list that names nothing.
        distribution: Who published it.
        sentence: What is wrong and what to do.
        missing_driver: Whether only an extra was not installed, which is a choice and no fault.
    """

    name: str
    group: str
    distribution: str
    sentence: str
    missing_driver: bool = False


@dataclass(frozen=True, slots=True)
class BackendPlugin:
    """A backend that can be used, and where it comes from.

    Attributes:
        spec: What the plugin declares.
        distribution: Name of the distribution that brings it.
        version: Version of that distribution.
        entry_point: Name of the entry point.
    """

    spec: BackendSpec
    distribution: str
    version: str
    entry_point: str


class PluginRegistry:
    """What is installed: backends, record kinds, legacy sources, and what is wrong with the rest.

    Make it with `discover`. Plugins stand in `manager` under names that begin with `plugin:`, so that opened
    backends can be registered beside them under their instance names.

    Attributes:
        manager: The pluggy manager with every hook specification and every usable plugin.
        denied: What was left out because `STORAGE_PLUGINS_DENY` names it, as `name (distribution)`.
    """

    def __init__(self) -> None:
        self.manager = new_manager()
        self.denied: tuple[str, ...] = ()
        self._backends: dict[str, BackendPlugin] = {}
        self._claims: dict[str, list[str]] = {}
        self._unusable: dict[str, str] = {}
        self._kinds = KindRegistry()
        self._sources: dict[str, tuple[LegacySource, Origin]] = {}
        self._origins: dict[str, Origin] = {}
        self._problems: list[PluginProblem] = []
        # Not left to its entry point: these kinds are part of the API, and a plain source tree has none.
        self._take(builtin, Origin("builtin", RECORD_KINDS, DISTRIBUTION))

    def __repr__(self) -> str:
        return f"<PluginRegistry backends={','.join(self._backends)} problems={len(self._problems)}>"

    @property
    def backends(self) -> Mapping[str, BackendPlugin]:
        """The usable backends by name."""
        return MappingProxyType(self._backends)

    @property
    def unusable(self) -> Mapping[str, str]:
        """Backends that are installed but cannot be used, each with the sentence that says why."""
        return {name: why for name, why in self._unusable.items() if name not in self._backends}

    @property
    def kinds(self) -> KindRegistry:
        """Every record kind: built in, from plugins, and those the bot has declared by now.

        Raises:
            ConfigurationError: A kind that the bot declares has a name or a model that is taken.
        """
        for kind in declared_kinds():
            self._kinds.add(kind, f"@record_kind on {kind.model.__qualname__}")
        return self._kinds

    @property
    def legacy_sources(self) -> Mapping[str, LegacySource]:
        """The formats that can be imported, by name."""
        return {name: source for name, (source, _) in self._sources.items()}

    @property
    def problems(self) -> tuple[PluginProblem, ...]:
        """Everything that went wrong, in the order it was found."""
        return tuple(self._problems)

    def backend(self, name: str) -> BackendSpec:
        """Return a backend by the name it has in `STORAGE_BACKENDS`.

        Raises:
            PluginError: It is installed, but broken, denied, or brought by two plugins.
            UnknownBackendError: It is not installed; the message says how to get it or what was meant.
        """
        found = self._backends.get(name)
        if found is not None:
            return found.spec
        if name in self._unusable:
            raise PluginError(self._unusable[name])
        raise UnknownBackendError(unknown_backend(name, self._backends))

    def register(self, plugin: object, name: str) -> None:
        """Add a plugin object of the running process: a wrapper, a backend under test.

        Raises:
            PluginError: Something is wrong with it; the message says what. The parts that are right stay.
        """
        before = len(self._problems)
        self._take(plugin, Origin(name, IN_PROCESS, IN_PROCESS))
        if len(self._problems) > before:
            raise PluginError("; ".join(problem.sentence for problem in self._problems[before:]))

    def extend_cli(self, app: typer.Typer) -> None:
        """Let every plugin add its commands; one that fails becomes a problem."""
        for name, origin in self._origins.items():
            try:
                self._ask("gateway_cli", name, {"app": app})
            except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code may raise anything; it is reported
                self.report(origin, f"{origin}: gateway_cli failed with {brief(error)}; {origin.way_out}")

    def warn(self) -> None:
        """Log every problem once a process: as a warning, or as information if only a driver is missing."""
        for problem in self._problems:
            if problem not in _warned:
                _warned.add(problem)
                _log.log(logging.INFO if problem.missing_driver else logging.WARNING, "%s", problem.sentence)

    def load(self, entry: EntryPoint, origin: Origin) -> None:
        """Import one entry point and take what it brings; whatever goes wrong becomes a problem."""
        try:
            plugin = entry.load()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code may raise anything; it is reported
            hint = driver_hint(entry, origin, error)
            sentence = hint or f"{origin} cannot be loaded: {brief(error)}; {origin.way_out}"
            self._reject(origin, sentence, missing_driver=hint is not None)
            return
        self._take(plugin, origin)

    def deny(self, origin: Origin) -> None:
        """Leave a plugin out, and remember that it is there for whoever asks for its backend."""
        self.denied = (*self.denied, f"{origin.name} ({origin.distribution})")
        if origin.group == BACKENDS:
            sentence = (
                f"the backend {origin.name!r} is switched off by STORAGE_PLUGINS_DENY; take it out of there"
            )
            self._unusable.setdefault(origin.name, sentence)

    def _take(self, plugin: object, origin: Origin) -> None:
        """Vet a plugin, register it and collect what it brings. A module in several groups is taken once."""
        if self.manager.is_registered(plugin):
            return
        name = f"plugin:{origin.group}:{origin.claim}"
        taken = self.manager.has_plugin(name)
        fault = "is registered twice under this name" if taken else fault_of_hooks(plugin)
        if fault is not None:
            self._reject(origin, f"{origin} {fault}; {origin.way_out}")
            return
        self.manager.register(plugin, name)
        self._origins[name] = origin
        self._collect(name, origin)

    def _collect(self, name: str, origin: Origin) -> None:
        adders: dict[str, Callable[[object, Origin], None]] = {
            "gateway_backends": self._add_backend,
            "gateway_record_kinds": self._add_kind,
            "gateway_legacy_sources": self._add_source,
        }
        for hook, add in adders.items():
            try:
                items = [item for answer in self._ask(hook, name, {}) for item in items_of(answer)]
            except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code may raise anything; it is reported
                self._reject(origin, f"{origin}: {hook} failed with {brief(error)}; {origin.way_out}")
                continue
            for item in items:
                add(item, origin)

    def _ask(self, hook: str, name: str, arguments: Mapping[str, Any]) -> list[Any]:
        """Call a hook of one plugin, so that another one's failure cannot be mistaken for its own."""
        others = [plugin for key, plugin in self.manager.list_name_plugin() if key != name]
        answers: list[Any] = self.manager.subset_hook_caller(hook, others)(**arguments)
        return answers

    def _add_backend(self, spec: object, origin: Origin) -> None:
        fault = fault_of_backend(spec)
        if fault is not None or not isinstance(spec, BackendSpec):
            name = getattr(spec, "name", None)
            named = name if isinstance(name, str) else None
            self._reject(origin, f"{origin}: {fault}; {origin.way_out}", backend=named)
            return
        claims = self._claims.setdefault(spec.name, [])
        claims.append(origin.claim)
        if len(claims) == 1:
            self._backends[spec.name] = BackendPlugin(spec, origin.distribution, origin.version, origin.name)
        else:
            self._refuse_rivals(spec.name, claims, origin)

    def _refuse_rivals(self, name: str, claims: Sequence[str], origin: Origin) -> None:
        """Make a name with several claims unusable: choosing silently would choose where the data goes."""
        self._backends.pop(name, None)
        sentence = (
            f"the backend {name!r} is brought by {' and '.join(claims)}; keep one and put the others into "
            "STORAGE_PLUGINS_DENY, written like that"
        )
        self._reject(origin, sentence, backend=name)

    def _add_kind(self, kind: object, origin: Origin) -> None:
        if not isinstance(kind, KindSpec):
            found = type_name(kind)
            self.report(origin, f"{origin}: gateway_record_kinds returned {found} where a KindSpec belongs")
            return
        try:
            self._kinds.add(kind, origin.distribution)
        except ConfigurationError as error:
            self.report(origin, f"{origin}: {error}")

    def _add_source(self, source: object, origin: Origin) -> None:
        if not isinstance(source, LegacySource):
            found = type_name(source)
            self.report(
                origin, f"{origin}: gateway_legacy_sources returned {found} where a LegacySource belongs"
            )
            return
        _, first = self._sources.setdefault(source.name, (source, origin))
        if first is not origin:
            sentence = f"{origin}: the legacy source {source.name!r} is brought by {first.claim} already"
            self.report(origin, f"{sentence}; put one of them into STORAGE_PLUGINS_DENY")

    def _reject(
        self, origin: Origin, sentence: str, *, backend: str | None = None, missing_driver: bool = False
    ) -> None:
        """Report a problem that takes a backend away: the named one, or the entry point's namesake."""
        if backend is not None or origin.group == BACKENDS:
            self._unusable[backend or origin.name] = sentence
        self.report(origin, sentence, missing_driver)

    def report(self, origin: Origin, sentence: str, missing_driver: bool = False) -> None:
        """Add a problem."""
        problem = PluginProblem(origin.name, origin.group, origin.distribution, sentence, missing_driver)
        self._problems.append(problem)


def discover(
    *,
    deny: Iterable[str] = (),
    entry_points: Callable[[], Iterable[EntryPoint]] = installed_entry_points,
    extra_plugins: Mapping[str, object] = MappingProxyType({}),
    groups: Sequence[str] = DEFAULT_GROUPS,
) -> PluginRegistry:
    """Return what is installed.

    Args:
        deny: Plugins to leave alone: the name of an entry point, of a distribution, or `distribution:name`.
            The built-in record kinds are part of the API and stay.
        entry_points: Returns the entry points of all groups; by default those of every distribution.
        extra_plugins: Plugin objects of this process by name; see `PluginRegistry.register`.
        groups: Which groups to load.

    Raises:
        PluginError: One of `extra_plugins` is faulty. Installed plugins that are become `problems`.
    """
    registry = PluginRegistry()
    wanted = {normal(item): item for item in deny}
    found = by_precedence(entry_points())
    for origin, entry in found:
        if origin.group not in groups:
            continue
        if origin.spellings.isdisjoint(wanted):
            registry.load(entry, origin)
        else:
            registry.deny(origin)
    spellings = {spelling for origin, _ in found for spelling in origin.spellings}
    for spelling, item in wanted.items():
        if spelling not in spellings:
            registry.report(Origin(item, "deny", ""), nothing_denied(item, (origin for origin, _ in found)))
    for name, plugin in extra_plugins.items():
        registry.register(plugin, name)
    return registry

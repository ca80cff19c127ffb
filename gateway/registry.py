"""Guarded discovery of plugins: one that is broken is reported, and never stops the others.

Plugins are entry points of four groups. Each is loaded on its own, vetted before its hooks count, and asked for what
it brings. Whatever goes wrong becomes a `PluginProblem`; only a configuration that uses what has the problem fails,
with the same sentence.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from gateway.backend import BackendSpec
from gateway.catalogue import CATALOGUE, DISTRIBUTION, did_you_mean, install_hint, unknown_backend
from gateway.errors import ConfigurationError, PluginError, UnknownBackendError
from gateway.legacy import LegacySource
from gateway.records import builtin
from gateway.records.kind import KindSpec
from gateway.records.registry import KindRegistry, declared_kinds
from gateway.vetting import brief, fault_of_backend, fault_of_hooks, items_of, new_manager, type_name

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

BACKENDS: Final = "storage_gateway.backends"
RECORD_KINDS: Final = "storage_gateway.record_kinds"
LEGACY_SOURCES: Final = "storage_gateway.legacy_sources"
CLI: Final = "storage_gateway.cli"
DEFAULT_GROUPS: Final = (RECORD_KINDS, BACKENDS, LEGACY_SOURCES)
"""What a gateway loads. Commands are left to the command line, which alone has typer."""
ALL_GROUPS: Final = (*DEFAULT_GROUPS, CLI)

IN_PROCESS: Final = "in-process"
"""The group of plugins that were passed in as objects."""

_log: Final = logging.getLogger(__name__)
_warned: Final[set[PluginProblem]] = set()


@dataclass(frozen=True, slots=True)
class PluginProblem:
    """Why a plugin, or a part of it, cannot be used.

    Attributes:
        name: Name of the entry point, or of what it brings.
        group: Entry point group, or `in-process`.
        distribution: Who published it.
        sentence: What is wrong and what to do.
    """

    name: str
    group: str
    distribution: str
    sentence: str


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


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where a plugin was found."""

    name: str
    group: str
    distribution: str
    version: str = ""

    def __str__(self) -> str:
        return f"plugin {self.name!r} ({f'{self.distribution} {self.version}'.strip()})"


class PluginRegistry:
    """What is installed: backends, record kinds, legacy sources, and what is wrong with the rest.

    Make it with `discover`. Plugins stand in `manager` under `plugin:<name>`, so that opened backends can be
    registered beside them under their instance names.

    Attributes:
        manager: The pluggy manager with every hook specification and every usable plugin.
        denied: What was left out because `STORAGE_PLUGINS_DENY` names it, as `name (distribution)`.
    """

    def __init__(self) -> None:
        self.manager = new_manager()
        self.denied: tuple[str, ...] = ()
        self._backends: dict[str, BackendPlugin] = {}
        self._kinds = KindRegistry()
        self._claims: dict[str, list[str]] = {}
        self._sources: dict[str, LegacySource] = {}
        self._source_origin: dict[str, str] = {}
        self._unusable: dict[str, str] = {}
        self._problems: list[PluginProblem] = []
        self._origins: dict[str, _Origin] = {}
        self._take(builtin, _Origin("builtin", RECORD_KINDS, DISTRIBUTION))

    def __repr__(self) -> str:
        return f"<PluginRegistry backends={','.join(self._backends)} problems={len(self._problems)}>"

    @property
    def backends(self) -> Mapping[str, BackendPlugin]:
        """The usable backends by name."""
        return MappingProxyType(self._backends)

    @property
    def unusable(self) -> Mapping[str, str]:
        """Names of backends that are installed but cannot be used, with the sentence that says why."""
        return MappingProxyType(
            {name: why for name, why in self._unusable.items() if name not in self._backends}
        )

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
        return MappingProxyType(self._sources)

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
            PluginError: Something is wrong with it; the message says what. Usable parts of it stay registered.
        """
        before = len(self._problems)
        self._take(plugin, _Origin(name, IN_PROCESS, IN_PROCESS))
        if len(self._problems) > before:
            raise PluginError("; ".join(problem.sentence for problem in self._problems[before:]))

    def extend_cli(self, app: typer.Typer) -> None:
        """Let every plugin add its commands; one that fails becomes a problem."""
        for name, origin in list(self._origins.items()):
            try:
                self._ask("gateway_cli", name, app=app)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a foreign plugin may raise anything; it is reported
                self._report(origin, f"{origin}: gateway_cli failed with {brief(error)}; {_way_out(origin)}")

    def warn(self) -> None:
        """Log every problem as a warning, once a process."""
        for problem in self._problems:
            if problem not in _warned:
                _warned.add(problem)
                _log.warning("%s", problem.sentence)

    def _load(self, entry: EntryPoint, origin: _Origin) -> None:
        """Import one entry point and take what it brings."""
        try:
            plugin = entry.load()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - importing foreign code may raise anything; it is reported
            self._reject(origin, _import_sentence(entry, origin, error))
            return
        self._take(plugin, origin)

    def _take(self, plugin: object, origin: _Origin) -> None:
        """Vet a plugin, register it and collect what its hooks return. A module is taken once, whatever its groups."""
        if self.manager.is_registered(plugin):
            return
        fault = fault_of_hooks(plugin)
        name = (
            f"plugin:{origin.name}"
            if origin.group == IN_PROCESS
            else f"plugin:{origin.group}:{origin.distribution}:{origin.name}"
        )
        if fault is None and self.manager.has_plugin(name):
            fault = "is registered twice under this name; choose another name for one"
        if fault is not None:
            self._reject(origin, f"{origin} {fault}; {_way_out(origin)}")
            return
        self.manager.register(plugin, name)
        self._origins[name] = origin
        self._collect(name, origin)

    def _collect(self, name: str, origin: _Origin) -> None:
        adders: dict[str, Callable[[Any, _Origin], None]] = {
            "gateway_backends": self._add_backend,
            "gateway_record_kinds": self._add_kind,
            "gateway_legacy_sources": self._add_source,
        }
        for hook, add in adders.items():
            try:
                items = [item for answer in self._ask(hook, name) for item in items_of(answer)]
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a foreign hook may raise anything; it is reported
                self._reject(origin, f"{origin}: {hook} failed with {brief(error)}; {_way_out(origin)}")
                continue
            for item in items:
                add(item, origin)

    def _ask(self, hook: str, name: str, **arguments: Any) -> list[Any]:
        """Call a hook of one plugin, so that another one's failure cannot be mistaken for its own."""
        others = [
            other for key, other in self.manager.list_name_plugin() if key != name and other is not None
        ]
        answers: list[Any] = self.manager.subset_hook_caller(hook, others)(**arguments)
        return answers

    def _add_backend(self, spec: object, origin: _Origin) -> None:
        fault = fault_of_backend(spec)
        if fault is not None or not isinstance(spec, BackendSpec):
            name = getattr(spec, "name", None)
            self._reject(
                origin, f"{origin}: {fault}; {_way_out(origin)}", name if isinstance(name, str) else None
            )
            return
        claims = self._claims.setdefault(spec.name, [])
        claims.append(f"{origin.distribution}:{origin.name}")
        if len(claims) == 1:
            self._backends[spec.name] = BackendPlugin(spec, origin.distribution, origin.version, origin.name)
        else:
            self._refuse_rivals(spec.name, claims, origin)

    def _refuse_rivals(self, name: str, claims: Sequence[str], origin: _Origin) -> None:
        """Make a name that several plugins claim unusable: choosing silently would choose where the data goes."""
        self._backends.pop(name, None)
        sentence = (
            f"the backend {name!r} is brought by {' and '.join(claims)}; keep one and put the others into "
            "STORAGE_PLUGINS_DENY, written like that"
        )
        self._reject(origin, sentence, name)

    def _add_kind(self, kind: object, origin: _Origin) -> None:
        if not isinstance(kind, KindSpec):
            found = type_name(kind)
            self._report(origin, f"{origin}: gateway_record_kinds returned {found} where a KindSpec belongs")
            return
        try:
            self._kinds.add(kind, origin.distribution)
        except ConfigurationError as error:
            self._report(origin, f"{origin}: {error}")

    def _add_source(self, source: object, origin: _Origin) -> None:
        if not isinstance(source, LegacySource):
            found = type_name(source)
            self._report(
                origin, f"{origin}: gateway_legacy_sources returned {found} where a LegacySource belongs"
            )
            return
        if source.name not in self._sources:
            self._sources[source.name] = source
            self._source_origin[source.name] = f"{origin.distribution}:{origin.name}"
            return
        rival = self._source_origin[source.name]
        self._report(
            origin,
            f"{origin}: the legacy source {source.name!r} is brought by {rival} already; "
            "put one of them into STORAGE_PLUGINS_DENY",
        )

    def _reject(self, origin: _Origin, sentence: str, backend: str | None = None) -> None:
        """Report a problem that takes a backend away: the named one, or the one the entry point is named for."""
        if backend is not None or origin.group == BACKENDS:
            self._unusable[backend or origin.name] = sentence
        self._report(origin, sentence)

    def _report(self, origin: _Origin, sentence: str) -> None:
        self._problems.append(PluginProblem(origin.name, origin.group, origin.distribution, sentence))

    def _deny(self, origin: _Origin) -> None:
        self.denied = (*self.denied, f"{origin.name} ({origin.distribution})")
        if origin.group == BACKENDS:
            self._unusable.setdefault(
                origin.name,
                f"the backend {origin.name!r} is switched off by STORAGE_PLUGINS_DENY; take it out of there to use it",
            )


def discover(
    *,
    deny: Iterable[str] = (),
    entry_points: Callable[[], Iterable[EntryPoint]] | None = None,
    extra_plugins: Mapping[str, object] = MappingProxyType({}),
    groups: Sequence[str] = DEFAULT_GROUPS,
) -> PluginRegistry:
    """Return what is installed.

    Args:
        deny: Plugins to leave alone: the name of an entry point, of a distribution, or `distribution:name`. The
            built-in record kinds are part of the API and stay.
        entry_points: Returns the entry points of all groups; by default those of every installed distribution.
        extra_plugins: Plugin objects of this process by name; see `PluginRegistry.register`.
        groups: Which groups to load.

    Raises:
        PluginError: One of `extra_plugins` is faulty. Installed plugins that are become `problems`.
    """
    registry = PluginRegistry()
    found = sorted(((_origin(entry), entry) for entry in (entry_points or _installed)()), key=_precedence)
    unmatched = {_normal(item): item for item in deny}
    denied = frozenset(unmatched)
    for origin, entry in found:
        hits = denied & _spellings(origin)
        for hit in hits:
            unmatched.pop(hit, None)
        if origin.group not in groups:
            continue
        if hits:
            registry._deny(origin)  # noqa: SLF001 - the registry's own maker, in its own module
        else:
            registry._load(entry, origin)  # noqa: SLF001 - the same
    names = {origin.name for origin, _ in found} | {origin.distribution for origin, _ in found}
    for item in unmatched.values():
        registry._report(_Origin(item, "deny", ""), _nothing_denied(item, names))  # noqa: SLF001 - the same
    for name, plugin in extra_plugins.items():
        registry.register(plugin, name)
    return registry


def _installed() -> list[EntryPoint]:
    """Return the entry points of our groups; one look through the installed distributions for all of them."""
    found = entry_points()
    return [entry for group in ALL_GROUPS for entry in found.select(group=group)]


def _origin(entry: EntryPoint) -> _Origin:
    dist = entry.dist
    return (
        _Origin(entry.name, entry.group, dist.name, dist.version)
        if dist
        else _Origin(entry.name, entry.group, "unknown")
    )


def _precedence(item: tuple[_Origin, EntryPoint]) -> tuple[int, bool, str, str]:
    """Sort kinds before backends, and our own plugins before foreign ones, so that messages blame the newcomer."""
    origin = item[0]
    group = ALL_GROUPS.index(origin.group) if origin.group in ALL_GROUPS else len(ALL_GROUPS)
    return (group, _normal(origin.distribution) != DISTRIBUTION, origin.distribution, origin.name)


def _normal(name: str) -> str:
    """Return a name as package indexes compare names: `-`, `_` and `.` are one, and case does not count."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _spellings(origin: _Origin) -> frozenset[str]:
    name, distribution = _normal(origin.name), _normal(origin.distribution)
    return frozenset({name, distribution, f"{distribution}:{name}"})


def _nothing_denied(item: str, names: Iterable[str]) -> str:
    return f"STORAGE_PLUGINS_DENY names {item!r}, which is no installed plugin{did_you_mean(item, names)}"


def _import_sentence(entry: EntryPoint, origin: _Origin, error: BaseException) -> str:
    """Say why an entry point cannot be imported; our own backends lack their extra when they lack a module."""
    package = entry.value.partition(":")[0].partition(".")[0]
    extra = package.removeprefix("gateway_")
    missing = isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] != package
    if missing and _normal(origin.distribution) == DISTRIBUTION and extra in CATALOGUE:
        return f"{origin} needs a driver that is not installed ({brief(error)}); install it with {install_hint(extra)}"
    return f"{origin} cannot be loaded: {brief(error)}; {_way_out(origin)}"


def _way_out(origin: _Origin) -> str:
    if origin.group == IN_PROCESS:
        return "fix the object that was registered"
    return f"update or reinstall {origin.distribution}, or put {origin.name} into STORAGE_PLUGINS_DENY"

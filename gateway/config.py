"""Configuration: from what the user wrote to stores, their settings and the routing plan.

`load_configuration` is the way in. It opens nothing and writes nothing, and is pure once it is given the
environment. Whatever cannot work is refused here, with the variable's name in the sentence.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydantic import ValidationError

from gateway.backend import BackendSettings, BackendSpec, OpenContext
from gateway.catalogue import CATALOGUE
from gateway.concerns import exposure_concerns, store_concerns, uncached_concerns
from gateway.errors import ConfigurationError, PluginError, UnknownBackendError
from gateway.findings import Finding
from gateway.guard import refuse
from gateway.kind_settings import cached_kinds, first_plan, named_kind
from gateway.provenance import ConfigValue, gateway_values, store_values
from gateway.records.kind import KindSpec
from gateway.redaction import redact
from gateway.registry import PluginRegistry
from gateway.routing import RoutingPlan
from gateway.settings import PREFIX, GatewaySettings, variables_of
from gateway.shadow.sampling import parse_rates
from gateway.stores import BACKENDS, StoreName, check_locations, files_of, named_stores, variable_of
from gateway.variables import ARGUMENT, DEFAULT, ENVIRONMENT, Given, Variables, explain_settings

__all__ = [
    "ConfigValue",
    "Configuration",
    "StoreConfig",
    "denied_plugins",
    "load_configuration",
    "open_context",
]

RESERVED: Final = (f"{PREFIX}TEST_", f"{PREFIX}BENCH_", f"{PREFIX}DEMO_")
"""Prefixes that belong to test suites, benchmarks and the demo, which may share the environment."""

ENV_FILE: Final = Path(".env")
FIELDS: Final = tuple(GatewaySettings.model_fields)


@dataclass(frozen=True, slots=True, repr=False)
class StoreConfig:
    """One store, ready to be opened.

    Attributes:
        instance: Its name in settings, errors and spans.
        spec: Its backend.
        settings: The backend's settings, validated.
    """

    instance: str
    spec: BackendSpec
    settings: BackendSettings

    def __repr__(self) -> str:
        # The settings may hold a password, in a field or in the URL.
        return f"<StoreConfig {self.instance}={self.spec.name}:{redact(self.settings.url or '')}>"


@dataclass(frozen=True, slots=True, repr=False)
class Configuration:
    """Everything a gateway needs to know before it opens anything.

    Attributes:
        settings: The gateway's own settings.
        stores: One store or two, in the order of `STORAGE_BACKENDS`; the first is the old one.
        plan: Where every kind stands, by `STORAGE_PHASE` and `STORAGE_CUTOVER`.
        values: Every setting with its source.
        secret_file: The env file, if it holds passwords; None otherwise.
        cache: The cache in front of the stores; None without one.
        cached: The kinds that it serves.
        cacheable: Those, and all others that it may serve for another process.
    """

    settings: GatewaySettings
    stores: tuple[StoreConfig, ...]
    plan: RoutingPlan
    values: tuple[ConfigValue, ...]
    secret_file: Path | None = None
    cache: StoreConfig | None = None
    cached: tuple[KindSpec, ...] = ()
    cacheable: tuple[KindSpec, ...] = ()

    def __repr__(self) -> str:
        return f"<Configuration {', '.join(map(repr, self.stores))} phase={self.plan.default.phase.value}>"

    @property
    def control_path(self) -> Path:
        """File of the control store."""
        return self.settings.control_path

    @property
    def opened(self) -> tuple[StoreConfig, ...]:
        """The stores and the cache: everything that a gateway opens."""
        return self.stores if self.cache is None else (*self.stores, self.cache)

    def concerns(self, *stores: StoreConfig) -> list[Finding]:
        """Return what is not safe about stores and their files: failures in production, warnings elsewhere.

        Args:
            stores: The stores to look at.

        Raises:
            ConfigurationError: The settings of one contradict each other.
        """
        production = self.settings.is_production
        uncached = uncached_concerns(self.cached, self.plan, {one.instance: one.spec for one in self.stores})
        found = [store_concerns(store.instance, store.settings, production=production) for store in stores]
        return [*self._exposed(), *uncached, *chain.from_iterable(found)]

    def store(self, instance: str) -> StoreConfig:
        """Return one store by its instance name.

        Raises:
            ConfigurationError: There is no such store; the message lists those there are.
        """
        for store in self.stores:
            if store.instance == instance:
                return store
        names = ", ".join(store.instance for store in self.stores)
        raise ConfigurationError(f"no store {instance!r} is configured; STORAGE_BACKENDS names {names}")

    def _exposed(self) -> list[Finding]:
        """Return what other users of this machine may read and should not: failures in production."""
        places = [self.settings.data_dir, self.control_path]
        places += [path for store in self.stores for path in files_of(store.spec, store.settings.url)]
        return exposure_concerns(self.secret_file, places, production=self.settings.is_production)


def load_configuration(
    registry: PluginRegistry,
    *,
    environ: Mapping[str, str] | None = None,
    env_file: Path | None = ENV_FILE,
    overrides: Mapping[str, Any] = MappingProxyType({}),
) -> Configuration:
    """Return the configuration that variables and arguments give.

    Args:
        registry: What is installed; make it with `discover(deny=denied_plugins(...))` of the same variables.
        environ: The environment; by default that of this process.
        env_file: File of `NAME=value` lines, read where the environment says nothing; None reads none.
        overrides: Arguments, which win over everything: any variable's name in lower case without `STORAGE_`,
            such as `backends` or `sqlite_url`. None means not given.

    Raises:
        UnknownVariableError: A variable or argument that nobody reads.
        UnknownBackendError: A backend that is not installed.
        UnknownKindError: `STORAGE_CUTOVER`, or another list of kinds, names one that nobody registered.
        PluginError: A backend whose plugin is broken, denied, or brought twice.
        ConfigurationError: Anything else that cannot work, one sentence for each variable.
    """
    variables = Variables(os.environ if environ is None else environ, env_file, overrides)
    settings = _read_settings(variables)
    names = named_stores(settings.backends, variables, registry)
    _refuse_unknown(variables, registry, names)
    opened = tuple(_read_store(name, variables, registry) for name in names)
    _check_stores(opened)
    stores = tuple(store for store in opened if store.spec.store_of_record)
    cache = opened[-1] if len(stores) < len(opened) else None
    plan = first_plan(settings, tuple(store.instance for store in stores), registry.kinds)
    values = gateway_values(settings, variables, plan, () if cache is None else (cache.instance,))
    for name, store in zip(names, opened, strict=True):
        values += store_values(name, store.settings, variables)
    cached = cached_kinds(settings, registry.kinds) if cache is not None else ()
    for kind in parse_rates(settings.shadow_sample).kinds:
        named_kind(f"{PREFIX}SHADOW_SAMPLE", kind, registry.kinds)
    cacheable = tuple(kind for kind in registry.kinds if kind.cacheable)
    return Configuration(
        settings, stores, plan, tuple(values), variables.secret_file, cache, cached, cacheable
    )


def denied_plugins(
    *,
    environ: Mapping[str, str] | None = None,
    env_file: Path | None = ENV_FILE,
    overrides: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[str, ...]:
    """Return what `STORAGE_PLUGINS_DENY` names, which must be known before any plugin is loaded.

    Takes the same variables and arguments as `load_configuration`, and no notice of the others.

    Raises:
        ConfigurationError: It is no list of names, or the env file cannot be read.
    """
    variables = Variables(os.environ if environ is None else environ, env_file, overrides)
    return _read_settings(variables, ("plugins_deny",)).plugins_deny


def open_context(
    config: Configuration, store: StoreConfig, kinds: Iterable[KindSpec], read_only: bool = False
) -> OpenContext:
    """Return what a backend gets to open a store, which nobody opens without: so here what is not safe is refused.

    Args:
        config: Gives the data directory.
        store: One of `config.stores`.
        kinds: Every registered kind.
        read_only: Do not write, lock or migrate.

    Raises:
        ConfigurationError: It must not be opened like this in production, or its settings contradict each other.
    """
    settings = config.settings
    refuse(config.concerns(store))
    return OpenContext(
        store.instance,
        store.settings,
        tuple(kinds),
        settings.data_dir,
        read_only,
        settings.is_production,
        settings.timeout,
        config.cache is not None,
    )


def _read_settings(variables: Variables, fields: Iterable[str] = FIELDS) -> GatewaySettings:
    given = {name: variables.first(*variables_of(name)) for name in fields}
    try:
        return GatewaySettings(**{name: value.value for name, value in given.items() if value is not None})
    except ValidationError as error:
        # `from None`: the sentences say all that pydantic's report does, and the report would end up in logs.
        raise ConfigurationError(
            explain_settings(error, lambda name: (variables_of(name)[0], given.get(name)))
        ) from None


def _refuse_unknown(variables: Variables, registry: PluginRegistry, names: Iterable[StoreName]) -> None:
    known = {f"{PREFIX}{field.upper()}" for field in FIELDS}
    reserved: set[str] = set(RESERVED)
    owners = {name: name for name in (*registry.backends, *registry.unusable, *CATALOGUE)}
    owners |= {name.instance: name.backend for name in names}
    for owner, backend in owners.items():
        plugin = registry.backends.get(backend)
        if plugin is None:
            # Not installed, broken or denied: its variables may stand in an environment that others share.
            reserved.add(variable_of(owner, ""))
        else:
            known |= {variable_of(owner, field) for field in plugin.spec.settings.model_fields}
    variables.refuse_unknown(known, reserved)


def _read_store(name: StoreName, variables: Variables, registry: PluginRegistry) -> StoreConfig:
    """Find the backend of a store and validate its settings."""
    spec = _find_backend(name, registry)
    if not spec.store_of_record and name.source != BACKENDS:
        raise ConfigurationError(
            f"{name.source} names {spec.name}, which is a cache and no store; name a store that keeps data, and the "
            f"cache behind it in {BACKENDS}"
        )
    if name.instance != name.backend and name.instance in registry.backends:
        raise ConfigurationError(
            f"{name.source} calls a {name.backend} store {name.instance!r}, which is another backend's name; "
            "choose another"
        )
    given = {field: variables.get(variable_of(name.instance, field)) for field in spec.settings.model_fields}
    values = {field: value.value for field, value in given.items() if value is not None}
    location = _location(name, given.get("url"))
    if location is not None:
        values["url"] = location
    try:
        settings = spec.settings.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError(
            explain_settings(error, lambda field: _given_for(name, field, given.get(field)))
        ) from None  # as above
    return StoreConfig(name.instance, spec, settings)


def _find_backend(name: StoreName, registry: PluginRegistry) -> BackendSpec:
    """Find a backend; if the user did not name it himself, the error says why it is asked for."""
    try:
        return registry.backend(name.backend)
    except (PluginError, UnknownBackendError) as error:
        if name.source == BACKENDS:
            raise
        why = f"{BACKENDS} is not set, and then" if name.source == DEFAULT else f"by {name.source},"
        reason = str(error).rstrip(".")
        raise type(error)(
            f"{why} {name.backend} is used: {reason}. Or set {BACKENDS} to another store"
        ) from error


def _given_for(name: StoreName, field: str, given: Given | None) -> tuple[str, Given | None]:
    if field == "url" and given is None and name.location is not None:
        given = Given(name.source, name.location, ENVIRONMENT)
    return variable_of(name.instance, field), given


def _location(name: StoreName, url: Given | None) -> str | None:
    """Return where a store is.

    Raises:
        ConfigurationError: `STORAGE_BACKENDS` and the URL variable say different things.
    """
    if url is None:
        return name.location
    written = str(url.value)
    if name.location is None or name.source != BACKENDS or url.source == ARGUMENT or written == name.location:
        return written
    raise ConfigurationError(
        f"{BACKENDS} gives {name.instance!r} another location than {url.label}; keep one of the two"
    )


def _check_stores(stores: Sequence[StoreConfig]) -> None:
    """Refuse stores that are the same, and names that make one variable mean two things."""
    check_locations((store.instance, store.spec, store.settings) for store in stores)
    meanings = {f"{PREFIX}{field.upper()}": "the gateway" for field in FIELDS}
    for store in stores:
        for field in store.spec.settings.model_fields:
            variable = variable_of(store.instance, field)
            other = meanings.setdefault(variable, store.instance)
            if other != store.instance:
                raise ConfigurationError(
                    f"{variable} would mean a setting of {store.instance!r} and one of {other}; "
                    f"give the store another name in {BACKENDS}"
                )

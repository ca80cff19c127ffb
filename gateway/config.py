"""Configuration: from what the user wrote to stores, their settings and the routing plan. Pure, given the variables.

`load_configuration` is the way in. It opens nothing and writes nothing; whatever cannot work is refused here, with
the variable's name in the sentence.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydantic import SecretBytes, SecretStr, ValidationError

from gateway.backend import BackendSettings, BackendSpec, OpenContext
from gateway.catalogue import CATALOGUE
from gateway.errors import ConfigurationError, UnknownKindError
from gateway.migration.phases import Phase
from gateway.records.kind import KindSpec
from gateway.redaction import HIDDEN, is_secret_name, redact
from gateway.registry import PluginRegistry
from gateway.routing import KindPlan, RoutingPlan, parse_cutover
from gateway.settings import PREFIX, GatewaySettings
from gateway.stores import BACKENDS, StoreName, check_locations, named_stores
from gateway.variables import ARGUMENT, Given, Variables, explain_settings

__all__ = [
    "ConfigValue",
    "Configuration",
    "StoreConfig",
    "denied_plugins",
    "load_configuration",
    "open_context",
]

ALIASES: Final[Mapping[str, tuple[str, ...]]] = {"environment": ("ENVIRONMENT", "RAILWAY_ENVIRONMENT")}
"""Variables without the prefix that mean a setting, in the order they are asked."""

RESERVED: Final = (f"{PREFIX}TEST_", f"{PREFIX}BENCH_")
"""Prefixes that belong to test suites and benchmarks, which may share the environment."""

DEFAULT: Final = "default"
ENV_FILE: Final = Path(".env")


@dataclass(frozen=True, slots=True)
class ConfigValue:
    """One setting as `gateway config` shows it.

    Attributes:
        variable: Its variable.
        value: Its value as text, without secrets.
        source: `environment`, `.env`, `argument`, `default`, or the variable that stands in for it.
    """

    variable: str
    value: str
    source: str


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
    """

    settings: GatewaySettings
    stores: tuple[StoreConfig, ...]
    plan: RoutingPlan
    values: tuple[ConfigValue, ...]

    def __repr__(self) -> str:
        return f"<Configuration {', '.join(map(repr, self.stores))} phase={self.plan.default.phase.value}>"

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
        overrides: Arguments, which win over everything: any variable's name in lower case without `STORAGE_`, such
            as `backends` or `sqlite_url`. None means not given.

    Raises:
        UnknownVariableError: A variable or argument that nobody reads.
        UnknownBackendError: A backend that is not installed.
        UnknownKindError: `STORAGE_CUTOVER` names a kind that nobody registered.
        PluginError: A backend whose plugin is broken, denied, or brought twice.
        ConfigurationError: Anything else that cannot work, one sentence for each variable.
    """
    variables = Variables(os.environ if environ is None else environ, env_file, overrides)
    settings = _read_settings(variables)
    names = named_stores(settings.backends, variables, registry)
    _refuse_unknown(variables, registry, names)
    stores = tuple(_read_store(name, variables, registry) for name in names)
    _check_stores(stores)
    plan = _plan(settings, stores, registry)
    values = (*_gateway_values(settings, variables, plan), *_store_values(stores, names, variables))
    registry.warn()
    return Configuration(settings, stores, plan, values)


def denied_plugins(
    *,
    environ: Mapping[str, str] | None = None,
    env_file: Path | None = ENV_FILE,
    overrides: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[str, ...]:
    """Return what `STORAGE_PLUGINS_DENY` names, which must be known before any plugin is loaded."""
    given = Variables(os.environ if environ is None else environ, env_file, overrides).get(
        f"{PREFIX}PLUGINS_DENY"
    )
    return GatewaySettings(plugins_deny=given.value).plugins_deny if given else ()


def open_context(
    config: Configuration, store: StoreConfig, kinds: Iterable[KindSpec], read_only: bool = False
) -> OpenContext:
    """Return what a backend gets to open a store.

    Args:
        config: Gives the data directory.
        store: One of `config.stores`.
        kinds: Every registered kind.
        read_only: Do not write, lock or migrate.
    """
    return OpenContext(store.instance, store.settings, tuple(kinds), config.settings.data_dir, read_only)


def _read_settings(variables: Variables) -> GatewaySettings:
    given = {name: variables.first(*_variables_of(name)) for name in GatewaySettings.model_fields}
    try:
        return GatewaySettings(**{name: value.value for name, value in given.items() if value is not None})
    except ValidationError as error:
        # `from None`: the sentences say all that pydantic's report does, and the report would end up in logs.
        raise ConfigurationError(
            explain_settings(error, lambda name: (_variables_of(name)[0], given.get(name)))
        ) from None


def _variables_of(field: str) -> tuple[str, ...]:
    """Return the variables that a setting of the gateway is read from, the first that is set."""
    return (f"{PREFIX}{field.upper()}", *ALIASES.get(field, ()))


def _variable(owner: str, field: str) -> str:
    """Return the variable of a backend's setting; the owner is an instance or a backend."""
    return f"{PREFIX}{owner}_{field}".upper()


def _refuse_unknown(variables: Variables, registry: PluginRegistry, names: Iterable[StoreName]) -> None:
    known = {f"{PREFIX}{field.upper()}" for field in GatewaySettings.model_fields}
    reserved = set(RESERVED)
    owners = {name: name for name in (*registry.backends, *registry.unusable, *CATALOGUE)}
    owners |= {name.instance: name.backend for name in names}
    for owner, backend in owners.items():
        plugin = registry.backends.get(backend)
        if plugin is None:
            # Not installed, broken or denied: its variables may stand in an environment that others share.
            reserved.add(_variable(owner, ""))
        else:
            known |= {_variable(owner, field) for field in plugin.spec.settings.model_fields}
    variables.refuse_unknown(known, reserved)


def _read_store(name: StoreName, variables: Variables, registry: PluginRegistry) -> StoreConfig:
    """Find the backend of a store and validate its settings."""
    spec = registry.backend(name.backend)
    if not spec.store_of_record:
        raise ConfigurationError(
            f"{name.source} names {spec.name}, which is a cache and no store; name a store that keeps data"
        )
    if name.instance != name.backend and name.instance in registry.backends:
        raise ConfigurationError(
            f"{name.source} calls a {name.backend} store {name.instance!r}, which is another backend's name; choose another"
        )
    given = {field: variables.get(_variable(name.instance, field)) for field in spec.settings.model_fields}
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


def _given_for(name: StoreName, field: str, given: Given | None) -> tuple[str, Given | None]:
    if field == "url" and given is None and name.location is not None:
        given = Given(name.source, name.location, "environment")
    return _variable(name.instance, field), given


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
    meanings = {f"{PREFIX}{field.upper()}": "the gateway" for field in GatewaySettings.model_fields}
    for store in stores:
        for field in store.spec.settings.model_fields:
            variable = _variable(store.instance, field)
            other = meanings.setdefault(variable, store.instance)
            if other != store.instance:
                raise ConfigurationError(
                    f"{variable} would mean a setting of {store.instance!r} and one of {other}; "
                    f"give the store another name in {BACKENDS}"
                )


def _plan(settings: GatewaySettings, stores: Sequence[StoreConfig], registry: PluginRegistry) -> RoutingPlan:
    pair = len(stores) == 2
    phase = settings.phase or (Phase.DUAL_WRITE if pair else Phase.LEGACY)
    shares = parse_cutover(settings.cutover)
    if not pair and (shares or phase not in {Phase.LEGACY, Phase.COMPLETE}):
        culprit = f"{PREFIX}CUTOVER" if shares else f"{PREFIX}PHASE={phase.value}"
        raise ConfigurationError(
            f"{culprit} needs two stores, but only {stores[0].instance!r} is named; name both in {BACKENDS}, the old one first"
        )
    for kind in shares:
        try:
            registry.kinds.get(kind)
        except UnknownKindError as error:
            raise UnknownKindError(f"{PREFIX}CUTOVER: {error}") from error
    kinds = {kind: KindPlan(phase, share) for kind, share in shares.items()}
    return RoutingPlan(
        tuple(store.instance for store in stores), KindPlan(phase), kinds, settings.mirror_mode
    )


def _gateway_values(settings: GatewaySettings, variables: Variables, plan: RoutingPlan) -> list[ConfigValue]:
    computed: dict[str, object] = {
        "backends": ",".join(plan.backends),
        "phase": plan.default.phase,
        "control_url": settings.control_path,
    }
    return [
        _gateway_value(field, settings, variables, computed.get(field))
        for field in GatewaySettings.model_fields
    ]


def _gateway_value(
    field: str, settings: GatewaySettings, variables: Variables, computed: object
) -> ConfigValue:
    variable, *aliases = _variables_of(field)
    given = variables.first(variable, *aliases)
    value = getattr(settings, field)
    return ConfigValue(
        variable, _text(variable, computed if value in (None, "") else value), _source(given, aliases)
    )


def _store_values(
    stores: Sequence[StoreConfig], names: Sequence[StoreName], variables: Variables
) -> list[ConfigValue]:
    values = []
    for store, name in zip(stores, names, strict=True):
        for field in store.spec.settings.model_fields:
            variable = _variable(store.instance, field)
            source = _source(variables.get(variable), ())
            if field == "url" and source == DEFAULT and name.location is not None:
                source = name.source
            value = getattr(store.settings, field)
            if field == "url" and value is None:
                value = "(chosen by the backend)"
            values.append(ConfigValue(variable, _text(variable, value), source))
    return values


def _source(given: Given | None, aliases: Sequence[str]) -> str:
    if given is None:
        return DEFAULT
    return given.name if given.name.upper() in aliases else given.source


def _text(variable: str, value: object) -> str:
    """Return a value for people, without secrets."""
    if value is None or value == "":
        return "(not set)"
    if isinstance(value, SecretStr | SecretBytes) or is_secret_name(variable):
        return HIDDEN
    if isinstance(value, Enum):
        return str(value.value)
    return redact(
        ", ".join(map(str, value)) if isinstance(value, tuple | list | frozenset | set) else str(value)
    )

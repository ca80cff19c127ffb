"""Where each setting came from: its value as text, without secrets, and its source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from pydantic import SecretBytes, SecretStr

from gateway.backend import BackendSettings
from gateway.redaction import HIDDEN, is_secret_name, redact
from gateway.routing import RoutingPlan
from gateway.settings import GatewaySettings, variables_of
from gateway.stores import StoreName, variable_of
from gateway.variables import DEFAULT, Given, Variables

__all__ = ["ConfigValue", "gateway_values", "store_values"]


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


def gateway_values(
    settings: GatewaySettings, variables: Variables, plan: RoutingPlan, caches: tuple[str, ...] = ()
) -> list[ConfigValue]:
    """Return the gateway's own settings; those that follow from others are shown as they came out."""
    derived: dict[str, object] = {
        "backends": ",".join((*plan.backends, *caches)),
        "phase": plan.default.phase,
        "control_url": settings.control_path,
    }
    values = []
    for field in GatewaySettings.model_fields:
        variable, *aliases = variables_of(field)
        value = getattr(settings, field) or derived.get(field, getattr(settings, field))
        source = _source(variables.first(variable, *aliases), aliases)
        values.append(ConfigValue(variable, text_of(variable, value), source))
    return values


def store_values(name: StoreName, settings: BackendSettings, variables: Variables) -> list[ConfigValue]:
    """Return the settings of one store."""
    return [
        _store_value(name, field, getattr(settings, field), variables)
        for field in type(settings).model_fields
    ]


def _store_value(name: StoreName, field: str, value: object, variables: Variables) -> ConfigValue:
    variable = variable_of(name.instance, field)
    source = _source(variables.get(variable), ())
    if field == "url" and value is None:
        value = "(chosen by the backend)"
    elif field == "url" and source == DEFAULT and name.location is not None:
        source = name.source
    return ConfigValue(variable, text_of(variable, value), source)


def _source(given: Given | None, aliases: Sequence[str]) -> str:
    if given is None:
        return DEFAULT
    return given.name if given.name.upper() in aliases else given.source


def text_of(variable: str, value: object) -> str:
    """Return a value for people, without secrets; the variable's name tells whether all of it is one."""
    if value is None or value in ("", ()):
        return "(not set)"
    if isinstance(value, SecretStr | SecretBytes) or is_secret_name(variable):
        return HIDDEN
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple | list | frozenset | set):
        return redact(", ".join(map(str, value)))
    return redact(str(value))

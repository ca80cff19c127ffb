"""Declares the JSON backend: the entry point of the plugin."""

from __future__ import annotations

from gateway.backend import BackendSpec, Capability
from gateway.hookspecs import hookimpl
from gateway_json.backend import open_json
from gateway_json.settings import JsonSettings

__all__ = ["JSON", "gateway_backends"]

JSON = BackendSpec(
    name="json",
    summary="Files that a person can read: one JSON file a key, one JSON Lines file a day; one writer",
    open=open_json,
    settings=JsonSettings,
    capabilities=frozenset({Capability.DURABLE, Capability.UPDATE, Capability.PURGE}),
    url_schemes=("json",),
)


@hookimpl
def gateway_backends() -> tuple[BackendSpec, ...]:
    """Bring the JSON backend."""
    return (JSON,)

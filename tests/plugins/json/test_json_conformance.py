"""The JSON backend keeps every promise of the contract."""

from __future__ import annotations

from gateway.conformance import BackendConformance
from gateway_json.plugin import JSON


class TestJsonConformance(BackendConformance):
    """The JSON backend under the kit."""

    spec = JSON
    spec_path = "gateway_json.plugin:JSON"

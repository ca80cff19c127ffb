"""The conformance kit over this backend: all the tests that a backend needs to be trusted with a bot's money."""

from __future__ import annotations

from gateway.conformance import BackendConformance
from gateway_yourstore.plugin import YOURSTORE


class TestYourStore(BackendConformance):
    """Every promise of the contract, asked of this backend."""

    spec = YOURSTORE

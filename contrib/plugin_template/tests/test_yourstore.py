"""The conformance kit over this backend: what it takes to be trusted with a bot's records."""

from __future__ import annotations

from gateway_yourstore.plugin import YOURSTORE

from gateway.conformance import BackendConformance


class TestYourStore(BackendConformance):
    """Every promise of the contract, asked of this backend."""

    spec = YOURSTORE

"""Clauses about answers: "there is none" is not "I cannot say", and errors are the gateway's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from gateway.backend import Backend, Capability, Summarize
from gateway.conformance.clauses import clause
from gateway.conformance.harness import Harness
from gateway.conformance.kinds import PROBE_COUNTER, PROBE_LOG, UNREGISTERED
from gateway.conformance.rows import Scribe, batch, increment, minutes, span
from gateway.dispatch import Store
from gateway.errors import GatewayError, StoreError

__all__ = ["AnswerClauses"]


class AnswerClauses:
    """No data is an answer; no answer is an error."""

    @clause()
    async def test_an_empty_store_has_nothing(self, harness: Harness, store: Store) -> None:
        """A store without rows answers None, empty lists and zeros, and raises nothing."""
        scribe = harness.scribe()
        assert list(await store.get(PROBE_LOG, scribe.tenant, [("a",), ("b",)])) == [None, None]
        assert list(await store.query(scribe.query(PROBE_LOG))) == []
        assert list(await store.summarize(Summarize(PROBE_LOG, scribe.tenant, "label"))) == []
        fingerprint = await store.digest(span(scribe, PROBE_LOG))
        assert (fingerprint.rows, fingerprint.total) == (0, 0)

    @clause(Capability.PURGE)
    async def test_an_empty_store_purges_nothing(self, harness: Harness, store: Store) -> None:
        """Removing old rows where there are none removes zero rows."""
        assert await store.purge(PROBE_LOG, harness.scribe().tenant, minutes(1)) == 0

    @clause()
    async def test_an_open_store_is_healthy(self, harness: Harness, store: Store) -> None:
        """An open store says that it can be used, in a sentence, before and after a write."""
        for _ in range(2):
            health = await store.health()
            assert health.ok, f"an open store says: {health.summary}"
            assert health.summary
            await store.write(batch(harness.scribe().log()))

    @clause()
    async def test_a_closed_store_raises(self, harness: Harness, store: Store) -> None:
        """Each call to a closed store raises a `StoreError`, never an empty answer."""
        scribe = harness.scribe()
        await store.write(batch(scribe.log()))
        await store.close()
        for name, call in _calls(harness.backend(store), scribe, harness.spec.capabilities).items():
            with pytest.raises(StoreError) as caught:
                _unexpected(name, await call())
            assert str(caught.value), f"the error of {name} on a closed store has no text"

    @clause()
    async def test_a_closed_store_is_not_healthy(self, harness: Harness, store: Store) -> None:
        """Asked for its health, a closed store says that it cannot be used, and does not raise."""
        await store.close()
        health = await harness.backend(store).gateway_health()
        assert not health.ok, "a closed store says that it can be used"
        assert health.summary, "a store that is down must say what to do"

    @clause()
    async def test_closing_twice_is_fine(self, harness: Harness, store: Store) -> None:
        """Closing a closed store does nothing."""
        await store.write(batch(harness.scribe().log()))
        backend = harness.backend(store)
        for _ in range(3):
            await backend.gateway_close()

    @clause()
    async def test_errors_are_the_gateways_own(self, harness: Harness, store: Store) -> None:
        """What a store refuses, here an unknown kind, it refuses with the gateway's own errors."""
        scribe, backend = harness.scribe(), harness.backend(store)
        strange = scribe.row(UNREGISTERED, name="x")
        for call in (
            lambda: backend.gateway_write(batch(strange)),
            lambda: backend.gateway_get(UNREGISTERED, scribe.tenant, [strange.key]),
            lambda: backend.gateway_query(scribe.query(UNREGISTERED)),
            lambda: backend.gateway_digest(span(scribe, UNREGISTERED)),
        ):
            await _only_own_errors(call)
        known = scribe.log()
        await store.write(batch(known))
        assert list(await store.get(PROBE_LOG, scribe.tenant, [known.key])) == [known]


def _calls(
    backend: Backend, scribe: Scribe, declared: frozenset[Capability]
) -> dict[str, Callable[[], Awaitable[object]]]:
    """Return every call that a backend with these capabilities may get."""
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "gateway_write": lambda: backend.gateway_write(batch(scribe.log())),
        "gateway_get": lambda: backend.gateway_get(PROBE_LOG, scribe.tenant, [("log-00001",)]),
        "gateway_query": lambda: backend.gateway_query(scribe.query(PROBE_LOG)),
        "gateway_summarize": lambda: backend.gateway_summarize(Summarize(PROBE_COUNTER, scribe.tenant)),
        "gateway_digest": lambda: backend.gateway_digest(span(scribe, PROBE_LOG)),
    }
    if Capability.UPDATE in declared:
        calls["gateway_write of an update"] = lambda: backend.gateway_write(batch(increment(scribe)))
    if Capability.PURGE in declared:
        calls["gateway_purge"] = lambda: backend.gateway_purge(PROBE_LOG, scribe.tenant, minutes(1))
    return calls


def _unexpected(name: str, answer: object) -> None:
    pytest.fail(f"{name} on a closed store answered {answer!r}")


async def _only_own_errors(call: Callable[[], Awaitable[object]]) -> None:
    try:
        await call()
    except GatewayError:
        return
    except Exception as error:
        raise AssertionError(
            f"{type(error).__name__} of the driver came out of the store: {error}"
        ) from error

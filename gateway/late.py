"""Stores that are opened late: a mirror that is down when the bot starts must not keep the bot from starting.

Until it is there, a stand-in answers every call with what the opening failed with. Writes gather in the journal.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, Final

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from gateway.backend import Backend, BackendSpec, Health, OpenContext
from gateway.dispatch import StoreSet
from gateway.errors import GatewayError, StoreError, StoreTimeoutError, StoreUnavailableError
from gateway.hookspecs import BackendHooks, hookimpl
from gateway.records.kind import KindSpec
from gateway.redaction import redact
from gateway.routing import MirrorMode, RoutingPlan

__all__ = ["LateStore", "needed", "open_or_wait"]

_log: Final = logging.getLogger(__name__)
_PAUSE: Final = wait_random_exponential(multiplier=0.5, max=15, min=0.25)


def needed(plan: RoutingPlan, kinds: Iterable[KindSpec]) -> frozenset[str]:
    """Return the stores without which the bot cannot work: those that lead, are read, or are waited for."""
    names: set[str] = set()
    for kind in kinds:
        route = plan.listing(kind)
        names |= {route.primary, route.reader}
        # With a share, each store leads some keys.
        if plan.keyed(kind) or plan.mode_of(kind) is MirrorMode.SYNC:
            names.update(route.mirrors)
    return frozenset(names)


class _Absent:
    """The hooks of a store that is not open yet."""

    def __init__(self, instance: str, error: Exception) -> None:
        self.instance = instance
        self.error = error

    def failure(self) -> StoreUnavailableError:
        """Return the error that every call gets."""
        said = f"not opened yet, and tried again: {_said(self.error)}"
        return StoreUnavailableError(said, backend=self.instance)

    @hookimpl
    async def gateway_health(self) -> Health:
        """Say why it is not open."""
        return Health(ok=False, summary=str(self.failure()))

    @hookimpl
    async def gateway_close(self) -> None:
        """Release nothing."""


def _said(error: Exception) -> str:
    """Return what an error says, without the secrets that a plugin's own may hold."""
    return str(error) if isinstance(error, GatewayError) else redact(repr(error))


def _refusing(name: str) -> Any:
    """Return a hook that fails. Without arguments, which suits every hook: pluggy gives each what it takes."""

    async def hook(self: _Absent) -> Any:
        raise self.failure()

    hook.__name__ = name
    return hookimpl(hook)


for _name in vars(BackendHooks):
    if _name.startswith("gateway_") and _name not in vars(_Absent):
        setattr(_Absent, _name, _refusing(_name))


class LateStore:
    """Goes on opening a store that could not be opened, until it is open or the gateway closes.

    Args:
        stores: Where the stand-in is, which the store replaces.
        spec: The store's backend.
        context: What it is opened with.
        absent: The stand-in.
        patience: Seconds that one attempt may take.
    """

    def __init__(
        self, stores: StoreSet, spec: BackendSpec, context: OpenContext, absent: _Absent, patience: float
    ) -> None:
        self._patience = patience
        self._stores = stores
        self._spec = spec
        self._context = context
        self._absent = absent
        self._task = asyncio.create_task(self._open(), name=f"open {context.instance}")

    def __repr__(self) -> str:
        return f"<LateStore {self._context.instance}>"

    async def _open(self) -> None:
        # Whatever it fails with: if this ended, the mirror would be left out for good, without a word.
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(Exception), wait=_PAUSE, before_sleep=self._failed
        )
        backend: Backend = await attempts(_opened, self._spec, self._context, self._patience)
        self._stores.replace(self._context.instance, backend)
        _log.warning("%s is open now, and gets what it missed", self._context.instance)

    def _failed(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        if isinstance(error, Exception):
            if type(error) is not type(self._absent.error):
                _log.warning("%s cannot be opened: %s", self._context.instance, _said(error))
            self._absent.error = error

    async def close(self) -> None:
        """Give it up."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def open_or_wait(
    stores: StoreSet, spec: BackendSpec, context: OpenContext, patience: float
) -> LateStore | None:
    """Open a store that the bot can do without for a while.

    Args:
        stores: Where it is opened.
        spec: Its backend.
        context: What it is opened with.
        patience: Seconds after which the bot goes on without it.

    Returns:
        What goes on trying, if it is not open; None if it is.

    Raises:
        GatewayError: It cannot be opened for a reason that does not pass by itself.
    """
    try:
        stores.stand_in(spec, context, await _opened(spec, context, patience))
    except StoreUnavailableError as failure:
        error = failure
    except StoreError as failure:
        failure.backend = failure.backend or context.instance
        raise
    else:
        return None
    _log.error(
        "%s cannot be opened, and the bot starts without it; what it is to get is kept: %s",
        context.instance,
        error,
    )
    absent = _Absent(context.instance, error)
    stores.stand_in(spec, context, absent)
    return LateStore(stores, spec, context, absent, patience)


async def _opened(spec: BackendSpec, context: OpenContext, patience: float) -> Backend:
    try:
        async with asyncio.timeout(patience):
            return await spec.open(context)
    except TimeoutError:
        raise StoreTimeoutError(f"it did not open within {patience:g} s", backend=context.instance) from None

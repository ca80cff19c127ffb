"""Alerts: telling plugins of divergences, in a thread of its own, where they can hold up and break nothing."""

from __future__ import annotations

import asyncio
import inspect
import logging
import queue
import threading
from typing import Final

import pluggy

from gateway.divergences.divergence import Divergence
from gateway.telemetry import Counters

__all__ = ["Alerts"]

_log: Final = logging.getLogger(__name__)
_HOOK: Final = "gateway_divergence"


class Alerts:
    """Calls the hook `gateway_divergence` of every plugin that has it, one divergence after the other.

    What a plugin raises is logged and counted. An `async def` hook runs in an event loop of the thread.

    Args:
        manager: Where plugins are registered.
        counters: Where failures, and divergences that found no room, are counted.
        capacity: Divergences that wait to be told, at most.
    """

    def __init__(self, manager: pluggy.PluginManager, counters: Counters, *, capacity: int = 1_000) -> None:
        self._manager = manager
        self._counters = counters
        self._waiting: queue.Queue[Divergence | None] = queue.Queue(capacity)
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<Alerts waiting={self._waiting.qsize()}>"

    def tell(self, divergence: Divergence) -> None:
        """Let plugins know of a divergence, soon. Does not wait and does not raise."""
        if not self._listeners():
            return
        try:
            self._waiting.put_nowait(divergence)
        except queue.Full:
            self._counters.alerts_failed += 1
            return
        if self._thread is None:
            # A daemon: a plugin that hangs must not keep the bot's process from ending.
            self._thread = threading.Thread(target=self._run, name="gateway-alerts", daemon=True)
            self._thread.start()

    async def aclose(self, deadline: float = 5.0) -> None:
        """Tell what waits, for at most `deadline` seconds; what plugins were not told of by then is counted."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        until = asyncio.get_running_loop().time() + deadline
        # Not joined in a thread of the pool: a plugin that hangs would occupy that one as well.
        told_to_end = False
        while thread.is_alive() and asyncio.get_running_loop().time() < until:
            if not told_to_end:
                told_to_end = self._end()
            await asyncio.sleep(0.005)
        self._closed.set()
        if thread.is_alive():
            left = self._waiting.qsize()
            self._counters.alerts_failed += left
            _log.warning("a plugin hangs in %s; %d divergences were not told", _HOOK, left)

    def _end(self) -> bool:
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return False
        return True

    def _listeners(self) -> list[tuple[str, object]]:
        known = {implementation.plugin_name for implementation in self._hook().get_hookimpls()}
        return [(name, plugin) for name, plugin in self._manager.list_name_plugin() if name in known]

    def _hook(self) -> pluggy.HookCaller:
        caller: pluggy.HookCaller = getattr(self._manager.hook, _HOOK)
        return caller

    def _run(self) -> None:
        while (divergence := self._waiting.get()) is not None and not self._closed.is_set():
            for name, plugin in self._listeners():
                try:
                    self._call(plugin, divergence)
                except Exception as error:  # noqa: BLE001 - foreign code may raise anything; it is counted and logged
                    self._counters.alerts_failed += 1
                    _log.warning("the plugin %s failed in %s: %s", name, _HOOK, type(error).__name__)

    def _call(self, plugin: object, divergence: Divergence) -> None:
        """Call one plugin, so that another one's failure is not taken for its own."""
        others = [other for _, other in self._listeners() if other is not plugin]
        answers = self._manager.subset_hook_caller(_HOOK, others)(divergence=divergence)
        for answer in answers:
            if inspect.iscoroutine(answer):
                asyncio.run(answer)
